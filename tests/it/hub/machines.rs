//! Modules on machines of their own (network namespaces), and a machine that goes without a word.

use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::process::{Process, program, project, run};
use crate::harness::{Gateway, as_fault, eventually, http};

/// A machine, joined to this one by a cable.
struct Machine {
    name: String,
    cable: String,
    /// This machine's address on the cable.
    here: String,
}

/// Two machines; `None`, said loudly, where this one may not have any.
fn machines() -> Option<[Machine; 2]> {
    let unique = std::process::id() % 60_000 + fastrand::u32(..5_000);
    let names = [1, 2].map(|nth| format!("g{unique}-{nth}"));
    let [first, second] = names.map(|name| Machine::new(name, fastrand::u8(1..250)));
    match (first, second) {
        (Ok(first), Ok(second)) => Some([first, second]),
        (Err(said), _) | (_, Err(said)) => {
            // Past libtest's capture: a test that shows nothing must not look as if it did.
            let text =
                format!("\nskipped: no network namespaces here (as root: `ip netns`): {said}\n");
            std::io::stderr().write_all(text.as_bytes()).expect("standard error");
            None
        }
    }
}

impl Machine {
    fn new(name: String, net: u8) -> Result<Self, String> {
        let (cable, far) = (format!("{name}a"), format!("{name}b"));
        let (here, there) = (format!("10.213.{net}.1"), format!("10.213.{net}.2"));
        ip(&["netns", "add", &name])?;
        let machine = Self { name, cable, here };
        let Self { name, cable, here } = &machine;
        ip(&["link", "add", cable, "type", "veth", "peer", "name", &far, "netns", name])?;
        ip(&["address", "add", &format!("{here}/24"), "dev", cable])?;
        ip(&["link", "set", cable, "up"])?;
        ip(&["-netns", name, "address", "add", &format!("{there}/24"), "dev", &far])?;
        ip(&["-netns", name, "link", "set", &far, "up"])?;
        Ok(machine)
    }

    /// Runs the module there, as `name`.
    fn run(&self, port: &str, name: &str) -> Process {
        let mut command = Command::new(program("ip", &["/usr/sbin", "/sbin"]));
        command.args(["netns", "exec", &self.name, "python3"]);
        command.arg(project().join("tests/services/hub_machine.py"));
        command.args([&self.here, port, name]);
        Process::start(&command, None)
    }

    /// Nothing comes through any more, and nobody is told.
    fn cut(&self) {
        ip(&["-netns", &self.name, "link", "set", &format!("{}b", self.name), "down"])
            .expect("cut");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(ip(&["link", "delete", &self.cable]));
        drop(ip(&["netns", "delete", &self.name]));
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let (status, out, err) =
        run(Command::new(program("ip", &["/usr/sbin", "/sbin"])).args(arguments));
    if status == 0 { Ok(()) } else { Err(format!("ip {arguments:?}: {out}{err}")) }
}

async fn served_by(gateway: &Gateway, name: &str) {
    eventually(&format!("{name} serves"), async || {
        let body = r#"{"jsonrpc":"2.0","method":"math.where","params":{},"id":1}"#;
        let answer = gateway.post("/api", &[("X-Request-Timeout", "1s")], body).await.json();
        (answer["result"] == name).then_some(())
    })
    .await;
}

/// The gateway, and the module on the first machine.
async fn world(one: &Machine, two: &Machine) -> (Gateway, String, Process) {
    let listen = format!("[hub]\nlisten = [\"tcp://{}:0\", \"tcp://{}:0\"]\n", one.here, two.here);
    let gateway = Gateway::start(&listen).await;
    let ports = eventually("the hub listens", async || {
        let lines = gateway.logged("listening");
        let ports: Vec<_> = lines.iter().filter(|line| line["ingress"] == "hub").collect();
        let port = |here: &str| {
            let at = ports.iter().filter_map(|line| line["address"].as_str());
            at.filter_map(|at| at.strip_prefix(&format!("tcp://{here}:")).map(str::to_owned)).next()
        };
        Some((port(&one.here)?, port(&two.here)?))
    });
    let (first, second) = ports.await;
    let module = one.run(&first, "one");
    served_by(&gateway, "one").await;
    (gateway, second, module)
}

#[tokio::test]
async fn a_module_comes_back_from_another_machine() {
    let Some([one, two]) = machines() else { return };
    let (gateway, port, _first) = world(&one, &two).await;
    one.cut();
    let _second = two.run(&port, "two");
    eventually("its id is free", async || {
        (gateway.logged("module registered").len() == 2).then_some(())
    })
    .await;
    served_by(&gateway, "two").await;
    gateway.wait_for_modules(1).await;
}

/// What was sent to the first one has not been acknowledged: the system sends it again and again, and
/// asks nothing else.
#[tokio::test]
async fn it_comes_back_while_the_first_one_owes_an_answer() {
    let Some([one, two]) = machines() else { return };
    let (gateway, port, _first) = world(&one, &two).await;
    one.cut();
    let at = gateway.http.clone();
    let owed = tokio::spawn(async move {
        let call = json!({"jsonrpc": "2.0", "method": "math.where", "params": {}, "id": 1});
        http::send(&at, "POST", "/api", &[], call.to_string().as_bytes()).await.json()
    });
    gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "hub")], 1.0).await;
    let _second = two.run(&port, "two");
    served_by(&gateway, "two").await;
    let answer: Value = owed.await.expect("no panic");
    as_fault(&answer).is("unavailable", "unknown");
    gateway.wait_for_modules(1).await;
}
