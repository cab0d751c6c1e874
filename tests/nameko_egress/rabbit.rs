//! A private RabbitMQ on free ports, in a temporary folder, gone when the test process is.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

/// The broker that tests share which disturb nobody: each has an exchange and services of its own.
pub(crate) static SHARED: LazyLock<Rabbit> = LazyLock::new(Rabbit::start);

/// Starts and kills the broker as it is told, and clears everything away when its standard input
/// closes, that is when the test process is gone.
const KEEPER: &str = r#"
end() { [ -e "$RABBITMQ_PID_FILE" ] && kill -9 "$(cat "$RABBITMQ_PID_FILE")" && wait; rm -f "$RABBITMQ_PID_FILE"; }
while read -r order; do
    case $order in
        start) rabbitmq-server >"$DIR/out" 2>&1 & ;;
        kill) end ;;
    esac
    echo done
done
end
epmd -kill >/dev/null 2>&1
rm -rf "$DIR"
"#;

pub(crate) struct Rabbit {
    dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    epmd_port: u16,
    keeper: Mutex<Child>,
}

impl Rabbit {
    /// Starts a broker and waits until it takes connections.
    pub(crate) fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("genkan-rabbit-{:x}", fastrand::u64(..)));
        std::fs::create_dir_all(&dir).unwrap();
        make_certificates(&dir);
        let [port, tls_port, epmd_port, dist_port] = free_ports();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\n\
             distribution.listener.interface = 127.0.0.1\n\
             distribution.listener.port_range.min = {dist_port}\n\
             distribution.listener.port_range.max = {dist_port}\n\
             ssl_options.cacertfile = {0}/ca.pem\nssl_options.certfile = {0}/cert.pem\n\
             ssl_options.keyfile = {0}/key.pem\nssl_options.verify = verify_none\n\
             ssl_options.fail_if_no_peer_cert = false\nlog.file.level = warning\n",
            dir.display()
        );
        std::fs::write(dir.join("rabbitmq.conf"), config).unwrap();
        std::fs::write(dir.join("plugins"), "[].").unwrap();
        let mut keeper = command(&dir, port, epmd_port, "sh");
        keeper.args(["-c", KEEPER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let keeper = Mutex::new(keeper.spawn().unwrap());
        let rabbit = Self { dir, port, tls_port, epmd_port, keeper };
        rabbit.resume();
        rabbit
    }

    /// Starts the broker, again where it was killed.
    pub(crate) fn resume(&self) {
        self.order("start");
        self.ctl(&["await_startup", "--timeout", "60"]);
    }

    /// Kills it, as a power failure would.
    pub(crate) fn kill(&self) {
        self.order("kill");
    }

    fn order(&self, order: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut done = [0; 5];
        keeper.stdout.as_mut().unwrap().read_exact(&mut done).unwrap();
    }

    /// Runs rabbitmqctl until it succeeds.
    pub(crate) fn ctl(&self, arguments: &[&str]) {
        for attempt in 0.. {
            let output = self.command("rabbitmqctl").args(arguments).output().expect(
                "rabbitmqctl does not run: install rabbitmq-server (apt-get install rabbitmq-server)",
            );
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            let log = std::fs::read_to_string(self.dir.join("out")).unwrap_or_default();
            assert!(attempt < 60, "rabbitmqctl {arguments:?}: {said}\n{log}");
            // The node itself may not be there yet, which no command waits for.
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A CA that has signed nothing of this broker's.
    pub(crate) fn certificate_of_a_stranger() -> PathBuf {
        let dir = SHARED.dir.join("stranger");
        std::fs::create_dir_all(&dir).unwrap();
        make_certificates(&dir);
        dir.join("ca.pem")
    }

    fn command(&self, program: &str) -> Command {
        command(&self.dir, self.port, self.epmd_port, program)
    }
}

#[expect(clippy::disallowed_methods, reason = "the broker's scripts are found by PATH")]
fn command(dir: &Path, port: u16, epmd_port: u16, program: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .env("PATH", format!("/usr/lib/rabbitmq/bin:/usr/sbin:{}", path.display()))
        .env("DIR", dir)
        .env("HOME", dir)
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", format!("genkan{port}@localhost"))
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
        .env("RABBITMQ_PID_FILE", dir.join("pid"));
    command
}

fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<_> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    std::array::from_fn(|n| held[n].local_addr().unwrap().port())
}

/// A CA and a server certificate for 127.0.0.1.
fn make_certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(dir)
            .stderr(Stdio::null())
            .status()
            .expect("openssl does not run: install it (apt-get install openssl)");
        assert!(status.success(), "openssl {arguments}");
    };
    let ext = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
    std::fs::File::create(dir.join("ext")).unwrap().write_all(ext.as_bytes()).unwrap();
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {ec} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"));
    openssl(&format!("req {ec} -keyout key.pem -out cert.csr -subj /CN=rabbit"));
    openssl(
        "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile ext",
    );
}
