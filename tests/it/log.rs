//! The log: nobody waits for whoever reads it, and what callers and peers say in it can neither
//! forge lines nor show the gateway's secrets.

use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::gateway::{Gateway, genkan};
use crate::harness::http;
use crate::harness::process::{Folder, Process, free_port};

/// A batch of calls that nobody serves, each with a long name: at `level = "debug"` each is a line
/// of more than a kilobyte.
fn long_calls(count: usize) -> String {
    let method = format!("nobody.{}", "x".repeat(1_000));
    let call = |id| json!({"jsonrpc": "2.0", "method": method, "id": id});
    Value::Array((0..count).map(call).collect()).to_string()
}

/// A gateway whose standard error is a pipe that nobody reads, unless the test does.
struct Unread {
    process: Process,
    http: String,
    admin: String,
    _folder: Folder,
}

impl Unread {
    async fn start() -> Self {
        let [http, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let folder = Folder::new();
        let config = folder.write(
            "genkan.toml",
            &format!(
                "[log]\nlevel = \"debug\"\n[http]\nlisten = \"{http}\"\nmax_batch = 1000\n\
                 [admin]\nlisten = \"{admin}\"\n[hub]\nlisten = []\n"
            ),
        );
        let mut command = genkan();
        command.arg("serve").arg("--config").arg(&config);
        let process = Process::start(&command, None);
        eventually("it listens", async || {
            let connected = tokio::net::TcpStream::connect(&http).await;
            (connected.is_ok() && tokio::net::TcpStream::connect(&admin).await.is_ok())
                .then_some(())
        })
        .await;
        Self { process, http, admin, _folder: folder }
    }

    async fn calls(&self, count: usize) -> usize {
        let json = [("Content-Type", "application/json")];
        let batch = long_calls(count);
        let answer = http::send(&self.http, "POST", "/api", &json, batch.as_bytes()).await;
        answer.json().as_array().map_or(0, Vec::len)
    }

    async fn metric(&self, name: &str) -> f64 {
        let page = http::send(&self.admin, "GET", "/metrics", &[], b"").await;
        crate::harness::gateway::sum(page.text(), name, &[])
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let gateway = Unread::start().await;
    // More than any pipe holds, and more than the gateway keeps.
    for _ in 0..6 {
        assert_eq!(gateway.calls(500).await, 500);
    }
    let health = http::send(&gateway.admin, "GET", "/healthz", &[], b"").await;
    assert_eq!(health.status, 200);
    assert!(gateway.metric("genkan_log_lost_lines_total").await > 0.0);
    gateway.process.signal("TERM");
    let ended = eventually("it has ended", async || gateway.process.exited()).await;
    assert_eq!(ended, 0);
}

#[tokio::test]
async fn lines_that_were_lost_are_counted_once_somebody_reads() {
    let mut gateway = Unread::start().await;
    for _ in 0..6 {
        assert_eq!(gateway.calls(500).await, 500);
    }
    let lines = BufReader::new(gateway.process.stderr()).lines();
    let read = Arc::new(Mutex::new(Vec::new()));
    let reader = Arc::clone(&read);
    std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| reader.lock().unwrap().push(line));
    });
    let lost = eventually("it says how many were lost", async || {
        let lines = read.lock().unwrap();
        let parsed = lines.iter().map(|line| serde_json::from_str::<Value>(line));
        let mut parsed = parsed.map(|line| line.expect("a whole line of JSON"));
        parsed.find_map(|line| line["lost"].as_u64())
    })
    .await;
    let ended = "\"message\":\"call ended\"";
    let seen = read.lock().unwrap().iter().filter(|line| line.contains(ended)).count() as u64;
    assert!(seen > 0 && lost > 0 && seen + lost >= 3_000, "{seen} read, {lost} lost");
    assert_eq!(gateway.metric("genkan_log_lost_lines_total").await, lost as f64);
}

#[tokio::test]
async fn what_a_caller_chose_cannot_forge_a_line() {
    let gateway = Gateway::start("[log]\nlevel = \"debug\"").await;
    let marks = "\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{61c}\u{7f}";
    let name = format!("evil.a\u{1b}[2J\r\n{{\"level\":\"ERROR\"}}{marks}");
    gateway.fault(&name, Value::Null).await.is("unknown_service", "not_sent");
    let line = gateway.wait_for_log(0, "call failed").await;
    assert_eq!(line["call"], name, "nothing of it is lost");
    gateway.wait_for_log(0, "call ended").await;
    let log = gateway.log_text();
    let acted_on = |c: char| c != '\n' && (c.is_control() || marks.contains(c));
    assert!(!log.contains(acted_on), "{log:?}");
}
