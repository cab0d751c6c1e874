//! Targets that are not there for a while: that is no fault of the events that are on their way.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::json as body_of;
use super::{all, bridge, count, make, orders, store, taking, toml};
use crate::harness::{Gateway, Nats, RabbitMq};
use crate::nameko_events::Peer;

const DEAD: [(&str, &str); 1] = [("outcome", "dead_letter")];
const DELIVERED: [(&str, &str); 1] = [("outcome", "delivered")];

/// Waits until an outage was told of, and a line of another kind would have come too.
async fn outage(gateway: &Gateway) {
    let line = gateway.wait_for_log(0, "a target takes no events").await;
    assert!(line["reason"].is_string(), "{line}");
}

#[tokio::test]
async fn events_outlive_a_rabbitmq_that_is_killed_and_none_is_a_dead_letter() {
    let (nats, client) = orders().await;
    make(&client, "DEAD", json!({})).await;
    let there = RabbitMq::private();
    let more = "dead_letter = \"bus:stream/DEAD/dead.s1\"\nretries = 1";
    let rows = format!(
        "[upstreams.there]\nprotocol = \"nameko\"\nurl = \"{}\"\n{}",
        there.url(),
        bridge("bus:stream/ORDERS", "there:queue/copies", more)
    );
    let gateway = taking(&toml(&nats, &rows), 1).await;
    store(&client, "ORDERS", "orders.created", 0..50).await;
    gateway.wait_for_metric("genkan_events_total", &DELIVERED, 50.0).await;
    there.kill();
    store(&client, "ORDERS", "orders.created", 50..150).await;
    outage(&gateway).await;
    there.start();
    gateway.wait_for_metric("genkan_events_total", &DELIVERED, 150.0).await;
    assert_eq!(gateway.metric("genkan_events_total", &DEAD).await, 0.0);
    assert_eq!(count(&client, "DEAD").await, 0);
    let reader = Peer::connect(&there.url()).await;
    let mut copies = reader.consume("copies", "", "").await;
    let mut seen = BTreeSet::new();
    while seen.len() < 150 {
        seen.insert(reader.next(&mut copies).await.body["n"].as_u64().expect("a number"));
    }
}

#[tokio::test]
async fn events_outlive_a_jetstream_that_is_killed_and_none_is_a_dead_letter() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    make(&client, "COPIES", json!({})).await;
    let rabbit = RabbitMq::shared().vhost();
    let more = "dead_letter = \"rabbit:queue/dead\"\nretries = 1";
    let row = bridge("rabbit:orders.*", "bus:stream/COPIES/copies.$1", more);
    let gateway = taking(&toml(&nats, &format!("{}{row}", rabbit.upstream("rabbit"))), 1).await;
    let publisher = Peer::connect(&rabbit.url()).await;
    let publish = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let body = format!("{{\"n\":{number}}}");
            publisher.publish("orders.events", "created", body.as_bytes()).await;
        }
    };
    publish(0..20).await;
    gateway.wait_for_metric("genkan_events_total", &DELIVERED, 20.0).await;
    nats.kill();
    publish(20..140).await;
    outage(&gateway).await;
    nats.restart();
    gateway.wait_for_metric("genkan_events_total", &DELIVERED, 140.0).await;
    assert_eq!(gateway.metric("genkan_events_total", &DEAD).await, 0.0);
    let copies = all(&client, "COPIES").await;
    let numbers: BTreeSet<u64> =
        copies.iter().map(|it| body_of(it)["n"].as_u64().expect("a number")).collect();
    assert_eq!(numbers.len(), 140);
}
