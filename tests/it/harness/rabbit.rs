//! Private RabbitMQ nodes on free ports of the loopback interface.
//!
//! A node has its own epmd, so that nothing of it is left behind. Virtual hosts, queues and
//! connections are looked at and made through its management API, which takes milliseconds where
//! `rabbitmqctl` takes a second.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{Folder, PATIENCE, Process, free_port, program};

const FOLDERS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];
/// What user `gateway` logs in with; tests look for it where it must not show.
pub const PASSWORD: &str = "kagi-wa-himitsu";

/// A node.
pub struct RabbitMq {
    // In the order in which they go: the folder last.
    server: Mutex<Option<Process>>,
    _epmd: Process,
    _folder: Folder,
    path: PathBuf,
    shared: bool,
    amqp: u16,
    management: u16,
    epmd_port: u16,
    node: String,
}

/// A virtual host of a node, for one test alone.
pub struct Vhost<'a> {
    node: &'a RabbitMq,
    name: String,
}

impl RabbitMq {
    /// The node that the tests of this process share. It starts with the first that asks.
    pub fn shared() -> &'static RabbitMq {
        static SHARED: OnceLock<RabbitMq> = OnceLock::new();
        SHARED.get_or_init(|| Self::build("", true))
    }

    /// A node of the test's own, which it may stop and kill.
    pub fn private() -> Self {
        Self::configured("")
    }

    /// The same, with more lines for `rabbitmq.conf`.
    pub fn configured(more: &str) -> Self {
        Self::build(more, false)
    }

    fn build(more: &str, shared: bool) -> Self {
        let folder = Folder::new();
        let path = folder.path().to_path_buf();
        let (amqp, management, epmd_port) = (free_port(), free_port(), free_port());
        let conf = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             collect_statistics_interval = 1000\n\
             log.console = false\ndisk_free_limit.absolute = 1MB\n{more}\n"
        );
        folder.write("rabbitmq.conf", &conf);
        folder.write(
            "plugins",
            "[rabbitmq_management,rabbitmq_auth_mechanism_ssl,rabbitmq_amqp1_0].",
        );
        let mut epmd = Command::new(program("epmd", &[]));
        epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let epmd = Process::start(&epmd, Some(&path.join("epmd.log")));
        let server = Mutex::new(None);
        let node = format!("it{amqp}@localhost");
        let node = Self {
            server,
            _epmd: epmd,
            _folder: folder,
            path,
            shared,
            amqp,
            management,
            epmd_port,
            node,
        };
        node.start();
        node.put("users/gateway", &json!({"password": PASSWORD, "tags": ""}));
        node.put("permissions/%2f/gateway", &everything());
        node
    }

    /// Starts the server, again after it was stopped, and waits until it can be used.
    pub fn start(&self) {
        let command = self.command("rabbitmq-server");
        let log = self.path.join("server.log");
        super::process::touch(&log);
        // Nothing drops a static: there the shell that guards the server removes the folder.
        let remove = self.shared.then_some(self.path.as_path());
        let process = Process::start_in(&command, Some(&log), remove);
        process.wait_for_log("completed with");
        *self.server.lock().unwrap() = Some(process);
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name, &FOLDERS));
        let file = |name: &str| self.path.join(name);
        command
            .env("HOME", &self.path)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_PID_FILE", file("pid"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none");
        command
    }

    /// Ends the server in good order.
    pub fn stop(&self) {
        let process = self.server.lock().unwrap().take().expect("it runs");
        process.signal("TERM");
        process.wait(PATIENCE);
    }

    /// Kills the server.
    pub fn kill(&self) {
        drop(self.server.lock().unwrap().take().expect("it runs"));
        // The wrapping shell killed the group; the port is free once the kernel is done with it.
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.amqp)).is_ok() && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the server from running without closing its connections, until that is dropped.
    pub fn freeze(&self) -> Frozen {
        let pid = std::fs::read_to_string(self.path.join("pid")).expect("its process id");
        let pid = pid.trim().to_owned();
        signal("-STOP", &pid);
        while !has_stopped(&pid) {
            std::thread::yield_now();
        }
        Frozen(pid)
    }

    /// Runs `rabbitmqctl`.
    pub fn control(&self, arguments: &[&str]) {
        let (status, out, err) = super::process::run(self.command("rabbitmqctl").args(arguments));
        assert_eq!(status, 0, "rabbitmqctl {arguments:?}: {out}{err}");
    }

    /// A new virtual host.
    pub fn vhost(&self) -> Vhost<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.make_vhost(&name);
        Vhost { node: self, name }
    }

    /// A virtual host of that name, empty, where everybody may do everything.
    pub fn make_vhost(&self, name: &str) {
        self.put(&format!("vhosts/{name}"), &json!({}));
        for user in ["guest", "gateway"] {
            self.put(&format!("permissions/{name}/{user}"), &everything());
        }
    }

    /// The URL of the default virtual host, with the password in it.
    pub fn url(&self) -> String {
        self.url_of("%2f")
    }

    /// The URL of a virtual host, with the password in it.
    pub fn url_of(&self, vhost: &str) -> String {
        format!("amqp://gateway:{PASSWORD}@127.0.0.1:{}/{vhost}", self.amqp)
    }

    /// Asks the management API.
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, "");
        if status == 404 {
            return Value::Null;
        }
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Makes something through the management API.
    pub fn put(&self, path: &str, body: &Value) {
        let (status, answer) = self.request("PUT", path, &body.to_string());
        assert!((200..300).contains(&status), "PUT {path}: {status} {answer}");
    }

    /// Removes something, or closes a connection. What has gone by itself is gone too; one that goes just then has the API
    /// fail, and is gone when it is asked again.
    pub fn delete(&self, path: &str) {
        for _ in 0..50 {
            let (status, answer) = self.request("DELETE", path, "");
            if (200..300).contains(&status) || status == 404 {
                return;
            }
            assert_eq!(status, 500, "DELETE {path}: {answer}");
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("DELETE {path}: the management API goes on to fail");
    }

    fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        // guest:guest
        let request = format!(
            "{method} /api/{path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.management)).expect("the management API");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.expect("a status"), body.to_owned())
    }
}

/// A server that does not run.
pub struct Frozen(String);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

/// Whether none of its threads runs on: each stops for itself, a moment after the signal.
fn has_stopped(pid: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    threads.filter_map(Result::ok).all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        status.map_or(true, |status| status.contains("State:\tT"))
    })
}

fn signal(signal: &str, pid: &str) {
    let (status, out, err) = super::process::run(Command::new("kill").args([signal, pid]));
    assert_eq!(status, 0, "kill {signal} {pid}: {out}{err}");
}

impl Vhost<'_> {
    /// Its URL, with the password in it.
    pub fn url(&self) -> String {
        self.node.url_of(&self.name)
    }

    /// The port of its node.
    pub fn port(&self) -> u16 {
        self.node.amqp
    }

    /// The table that an operator would write for it.
    pub fn upstream(&self, name: &str) -> String {
        format!("[upstreams.{name}]\nprotocol = \"nameko\"\nurl = \"{}\"\n", self.url())
    }

    /// Its bindings, as the management API lists them.
    pub fn bindings(&self) -> String {
        self.node.get(&format!("bindings/{}", self.name)).to_string()
    }

    /// The name of the virtual host.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn everything() -> Value {
    json!({"configure": ".*", "write": ".*", "read": ".*"})
}
