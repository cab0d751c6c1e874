//! Callers who misspell a service's name, fifty times a second and each time anew: they are told, and
//! nobody else notices.

use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::{alternate_exchange, answer};
use crate::harness::rabbit::Vhost;
use crate::harness::{Gateway, NamekoResponder, RabbitMq, as_fault, http};

const NAMES: usize = 250;
const EVERY: Duration = Duration::from_millis(20);

async fn are_told_and_disturb_nobody(vhost: &Vhost<'_>) {
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let misspelling = async {
        let mut pace = tokio::time::interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = Vec::new();
        for n in 0..NAMES {
            pace.tick().await;
            let at = gateway.http.clone();
            let call = format!(r#"{{"jsonrpc":"2.0","method":"ordres{n}.x","id":{n}}}"#);
            calls.push(tokio::spawn(async move {
                http::send(&at, "POST", "/api", &[], call.as_bytes()).await.json()
            }));
        }
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("no panic"));
        }
        answers
    };
    let calling = async {
        loop {
            assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
        }
    };
    let answers = tokio::select! {
        answers = misspelling => answers,
        () = calling => unreachable!(),
    };
    for answer in &answers {
        assert_eq!(as_fault(answer).data["kind"], "unknown_service", "{answer}");
    }
    assert_eq!(answers.len(), NAMES);
    // More at once than are looked for in a second.
    let many = (0..NAMES).map(|n| format!(r#"{{"jsonrpc":"2.0","method":"oders{n}.x","id":{n}}}"#));
    let many = format!("[{}]", many.collect::<Vec<_>>().join(","));
    let many = gateway.api(many).await;
    for answer in many.as_array().expect("a batch") {
        assert_eq!(as_fault(answer).data["kind"], "unknown_service", "{answer}");
    }
    // One call after the other, as fast as they were answered.
    let served = service.requests.count();
    assert!(served > NAMES / 2, "{served} calls were served beside them");
    for method in service.requests.all() {
        assert_eq!(method.method, "x");
    }
    let counted =
        async |outcome: &str| gateway.metric("genkan_calls_total", &[("outcome", outcome)]).await;
    assert_eq!(counted("unknown_service").await, 2.0 * NAMES as f64);
    assert_eq!(counted("timeout").await + counted("unavailable").await, 0.0);
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn where_the_broker_returns_what_it_cannot_route() {
    let vhost = RabbitMq::shared().vhost();
    are_told_and_disturb_nobody(&vhost).await;
}

#[tokio::test]
async fn where_another_exchange_takes_it() {
    let vhost = RabbitMq::shared().vhost();
    alternate_exchange(&vhost).await;
    are_told_and_disturb_nobody(&vhost).await;
}
