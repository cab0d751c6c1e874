//! Real services, in their own languages, on the brokers of the tests.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use super::nats::Nats;
use super::process::{Folder, PATIENCE, Process, free_port, installed, project, touch};
use super::rabbit::{RabbitMq, Vhost};

/// Both generations of Nameko.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamekoVersion {
    /// 2.14.1
    Two,
    /// 3.0.0rc11
    Three,
}

impl NamekoVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Two, Self::Three];

    /// The folder that it is installed in.
    pub fn venv(self) -> &'static str {
        match self {
            Self::Two => "nameko2",
            Self::Three => "nameko3",
        }
    }

    /// `nameko run MODULE`, in the folder of the tests' services.
    pub fn run(self, module: &str, url: &str) -> Command {
        let broker = match self {
            Self::Two => ["--broker".to_owned(), url.to_owned()],
            Self::Three => ["--define".to_owned(), format!("AMQP_URI={url}")],
        };
        let mut command = Command::new(installed(&format!("{}/bin/nameko", self.venv())));
        command.arg("run").arg(module).args(broker);
        command.current_dir(project().join("tests/services"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
        command
    }
}

/// `tests/services/nameko_shop.py`, running.
pub struct Shop {
    process: Process,
    _folder: Option<Folder>,
    url: String,
    name: String,
}

impl Shop {
    /// The shop that the tests of this process share, one of each generation, each in a virtual
    /// host of its own on the shared node.
    pub fn shared(version: NamekoVersion) -> &'static Shop {
        static SHARED: [OnceLock<Shop>; 2] = [OnceLock::new(), OnceLock::new()];
        SHARED[version as usize].get_or_init(|| {
            let vhost = RabbitMq::shared().vhost();
            Self::begin(version, &vhost.url(), "shop", true, &[], &[])
        })
    }

    /// One of the test's own.
    pub fn start(version: NamekoVersion, url: &str, name: &str) -> Self {
        Self::begin(version, url, name, false, &[], &[])
    }

    /// The same, with variables in its environment and more arguments for `nameko run`.
    pub fn configured(
        version: NamekoVersion,
        url: &str,
        name: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        Self::begin(version, url, name, false, environment, arguments)
    }

    fn begin(
        version: NamekoVersion,
        url: &str,
        name: &str,
        shared: bool,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("shop.log");
        touch(&log);
        let mut command = version.run("nameko_shop", url);
        command.args(arguments).env("SHOP_NAME", name).envs(environment.iter().copied());
        let remove = shared.then(|| folder.path());
        let process = Process::start_in(&command, Some(&log), remove);
        let shop =
            Self { process, _folder: Some(folder), url: url.to_owned(), name: name.to_owned() };
        let queues = [format!("rpc-{name}"), format!("rpc-{name}_pantry")];
        wait_for_consumers(&shop.process, url, &queues);
        shop
    }

    /// The table and the row that an operator would write for it.
    pub fn config(&self) -> String {
        format!(
            "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{}\"\n\n\
             [[routes]]\nmatch = \"{name}*.*\"\nupstream = \"rabbit\"\n",
            self.url,
            name = self.name
        )
    }

    /// Ends it in good order: its queue stays.
    pub fn stop(self) {
        self.process.signal("TERM");
        self.process.wait(PATIENCE);
    }
}

/// A Nameko service is there when its queues are consumed.
pub fn wait_for_consumers(process: &Process, url: &str, queues: &[String]) {
    let started = Instant::now();
    let look = async || {
        for queue in queues {
            let state = super::responder::queue_state(url, queue).await;
            if state.is_none_or(|(consumers, _)| consumers == 0) {
                return false;
            }
        }
        true
    };
    while !blocking(look()) {
        let ended = process.exited();
        assert!(
            ended.is_none() && started.elapsed() < PATIENCE,
            "the Nameko service did not start (exit: {ended:?}):\n{}",
            process.log()
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// `tests/services/nameko_desk.py`, running: it calls services of other worlds as its own.
pub struct Desk {
    _process: Process,
    _folder: Folder,
}

impl Desk {
    /// Starts one that can call those services, and waits until it is called itself.
    pub fn start(version: NamekoVersion, url: &str, calls: &str) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("desk.log");
        touch(&log);
        let mut command = version.run("nameko_desk", url);
        command.env("DESK_CALLS", calls);
        let process = Process::start(&command, Some(&log));
        wait_for_consumers(&process, url, &["rpc-desk".to_owned()]);
        Self { _process: process, _folder: folder }
    }
}

/// `tests/services/nameko_watch.py`, running: it hears events, and publishes its own.
pub struct Watch {
    process: Process,
    _folder: Folder,
}

impl Watch {
    /// Starts one that hears `SERVICE.EVENT`, and waits until it does.
    pub fn start(version: NamekoVersion, vhost: &Vhost<'_>, hears: &str) -> Self {
        let folder = Folder::new();
        let (log, url) = (folder.path().join("watch.log"), &vhost.url());
        touch(&log);
        let mut command = version.run("nameko_watch", url);
        command.env("WATCH_HEARS", hears);
        let process = Process::start(&command, Some(&log));
        let (source, event) = hears.rsplit_once('.').expect("SERVICE.EVENT");
        let queues = [
            "rpc-watch".to_owned(),
            format!("evt-{source}-{event}"),
            format!("evt-{source}-{event}--watch.pool"),
        ];
        wait_for_consumers(&process, url, &queues);
        // The name of the queue of a broadcast is not known before.
        let started = Instant::now();
        while !vhost.bindings().contains("--watch.broadcast") {
            assert!(started.elapsed() < PATIENCE, "no broadcasts:\n{}", process.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Self { process, _folder: folder }
    }

    /// What it has heard: lists of handler, payload and context.
    pub fn heard(&self) -> Vec<serde_json::Value> {
        let log = self.process.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix("heard "));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// Runs a future from a place that is not asynchronous, inside a runtime or not.
fn blocking<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(future)
        });
        runner.join().expect("no panic")
    })
}

/// `tests/services/picom_mailer.js`, running.
pub struct Mailer {
    process: Process,
    _folder: Folder,
}

impl Mailer {
    /// Starts one and waits until it is subscribed.
    pub fn start(nats: &Nats, name: &str) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("mailer.log");
        touch(&log);
        let mut command = Command::new("node");
        command.arg(project().join("tests/services/picom_mailer.js"));
        command.env("NODE_PATH", installed("node/node_modules"));
        command.env("NATS_URL", nats.url()).env("MAILER_NAME", name);
        let process = Process::start(&command, Some(&log));
        process.wait_for_log("ready");
        Self { process, _folder: folder }
    }

    /// Whether it still lives.
    pub fn lives(&self) -> bool {
        self.process.exited().is_none()
    }
}

/// NATS micro services, running.
pub struct MicroService {
    _process: Process,
    _folder: Folder,
}

impl MicroService {
    /// `tests/services/micro_calc.js`: the services `max` and `calc`.
    pub fn calc(nats: &Nats) -> Self {
        let mut command = Command::new("node");
        command.arg(project().join("tests/services/micro_calc.js"));
        command.env("NODE_PATH", installed("node/node_modules"));
        Self::begin(nats, command)
    }

    /// `tests/services/micro_demo.py`: the service `demo_service`.
    pub fn demo(nats: &Nats) -> Self {
        let mut command = Command::new(installed("python/bin/python"));
        command.arg(project().join("tests/services/micro_demo.py"));
        Self::begin(nats, command)
    }

    fn begin(nats: &Nats, mut command: Command) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("micro.log");
        touch(&log);
        command.env("NATS_URL", nats.url());
        let process = Process::start(&command, Some(&log));
        process.wait_for_log("ready");
        Self { _process: process, _folder: folder }
    }
}

/// `tests/services/nest_shop.js`, running.
pub struct NestService {
    process: Process,
    _folder: Folder,
}

impl NestService {
    /// Starts one and waits until it is subscribed.
    pub fn shop(nats: &Nats) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("nest.log");
        touch(&log);
        let mut command = Command::new("node");
        command.arg(project().join("tests/services/nest_shop.js"));
        command.env("NODE_PATH", installed("nest/node_modules")).env("NATS_URL", nats.url());
        let process = Process::start(&command, Some(&log));
        process.wait_for_log("ready");
        Self { process, _folder: folder }
    }

    /// Whether it still lives.
    pub fn lives(&self) -> bool {
        self.process.exited().is_none()
    }
}

/// `tests/services/gemstone_hello.py`, running.
pub struct GemstoneService {
    _process: Process,
    _folder: Folder,
    port: u16,
}

impl GemstoneService {
    /// Starts one and waits until it accepts.
    pub fn start() -> Self {
        let folder = Folder::new();
        let (log, port) = (folder.path().join("gemstone.log"), free_port());
        touch(&log);
        let mut command = Command::new(installed("python/bin/python"));
        command.arg(project().join("tests/services/gemstone_hello.py")).arg(port.to_string());
        let process = Process::start(&command, Some(&log));
        process.wait_for_log("ready");
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "not listening:\n{}", process.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { _process: process, _folder: folder, port }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port)
    }
}

/// `tests/services/jsonrpc_node.js`, running.
pub struct NodeService {
    _process: Process,
    _folder: Folder,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl NodeService {
    /// Starts one of `http`, `https`, `h2` and `h2c`, with those variables.
    pub fn start(kind: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("node");
        command.arg(project().join("tests/services/jsonrpc_node.js")).arg(kind);
        command.envs(environment.iter().copied());
        Self::begin(&command)
    }

    /// Starts any program that says `ready PORT`.
    pub fn begin(command: &Command) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("service.log");
        touch(&log);
        let process = Process::start(command, Some(&log));
        process.wait_for_log("ready ");
        let log = process.log();
        let port = log.split("ready ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = format!("127.0.0.1:{}", port.expect("a port"));
        Self { _process: process, _folder: folder, address }
    }
}

impl Vhost<'_> {
    /// A table and a row that sends everything there.
    pub fn config(&self) -> String {
        format!("{}\n[[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n", self.upstream("rabbit"))
    }
}

impl Nats {
    /// A table and a row that sends everything there.
    pub fn config(&self, dialect: &str) -> String {
        format!(
            "{}\n[[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n",
            self.upstream("nats", dialect)
        )
    }
}
