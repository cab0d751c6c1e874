//! Private NATS servers on free ports of the loopback interface.

use std::process::Command;
use std::sync::Mutex;

use super::process::{Folder, PATIENCE, Process, free_port, program, touch};

/// A server.
pub struct Nats {
    folder: Folder,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl Nats {
    /// Starts one that takes everybody.
    pub fn start() -> Self {
        Self::configured("")
    }

    /// Starts one with lines for its configuration file.
    pub fn configured(conf: &str) -> Self {
        let nats = Self::down_with(conf);
        nats.restart();
        nats
    }

    /// One that is not started yet.
    pub fn down() -> Self {
        Self::down_with("")
    }

    /// The same, with lines for its configuration file.
    pub fn down_with(conf: &str) -> Self {
        let folder = Folder::new();
        folder.write("nats.conf", conf);
        Self { folder, port: free_port(), process: Mutex::new(None) }
    }

    /// Two servers of one cluster, each with these lines for its configuration file. The second is
    /// not started yet.
    pub fn cluster(conf: &str) -> (Self, Self) {
        let ports = [free_port(), free_port()];
        let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        let conf = |own: u16| {
            let listen = format!("listen: \"127.0.0.1:{own}\"");
            format!("cluster {{ name: c, {listen}, routes: [{routes}] }}\n{conf}")
        };
        (Self::configured(&conf(ports[0])), Self::down_with(&conf(ports[1])))
    }

    /// Starts three of one cluster with JetStream, so that a stream outlives one of them.
    pub fn cluster_with_streams() -> [Self; 3] {
        let ports = [free_port(), free_port(), free_port()];
        let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        ports.map(|own| {
            let nats = Self::down();
            let store = nats.folder.path().display();
            nats.folder.write(
                "nats.conf",
                &format!(
                    "server_name: \"{}\"\njetstream {{ store_dir: \"{store}\" }}\n\
                     cluster {{ name: c, listen: \"127.0.0.1:{own}\", routes: [{routes}] }}",
                    nats.port
                ),
            );
            nats.restart();
            nats
        })
    }

    /// Whether it has that name in its cluster.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.port.to_string()
    }

    /// Starts one with JetStream.
    pub fn with_streams() -> Self {
        let nats = Self::down();
        let store = nats.folder.path().display();
        nats.folder.write("nats.conf", &format!("jetstream {{ store_dir: \"{store}\" }}"));
        nats.restart();
        nats
    }

    /// Writes its configuration file anew, for the next start or [reload](Nats::reload).
    pub fn configure(&self, conf: &str) {
        self.folder.write("nats.conf", conf);
    }

    /// Lets it read its configuration file again.
    pub fn reload(&self) {
        self.process.lock().unwrap().as_ref().expect("it runs").signal("HUP");
    }

    /// Starts it again, on the same port.
    pub fn restart(&self) {
        let log = self.folder.path().join("nats.log");
        touch(&log);
        let mut command = Command::new(program("nats-server", &["/usr/sbin", "/usr/local/bin"]));
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-c"]);
        command.arg(self.folder.path().join("nats.conf"));
        let process = Process::start(&command, Some(&log));
        process.wait_for_log("Server is ready");
        *self.process.lock().unwrap() = Some(process);
    }

    /// Ends it in good order.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap().take().expect("it runs");
        process.signal("TERM");
        process.wait(PATIENCE);
    }

    /// Kills it.
    pub fn kill(&self) {
        let process = self.process.lock().unwrap().take().expect("it runs");
        process.signal("KILL");
        process.wait(PATIENCE);
    }

    /// Tells it to go in its own time (lame duck mode): it says so to its clients first.
    pub fn say_goodbye(&self) {
        self.process.lock().unwrap().as_ref().expect("it runs").signal("USR2");
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        let process = self.process.lock().unwrap();
        process.as_ref().is_some_and(|process| process.exited().is_none())
    }

    /// Stops it from running without closing its connections, or lets it run on.
    pub fn freeze(&self, frozen: bool) {
        let process = self.process.lock().unwrap();
        process.as_ref().expect("it runs").signal(if frozen { "STOP" } else { "CONT" });
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The table that an operator would write for it.
    pub fn upstream(&self, name: &str, dialect: &str) -> String {
        format!(
            "[upstreams.{name}]\nprotocol = \"nats\"\nservers = [\"{}\"]\ndialect = \"{dialect}\"\n",
            self.url()
        )
    }

    /// A client of the harness's own.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.expect("the server accepts")
    }
}
