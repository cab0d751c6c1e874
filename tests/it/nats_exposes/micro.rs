//! An exposed service as NATS's micro services and their tools see it.

use serde_json::{Value, json};

use super::{World, as_json, ask, config, echo, exposed, header, replies, row};
use crate::harness::clients::node;
use crate::harness::process::Folder;
use crate::harness::{Answer, Gateway, Nats, eventually};

/// What a client of `@nats-io/services` sees and gets.
async fn micro(nats: &Nats, name: &str, calls: Value) -> Value {
    let folder = Folder::new();
    let file = folder.write("calls.json", &calls.to_string());
    let arguments = [nats.url(), name.to_owned(), file.to_str().expect("UTF-8").to_owned()];
    node("micro_calls.js", &arguments.each_ref().map(String::as_str)).await
}

#[tokio::test]
async fn a_micro_client_finds_a_python_service_and_calls_it() {
    let bad = r#"{"result": null, "error": {"exc_type": "ValueError", "exc_path": "builtins.ValueError", "exc_args": ["bad 1"], "value": "bad 1"}}"#;
    let keys = "as = \"till\"\nmethods = [\"add\", \"fail\"]";
    let world = World::exposing("micro", keys, move |seen| match &seen.method[..] {
        "fail" => Answer::new(bad),
        _ => replies(&seen.body),
    })
    .await;
    let calls = json!([["add", [2, 3]], ["add", {"a": 1}], ["add"], ["fail", {}]]);
    let seen = micro(&world.nats, "till", calls).await;
    for found in ["everybody", "pings"] {
        assert_eq!(seen[found].as_array().map(Vec::len), Some(1), "{seen}");
        assert_eq!(seen[found][0]["name"], "till");
    }
    let info = &seen["infos"][0];
    assert_eq!(info["description"], "the service desk, exposed by Genkan");
    let endpoint = |name: &str| json!({"name": name, "subject": format!("till.{name}"), "queue_group": "q", "metadata": {}});
    assert_eq!(info["endpoints"], json!([endpoint("add"), endpoint("fail")]));
    assert_eq!(seen["alone"], seen["infos"], "asked by its id");
    let outcomes = &seen["outcomes"];
    assert_eq!(outcomes[0], json!({"result": {"args": [2, 3], "kwargs": {}}}));
    assert_eq!(outcomes[1], json!({"result": {"args": [], "kwargs": {"a": 1}}}));
    assert_eq!(outcomes[2], json!({"result": {"args": [], "kwargs": {}}}));
    assert_eq!(
        (&outcomes[3]["code"], &outcomes[3]["error"]),
        (&json!(500), &json!("ValueError: bad 1"))
    );
    let body = &outcomes[3]["body"];
    assert_eq!((&body["kind"], &body["outcome"]), (&json!("application"), &json!("executed")));
    assert_eq!((&body["class"], &body["info"]), (&json!("ValueError"), &json!("bad 1")));
    let stats = &seen["stats"][0];
    assert_eq!((&stats["id"], &stats["name"]), (&info["id"], &json!("till")));
    let counted = |endpoint: usize| {
        let endpoint = &stats["endpoints"][endpoint];
        (endpoint["num_requests"].clone(), endpoint["num_errors"].clone())
    };
    assert_eq!(counted(0), (json!(3), json!(0)), "{stats}");
    assert_eq!(counted(1), (json!(1), json!(1)), "{stats}");
    assert_eq!(stats["endpoints"][1]["last_error"], "500:ValueError: bad 1");
    let time = |key: &str| stats["endpoints"][0][key].as_u64().expect("nanoseconds");
    assert!(time("processing_time") > 0);
    assert_eq!(time("average_processing_time"), time("processing_time") / 3);
    let started = stats["started"].as_str().expect("a time");
    assert!(
        started.starts_with("20") && started.ends_with('Z') && started.contains('T'),
        "{started}"
    );
}

#[tokio::test]
async fn its_id_and_its_statistics_outlive_a_connection_and_a_reload() {
    let world = World::exposing("micro", "methods = [\"x\"]", echo).await;
    world.json("desk.x", "").await;
    let before = world.json("$SRV.STATS.desk", "").await;
    world.nats.kill();
    world.gateway.wait_for_log(0, "the connection to NATS was lost").await;
    world.nats.restart();
    exposed(&world.gateway, "desk", 2).await;
    let again = world.nats.client().await;
    let more = [row("desk", "micro", "methods = [\"x\"]"), row("desk", "plain", "as = \"other\"")];
    world.gateway.write_config(&config(&world.nats, &world.vhost, &more.concat()));
    world.gateway.hang_up();
    exposed(&world.gateway, "other", 1).await;
    let after = as_json(&ask(&again, "$SRV.STATS.desk", "").await);
    assert_eq!(before, after);
    // Another row is another instance.
    let changed = row("desk", "micro", "methods = [\"x\", \"y\"]");
    world.gateway.write_config(&config(&world.nats, &world.vhost, &changed));
    world.gateway.hang_up();
    eventually("it is another one", async || {
        let stats = as_json(&ask(&again, "$SRV.STATS.desk", "").await);
        (stats["id"] != before["id"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_method_that_is_no_endpoint_is_nowhere() {
    let world = World::exposing("micro", "methods = [\"x\"]", echo).await;
    let request = world.client.request("desk.y", "".into()).await;
    let error = request.expect_err("nobody is there").to_string();
    assert!(error.contains("no responders"), "{error}");
    let reply = world.ask("desk.x", "{broken").await;
    assert_eq!(header(&reply, "Nats-Service-Error-Code"), "400");
    let stats = world.json("$SRV.STATS.desk", "").await;
    let endpoint = &stats["endpoints"][0];
    assert_eq!((&endpoint["num_requests"], &endpoint["num_errors"]), (&json!(1), &json!(1)));
    assert_eq!(endpoint["last_error"], "400:the message is not JSON");
}

#[tokio::test]
async fn another_gateway_calls_it_as_a_micro_service() {
    let world = World::exposing("micro", "methods = [\"x\", \"never\"]", echo).await;
    let before = Gateway::ready(&world.nats.config("micro")).await;
    assert_eq!(
        before.result("desk.x", json!({"a": 1})).await,
        json!({"args": [], "kwargs": {"a": 1}})
    );
    before.fault("desk.y", json!({})).await.is("unknown_method", "not_sent");
}
