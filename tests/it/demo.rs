//! `make demo`: what it shows is so, what is missing is named, and nothing of it stays behind.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::clients::node_client;
use crate::harness::gateway::GENKAN;
use crate::harness::process::{Folder, PATIENCE, Process, project};

/// Two that start at the same moment could want the same ports.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// All that the demo starts inherits this variable.
const MARK: &str = "STARTED_BY_THE_TEST_OF_THE_DEMO";

/// The demo with a mark, started by `env`, so that the shell around it does not have the mark.
fn demo(mark: &str, options: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg(format!("{MARK}={mark}")).arg(project().join("scripts/demo"));
    command.args(["--binary", GENKAN]).args(options);
    command
}

/// The commands that run with the mark.
fn left(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}\0").into_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let marked = processes.filter(|path| {
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        environment.windows(wanted.len()).any(|window| window == wanted)
    });
    marked.map(|path| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default()).collect()
}

/// A folder with every program of the PATH but some.
fn programs_without(missing: &[&str]) -> Folder {
    let folder = Folder::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for place in std::env::split_paths(&path) {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let (name, program) = (entry.file_name().into_string().unwrap(), entry.path());
            let link = folder.path().join(&name);
            if missing.contains(&name.as_str()) || link.symlink_metadata().is_ok() {
                continue;
            }
            if name.starts_with("python") {
                // Python must find itself where it is: scripts/setup makes anew what another made.
                folder.write(&name, &format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display()));
                std::fs::set_permissions(&link, PermissionsExt::from_mode(0o755)).unwrap();
            } else {
                symlink(program, link).unwrap();
            }
        }
    }
    folder
}

fn all_in(output: &str, expected: &[&str]) {
    for text in expected {
        assert!(output.contains(text), "`{text}` is not in what it showed:\n{output}");
    }
    assert!(!output.contains("not the answer that was expected"), "{output}");
}

#[test]
fn services_and_modules_answer() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (folder, mark) = (Folder::new(), format!("once-{}", std::process::id()));
    let running = Process::start(&demo(&mark, &["--once"]), Some(&folder.path().join("log")));
    let status = running.wait(PATIENCE);
    let output = running.log();
    assert_eq!(status, 0, "{output}");
    all_in(
        &output,
        &[
            "… modules  rust, python, node (examples/hub) on the hub",
            r#""result": {"id": 9007199254740993, "size": "L", "price": 20}"#,
            // The browser's two requests, and the Rust module's answer.
            "OPTIONS  200, access-control-allow-origin: http://127.0.0.1:",
            "POST     200, access-control-allow-origin: http://127.0.0.1:",
            r#""result": "Hello, Ada, from rust""#,
            // Rust's words around what Nameko answered.
            r#"{"order": {"id": 42, "price": 18, "size": "M"}, "text": "That is 18, says rust"}"#,
            r#""Hello, you, from python""#,
            r#""Hello, you, from node""#,
            "rust    1.0.0    active  greet, order",
            "The hub listens on tcp://127.0.0.1:",
        ],
    );
    assert_eq!(left(&mark), Vec::<String>::new());
}

#[test]
fn what_is_missing_is_named_and_the_rest_is_shown() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Without apt-get, the set-up cannot install what is hidden here.
    let programs = programs_without(&["cargo", "node", "nodejs", "npm", "curl", "apt-get"]);
    let (folder, mark) = (Folder::new(), format!("without-{}", std::process::id()));
    let mut command = demo(&mark, &[]);
    command.env("PATH", programs.path());
    let running = Process::start(&command, Some(&folder.path().join("log")));
    running.wait_for_log("Ctrl-C");
    let output = running.log();
    all_in(
        &output,
        &[
            "✗ without  Node.js: calls of JavaScript's services will be refused as `unavailable`",
            "✗ without  cargo, which builds the Rust module: nobody serves `rust` on the hub",
            "✗ without  Node.js: nobody serves `node` on the hub",
            "✗ without  Node.js: there is no web page (examples/web)",
            "… modules  python (examples/hub) on the hub",
            r#""kind": "unavailable""#,
            r#""Hello, you, from python""#,
            "python  1.0.0    active  greet",
        ],
    );
    assert!(left(&mark).len() > 3, "{:?}", left(&mark));
    running.signal("INT");
    assert_eq!(running.wait(Duration::from_secs(20)), 0, "{}", running.log());
    assert_eq!(left(&mark), Vec::<String>::new());
    let logs = output.lines().find_map(|line| line.trim().strip_prefix("logs ")).unwrap();
    assert!(!Path::new(logs.trim().trim_end_matches("/*.log")).exists(), "{logs}");
}

/// What a card of the pizza page showed.
fn card(out: &Value, name: &str) -> (Vec<String>, Vec<String>) {
    let texts = |what: &str| {
        let texts = out[name][what].as_array().unwrap_or_else(|| panic!("{name}: {out}"));
        texts.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    (texts("way"), [texts("results"), texts("tags"), texts("messages"), texts("means")].concat())
}

/// It leaves a picture in `target/tmp/pizza.png`; `docs/pizza.png` is one, with fewer colours.
#[test]
fn the_page_calls_three_worlds_and_hears_them() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (folder, mark) = (Folder::new(), format!("page-{}", std::process::id()));
    let running = Process::start(&demo(&mark, &[]), Some(&folder.path().join("log")));
    running.wait_for_log("Ctrl-C");
    let output = running.log();
    let line = output.lines().find_map(|line| line.trim().strip_prefix("web page ")).unwrap();
    let url = line.split_whitespace().next().unwrap();
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pizza.png");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let out = runtime.block_on(node_client("pizza_page.js", &[url, picture.to_str().unwrap()]));
    running.signal("INT");
    assert_eq!(running.wait(Duration::from_secs(20)), 0, "{}", running.log());
    assert_eq!(left(&mark), Vec::<String>::new());
    it_called(&out);
    it_heard(&out);
    // Neither the browser nor the page's own policy had anything to object to, and nothing sticks out.
    assert_eq!((&out["complaints"], &out["overflow"]), (&json!([]), &json!(0)));
    assert!(std::fs::metadata(picture).unwrap().len() > 20_000);
}

fn it_called(out: &Value) {
    let order = &out["ordered"]["data"]["id"];
    let (way, shown) = card(out, "order");
    assert_eq!(way, ["This page", "Genkan", "RabbitMQ", "Python"]);
    assert_eq!(shown, [format!(r#"{{"id": {order}, "size": "L", "price": 20}}"#)]);
    let (way, shown) = card(out, "mail");
    assert_eq!(way, ["This page", "Genkan", "NATS", "JavaScript"]);
    let text = format!("Your pizza (L, order {order}) is ready");
    assert!(shown.len() == 1 && shown[0].contains(&text), "{shown:?}");
    let (way, shown) = card(out, "greet");
    assert_eq!(way, ["This page", "Genkan", "Rust"]);
    assert_eq!(shown, [r#""Hello, Ada, from rust""#]);
    let (way, shown) = card(out, "chain");
    assert_eq!(way, ["This page", "Genkan", "Rust", "Genkan", "RabbitMQ", "Python"]);
    assert!(shown.len() == 1 && shown[0].contains("That is 18, says rust"), "{shown:?}");
    let (_, shown) = card(out, "batch");
    assert!(shown.len() == 3 && shown[2] == r#""Hello, all, from rust""#, "{shown:?}");
    let (_, shown) = card(out, "nobody");
    assert_eq!(shown[..2], ["unknown_service", "not_sent"]);
    assert!(shown[2].starts_with("nobody serves `order`"), "{shown:?}");
    assert_eq!(shown[3..], ["It has reached no service."]);
    let (_, shown) = card(out, "fault");
    assert_eq!(shown[..2], ["application", "executed"]);
    assert!(shown[2].starts_with("ValueError: no size XXL"), "{shown:?}");
    assert_eq!(shown[3..], ["It ran, and this is what came of it."]);
}

fn it_heard(out: &Value) {
    assert_eq!(out["ordered"]["data"]["size"], "L");
    assert_eq!(out["ordered"]["world"], "nameko");
    assert_eq!(out["mailed"]["data"]["to"], "ann@example.com");
    assert_eq!(out["mailed"]["world"], "nats");
    assert_eq!(out["greeted"], json!({"world": "hub", "data": {"name": "Ada"}}));
    assert_eq!(out["counts"], json!(["Nameko 2", "NATS 1", "Hub 2"]), "{out}");
    assert_eq!(out["lost"], "The connection was lost: cut by the test");
    assert!(out["again"].as_str().unwrap().starts_with("Connected again after "), "{out}");
}
