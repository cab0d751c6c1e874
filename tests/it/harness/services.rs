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
        let (venv, broker) = match version {
            NamekoVersion::Two => ("nameko2", ["--broker".to_owned(), url.to_owned()]),
            NamekoVersion::Three => ("nameko3", ["--define".to_owned(), format!("AMQP_URI={url}")]),
        };
        let folder = Folder::new();
        let log = folder.path().join("shop.log");
        touch(&log);
        let mut command = Command::new(installed(&format!("{venv}/bin/nameko")));
        command.arg("run").arg("nameko_shop").args(broker).args(arguments);
        command.env("SHOP_NAME", name).envs(environment.iter().copied());
        command.current_dir(project().join("tests/services"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
        let remove = shared.then(|| folder.path());
        let process = Process::start_in(&command, Some(&log), remove);
        let shop =
            Self { process, _folder: Some(folder), url: url.to_owned(), name: name.to_owned() };
        shop.wait_for_consumers();
        shop
    }

    /// It is there when both of its services consume.
    fn wait_for_consumers(&self) {
        let started = Instant::now();
        let queues = [format!("rpc-{}", self.name), format!("rpc-{}_pantry", self.name)];
        let consumed = async |queue: &String| {
            let state = super::responder::queue_state(&self.url, queue).await;
            state.is_some_and(|(consumers, _)| consumers > 0)
        };
        let look = async || consumed(&queues[0]).await && consumed(&queues[1]).await;
        while !blocking(look()) {
            let ended = self.process.exited();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "the Nameko service did not start (exit: {ended:?}):\n{}",
                self.process.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
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
