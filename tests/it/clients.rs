//! JSON-RPC client libraries, unmodified, with nothing but the gateway's URL, calling a real
//! Nameko service.

use serde_json::{Value, json};

use crate::harness::clients::{node, python};
use crate::harness::{Gateway, NamekoVersion, Shop, eventually};

async fn shop() -> Gateway {
    Gateway::ready(&Shop::shared(NamekoVersion::Three).config()).await
}

async fn check(gateway: &Gateway, library: &str, out: &Value, notes: usize) {
    assert_eq!(out["positional"], 19, "{library}: {out}");
    assert_eq!(out["named"], 19, "{library}: {out}");
    assert_eq!(out["unknown"], -32601, "{library}: {out}");
    let error = &out["error"];
    assert_eq!(error["code"], -32000, "{library}: {out}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("bad 1")), "{out}");
    if !error["data"].is_null() {
        assert_eq!(error["data"]["class"], "ValueError", "{out}");
        assert_eq!(error["data"]["info"], "bad 1", "{out}");
    }
    eventually("every notification has run, once", async || {
        let ran = gateway.result("shop.ran", json!([library])).await;
        let ran = ran.as_array().expect("a list").len();
        assert!(ran <= notes, "{library}: {ran} of {notes}");
        (ran == notes).then_some(())
    })
    .await;
}

#[tokio::test]
async fn jayson() {
    let gateway = shop().await;
    let (host, port) = gateway.http.split_once(':').expect("an address");
    let out = node("jayson_calls.js", &[host, port]).await;
    check(&gateway, "jayson", &out, 3).await;
    assert_eq!(out["batch"], json!([3, -32000]), "{out}");
    assert_eq!((&out["notification"], &out["quiet"]), (&Value::Null, &Value::Null), "{out}");
}

#[tokio::test]
async fn json_rpc_2_0() {
    let gateway = shop().await;
    let out = node("json_rpc_2_0_calls.js", &[&format!("{}/api", gateway.url())]).await;
    check(&gateway, "json-rpc-2.0", &out, 1).await;
    assert_eq!(out["batch"], json!([3, -32000]), "{out}");
}

#[tokio::test]
async fn jsonrpcclient() {
    let gateway = shop().await;
    let out = python("jsonrpcclient_calls.py", &[&format!("{}/api", gateway.url())]).await;
    check(&gateway, "jsonrpcclient", &out, 1).await;
    assert_eq!(out["notification"], "", "{out}");
    assert_eq!(out["batch"], json!([3, -32000]), "{out}");
}

#[tokio::test]
async fn jsonrpclib_pelix() {
    let gateway = shop().await;
    let out = python("pelix_calls.py", &[&format!("{}/api", gateway.url())]).await;
    check(&gateway, "pelix", &out, 3).await;
    assert_eq!(out["notification"], Value::Null, "{out}");
    assert_eq!(out["batch"], json!([3, 7]), "{out}");
}

#[tokio::test]
async fn jsonrpc_requests() {
    let gateway = shop().await;
    let out = python("jsonrpc_requests_calls.py", &[&format!("{}/api", gateway.url())]).await;
    check(&gateway, "jsonrpc-requests", &out, 1).await;
    assert_eq!(out["notification"], Value::Null, "{out}");
}

#[tokio::test]
async fn tinyrpc() {
    let gateway = shop().await;
    let out = python("tinyrpc_calls.py", &[&format!("{}/api", gateway.url())]).await;
    check(&gateway, "tinyrpc", &out, 1).await;
    assert_eq!(out["notification"], Value::Null, "{out}");
}

#[tokio::test]
async fn gemstones_remote_service() {
    let gateway = shop().await;
    let mut out = python("gemstone_calls.py", &[&format!("{}/api/shop", gateway.url())]).await;
    assert_eq!((&out["positional"], &out["named"]), (&json!(19), &json!(19)), "{out}");
    assert_eq!(out["batch"], json!([3, 7]), "{out}");
    assert_eq!(out["quiet"], json!([]), "{out}");
    let unknown = out["unknown"]["code"].clone();
    out["unknown"] = unknown;
    check(&gateway, "gemstone", &out, 3).await;
}
