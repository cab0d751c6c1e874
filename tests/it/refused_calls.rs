//! Calls that are refused before they are routed: at which row they are counted and logged.

use serde_json::json;

use crate::harness::websocket::WebSocket;
use crate::harness::{Echo, eventually};

const BAD_TIMEOUT: (&str, &str) = ("X-Request-Timeout", "soon");
const BAD_KEY: (&str, &str) = ("Idempotency-Key", "\"a\", \"b\"");

fn call(method: &str, rest: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","id":1{rest}}}"#)
}

/// Sends a request, and checks what it was counted and logged as.
async fn check(
    echo: &Echo,
    (path, headers, body): (&str, &[(&str, &str)], &str),
    (route, called, kind): (&str, &str, &str),
) {
    let labels = [("ingress", "http"), ("route", route), ("outcome", kind)];
    let gateway = &echo.gateway;
    let before = gateway.metric("genkan_calls_total", &labels).await;
    let answer = gateway.post(path, headers, body).await;
    let after = gateway.metric("genkan_calls_total", &labels).await;
    assert_eq!(after - before, 1.0, "{path} {headers:?} {body}: {answer:?}");
    let told = (&json!(route), &json!(called), &json!(kind));
    eventually(&format!("a line about {told:?}"), async || {
        let mut lines = gateway.logged("call failed").into_iter();
        lines.find(|line| (&line["route"], &line["call"], &line["kind"]) == told)
    })
    .await;
}

#[tokio::test]
async fn what_is_known_to_be_called_is_counted_at_its_row() {
    let echo = Echo::start().await;
    let plain = call("echo.x", "");
    let bare = call("x", "");
    for headers in [BAD_TIMEOUT, BAD_KEY] {
        for (path, body) in [("/api", &*plain), ("/api/echo", &*bare), ("/call/echo/x", "{}")] {
            let row = ("echo.*", "echo.x", "invalid_request");
            check(&echo, (path, &[headers], body), row).await;
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_does_not_hide_what_it_calls() {
    let echo = Echo::start().await;
    let row = ("echo.*", "echo.x", "invalid_request");
    for body in [
        call("echo.x", r#","params":7"#),
        call("echo.x", r#","meta":{"idempotencyKey":""}"#),
        call("echo.x", r#","params":[],"params":[]"#),
        r#"{"jsonrpc":"1.0","method":"echo.x","id":1}"#.to_owned(),
        r#"{"method":"echo.x","id":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"echo.x","id":{}}"#.to_owned(),
    ] {
        check(&echo, ("/api", &[], &body), row).await;
    }
    for (body, kind) in [("7", "invalid_request"), ("{", "parse_error")] {
        check(&echo, ("/call/echo/x", &[], body), ("echo.*", "echo.x", kind)).await;
    }
    let typed = [("Content-Type", "text/plain")];
    check(&echo, ("/call/echo/x", &typed, "{}"), row).await;
    // Of these nobody can tell.
    let method = r#"{"jsonrpc":"2.0","method":7,"id":1}"#;
    check(&echo, ("/api", &[], method), ("none", "", "invalid_request")).await;
    check(&echo, ("/api", &[], "{"), ("none", "", "parse_error")).await;
    let twice = r#"{"jsonrpc":"2.0","method":"echo.x","method":"echo.y","id":1}"#;
    check(&echo, ("/api", &[], twice), ("none", "", "invalid_request")).await;
    check(&echo, ("/api", &[], &call("rpc.x", "")), ("none", "", "unknown_method")).await;
}

#[tokio::test]
async fn genkans_own_methods_are_no_rows() {
    let echo = Echo::start().await;
    for own in ["rpc.discover", "ping", "genkan.subscribe"] {
        let row = ("none", own, "invalid_request");
        check(&echo, ("/api", &[BAD_TIMEOUT], &call(own, "")), row).await;
    }
    let row = ("none", "echo.rpc.discover", "invalid_request");
    check(&echo, ("/api/echo", &[BAD_TIMEOUT], &call("rpc.discover", "")), row).await;
}

#[tokio::test]
async fn each_call_of_a_batch_or_a_websocket_is_counted_at_its_own() {
    let echo = Echo::start().await;
    let batch = format!("[{},{}]", call("echo.x", ""), call("nobody.x", ""));
    echo.gateway.post("/api", &[BAD_TIMEOUT], &batch).await;
    let mut socket = WebSocket::open(echo.gateway.url().trim_start_matches("http://")).await;
    socket.ask(&call("echo.x", r#","params":7"#)).await;
    for (ingress, route) in [("http", "echo.*"), ("http", "*"), ("websocket", "echo.*")] {
        let labels = [("ingress", ingress), ("route", route), ("outcome", "invalid_request")];
        eventually(&format!("{labels:?}"), async || {
            let counted = echo.gateway.metric("genkan_calls_total", &labels).await;
            (counted == 1.0).then_some(())
        })
        .await;
    }
}
