//! What brokers do that are alive, or seem to be: cut connections, goodbyes, other policies.

use std::time::Duration;

use serde_json::json;

use crate::harness::proxy::Proxy;
use crate::harness::{Answer, Gateway, NamekoResponder, RabbitMq, Seen, eventually};

const OK: &str = r#"{"result": "ok", "error": null}"#;

/// Answers all but `wait`.
fn answer(seen: &Seen) -> Vec<Answer> {
    if seen.method == "wait" { Vec::new() } else { Answer::new(OK) }
}

#[tokio::test]
async fn a_connection_that_is_cut_without_a_word_is_given_up_for_another() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let proxy = Proxy::to(format!("127.0.0.1:{}", vhost.port())).await;
    // Heartbeats alone would take longer than this test waits for anything.
    let config = vhost.config().replace("protocol =", "heartbeat = \"5m\"\nprotocol =");
    let config = config.replace(&format!("127.0.0.1:{}", vhost.port()), proxy.address());
    let gateway = Gateway::ready(&config).await;
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    for cut in 1..=2 {
        let waiting = service.requests.count() + 1;
        let call = gateway.fault("orders.wait", json!([]));
        let cutting = async {
            let came = || service.requests.count() == waiting;
            eventually("it waits", async || came().then_some(())).await;
            proxy.cut();
        };
        let (fault, ()) = tokio::join!(call, cutting);
        fault.is("unavailable", "unknown");
        eventually("a call is served", async || {
            (gateway.rpc("orders.x", json!([])).await["result"] == "ok").then_some(())
        })
        .await;
        let reconnects = gateway.metric("genkan_upstream_reconnects_total", &[]).await;
        assert_eq!(reconnects, f64::from(cut));
    }
}

#[tokio::test]
async fn what_waits_long_for_a_broker_that_answers_costs_nothing() {
    let vhost = RabbitMq::shared().vhost();
    let slow = |_: &Seen| Answer::after(OK, Duration::from_secs(4));
    let _service = NamekoResponder::serve(&vhost.url(), "orders", slow).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    assert_eq!(gateway.result("orders.slow", json!([])).await, "ok");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}
