//! Real modules: the crate `juno` from crates.io, and the examples in Rust, Python and Node.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{HUB, Peer, address};
use crate::harness::process::{Folder, Process, build, program, project, run};
use crate::harness::{Gateway, eventually};

fn rust_module() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("tests/juno-module", "juno-module"))
}

async fn until_active(gateway: &Gateway, module: &str, functions: usize) {
    eventually(&format!("{module} is there"), async || {
        let page = gateway.page("/hub/modules").await.json();
        let there = page["modules"].as_array()?.iter().any(|seen| {
            seen["id"] == module
                && seen["state"] == "active"
                && seen["functions"].as_array().is_some_and(|seen| seen.len() >= functions)
        });
        there.then_some(())
    })
    .await;
}

/// Runs a module of the crate to its end: what it printed.
async fn rust(arguments: &[&str]) -> Value {
    // A library that has lost its answer waits for ever.
    let mut command = Command::new("timeout");
    command.arg("60").arg(rust_module()).args(arguments);
    let done = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
    assert_eq!(done.0, 0, "{}", done.2);
    serde_json::from_str(&done.1).unwrap_or_else(|error| panic!("{error}: {}", done.1))
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_of_the_rust_crate() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let gateway = Gateway::start(&format!(
        "[hub]\nerrors = \"data\"\ntimeout = \"2s\"\nlisten = [\"tcp://127.0.0.1:0\", \"unix://{}\"]\n",
        path.display()
    ))
    .await;
    let at = address(&gateway).await;
    let unix = path.to_str().unwrap();
    let mut serving = Command::new(rust_module());
    serving.args([unix, "rmath", "serve"]);
    let server = Process::start(&serving, None);
    until_active(&gateway, "rmath", 3).await;

    // From HTTP.
    assert_eq!(gateway.result("rmath.add", json!({"a": 2, "b": 5})).await, json!(7));
    assert_eq!(gateway.raw("rmath.echo", r#"{"x":7.0}"#).await, r#"{"x":7.0}"#);
    gateway.fault("rmath.sub", json!({})).await.is("unknown_method", "not_sent");
    // From a module of the crate, over the other socket.
    assert_eq!(rust(&[&at, "c1", "call", "rmath.add", r#"{"a":2,"b":5}"#]).await, json!(7));
    // It would hang at an error frame: with `errors = "data"` it is told.
    let failed = rust(&[&at, "c2", "call", "nobody.f", "{}"]).await;
    assert_eq!(failed["error"]["error"], 4);
    // Hooks: it listens first, and is the source of one itself.
    let mut listening = Command::new(rust_module());
    let heard = folder.path().join("heard");
    listening.args([&at, "listener", "listen", "c3.changed", heard.to_str().unwrap()]);
    let _listener = Process::start(&listening, None);
    eventually("it listens", async || {
        let page = gateway.page("/hub/modules").await.json();
        page["modules"]
            .as_array()?
            .iter()
            .any(|seen| seen["hooks"] == json!(["c3.changed"]))
            .then_some(())
    })
    .await;
    assert_eq!(rust(&[unix, "c3", "trigger", "changed", r#"{"u":1}"#]).await, json!("triggered"));
    eventually("the hook arrives", async || {
        let text = std::fs::read_to_string(&heard).ok()?;
        (serde_json::from_str::<Value>(text.trim()).ok()? == json!({"u": 1})).then_some(())
    })
    .await;
    // Calls in flight end when it is killed.
    let url = gateway.url();
    let waiting = tokio::spawn(async move {
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": "rmath.sleep", "params": {}}).to_string();
        crate::harness::http::send(
            url.trim_start_matches("http://"),
            "POST",
            "/api",
            &[],
            body.as_bytes(),
        )
        .await
        .json()
    });
    eventually("it is called", async || {
        let page = gateway.page("/hub/modules").await.json();
        page["modules"].as_array()?.iter().any(|seen| seen["calls"]["to_answer"] == 1).then_some(())
    })
    .await;
    server.signal("KILL");
    // Not when its time is over.
    let response = waiting.await.unwrap();
    crate::harness::as_fault(&response).is("unavailable", "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_module_waits_for_what_it_depends_on() {
    // From a clean checkout it takes long to build, and no wait below is meant for that.
    rust_module();
    let gateway = Gateway::start(HUB).await;
    let at = address(&gateway).await;
    let mut calc = Peer::module(&gateway, "calc", &["add"]).await;
    let call = tokio::spawn(async move {
        rust(&[&at, "needy", "call", "calc.add", r#"{"a":1}"#, "math", "^1.0.0"]).await
    });
    gateway.wait_for_metric("genkan_hub_modules", &[("state", "waiting")], 1.0).await;
    let _math = Peer::module(&gateway, "math", &[]).await;
    let asked = calc.receive().await;
    assert_eq!((&asked["caller"], &asked["arguments"]), (&json!("needy"), &json!({"a": 1})));
    calc.answer(&asked, json!("here")).await;
    assert_eq!(call.await.unwrap(), json!("here"));
}

/// The same conversation with each of the examples.
async fn example(command: &mut Command, module: &str) {
    let gateway = Gateway::start(HUB).await;
    let at = address(&gateway).await;
    let _running = Process::start(command.arg(&at), None);
    until_active(&gateway, module, 1).await;
    let mut other = Peer::module(&gateway, "other", &["shout"]).await;
    let greeting = gateway.result(&format!("{module}.greet"), json!({"name": "玄関"})).await;
    assert_eq!(greeting, json!(format!("Hello, 玄関, from {module}")));
    let answer = other.call(&format!("{module}.greet"), json!({"name": "other"})).await;
    assert_eq!(answer["data"], json!(format!("Hello, other, from {module}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example() {
    let mut command = Command::new(program("python3", &[]));
    command.arg(project().join("examples/hub/python_module.py"));
    example(&mut command, "python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_example() {
    let mut command = Command::new(program("node", &[]));
    command.arg(project().join("examples/hub/node_module.js"));
    example(&mut command, "node").await;
}

async fn rust_example() -> Command {
    let binary = tokio::task::spawn_blocking(|| build("examples/hub/rust-module", "rust-module"));
    Command::new(binary.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_example() {
    example(&mut rust_example().await, "rust").await;
}

/// Over a Unix socket: its function `order` calls `orders.create` before it answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_rust_example_calls_another_service() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let listen = format!("\"tcp://127.0.0.1:0\", \"unix://{}\"", path.display());
    let gateway = Gateway::start(&format!("[hub]\nlisten = [{listen}]\n")).await;
    let _running = Process::start(rust_example().await.arg(&path), None);
    until_active(&gateway, "rust", 2).await;
    let arguments = json!({"id": 1, "size": "M"});
    // What it is told when it cannot be done, it tells its caller: it has run, and may have done
    // something before.
    let fault = gateway.fault("rust.order", arguments.clone()).await;
    fault.is("application", "executed");
    assert_eq!(
        (&fault.data["code"], &fault.data["info"]["kind"]),
        (&json!(4), &json!("unknown_service"))
    );

    let mut orders = Peer::module(&gateway, "orders", &["create"]).await;
    let serve = async {
        let asked = orders.receive().await;
        assert_eq!((&asked["caller"], &asked["arguments"]), (&json!("rust"), &arguments));
        orders.answer(&asked, json!({"price": 18})).await;
        let asked = orders.receive().await;
        let id = &asked["requestId"];
        orders.send(&json!({"type": 0, "requestId": id, "error": 2, "message": "sold out"})).await;
    };
    let call = async {
        let taken = gateway.result("rust.order", arguments.clone()).await;
        assert_eq!(taken, json!({"text": "That is 18, says rust", "order": {"price": 18}}));
        let fault = gateway.fault("rust.order", arguments.clone()).await;
        assert_eq!(fault.is("application", "executed").message, "sold out");
    };
    tokio::join!(serve, call);
}
