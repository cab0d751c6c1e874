//! Several gateways in a row: calls come through them, and one that goes round ends in a fault.

use serde_json::json;

use super::caller::{Caller, NONE};
use crate::harness::{Answer, Gateway, NatsResponder, RabbitMq, eventually};

#[tokio::test]
async fn a_call_that_goes_round_between_two_gateways_ends() {
    let (one, other) = (RabbitMq::shared().vhost(), RabbitMq::shared().vhost());
    let config = |here: &crate::harness::rabbit::Vhost<'_>,
                  there: &crate::harness::rabbit::Vhost<'_>| {
        format!(
            "{}{}[[expose]]\nservice = \"orders\"\non = [\"here\"]\n\
             [[routes]]\nmatch = \"orders.*\"\nupstream = \"there\"\ntimeout = \"20s\"\n",
            here.upstream("here"),
            there.upstream("there")
        )
    };
    let gateways =
        [Gateway::ready(&config(&one, &other)).await, Gateway::ready(&config(&other, &one)).await];
    for gateway in &gateways {
        super::exposed(gateway, "orders", 1).await;
    }
    let mut caller = Caller::connect(&one.url(), "own").await;
    let reply = caller.call("orders.x", caller.properties("7"), NONE).await;
    assert_eq!(reply.exc_path(), "genkan.Internal", "{reply:?}");
    let value = reply.body["error"]["value"].as_str().unwrap_or_default();
    assert!(value.contains("lead in a circle"), "{value}");
    let total = async || {
        let mut total = 0.0;
        for gateway in &gateways {
            total += gateway.metric("genkan_calls_total", &[("ingress", "nameko")]).await;
        }
        total
    };
    // Each time it comes in is one: no more of them than hops, and then silence.
    eventually("the call has ended everywhere", async || (total().await == 17.0).then_some(()))
        .await;
    assert_eq!(total().await, 17.0);
}

#[tokio::test]
async fn a_call_through_two_gateways_ends_as_it_would_through_one() {
    let behind = super::World::exposing("plain", &["echo", "ghost"]).await;
    let echo = |seen: &crate::harness::Seen| match &seen.method[..] {
        "never" => Vec::new(),
        _ => Answer::new(seen.body.clone()),
    };
    let echo = NatsResponder::serve(behind.nats.client().await, "echo", echo).await;
    let before = Gateway::ready(&behind.vhost.config()).await;
    assert_eq!(before.result("echo.x", json!({"a": [1.5, "é"]})).await, json!({"a": [1.5, "é"]}));
    assert_eq!(echo.requests.last().headers["Genkan-Hops"], "2");
    let one = behind.gateway.fault("ghost.x", json!({})).await;
    let two = before.fault("ghost.x", json!({})).await;
    assert_eq!((two.code, &two.data), (one.code, &one.data), "{two:?}");
    assert_eq!(two.data["outcome"], "not_sent");
    let headers = [("X-Request-Timeout", "500ms")];
    let late = br#"{"jsonrpc":"2.0","method":"echo.never","params":{},"id":1}"#;
    let late = before.post("/api", &headers, late).await.json();
    assert_eq!(late["error"]["data"]["kind"], "timeout", "{late}");
}
