//! Gemstone's events, as its emitters and handlers were captured (WIRE 4.5).

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use serde_json::json;

use super::{Peer, arrived, bridge, listened};
use crate::harness::process::PATIENCE;
use crate::harness::{Gateway, RabbitMq};

#[tokio::test]
async fn gemstones_events_come_and_go_by_fanout_exchanges() {
    come_and_go("gemstone", "gemstone.broadcast").await;
}

#[tokio::test]
async fn those_of_gemstone_up_to_0_9_do_by_others() {
    come_and_go("gemstone-0.9", "gemstone.events").await;
}

async fn come_and_go(words: &str, prefix: &str) {
    let vhost = RabbitMq::shared().vhost();
    let row = bridge(&format!("rabbit:{words}/price"), &format!("rabbit:{words}/copy"), "");
    let gateway = Gateway::start(&format!("{}{row}", vhost.upstream("rabbit"))).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    // A handler of Gemstone's.
    let (none, exchange) = (FieldTable::default, format!("{prefix}.copy"));
    let exchange = exchange.as_str();
    let (kind, options) = (ExchangeKind::Fanout, ExchangeDeclareOptions::default());
    let declared = peer.channel.exchange_declare(exchange.into(), kind, options, none()).await;
    declared.expect("as Gemstone declares it");
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = peer.channel.queue_declare("".into(), own, none()).await.expect("a queue");
    let (queue, bind) = (queue.name().clone(), QueueBindOptions::default());
    let bound =
        peer.channel.queue_bind(queue.clone(), exchange.into(), queue.clone(), bind, none()).await;
    bound.expect("bound");
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = peer.channel.basic_consume(queue, "".into(), no_ack, none()).await;
    let mut consumer = consumer.expect("a consumer");
    // An emitter gives no properties at all. What is no JSON stops nobody.
    for body in [&b"{\"n\": 1}"[..], b"not json", b"[2]"] {
        let (exchange, options) = (format!("{prefix}.price"), BasicPublishOptions::default());
        let properties = BasicProperties::default();
        let sent =
            peer.channel.basic_publish(exchange.into(), "".into(), options, body, properties);
        sent.await.expect("sent").await.expect("confirmed");
    }
    for expected in [json!({"n": 1}), json!([2])] {
        let event = arrived(&mut consumer, PATIENCE).await.expect("an event");
        assert_eq!(event.body, expected);
    }
    let line = gateway.wait_for_log(0, "an event was lost").await;
    assert!(line["reason"].as_str().is_some_and(|it| it.contains("not JSON")), "{line}");
    // Another row may have the same source.
    assert_eq!(line["to"], format!("rabbit:{words}/copy"), "{line}");
}
