//! An operator closes the one connection that replies come over: `rabbitmqctl close_connection`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{answer, close};
use crate::harness::{Gateway, NamekoResponder, RabbitMq, as_fault, eventually, http};

async fn reconnected(gateway: &Gateway, times: f64) {
    gateway.wait_for_metric("genkan_upstream_reconnects_total", &[], times).await;
}

#[tokio::test]
async fn calls_in_flight_are_told_at_once_and_the_next_are_served() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let calls: Vec<_> = (0..5).map(|_| gateway.fault("orders.wait", json!([]))).collect();
    let closing = async {
        eventually("they wait", async || (service.requests.count() == 5).then_some(())).await;
        close(&vhost, "receive").await;
    };
    // Their deadlines are far away.
    let (faults, ()) = tokio::join!(futures_util::future::join_all(calls), closing);
    for fault in faults {
        fault.is("unavailable", "unknown");
    }
    reconnected(&gateway, 1.0).await;
    for _ in 0..200 {
        assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    }
    let said = gateway.wait_for_log(0, "connection to rabbitmq lost").await;
    let reason = said["reason"].as_str().expect("a reason");
    assert!(reason.contains("an operator has closed the connection"), "{reason}");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 1.0);
}

/// Calls one after the other, each with a number of its own: number and answer of each.
async fn load(at: String, first: usize, is_over: Arc<AtomicBool>) -> Vec<(usize, Value)> {
    let mut answers = Vec::new();
    for number in (first..).step_by(LOADS) {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let call =
            json!({"jsonrpc": "2.0", "method": "orders.x", "params": [number], "id": number});
        let answer = http::send(&at, "POST", "/api", &[], call.to_string().as_bytes()).await;
        answers.push((number, answer.json()));
    }
    answers
}

const LOADS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn under_load_each_call_has_one_answer_that_is_true() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let is_over = Arc::<AtomicBool>::default();
    let loads: Vec<_> = (0..LOADS)
        .map(|first| tokio::spawn(load(gateway.http.clone(), first, Arc::clone(&is_over))))
        .collect();
    for times in 1..=6 {
        let so_far = service.requests.count();
        let goes_on = || service.requests.count() > so_far + 200;
        eventually("calls are served", async || goes_on().then_some(())).await;
        close(&vhost, "receive").await;
        reconnected(&gateway, f64::from(times)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut ran: HashMap<usize, usize> = HashMap::new();
    let (mut served, mut told) = (0, HashMap::<String, usize>::new());
    let mut answers = Vec::new();
    for load in loads {
        answers.extend(load.await.expect("no panic"));
    }
    for seen in service.requests.all() {
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        let number = body["args"][0].as_u64().expect("a number");
        *ran.entry(usize::try_from(number).expect("small")).or_default() += 1;
    }
    for (number, answer) in &answers {
        let times = ran.get(number).copied().unwrap_or(0);
        assert!(times <= 1, "call {number} ran {times} times");
        assert_eq!(answer["id"], *number, "{answer}");
        if answer["result"] == "ok" {
            served += 1;
            assert_eq!(times, 1, "call {number} has a result");
            continue;
        }
        let fault = as_fault(answer);
        assert_eq!(fault.data["kind"], "unavailable", "{answer}");
        let outcome = fault.data["outcome"].as_str().expect("an outcome");
        assert!(outcome != "not_sent" || times == 0, "call {number} ran: {answer}");
        *told.entry(outcome.to_owned()).or_default() += 1;
    }
    assert!(served > 6 * 200 / 2, "{served} were served");
    assert!(told.keys().all(|outcome| ["unknown", "not_sent"].contains(&&**outcome)), "{told:?}");
    println!("{served} served, {told:?}");
}
