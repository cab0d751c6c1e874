//! Calls under a key that is running: they join it, whoever hangs up, and however long each can wait.

use serde_json::{Value, json};

use super::{KEPT, is_replayed, problem, request, waiting};
use crate::harness::http::Connection;
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, eventually};
use crate::hub::{HUB, Peer};

/// A row whose calls a module answers, when the test lets it.
async fn desk(keys: &str) -> (Gateway, Peer) {
    let row = "[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\ntimeout = \"1m\"\n";
    let gateway = Gateway::ready(&format!("{HUB}{row}{KEPT}\n{keys}\n")).await;
    let desk = Peer::module(&gateway, "desk", &["pay"]).await;
    (gateway, desk)
}

/// Calls under a key, and leaves the answer where it is.
async fn begin(gateway: &Gateway, key: &str, more: &[(&str, &str)]) -> Connection {
    let mut connection = gateway.connect().await;
    let headers = [&[("Idempotency-Key", key)], more].concat();
    connection.request("POST", "/call/desk/pay", &headers, br#"{"sum":10}"#).await;
    connection
}

/// Waits until so many calls have joined or were answered.
async fn counted(gateway: &Gateway, outcome: &str, calls: f64) {
    let labels = [("route", "desk.*"), ("outcome", outcome)];
    gateway.wait_for_metric("genkan_idempotency_calls_total", &labels, calls).await;
}

async fn is_in_flight(gateway: &Gateway, calls: f64) {
    eventually(&format!("{calls} calls are in flight"), async || {
        let there = gateway.metric("genkan_calls_in_flight", &[("upstream", "hub")]).await;
        (there == calls).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_comes_meanwhile_joins_by_whichever_way() {
    let (gateway, mut desk) = desk("max_in_flight = 1").await;
    let mut first = begin(&gateway, "k", &[]).await;
    let held = desk.receive().await;
    let mut joined = begin(&gateway, "\"k\"", &[]).await;
    let mut socket = WebSocket::open(&gateway.http).await;
    socket.say(request(7, "desk.pay", "k").to_string()).await;
    let mut batched = gateway.connect().await;
    let batch = json!([request(1, "desk.pay", "k")]).to_string();
    batched.request("POST", "/api", &[], batch.as_bytes()).await;
    let mut other = begin(&gateway, "k", &[("X-Request-Timeout", "30s")]).await;
    counted(&gateway, "joined", 4.0).await;
    let body = gateway.post("/call/desk/pay", &[("Idempotency-Key", "k")], "{}").await;
    assert_eq!(body.status, 422, "another body is another call, while it runs too: {body:?}");
    desk.is_silent().await;
    is_in_flight(&gateway, 1.0).await;
    desk.answer(&held, json!({"paid": 10})).await;
    let answer = first.receive().await.expect("an answer");
    assert_eq!((answer.text(), is_replayed(&answer)), (r#"{"paid":10}"#, false));
    assert!(answer.header("server-timing").is_some_and(|it| it.contains("service;dur")));
    for connection in [&mut joined, &mut other] {
        let answer = connection.receive().await.expect("an answer");
        assert_eq!((answer.text(), is_replayed(&answer)), (r#"{"paid":10}"#, true));
    }
    let mark = json!({"idempotencyReplayed": true});
    let told = socket.json().await;
    assert_eq!((&told["result"], &told["meta"]), (&json!({"paid": 10}), &mark));
    let told: Value = batched.receive().await.expect("an answer").json();
    assert_eq!((&told[0]["result"], &told[0]["meta"]), (&json!({"paid": 10}), &mark));
    desk.is_silent().await;
    counted(&gateway, "first", 1.0).await;
    is_in_flight(&gateway, 0.0).await;
}

#[tokio::test]
async fn whoever_hangs_up_leaves_the_call_to_those_who_wait_and_to_those_who_come_back() {
    let (gateway, mut desk) = desk("").await;
    let first = begin(&gateway, "k", &[]).await;
    let held = desk.receive().await;
    let mut joined = begin(&gateway, "k", &[]).await;
    counted(&gateway, "joined", 1.0).await;
    let alone = begin(&gateway, "alone", &[]).await;
    let held_alone = desk.receive().await;
    drop((first, alone));
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "cancelled")], 2.0).await;
    is_in_flight(&gateway, 2.0).await;
    desk.answer(&held, json!(1)).await;
    let answer = joined.receive().await.expect("an answer");
    assert_eq!((answer.text(), is_replayed(&answer)), ("1", true));
    desk.answer(&held_alone, json!(2)).await;
    is_in_flight(&gateway, 0.0).await;
    let mut back = begin(&gateway, "alone", &[]).await;
    let answer = back.receive().await.expect("an answer");
    assert_eq!((answer.text(), is_replayed(&answer)), ("2", true));
    desk.is_silent().await;
}

#[tokio::test]
async fn each_waits_as_long_as_it_can_and_the_call_as_long_as_its_row_says() {
    let (gateway, mut desk) = desk("").await;
    let mut hasty = begin(&gateway, "k", &[("X-Request-Timeout", "200ms")]).await;
    let held = desk.receive().await;
    let gave_up = hasty.receive().await.expect("an answer");
    let (kind, outcome, detail) = problem(&gave_up);
    assert_eq!((&*kind, &*outcome, gave_up.status), ("timeout", "unknown", 504), "{detail}");
    assert!(detail.contains("within 200ms: it goes on"), "{detail}");
    let mut patient = begin(&gateway, "k", &[]).await;
    let mut hasty = begin(&gateway, "k", &[("X-Request-Timeout", "200ms")]).await;
    assert_eq!(hasty.receive().await.expect("an answer").status, 504);
    desk.answer(&held, json!(1)).await;
    let answer = patient.receive().await.expect("an answer");
    assert_eq!((answer.text(), is_replayed(&answer)), ("1", true));
    desk.is_silent().await;
}

#[tokio::test]
async fn a_call_that_its_row_gives_up_may_have_run() {
    let row = "[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\ntimeout = \"300ms\"\n";
    let gateway = Gateway::ready(&format!("{HUB}{row}{KEPT}\n")).await;
    let mut desk = Peer::module(&gateway, "desk", &["pay"]).await;
    let mut first = begin(&gateway, "k", &[]).await;
    desk.receive().await;
    let mut joined = begin(&gateway, "k", &[]).await;
    for connection in [&mut first, &mut joined] {
        let late = connection.receive().await.expect("an answer");
        let (kind, outcome, _) = problem(&late);
        assert_eq!((&*kind, &*outcome), ("timeout", "unknown"));
    }
    let again = begin(&gateway, "k", &[]).await.receive().await.expect("an answer");
    assert_eq!((again.status, is_replayed(&again)), (504, true));
    desk.is_silent().await;
}

#[tokio::test]
async fn what_did_not_get_there_is_told_to_all_and_tried_again_by_the_next() {
    let (gateway, mut desk) = desk("max_in_flight = 1\nqueue = 5").await;
    let mut other = begin(&gateway, "other", &[]).await;
    let held = desk.receive().await;
    let mut waiting_for_its_turn = begin(&gateway, "k", &[]).await;
    gateway.wait_for_metric("genkan_calls_waiting", &[], 1.0).await;
    let mut joined = begin(&gateway, "k", &[]).await;
    counted(&gateway, "joined", 1.0).await;
    // It is one in the line, however many wait for it.
    assert_eq!(gateway.metric("genkan_calls_waiting", &[]).await, 1.0);
    desk.answer(&held, json!(1)).await;
    assert_eq!(other.receive().await.expect("an answer").text(), "1");
    let held = desk.receive().await;
    desk.answer(&held, json!(2)).await;
    for connection in [&mut waiting_for_its_turn, &mut joined] {
        assert_eq!(connection.receive().await.expect("an answer").text(), "2");
    }
    // One that finds no place is told so, and its key is free.
    let gateway = Gateway::ready(&format!(
        "{HUB}[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\nmax_in_flight = 1\n{KEPT}\n"
    ))
    .await;
    let mut desk = Peer::module(&gateway, "desk", &["pay"]).await;
    let mut other = begin(&gateway, "other", &[]).await;
    let held = desk.receive().await;
    let full = begin(&gateway, "k", &[]).await.receive().await.expect("an answer");
    assert_eq!((full.status, problem(&full).1), (429, "not_sent".to_owned()));
    waiting(&gateway, 1.0).await;
    desk.answer(&held, json!(1)).await;
    assert_eq!(other.receive().await.expect("an answer").status, 200);
    let mut again = begin(&gateway, "k", &[]).await;
    let held = desk.receive().await;
    desk.answer(&held, json!(3)).await;
    let answer = again.receive().await.expect("an answer");
    assert_eq!((answer.text(), is_replayed(&answer)), ("3", false));
}

#[tokio::test]
async fn a_drain_waits_for_calls_whose_callers_have_gone() {
    let (gateway, mut desk) = desk("").await;
    let alone = begin(&gateway, "k", &[]).await;
    let held = desk.receive().await;
    drop(alone);
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "cancelled")], 1.0).await;
    gateway.terminate();
    gateway.wait_for_log(0, "draining: no new calls but those that answers need").await;
    desk.is_silent().await;
    assert!(gateway.runs(), "it waits");
    desk.answer(&held, json!(1)).await;
    assert_eq!(gateway.exit_status().await, 0);
    let said = gateway.log_text();
    assert!(!said.contains("drain_timeout has passed"), "{said}");
}

#[tokio::test]
async fn a_drain_gives_those_who_joined_a_call_its_answer() {
    let (gateway, mut desk) = desk("").await;
    let mut first = begin(&gateway, "k", &[]).await;
    let held = desk.receive().await;
    let mut joined = begin(&gateway, "k", &[]).await;
    counted(&gateway, "joined", 1.0).await;
    let mut socket = WebSocket::open(&gateway.http).await;
    socket.say(request(7, "desk.pay", "k").to_string()).await;
    counted(&gateway, "joined", 2.0).await;
    gateway.terminate();
    gateway.wait_for_log(0, "draining: no new calls but those that answers need").await;
    desk.is_silent().await;
    desk.answer(&held, json!(1)).await;
    for (connection, replayed) in [(&mut first, false), (&mut joined, true)] {
        let answer = connection.receive().await.expect("an answer");
        assert_eq!((answer.text(), is_replayed(&answer)), ("1", replayed));
    }
    let told = socket.json().await;
    assert_eq!((&told["id"], &told["result"]), (&json!(7), &json!(1)), "{told}");
    assert_eq!(gateway.exit_status().await, 0);
    let said = gateway.log_text();
    assert!(!said.contains("drain_timeout has passed"), "{said}");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let (gateway, mut desk) = desk("").await;
    let text = std::fs::read_to_string(gateway.config()).expect("the file");
    let seen = gateway.log().len();
    gateway.write_config(&format!("drain_timeout = \"300ms\"\n{text}"));
    gateway.hang_up();
    gateway.wait_for_log(seen, "reloaded").await;
    drop(begin(&gateway, "k", &[]).await);
    desk.receive().await;
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "cancelled")], 1.0).await;
    let mut waits = begin(&gateway, "k", &[]).await;
    counted(&gateway, "joined", 1.0).await;
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    if let Some(told) = waits.receive().await {
        assert_eq!((told.status, problem(&told).1), (503, "unknown".to_owned()));
    }
    let said = gateway.log_text();
    assert!(!said.contains("did not end in time"), "{said}");
}
