//! Real dispatchers and handlers, of both generations.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::{bridge, listened};
use crate::events::Listener;
use crate::harness::clients::{dispatch, nameko_with};
use crate::harness::{Gateway, NamekoVersion, RabbitMq, Watch, eventually};
use crate::hub::{HUB, Peer};

/// What handlers have heard, in the order of their names.
async fn heard(watch: &Watch, count: usize) -> Vec<Value> {
    let mut heard = eventually(&format!("{count} events are heard"), async || {
        let heard = watch.heard();
        (heard.len() >= count).then_some(heard)
    })
    .await;
    heard.sort_by_key(|heard| heard[0].to_string());
    heard
}

#[tokio::test]
async fn what_a_dispatcher_publishes_reaches_modules_and_browsers() {
    for version in NamekoVersion::ALL {
        let vhost = RabbitMq::shared().vhost();
        let rows = [
            bridge("rabbit:orders.*", "hub:shop.$1", ""),
            "[[topics]]\nmatch = \"orders.*\"\nfrom = \"rabbit:orders.*\"\n".to_owned(),
        ];
        let config = format!("{}{HUB}{}", vhost.upstream("rabbit"), rows.concat());
        let gateway = Gateway::start(&config).await;
        listened(&gateway, 2).await;
        let mut module = Peer::module(&gateway, "reader", &[]).await;
        let listening = module.ask(json!({"type": 5, "hook": "shop.created"})).await;
        assert_eq!(listening["type"], 6, "{listening}");
        let mut browser = Listener::listen(&gateway, "?topic=orders.created").await;
        let payloads = [json!({"n": 1, "big": 9_007_199_254_740_993_u64}), json!({"n": 2})];
        dispatch(version, &vhost.url(), "orders.created", &payloads).await;
        for payload in &payloads {
            let hook = module.receive().await;
            assert_eq!((&hook["hook"], &hook["data"]), (&json!("shop.created"), payload));
            let event = browser.event().await;
            assert_eq!(
                (&event.data["topic"], &event.data["data"]),
                (&json!("orders.created"), payload)
            );
        }
    }
}

#[tokio::test]
async fn handlers_of_all_three_kinds_hear_what_a_module_triggers() {
    for version in NamekoVersion::ALL {
        let vhost = RabbitMq::shared().vhost();
        let row = bridge("hub:shop.*", "rabbit:orders.$1", "");
        let config = format!("{}{HUB}{row}", vhost.upstream("rabbit"));
        let gateway = Gateway::ready(&config).await;
        let watch = Watch::start(version, &vhost, "orders.created");
        let mut module = Peer::module(&gateway, "shop", &[]).await;
        for hook in ["created", "nobody_listens"] {
            let told = module.ask(json!({"type": 7, "hook": hook, "data": {"n": 1}})).await;
            assert_eq!(told["type"], 8, "{told}");
        }
        let heard = heard(&watch, 3).await;
        let handlers: Vec<_> = heard.iter().map(|heard| (&heard[0], &heard[1])).collect();
        let n = json!({"n": 1});
        let kinds = ["broadcast", "pool", "singleton"].map(|kind| json!(kind));
        assert_eq!(handlers, [(&kinds[0], &n), (&kinds[1], &n), (&kinds[2], &n)]);
        let delivered = [("bridge", "hub:shop.*"), ("outcome", "delivered")];
        gateway.wait_for_metric("genkan_events_total", &delivered, 2.0).await;
    }
}

#[tokio::test]
async fn a_services_event_goes_to_another_services_handlers_with_its_context() {
    for version in NamekoVersion::ALL {
        let vhost = RabbitMq::shared().vhost();
        let row = bridge("rabbit:watch.sold", "rabbit:orders.created", "");
        let config = format!("{}{row}", vhost.upstream("rabbit"));
        let gateway = Gateway::start(&config).await;
        listened(&gateway, 1).await;
        let watch = Watch::start(version, &vhost, "orders.created");
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = json!({"traceparent": trace, "tenant": "tokyo", "language": "de"});
        let call = [("watch", "emit", json!(["sold", [1, null, "é"]]), json!({}))];
        nameko_with(version, &vhost.url(), &call, context).await;
        for heard in heard(&watch, 3).await {
            assert_eq!(heard[1], json!([1, null, "é"]));
            assert_eq!(
                (&heard[2]["tenant"], &heard[2]["language"]),
                (&json!("tokyo"), &json!("de"))
            );
            assert_eq!(heard[2]["traceparent"], trace, "{heard}");
        }
    }
}

/// Nameko hands a call's context on with the events that it leads to, and nobody waits for their handlers.
#[tokio::test]
async fn a_handler_that_looks_at_deadlines_hears_what_comes_late() {
    for version in NamekoVersion::ALL {
        let vhost = RabbitMq::shared().vhost();
        let watch = Watch::start(version, &vhost, "orders.created");
        let mut headers = FieldTable::default();
        for (key, value) in [("nameko.deadline", "1000"), ("nameko.language", "de")] {
            headers.insert(key.into(), AMQPValue::LongString(value.into()));
        }
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_headers(headers);
        let peer = super::Peer::connect(&vhost.url()).await;
        peer.publish_with("orders.events", "created", br#"{"n": 1}"#, properties).await;
        for heard in heard(&watch, 3).await {
            assert_eq!(heard[1], json!({"n": 1}), "{version:?}");
            assert_eq!(
                (&heard[2]["language"], &heard[2]["deadline"]),
                (&json!("de"), &Value::Null)
            );
        }
    }
}
