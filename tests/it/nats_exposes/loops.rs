//! Several gateways in a row: one call that goes round ends in a fault.

use serde_json::json;

use super::{as_json, ask, exposed, header};
use crate::harness::{Gateway, Nats, eventually};

#[tokio::test]
async fn a_call_that_goes_round_between_two_gateways_ends() {
    for dialect in ["picom", "plain", "micro"] {
        let (one, other) = (Nats::start(), Nats::start());
        let config = |here: &Nats, there: &Nats| {
            format!(
                "{}{}[[expose]]\nservice = \"orders\"\non = [\"here\"]\nmethods = [\"x\"]\n\
                 [[routes]]\nmatch = \"orders.*\"\nupstream = \"there\"\ntimeout = \"20s\"\n",
                here.upstream("here", dialect),
                there.upstream("there", dialect)
            )
        };
        let gateways = [
            Gateway::ready(&config(&one, &other)).await,
            Gateway::ready(&config(&other, &one)).await,
        ];
        for gateway in &gateways {
            exposed(gateway, "orders", 1).await;
        }
        let reply = ask(&one.client().await, "orders.x", "").await;
        assert_eq!(header(&reply, "Genkan-Fault"), "internal not_sent", "{dialect}");
        let said = as_json(&reply)["error"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains("lead in a circle"), "{said}");
        let total = async || {
            let mut total = 0.0;
            for gateway in &gateways {
                total += gateway.metric("genkan_calls_total", &[("ingress", "nats")]).await;
            }
            total
        };
        // Each time it comes in is one: no more of them than hops, and then silence.
        eventually("the call has ended everywhere", async || (total().await == 17.0).then_some(()))
            .await;
        assert_eq!(total().await, 17.0);
    }
}

#[tokio::test]
async fn a_call_from_http_goes_through_two() {
    for dialect in ["picom", "plain", "micro"] {
        let methods = "methods = [\"x\"]";
        let behind = super::World::exposing(dialect, methods, super::echo).await;
        let before = Gateway::ready(&behind.nats.config(dialect)).await;
        let result = before.result("desk.x", json!({"a": [1.5, "é"]})).await;
        assert_eq!(result, json!({"args": [], "kwargs": {"a": [1.5, "é"]}}), "{dialect}");
        assert_eq!(behind.desk.requests.last().headers["nameko.genkan_hops"], "2");
        let fault = before.fault("desk.hidden", json!({})).await;
        fault.is("unknown_method", "not_sent");
    }
}
