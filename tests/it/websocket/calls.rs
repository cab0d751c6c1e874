//! Messages and what they are answered with.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::websocket::WebSocket;
use crate::harness::{Echo, as_fault, eventually};

fn call(id: usize, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

#[tokio::test]
async fn answers_come_as_they_are_there() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    socket.say(call(1, "echo.later", r#"["late"]"#)).await;
    socket.say(call(2, "echo.slow", r#"["slow"]"#)).await;
    socket.say(call(3, "echo.x", r#"["at once"]"#)).await;
    let answers = [socket.json().await, socket.json().await, socket.json().await];
    let ids = answers.clone().map(|answer| answer["id"].clone());
    assert_eq!(ids, [3, 2, 1], "{answers:?}");
    assert_eq!(answers[2], json!({"jsonrpc": "2.0", "id": 1, "result": "late"}));
    let labels = [("ingress", "websocket"), ("outcome", "ok")];
    echo.gateway.wait_for_metric("genkan_calls_total", &labels, 3.0).await;
    assert_eq!(echo.gateway.metric("genkan_calls_total", &[("ingress", "http")]).await, 0.0);
}

#[tokio::test]
async fn payloads_and_ids_come_back_byte_for_byte() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    socket
        .say(
            r#"{"id":9007199254740993,"params":[{"b":1.10,"a":1e400,"é":"\u00e9"}],
                "jsonrpc":"2.0","method":"echo.x"}"#,
        )
        .await;
    let answer = socket.receive().await.expect("an answer");
    assert_eq!(
        String::from_utf8(answer.payload).expect("UTF-8"),
        r#"{"jsonrpc":"2.0","result":{"b":1.10,"a":1e400,"é":"\u00e9"},"id":9007199254740993}"#
    );
}

/// As `simple-jsonrpc-js` answers an event of which its handler does not name each param.
#[tokio::test]
async fn an_answer_is_not_answered() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let refusal = r#"{"code":-32602,"message":"Invalid params","data":"Params: id,time not used"}"#;
    for rest in ["", r#","id":null"#, r#","id":7"#] {
        socket.say(format!(r#"{{"jsonrpc":"2.0","error":{refusal}{rest}}}"#)).await;
    }
    socket.say(r#"{"jsonrpc":"2.0","result":true,"id":8}"#).await;
    assert_eq!(socket.ask(call(1, "echo.x", "[1]")).await["id"], 1, "what comes is its answer");
    let broken = socket.ask(r#"{"jsonrpc":"2.0","id":9}"#).await;
    assert_eq!((&broken["id"], &broken["error"]["code"]), (&json!(9), &json!(-32600)));
}

#[tokio::test]
async fn a_batch_is_answered_by_one_message_in_its_order() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let batch = [
        call(1, "echo.slow", "[1]"),
        r#"{"jsonrpc":"2.0","method":"echo.note","params":[1]}"#.to_owned(),
        call(2, "echo.fail", "[]"),
        "7".to_owned(),
        call(3, "echo.x", "[3]"),
    ];
    let answer = socket.ask(format!("[{}]", batch.join(","))).await;
    let answers = answer.as_array().expect("a batch");
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [json!(1), json!(2), Value::Null, json!(3)], "{answer}");
    assert_eq!((&answers[0]["result"], &answers[3]["result"]), (&json!(1), &json!(3)));
    as_fault(&answers[1]).is("application", "executed");
    as_fault(&answers[2]).is("invalid_request", "not_sent");
    eventually("the notification has run", async || {
        echo.called().contains(&"note".to_owned()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_over_the_limit_is_refused_for_each_id() {
    let echo = Echo::with("[http]\nmax_batch = 2").await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let batch: Vec<_> = (1..=3).map(|id| call(id, "echo.x", "[1]")).collect();
    let answer = socket.ask(format!("[{}]", batch.join(","))).await;
    let answers = answer.as_array().expect("a batch");
    assert_eq!(answers.len(), 3, "{answer}");
    for answer in answers {
        as_fault(answer).is("too_large", "not_sent");
    }
    assert!(echo.called().is_empty());
}

#[tokio::test]
async fn notifications_are_not_answered_and_run_when_their_caller_has_gone() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let note = r#"{"jsonrpc":"2.0","method":"echo.note","params":[1]}"#;
    socket.say(format!("[{note},{note}]")).await;
    for _ in 0..100 {
        socket.say(note).await;
    }
    assert_eq!(socket.ask(call(1, "echo.x", "[1]")).await["id"], 1, "the first that is answered");
    drop(socket);
    eventually("all have run", async || (echo.called().len() == 103).then_some(())).await;
}

#[tokio::test]
async fn what_is_no_request_is_told_and_costs_nothing_else() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    for (text, kind) in [
        ("", "parse_error"),
        ("{", "parse_error"),
        ("[]", "invalid_request"),
        ("7", "invalid_request"),
        (r#"{"jsonrpc":"2.0","id":1}"#, "invalid_request"),
    ] {
        as_fault(&socket.ask(text).await).is(kind, "not_sent");
    }
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    as_fault(&socket.ask(&deep).await).is("too_large", "not_sent");
    let unknown = socket.ask(call(2, "nobody.x", "[]")).await;
    as_fault(&unknown).is("unknown_service", "not_sent");
    assert_eq!(socket.ask(call(3, "echo.x", "[3]")).await["result"], 3);
}

#[tokio::test]
async fn a_service_has_an_address_of_its_own() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open_with(&echo.gateway.http, "/api/echo", &[]).await;
    assert_eq!(socket.ask(call(1, "x", "[1]")).await["result"], 1);
    assert_eq!(echo.called(), ["x"]);
    let gemstone = [("User-Agent", "gemstone-client")];
    let mut socket = WebSocket::open_with(&echo.gateway.http, "/api/echo/", &gemstone).await;
    let answer = socket.ask(call(2, "x", "[2]")).await;
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 2, "result": 2, "error": null}));
}

#[tokio::test]
async fn what_the_opening_request_said_holds_for_every_call() {
    let echo = Echo::with("[http]\nforward_authorization = true").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("traceparent", trace),
        ("X-Request-Id", "order-7"),
        ("Accept-Language", "de"),
        ("User-Agent", "till/1"),
        ("Authorization", "Bearer secret"),
        ("X-Request-Timeout", "300ms"),
    ];
    let mut socket = WebSocket::open_with(&echo.gateway.http, "/api", &headers).await;
    for id in 1..=2 {
        assert_eq!(socket.ask(call(id, "echo.x", "[1]")).await["result"], 1);
    }
    let seen = echo.service.requests.all();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        for (name, value) in headers.iter().filter(|(name, _)| *name != "X-Request-Timeout") {
            let mut got = seen.headers.iter();
            let got = got.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            assert_eq!(got.map(String::as_str), Some(*value), "{name}");
        }
    }
    let late = socket.ask(call(3, "echo.later", "[1]")).await;
    as_fault(&late).is("timeout", "unknown");
}

#[tokio::test]
async fn a_thousand_calls_on_one_socket_are_all_answered() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let mut expected = BTreeSet::new();
    for id in 1..=1_000 {
        socket.say(call(id, "echo.x", &format!("[{id}]"))).await;
        expected.insert(id as u64);
    }
    while !expected.is_empty() {
        let answer = socket.json().await;
        assert_eq!(answer["id"], answer["result"], "{answer}");
        assert!(expected.remove(&answer["id"].as_u64().expect("an id")), "{answer}");
    }
}
