//! Every example of the JSON-RPC 2.0 specification, section 7, sent as it is printed there. The
//! service is a real one of Nameko's, and seems to live at `/api/shop`.

use serde_json::{Value, json};

use crate::harness::{Gateway, NamekoVersion, Shop};

async fn shop() -> Gateway {
    Gateway::ready(&Shop::shared(NamekoVersion::Two).config()).await
}

/// Sends what stands behind `-->` and compares with what stands behind `<--`; of errors the code
/// and the id, because the specification leaves the words to the server.
async fn example(gateway: &Gateway, sent: &str, expected: &str) {
    let response = gateway.post("/api/shop", &[], sent).await;
    assert_eq!(response.status, 200, "{sent}");
    if expected.is_empty() {
        assert_eq!(response.text(), "", "{sent}");
        assert_eq!(response.header("content-length"), Some("0"), "{sent}");
        return;
    }
    let expected: Value = serde_json::from_str(expected).expect("the specification's JSON");
    let response = response.json();
    match (&expected, &response) {
        (Value::Array(expected), Value::Array(items)) => {
            assert_eq!(items.len(), expected.len(), "{response}");
            for answer in expected {
                assert!(items.iter().any(|item| same(item, answer)), "{answer} in {response}");
            }
        }
        _ => assert!(same(&response, &expected), "{sent}\n{response}"),
    }
}

fn same(answer: &Value, expected: &Value) -> bool {
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    let errors = answer["error"]["code"] == expected["error"]["code"]
        && (expected.get("error").is_none() || answer["error"]["message"].is_string());
    keys(answer) == keys(expected)
        && errors
        && ["jsonrpc", "result", "id"].iter().all(|key| answer.get(key) == expected.get(key))
}

#[tokio::test]
async fn calls_with_positional_parameters() {
    let gateway = shop().await;
    example(
        &gateway,
        r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#,
        r#"{"jsonrpc": "2.0", "result": 19, "id": 1}"#,
    )
    .await;
    example(
        &gateway,
        r#"{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}"#,
        r#"{"jsonrpc": "2.0", "result": -19, "id": 2}"#,
    )
    .await;
}

#[tokio::test]
async fn calls_with_named_parameters() {
    let gateway = shop().await;
    example(
        &gateway,
        r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
        r#"{"jsonrpc": "2.0", "result": 19, "id": 3}"#,
    )
    .await;
    example(
        &gateway,
        r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}"#,
        r#"{"jsonrpc": "2.0", "result": 19, "id": 4}"#,
    )
    .await;
}

#[tokio::test]
async fn notifications() {
    let gateway = shop().await;
    let update = r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#;
    example(&gateway, update, "").await;
    example(&gateway, r#"{"jsonrpc": "2.0", "method": "foobar"}"#, "").await;
}

#[tokio::test]
async fn a_call_of_a_method_that_does_not_exist() {
    example(
        &shop().await,
        r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#,
        r#"{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}"#,
    )
    .await;
}

#[tokio::test]
async fn a_call_with_invalid_json() {
    example(
        &shop().await,
        r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#,
        r#"{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}"#,
    )
    .await;
}

#[tokio::test]
async fn a_call_with_an_invalid_request_object() {
    example(
        &shop().await,
        r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
        r#"{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}"#,
    )
    .await;
}

#[tokio::test]
async fn a_batch_with_invalid_json() {
    example(
        &shop().await,
        r#"[
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method"
]"#,
        r#"{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}"#,
    )
    .await;
}

#[tokio::test]
async fn an_empty_batch() {
    example(
        &shop().await,
        "[]",
        r#"{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}"#,
    )
    .await;
}

#[tokio::test]
async fn invalid_batches() {
    let gateway = shop().await;
    let invalid = r#"{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}"#;
    example(&gateway, "[1]", &format!("[{invalid}]")).await;
    example(&gateway, "[1,2,3]", &format!("[{invalid},{invalid},{invalid}]")).await;
}

#[tokio::test]
async fn a_batch() {
    example(
        &shop().await,
        r#"[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]"#,
        r#"[
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}
    ]"#,
    )
    .await;
}

#[tokio::test]
async fn a_batch_of_notifications() {
    let sent = r#"[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]"#;
    example(&shop().await, sent, "").await;
}

#[tokio::test]
async fn the_same_through_api_with_the_service_in_the_method() {
    let gateway = shop().await;
    assert_eq!(gateway.result("shop.subtract", json!([42, 23])).await, 19);
    assert_eq!(gateway.fault("shop.foobar", Value::Null).await.code, -32601);
}
