//! WebSocket client libraries, unmodified, calling a real Nameko service.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::clients::{node, node_client, python};
use crate::harness::process::{build, run};
use crate::harness::{Gateway, NamekoVersion, Shop, eventually};

async fn shop() -> Gateway {
    Gateway::ready(&Shop::shared(NamekoVersion::Three).config()).await
}

fn url(gateway: &Gateway) -> String {
    format!("ws://{}/api", gateway.http)
}

/// What each of them does in the same way.
async fn check(gateway: &Gateway, library: &str, out: &Value) {
    assert_eq!((&out["positional"], &out["named"]), (&json!(19), &json!(19)), "{library}: {out}");
    assert_eq!(out["unknown"], -32601, "{library}: {out}");
    assert_eq!(out["error"]["code"], -32000, "{library}: {out}");
    assert!(out["error"]["message"].as_str().is_some_and(|text| text.contains("bad 1")), "{out}");
    assert_eq!(out["error"]["data"]["class"], "ValueError", "{library}: {out}");
    assert_eq!(out["sums"], true, "{library}: {out}");
    eventually("the notification has run, once", async || {
        let ran = gateway.result("shop.ran", json!([library])).await;
        let ran = ran.as_array().expect("a list").len();
        assert!(ran <= 1, "{library}: {ran}");
        (ran == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rpc_websockets() {
    let gateway = shop().await;
    let out = node("rpc_websockets_calls.js", &[&url(&gateway)]).await;
    check(&gateway, "rpc-websockets", &out).await;
    assert_eq!(out["closed"], 1000, "{out}");
}

#[tokio::test]
async fn ws() {
    let gateway = shop().await;
    let out = node("ws_calls.js", &[&url(&gateway)]).await;
    check(&gateway, "ws", &out).await;
    assert_eq!((&out["protocol"], &out["extensions"]), (&json!("jsonrpc"), &json!("")), "{out}");
    assert_eq!((&out["batch"], &out["pieces"]), (&json!([3, -32000]), &json!(2)), "{out}");
    assert_eq!((&out["large"], &out["pong"]), (&json!(true), &json!("there?")), "{out}");
    assert_eq!(out["closed"], 4001, "{out}");
    assert_eq!(out["binary"][0], 1003, "{out}");
}

#[tokio::test]
async fn pythons_websockets() {
    let gateway = shop().await;
    let out = python("websockets_calls.py", &[&url(&gateway)]).await;
    check(&gateway, "websockets", &out).await;
    assert_eq!((&out["batch"], &out["ponged"]), (&json!([3, -32000]), &json!(true)), "{out}");
    assert_eq!((&out["slept"], &out["closed"]), (&json!("ab"), &json!(1000)), "{out}");
    assert_eq!(out["binary"][0], 1003, "{out}");
}

#[tokio::test]
async fn a_browsers_own() {
    let gateway = shop().await;
    let out = node_client("websocket_page.js", &[&gateway.http]).await;
    let own = &out["own"];
    check(&gateway, "browser", own).await;
    assert_eq!((&own["batch"], &own["large"]), (&json!([3, -32000]), &json!(true)), "{out}");
    assert_eq!(own["extensions"], "", "{out}");
    assert_eq!((&own["code"], &own["wasClean"]), (&json!(1003), &json!(true)), "{out}");
    assert_eq!(out["foreign"], "failed", "{out}");
}

#[tokio::test]
async fn jsonrpsee() {
    let gateway = shop().await;
    let url = url(&gateway);
    let calling = tokio::task::spawn_blocking(move || {
        let client = build("tests/jsonrpsee-client", "jsonrpsee-client");
        // A library that has lost its answer may wait for ever.
        run(Command::new("timeout").arg("60").arg(client).arg(url))
    });
    let (status, out, said) = calling.await.expect("no panic");
    assert_eq!(status, 0, "{said}");
    let out: Value = serde_json::from_str(&out).expect("JSON");
    check(&gateway, "jsonrpsee", &out).await;
    assert_eq!(out["batch"], json!([3, -32000]), "{out}");
}
