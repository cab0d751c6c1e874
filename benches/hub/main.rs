//! What the hub costs, beside its floor in the same run: a bare tokio relay that copies lines
//! from one socket to another and back.
//!
//!     cargo bench --bench hub
//!
//! CPU is the measured process's own, user and system, from `/proc/PID/task/*/schedstat`. Caller
//! and callee are blocking threads of this process; each frame is one write, as real modules
//! write. Rounds alternate between hub and floor, and the median of the rounds is shown.

#![allow(clippy::disallowed_methods, reason = "a benchmark is no part of the gateway")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends by panicking")]
#![allow(unreachable_pub, missing_docs, reason = "a benchmark has no interface")]

#[allow(dead_code, reason = "shared with the other benchmark")]
#[path = "../gateway/process.rs"]
mod process;
mod relay;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process::{Cpu, Memory};

const GENKAN: &str = env!("CARGO_BIN_EXE_genkan");
const IN_FLIGHT: [usize; 3] = [1, 16, 64];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1_500);
const IDLE_MODULES: usize = 5_000;
const LISTENERS: usize = 1_000;
const HOOKS: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("relay") {
        return relay::run(arguments[2].parse().unwrap(), &arguments[3]);
    }
    println!(
        "\nhub: calls between two modules, CPU of the hub per call, median of {ROUNDS} rounds\n"
    );
    println!("in flight   hub µs   relay µs   ratio   hub calls/s   relay lines/s");
    for in_flight in IN_FLIGHT {
        let (hub, floor) = calls(in_flight);
        let ratio = hub.0 / floor.0;
        let (rate, floor_rate) = (hub.1, floor.1);
        println!(
            "{in_flight:>9}   {:>6.2}   {:>8.2}   {ratio:>5.2}   {rate:>11.0}   {floor_rate:>13.0}",
            hub.0, floor.0
        );
    }
    let bytes = idle_memory();
    println!(
        "\nresident memory per idle module, {IDLE_MODULES} connected: {:.2} KiB",
        bytes / 1024.0
    );
    let (hub, floor) = (hooks(true), hooks(false));
    println!("\none hook to {LISTENERS} listeners, median of {HOOKS}   hub   relay   ratio");
    let rows = [("CPU, ms", hub.0, floor.0), ("first to last delivery, ms", hub.1, floor.1)];
    for (what, hub, floor) in rows {
        println!("{what:<45}  {hub:>5.2}   {floor:>5.2}   {:>5.2}", hub / floor);
    }
    println!();
}

/// A program that ends with this one's interest in it.
struct Running(Child, u16);

impl Running {
    fn hub() -> Self {
        let port = free_port();
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [hub]\nlisten = [\"tcp://127.0.0.1:{port}\"]\n"
        );
        let file =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hub-{port}.toml"));
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(GENKAN);
        command.arg("serve").arg("--config").arg(&file).stderr(Stdio::null());
        Self::start(&mut command, port)
    }

    fn relay(mode: &str) -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["relay", &port.to_string(), mode]);
        Self::start(&mut command, port)
    }

    fn start(command: &mut Command, port: u16) -> Self {
        let running = Self(command.stdout(Stdio::null()).spawn().unwrap(), port);
        let started = Instant::now();
        // The relay takes its first two connections for the modules: the port alone is tried.
        while TcpListener::bind(("127.0.0.1", port)).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(10), "it does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(50));
        running
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.1)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn register(stream: &mut TcpStream, id: &str, function: Option<&str>) {
    writeln!(
        stream,
        r#"{{"dependencies":{{}},"moduleId":"{id}","requestId":"r","type":1,"version":"1.0.0"}}"#
    )
    .unwrap();
    skip_lines(stream, 2);
    if let Some(function) = function {
        writeln!(stream, r#"{{"function":"{function}","requestId":"d","type":9}}"#).unwrap();
        skip_lines(stream, 1);
    }
}

fn skip_lines(stream: &mut TcpStream, lines: usize) {
    let (mut seen, mut byte) = (0, [0]);
    while seen < lines {
        stream.read_exact(&mut byte).unwrap();
        seen += usize::from(byte[0] == b'\n');
    }
}

/// CPU per call in microseconds and calls per second, of the hub and of the floor.
fn calls(in_flight: usize) -> ((f64, f64), (f64, f64)) {
    let (hub, floor) = (Running::hub(), Running::relay("pair"));
    let mut figures = [Vec::new(), Vec::new()];
    let mut pairs: Vec<_> = [&hub, &floor]
        .into_iter()
        .enumerate()
        .map(|(index, running)| {
            let (mut caller, mut callee) = (running.connect(), running.connect());
            if index == 0 {
                register(&mut callee, "rmath", Some("add"));
                register(&mut caller, "rcaller", None);
            }
            thread::spawn(move || serve(callee));
            caller
        })
        .collect();
    for _ in 0..ROUNDS {
        for (index, running) in [&hub, &floor].into_iter().enumerate() {
            let before = Cpu::read(running.0.id()).unwrap();
            let calls = load(&mut pairs[index], in_flight);
            let (cpu, wall) = Cpu::read(running.0.id()).unwrap().since(&before);
            figures[index]
                .push((cpu.as_secs_f64() * 1e6 / calls as f64, calls as f64 / wall.as_secs_f64()));
        }
    }
    let [hub, floor] = figures.map(|rounds| {
        (median(rounds.iter().map(|round| round.0)), median(rounds.iter().map(|round| round.1)))
    });
    (hub, floor)
}

/// Answers every call that comes, one write each.
fn serve(mut stream: TcpStream) {
    let mut lines = BufReader::with_capacity(64 * 1024, stream.try_clone().unwrap());
    let (mut line, mut answer) = (String::new(), String::new());
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        let id =
            line.split("\"requestId\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        answer.clear();
        answer.push_str("{\"data\":7.0,\"requestId\":\"");
        answer.push_str(id);
        answer.push_str("\",\"type\":4}\n");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        line.clear();
    }
}

/// Keeps so many calls in flight for a round: how many were answered.
fn load(caller: &mut TcpStream, in_flight: usize) -> usize {
    let request = b"{\"arguments\":{\"a\":2,\"b\":5},\"function\":\"rmath.add\",\"requestId\":\"rcaller-1795249210446984446\",\"type\":3}\n";
    let mut lines = BufReader::with_capacity(64 * 1024, caller.try_clone().unwrap());
    let started = Instant::now();
    for _ in 0..in_flight {
        caller.write_all(request).unwrap();
    }
    let (mut line, mut answered, mut open) = (Vec::new(), 0, in_flight);
    while open > 0 {
        lines.read_until(b'\n', &mut line).unwrap();
        assert!(line.starts_with(b"{"), "an answer");
        line.clear();
        answered += 1;
        if started.elapsed() < ROUND {
            caller.write_all(request).unwrap();
        } else {
            open -= 1;
        }
    }
    answered
}

/// Bytes of resident memory for each of many idle modules.
fn idle_memory() -> f64 {
    let hub = Running::hub();
    let mut warm = hub.connect();
    register(&mut warm, "warm", Some("f"));
    let before = Memory::read(hub.0.id()).unwrap().resident;
    let modules: Vec<TcpStream> = (0..IDLE_MODULES)
        .map(|n| {
            let mut stream = hub.connect();
            register(&mut stream, &format!("module-{n}"), Some("f"));
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    let after = Memory::read(hub.0.id()).unwrap().resident;
    (after - before) * 1_048_576.0 / modules.len() as f64
}

/// One hook to many listeners: CPU, and the time from the first delivery to the last, both in ms.
fn hooks(hub: bool) -> (f64, f64) {
    let running = if hub { Running::hub() } else { Running::relay("fan") };
    let mut source = running.connect();
    if hub {
        register(&mut source, "source", None);
    }
    let mut listeners: Vec<TcpStream> = (0..LISTENERS)
        .map(|n| {
            let mut stream = running.connect();
            if hub {
                register(&mut stream, &format!("listener-{n}"), None);
                writeln!(stream, r#"{{"hook":"source.tick","requestId":"l","type":5}}"#).unwrap();
                skip_lines(&mut stream, 1);
            }
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let (mut cpus, mut spreads) = (Vec::new(), Vec::new());
    for _ in 0..HOOKS {
        let before = Cpu::read(running.0.id()).unwrap();
        writeln!(source, r#"{{"data":{{"u":1}},"hook":"tick","requestId":"t","type":7}}"#).unwrap();
        skip_lines(&mut listeners[0], 1);
        let first = Instant::now();
        // The order of delivery is the program's own: whoever is last, all have it then.
        for listener in &mut listeners[1..] {
            skip_lines(listener, 1);
        }
        spreads.push(first.elapsed().as_secs_f64() * 1e3);
        skip_lines(&mut source, 1);
        let (cpu, _) = Cpu::read(running.0.id()).unwrap().since(&before);
        cpus.push(cpu.as_secs_f64() * 1e3);
    }
    (median(cpus.into_iter()), median(spreads.into_iter()))
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
