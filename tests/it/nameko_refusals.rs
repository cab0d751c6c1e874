//! Messages that RabbitMQ would refuse, or does: the sender is told which it was and why, and
//! nobody else's call is touched.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Gateway, NamekoResponder, RabbitMq, Seen, as_fault, eventually};

const OK: &str = r#"{"result": "ok", "error": null}"#;

fn answer(seen: &Seen) -> Vec<Answer> {
    match seen.method.as_str() {
        "slow" => Answer::after(r#"{"result": "slow"}"#, Duration::from_millis(700)),
        _ => Answer::new(OK),
    }
}

/// Runs `disturb` while a call waits for its reply, which has to come all the same.
async fn beside_a_call_in_flight(
    gateway: &Gateway,
    service: &NamekoResponder,
    disturb: impl Future<Output = ()>,
) {
    let before = service.requests.count();
    let disturb = async {
        eventually("it waits", async || (service.requests.count() > before).then_some(())).await;
        disturb.await;
    };
    let (slow, ()) = tokio::join!(gateway.result("orders.slow", json!([])), disturb);
    assert_eq!(slow, "slow");
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

async fn ended(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("genkan_calls_total", &[("outcome", outcome)]).await
}

#[tokio::test]
async fn headers_that_do_not_fit_a_frame_are_refused_with_both_sizes() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let call = r#"{"jsonrpc":"2.0","method":"orders.x","id":1}"#;
    let note = r#"{"jsonrpc":"2.0","method":"orders.x"}"#;
    let (long, longer) = ("x".repeat(8_400), "x".repeat(17_000));
    let state = format!("a={}", &long[..8_200]);
    beside_a_call_in_flight(&gateway, &service, async {
        for (header, value) in [
            ("User-Agent", &longer),
            ("Accept-Language", &longer),
            ("X-Request-Id", &longer),
            ("tracestate", &state),
        ] {
            let answer = gateway.post("/api", &[(header, value)], call).await.json();
            // A header may also be too long for what reads it, and be left out.
            if answer["result"] != "ok" {
                let fault = as_fault(&answer);
                assert_eq!(fault.is("too_large", "not_sent").code, -32006, "{header}");
                assert!(fault.message.contains("16384"), "{}", fault.message);
            } else {
                assert_ne!(header, "User-Agent");
            }
        }
        gateway.post("/api", &[("User-Agent", &longer)], note).await;
        eventually("the notification is counted", async || {
            (ended(&gateway, "too_large").await >= 2.0).then_some(())
        })
        .await;
    })
    .await;
    let refused = [("upstream", "rabbit"), ("reason", "large_headers")];
    assert!(gateway.metric("genkan_refused_total", &refused).await >= 2.0);
    let fits = "x".repeat(15_000);
    let answer = gateway.post("/api", &[("User-Agent", &fits)], call).await.json();
    assert_eq!(answer["result"], "ok");
}
