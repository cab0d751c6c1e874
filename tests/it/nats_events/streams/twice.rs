//! Streams drop a message whose `Nats-Msg-Id` they know: what Genkan hands over more than once on purpose is not
//! to be taken for that, and what comes again is.

use async_nats::{Client, HeaderMap, Message};
use serde_json::{Value, json};

use super::super::{header, json as body_of};
use super::{all, bridge, count, make, orders, taking, toml};
use crate::harness::{RabbitMq, eventually};
use crate::nameko_events::Peer;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Publishes an event that its publisher gave an id.
async fn publish(client: &Client, subject: &str, id: &str, body: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    client
        .publish_with_headers(subject.to_owned(), headers, body.to_owned().into())
        .await
        .expect("published");
    client.flush().await.expect("flushed");
}

async fn holds(client: &Client, stream: &str, expected: u64) -> Vec<Message> {
    eventually(&format!("{expected} are in {stream}"), async || {
        (count(client, stream).await >= expected).then_some(())
    })
    .await;
    all(client, stream).await
}

fn subjects(messages: &[Message]) -> Vec<&str> {
    let mut subjects: Vec<_> = messages.iter().map(|message| message.subject.as_str()).collect();
    subjects.sort_unstable();
    subjects
}

fn large() -> String {
    json!({"x": "y".repeat(500)}).to_string()
}

#[tokio::test]
async fn two_bridges_that_cannot_carry_an_event_have_a_letter_each() {
    let (nats, client) = orders().await;
    for name in ["ONE", "TWO"] {
        make(&client, name, json!({"max_msg_size": 300})).await;
    }
    make(&client, "DEAD", json!({})).await;
    let row = |name: &str, dead: &str| {
        let dead = format!("dead_letter = \"bus:stream/DEAD/{dead}\"");
        bridge("bus:stream/ORDERS", &format!("bus:stream/{}/{name}.x", name.to_uppercase()), &dead)
    };
    // One has the same place for them as another one; each has its own reason.
    let rows = [row("one", "dead.one"), row("two", "dead.one")].concat();
    let gateway = taking(&toml(&nats, &rows), 2).await;
    publish(&client, "orders.a", "order-7", &large()).await;
    let letters = holds(&client, "DEAD", 2).await;
    let reasons: Vec<String> = letters.iter().map(|it| body_of(it)["reason"].to_string()).collect();
    for name in ["`ONE`", "`TWO`"] {
        assert!(reasons.iter().any(|reason| reason.contains(name)), "{reasons:?}");
    }
    for letter in &letters {
        assert_eq!(body_of(letter)["id"], "order-7");
        assert_eq!(header(letter, "Genkan-Event-Id"), "order-7");
    }
    let labels = [("bridge", "bus:stream/ORDERS"), ("outcome", "dead_letter")];
    gateway.wait_for_metric("genkan_events_total", &labels, 2.0).await;
}

#[tokio::test]
async fn what_goes_into_one_stream_by_several_ways_is_all_there() {
    let (nats, client) = orders().await;
    make(&client, "OUT", json!({})).await;
    make(&client, "SMALL", json!({"max_msg_size": 300})).await;
    let rows = "[[bridges]]\nfrom = \"bus:stream/ORDERS/orders.*\"\n\
                to = [\"bus:stream/OUT/out.$1\", \"bus:stream/SMALL/small.$1\"]\n\
                dead_letter = \"bus:stream/OUT/out.dead\"\n";
    let other = bridge("bus:stream/ORDERS/orders.>", "bus:stream/OUT/out.all", "");
    let within = bridge("bus:stream/OUT/out.a", "bus:stream/OUT/out.again", "");
    let _gateway = taking(&toml(&nats, &[rows, &other, &within].concat()), 3).await;
    publish(&client, "orders.a", "order-7", &large()).await;
    let there = holds(&client, "OUT", 4).await;
    assert_eq!(subjects(&there), ["out.a", "out.again", "out.all", "out.dead"]);
    for message in &there {
        assert_eq!(header(message, "Genkan-Event-Id"), "order-7", "{}", message.subject);
    }
}

#[tokio::test]
async fn two_targets_may_be_in_one_stream() {
    let (nats, client) = orders().await;
    make(&client, "OUT", json!({})).await;
    let rows = "[[bridges]]\nfrom = \"bus:stream/ORDERS/orders.*\"\n\
                to = [\"bus:stream/OUT/out.$1\", \"bus:stream/OUT/out.all\"]\n";
    let _gateway = taking(&toml(&nats, rows), 1).await;
    publish(&client, "orders.a", "order-7", "1").await;
    assert_eq!(subjects(&holds(&client, "OUT", 2).await), ["out.a", "out.all"]);
}

#[tokio::test]
async fn events_of_one_trace_are_not_one_event() {
    let (nats, client) = orders().await;
    let row = bridge("bus:shop.*", "bus:stream/ORDERS/orders.$1", "");
    let gateway = super::super::gateway(&nats, &row).await;
    super::super::carries(&gateway, &client, "shop.probe", "bus:shop.*").await;
    for number in 0..3 {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", TRACE);
        let body = format!("{{\"n\":{number}}}").into();
        client.publish_with_headers("shop.sold", headers, body).await.expect("published");
    }
    let sold = eventually("all are there", async || {
        let there = all(&client, "ORDERS").await.into_iter();
        let sold: Vec<_> = there.filter(|it| it.subject.as_str() == "orders.sold").collect();
        (sold.len() >= 3).then_some(sold)
    })
    .await;
    let numbers: Vec<Value> = sold.iter().map(|it| body_of(it)["n"].clone()).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert!(sold.iter().all(|it| header(it, "traceparent").contains(&TRACE[3..35])));
}

#[tokio::test]
async fn an_event_that_is_published_again_by_its_id_is_dropped_and_told() {
    let (nats, client) = orders().await;
    let rabbit = RabbitMq::shared().vhost();
    let row = bridge("rabbit:shop.sold", "bus:stream/ORDERS/orders.sold", "");
    let toml = toml(&nats, &format!("{}{row}", rabbit.upstream("rabbit")));
    let gateway = taking(&toml, 1).await;
    let publisher = Peer::connect(&rabbit.url()).await;
    for body in ["1", "1", "2"] {
        let id = format!("sale-{body}");
        let properties = lapin::BasicProperties::default().with_message_id(id.into());
        publisher.publish_with("shop.events", "sold", body.as_bytes(), properties).await;
    }
    let there = holds(&client, "ORDERS", 2).await;
    let bodies: Vec<Value> = there.iter().map(body_of).collect();
    assert_eq!(bodies, [1, 2]);
    assert_eq!(header(&there[0], "Genkan-Event-Id"), "sale-1");
    let line = gateway.wait_for_log(0, "a stream had an event already").await;
    assert_eq!((&line["stream"], &line["id"]), (&json!("ORDERS"), &json!("sale-1")), "{line}");
}
