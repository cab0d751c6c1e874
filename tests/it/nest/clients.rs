//! NestJS's client, calling services of other worlds.

use serde_json::{Value, json};

use crate::events::Listener;
use crate::harness::clients::node_in;
use crate::harness::process::Folder;
use crate::harness::{Answer, Gateway, Nats, Seen, eventually};
use crate::nats_events::{carries, next};
use crate::nats_exposes::{World, replies, row};

const METHODS: &str = "methods = [\"x\", \"fail\", \"late\", \"note\"]";

/// Calls as its client makes them.
async fn nest(nats: &Nats, calls: Value) -> Vec<Value> {
    let folder = Folder::new();
    let file = folder.write("calls.json", &calls.to_string());
    let arguments = [nats.url(), file.to_str().expect("UTF-8").to_owned()];
    let arguments = arguments.each_ref().map(String::as_str);
    let output = node_in("nest", "nest_calls.js", &arguments).await;
    output.as_array().expect("a list").clone()
}

fn desk(seen: &Seen) -> Vec<Answer> {
    let error = json!({"exc_type": "ValueError", "exc_path": "builtins.ValueError", "exc_args": ["bad 1"], "value": "bad 1"});
    match &seen.method[..] {
        "fail" => Answer::new(json!({"result": null, "error": error}).to_string()),
        "late" => Vec::new(),
        _ => replies(&seen.body),
    }
}

async fn world() -> World {
    let late = "[[routes]]\nmatch = \"desk.late\"\nupstream = \"rabbit\"\ntimeout = \"300ms\"\n";
    World::with(&format!("{}{late}", row("desk", "nest", METHODS)), desk).await
}

#[tokio::test]
async fn it_calls_a_python_service() {
    let world = world().await;
    let calls = json!([
        ["desk.x", {"a": [1.5, "é", null]}],
        ["desk.x", [2, 3]],
        ["desk.x", 7],
        ["desk.x", {}],
        ["desk.x", ""],
        ["desk.x", "y".repeat(200 << 10)],
    ]);
    let outcomes = nest(&world.nats, calls).await;
    let values = |args: Value, kwargs: Value| json!({"values": [{"args": args, "kwargs": kwargs}]});
    let expected = [
        values(json!([]), json!({"a": [1.5, "é", null]})),
        values(json!([2, 3]), json!({})),
        values(json!([7]), json!({})),
        values(json!([]), json!({})),
        values(json!([]), json!({})),
        values(json!(["y".repeat(200 << 10)]), json!({})),
    ];
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn faults_are_errors_with_all_that_is_known() {
    let world = world().await;
    let calls = json!([["desk.fail", {}], ["desk.late", {}], ["desk.unlisted", {}]]);
    let outcomes = nest(&world.nats, calls).await;
    let error = &outcomes[0]["error"];
    assert_eq!(
        (&error["status"], &error["message"]),
        (&json!("error"), &json!("ValueError: bad 1"))
    );
    assert_eq!((&error["kind"], &error["class"]), (&json!("application"), &json!("ValueError")));
    assert_eq!((&error["info"], &error["args"]), (&json!("bad 1"), &json!(["bad 1"])));
    let late = &outcomes[1]["error"];
    assert_eq!((&late["kind"], &late["outcome"]), (&json!("timeout"), &json!("unknown")), "{late}");
    let nobody = outcomes[2]["error"].as_str().unwrap_or_default();
    assert!(nobody.contains("no subscribers listening"), "{outcomes:?}");
}

#[tokio::test]
async fn patterns_that_are_objects_are_methods() {
    let subjects = "subjects = { sum = '{ \"cmd\": \"sum\" }', note = '{\"role\":\"desk\",\"cmd\":\"a.note\"}' }";
    let methods = format!("methods = [\"x\"]\n{subjects}");
    let world = World::with(&row("desk", "nest", &methods), desk).await;
    let calls = json!([
        [{"cmd": "sum"}, [1, 2]],
        ["desk.x", [3]],
        ["desk.sum", [4]],
        [{"role": "desk", "cmd": "a.note"}, {"n": 1}, true],
    ]);
    let outcomes = nest(&world.nats, calls).await;
    assert_eq!(outcomes[0], json!({"values": [{"args": [1, 2], "kwargs": {}}]}));
    assert_eq!(outcomes[1], json!({"values": [{"args": [3], "kwargs": {}}]}));
    let nobody = outcomes[2]["error"].as_str().unwrap_or_default();
    assert!(nobody.contains("no subscribers listening"), "{outcomes:?}");
    eventually("all have run", async || (world.desk.requests.count() == 3).then_some(())).await;
    let asked = world.desk.requests.last();
    assert_eq!((&asked.method[..], &asked.body[..]), ("note", r#"{"args":[],"kwargs":{"n":1}}"#));

    let route =
        "[[routes]]\nmatch = \"sums.*\"\nupstream = \"nats\"\nsubject = '{\"cmd\":\"sum\"}'\n";
    let before = Gateway::ready(&format!("{route}{}", world.nats.config("nest"))).await;
    assert_eq!(before.result("sums.of", json!([5])).await, json!({"args": [5], "kwargs": {}}));
}

#[tokio::test]
async fn its_events_are_notifications() {
    let world = world().await;
    let outcomes = nest(&world.nats, json!([["desk.note", {"n": 1}, true]])).await;
    assert_eq!(outcomes, [json!({"emitted": true})]);
    eventually("it has run", async || (world.desk.requests.count() == 1).then_some(())).await;
    assert_eq!(world.desk.requests.last().body, r#"{"args":[],"kwargs":{"n":1}}"#);
}

#[tokio::test]
async fn its_events_come_to_browsers_and_go_on_without_their_envelope() {
    let nats = Nats::start();
    let rows = "[[topics]]\nmatch = \"ok.*\"\nfrom = \"nats:ok.*\"\n\
                [[bridges]]\nfrom = \"nats:ok.*\"\nto = [\"nats:copies.$1\"]\n";
    let gateway = Gateway::ready(&format!("{}{rows}", nats.upstream("nats", "nest"))).await;
    let client = nats.client().await;
    let mut copies = client.subscribe("copies.nest").await.expect("subscribed");
    carries(&gateway, &client, "ok.probe", "nats:ok.*").await;
    let mut listener = Listener::listen(&gateway, "?topic=ok.nest").await;
    let outcomes = nest(&nats, json!([["ok.nest", {"order": 7}, true]])).await;
    assert_eq!(outcomes, [json!({"emitted": true})]);
    assert_eq!(listener.event().await.data["data"], json!({"order": 7}));
    let copy = next(&mut copies).await;
    assert_eq!(copy.payload, r#"{"pattern":"copies.nest","data":{"order":7}}"#);
}

#[tokio::test]
async fn an_answer_names_its_call() {
    let world = world().await;
    let reply = world.ask("desk.x", r#"{"pattern":"desk.x","data":[1],"id":"own"}"#).await;
    let body = String::from_utf8_lossy(&reply.payload).into_owned();
    let expected = r#"{"response":{"args":[1],"kwargs":{}},"isDisposed":true,"id":"own"}"#;
    assert_eq!(body, expected);
    let broken = world.json("desk.x", "{broken").await;
    assert_eq!(
        (&broken["err"]["kind"], &broken["isDisposed"]),
        (&json!("parse_error"), &json!(true))
    );
}

#[tokio::test]
async fn another_gateway_knows_what_it_was() {
    let world = world().await;
    let before = Gateway::ready(&world.nats.config("nest")).await;
    assert_eq!(before.result("desk.x", json!([1, 2])).await, json!({"args": [1, 2], "kwargs": {}}));
    assert_eq!(world.desk.requests.last().headers["nameko.genkan_hops"], "2");
    let fault = before.fault("desk.fail", json!({})).await;
    fault.is("application", "executed");
    assert_eq!(
        (&fault.data["class"], &fault.data["args"]),
        (&json!("ValueError"), &json!(["bad 1"]))
    );
    before.fault("desk.late", json!({})).await.is("timeout", "unknown");
}
