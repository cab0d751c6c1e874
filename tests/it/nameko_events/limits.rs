//! What RabbitMQ's limits leave no room for is named with the mend, and keeps no other bridge away.

use serde_json::json;

use super::{bridge, listened};
use crate::harness::{Gateway, RabbitMq, eventually};

fn bridges() -> String {
    let row = |name: &str| bridge(&format!("rabbit:{name}.done"), "rabbit:queue/copies", "");
    ["one", "two", "three", "four"].map(row).concat()
}

#[tokio::test]
async fn where_channels_are_few_as_many_sources_as_fit_are_listened_to() {
    let vhost = RabbitMq::shared().vhost();
    let url = vhost.url();
    let upstream = vhost.upstream("rabbit").replace(&url, &format!("{url}?channel_max=3"));
    let gateway = Gateway::ready(&format!("{upstream}{}", bridges())).await;
    listened(&gateway, 3).await;
    let told = gateway.wait_for_log(0, "events cannot be taken, trying again").await;
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("`channel_max`")), "{told}");
    assert_eq!(gateway.logged("taking events").len(), 3, "none of them is given up for it");
}

#[tokio::test]
async fn where_connections_are_few_the_mend_is_named() {
    let vhost = RabbitMq::shared().vhost();
    let limit = format!("vhost-limits/{}/max-connections", vhost.name());
    RabbitMq::shared().put(&limit, &json!({"value": 3}));
    let gateway = Gateway::ready(&format!("{}{}", vhost.upstream("rabbit"), bridges())).await;
    let told = gateway.wait_for_log(0, "no connection for events, trying again").await;
    assert_eq!(told["level"], "ERROR", "{told}");
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("set_vhost_limits")), "{told}");
    RabbitMq::shared().put(&limit, &json!({"value": -1}));
    eventually("events are taken", async || {
        (gateway.logged("taking events").len() >= 4).then_some(())
    })
    .await;
}
