//! What RabbitMQ's limits leave no room for is named with the mend, and keeps nobody else away.

use serde_json::json;

use super::caller::{Caller, NONE};
use super::{config, exposed, row};
use crate::harness::rabbit::Vhost;
use crate::harness::responder::declare_service;
use crate::harness::{Answer, Gateway, Nats, NatsResponder, RabbitMq, eventually, responder};

/// The configuration with so many channels for a connection at the most.
fn with_channels(vhost: &Vhost<'_>, nats: &Nats, most: u16, rows: &str) -> String {
    let url = vhost.url();
    config(vhost, nats, "plain", rows).replace(&url, &format!("{url}?channel_max={most}"))
}

fn rows(names: &[&str]) -> String {
    names.iter().map(|name| row(name, "")).collect()
}

/// Waits until `/readyz` names so many services that are not exposed, for a reason with these words.
async fn named(gateway: &Gateway, count: usize, words: &str) -> String {
    eventually(&format!("{count} services are named: {words}"), async || {
        let page = gateway.page("/readyz").await;
        let lines = page.text().lines().filter(|line| line.contains(" is not exposed: "));
        let named = lines.filter(|line| line.contains(words)).count();
        (page.status == 200 && named == count).then(|| page.text().to_owned())
    })
    .await
}

#[tokio::test]
async fn where_channels_are_few_as_many_services_as_fit_are_exposed_and_the_rest_is_named() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let all = ["s1", "s2", "s3", "s4", "s5", "s6"];
    let gateway = Gateway::ready(&with_channels(&vhost, &nats, 4, &rows(&all))).await;
    named(&gateway, 2, "`channel_max`").await;
    eventually("as many as fit are exposed", async || {
        (gateway.logged("exposed: its calls are taken").len() == 4).then_some(())
    })
    .await;
    let told = gateway.logged("a service cannot be exposed, trying again");
    assert_eq!(told.len(), 2, "each once: {told:?}");
    for told in &told {
        let mend = told["mend"].as_str().unwrap_or_default();
        assert!(told["level"] == "ERROR" && mend.contains("`channel_max`"), "{told}");
    }
    // Where another one goes, there is room.
    let missing = told[0]["service"].as_str().expect("its name").to_owned();
    gateway.write_config(&with_channels(&vhost, &nats, 4, &row(&missing, "")));
    gateway.hang_up();
    exposed(&gateway, &missing, 1).await;
    named(&gateway, 0, "").await;
    let _service = NatsResponder::serve(nats.client().await, &missing, |_| Answer::new("1")).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    let reply = caller.call(&format!("{missing}.x"), caller.properties("7"), NONE).await;
    assert_eq!(reply.body["result"], 1);
}

#[tokio::test]
async fn where_connections_are_few_each_service_is_named() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let limit = format!("vhost-limits/{}/max-connections", vhost.name());
    RabbitMq::shared().put(&limit, &json!({"value": 3}));
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &rows(&["s1", "s2"]))).await;
    let told = gateway.wait_for_log(0, "no connection for exposed services").await;
    assert_eq!(told["level"], "ERROR", "{told}");
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("five")), "{told}");
    let page = named(&gateway, 2, "set_vhost_limits").await;
    assert!(page.contains("rabbit: `s1` is not exposed: "), "{page}");
    RabbitMq::shared().put(&limit, &json!({"value": -1}));
    exposed(&gateway, "s1", 1).await;
    exposed(&gateway, "s2", 1).await;
    named(&gateway, 0, "").await;
}

#[tokio::test]
async fn where_queues_are_few_the_mend_is_named() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let connection = responder::connect(&vhost.url()).await;
    let channel = connection.create_channel().await.expect("a channel");
    declare_service(&channel, "s1").await;
    // One for replies.
    let limit = format!("vhost-limits/{}/max-queues", vhost.name());
    RabbitMq::shared().put(&limit, &json!({"value": 2}));
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &rows(&["s1", "s2"]))).await;
    exposed(&gateway, "s1", 1).await;
    let page = named(&gateway, 1, "set_vhost_limits").await;
    assert!(page.contains("`s2` is not exposed: rabbitmq lets no more queues be made"), "{page}");
}

#[tokio::test]
async fn where_there_is_no_room_for_the_replies_queue_the_mend_is_named() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let limit = format!("vhost-limits/{}/max-queues", vhost.name());
    RabbitMq::shared().put(&limit, &json!({"value": 0}));
    let gateway = Gateway::start(&config(&vhost, &nats, "plain", &rows(&["s1"]))).await;
    let told = gateway.wait_for_log(0, "rabbitmq cannot be used").await;
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("set_vhost_limits")), "{told}");
    let page = gateway.wait_until_not_ready().await;
    assert!(page.contains("rabbitmq lets no more queues be made"), "{page}");
}
