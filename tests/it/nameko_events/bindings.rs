//! Exchanges and queues that somebody deletes while Genkan runs.

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use serde_json::json;

use super::{Peer, bridge, listened};
use crate::events::Listener;
use crate::harness::{Gateway, RabbitMq, eventually};

/// Waits until a queue whose name begins so is bound to an exchange.
async fn bound(vhost: &str, exchange: &str, queue: &str) -> String {
    eventually(&format!("{queue}… is bound to {exchange}"), async || {
        let listed =
            RabbitMq::shared().get(&format!("exchanges/{vhost}/{exchange}/bindings/source"));
        let mut all = listed.as_array()?.iter();
        let name = |it: &serde_json::Value| it["destination"].as_str().map(str::to_owned);
        all.find_map(|it| name(it).filter(|name| name.starts_with(queue)))
    })
    .await
}

#[tokio::test]
async fn a_bridge_whose_queue_was_deleted_counts_a_gap() {
    let vhost = RabbitMq::shared().vhost();
    let row = bridge("rabbit:orders.*", "rabbit:queue/copies", "");
    let gateway = Gateway::start(&format!("{}{row}", vhost.upstream("rabbit"))).await;
    listened(&gateway, 1).await;
    let queue = bound(vhost.name(), "orders.events", "genkan.bridge-").await;
    RabbitMq::shared().delete(&format!("queues/{}/{queue}", vhost.name()));
    listened(&gateway, 2).await;
    let gaps = [("bridge", "rabbit:orders.*"), ("outcome", "gap")];
    gateway.wait_for_metric("genkan_events_total", &gaps, 1.0).await;
    let peer = Peer::connect(&vhost.url()).await;
    peer.publish("orders.events", "created", b"2").await;
    let mut copies = peer.consume("copies", "", "").await;
    assert_eq!(peer.next(&mut copies).await.body, 2);
}

#[tokio::test]
async fn queues_are_bound_again_to_an_exchange_that_was_deleted_and_declared_again() {
    let vhost = RabbitMq::shared().vhost();
    let topics = "[[topics]]\nmatch = \"orders.*\"\nfrom = \"rabbit:orders.*\"\n";
    let rows = [
        bridge("rabbit:orders.created", "rabbit:queue/copies", ""),
        bridge("rabbit:gemstone/price", "rabbit:queue/prices", ""),
    ];
    let config = format!("{}{}{topics}", vhost.upstream("rabbit"), rows.concat());
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 3).await;
    let mut browser = Listener::listen(&gateway, "?topic=orders.created").await;
    let peer = Peer::connect(&vhost.url()).await;
    peer.publish("orders.events", "created", b"1").await;
    assert_eq!(browser.event().await.data["data"], 1);
    let mut copies = peer.consume("copies", "", "").await;
    assert_eq!(peer.next(&mut copies).await.body, 1);
    // Whoever publishes declares it at once, as Nameko's dispatchers do.
    for exchange in ["orders.events", "gemstone.broadcast.price"] {
        RabbitMq::shared().delete(&format!("exchanges/{}/{exchange}", vhost.name()));
    }
    peer.exchange("orders.events", ExchangeKind::Topic).await;
    bound(vhost.name(), "orders.events", "genkan.bridge-").await;
    bound(vhost.name(), "orders.events", "genkan.topic-").await;
    peer.publish("orders.events", "created", b"2").await;
    assert_eq!(browser.event().await.data["data"], 2);
    assert_eq!(peer.next(&mut copies).await.body, 2);
    // Nobody has declared that one: Genkan does.
    bound(vhost.name(), "gemstone.broadcast.price", "genkan.topic-").await;
    peer.publish("gemstone.broadcast.price", "", b"3").await;
    let mut prices = peer.consume("prices", "", "").await;
    assert_eq!(peer.next(&mut prices).await.body, 3);
    let gaps = [("bridge", "rabbit:gemstone/price"), ("outcome", "gap")];
    gateway.wait_for_metric("genkan_events_total", &gaps, 1.0).await;
}

#[tokio::test]
async fn exchanges_that_go_with_their_last_queue_are_nameko_s_too() {
    let vhost = RabbitMq::shared().vhost();
    // As Nameko declares them where AUTO_DELETE_EVENT_EXCHANGES says so.
    for service in ["orders", "copies"] {
        let exchange = json!({"type": "topic", "durable": true, "auto_delete": true});
        RabbitMq::shared().put(&format!("exchanges/{}/{service}.events", vhost.name()), &exchange);
    }
    let row = bridge("rabbit:orders.created", "rabbit:copies.created", "");
    let gateway = Gateway::start(&format!("{}{row}", vhost.upstream("rabbit"))).await;
    let peer = Peer::connect(&vhost.url()).await;
    let mut copies = peer.consume("seen", "copies.events", "created").await;
    listened(&gateway, 1).await;
    peer.publish("orders.events", "created", b"1").await;
    assert_eq!(peer.next(&mut copies).await.body, 1);
}

#[tokio::test]
async fn exchanges_of_events_can_be_made_as_nameko_up_to_2_12_declares_them() {
    let vhost = RabbitMq::shared().vhost();
    let row = bridge("rabbit:orders.created", "rabbit:copies.created", "");
    let upstream = format!("{}auto_delete_events = true\n", vhost.upstream("rabbit"));
    let gateway = Gateway::start(&format!("{upstream}{row}")).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    peer.publish("orders.events", "created", b"1").await;
    // Services of 2.12 die where they find another one.
    let declare = async |exchange: &str| {
        let options =
            ExchangeDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
        let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
        peer.channel.exchange_declare(exchange.into(), kind, options, none).await.unwrap();
    };
    declare("orders.events").await;
    let carried = [("bridge", "rabbit:orders.created"), ("outcome", "delivered")];
    gateway.wait_for_metric("genkan_events_total", &carried, 1.0).await;
    declare("copies.events").await;
}
