//! What is carried from streams and into them, and what stays when bridges come and go.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::super::{header, json as body_of};
use super::{all, bridge, consumers, count, make, orders, store, taking, toml};
use crate::events::Listener;
use crate::harness::eventually;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn what_travels_with_an_event_goes_from_one_stream_into_another() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    let row = bridge("bus:stream/ORDERS/orders.*.created", "bus:stream/COPIES/copies.$1", "");
    let _gateway = taking(&toml(&nats, &row), 1).await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("traceparent", TRACE),
        ("Nats-Msg-Id", "order-7"),
        ("X-Request-Id", "r-1"),
        ("Authorization", "Bearer geheim"),
        ("Genkan-Hops", "3"),
    ] {
        headers.insert(name, value);
    }
    let published = client.publish_with_headers("orders.eu.created", headers, " [1.10] ".into());
    published.await.expect("published");
    client.publish("orders.eu.deleted", "1".into()).await.expect("published");
    client.publish("orders.us.created", "2".into()).await.expect("published");
    eventually("both are copied", async || (count(&client, "COPIES").await >= 2).then_some(()))
        .await;
    let copies = all(&client, "COPIES").await;
    let subjects: Vec<_> = copies.iter().map(|copy| copy.subject.as_str()).collect();
    assert_eq!(subjects, ["copies.eu", "copies.us"], "what the filter leaves out stays away");
    assert_eq!(&copies[0].payload[..], b"[1.10]");
    for (name, value) in [
        ("traceparent", TRACE),
        ("Genkan-Event-Id", "order-7"),
        ("X-Request-Id", "r-1"),
        ("Authorization", ""),
        ("Genkan-Hops", "4"),
    ] {
        assert_eq!(header(&copies[0], name), value, "{name}");
    }
    let own = header(&copies[1], "Genkan-Event-Id");
    assert!(own.starts_with("ORDERS.3."), "an id of its own by its place: {own}");
}

#[tokio::test]
async fn what_is_stored_while_the_gateway_is_away_waits_for_it() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    let row = bridge("bus:stream/ORDERS", "bus:stream/COPIES/copies.x", "");
    store(&client, "ORDERS", "orders.created", 0..100).await;
    let gateway = taking(&toml(&nats, &row), 1).await;
    eventually("what was there is copied", async || {
        (count(&client, "COPIES").await >= 100).then_some(())
    })
    .await;
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    assert_eq!(consumers(&client, "ORDERS").await.len(), 1, "it stays for the next start");
    store(&client, "ORDERS", "orders.created", 100..200).await;
    let _gateway = taking(&toml(&nats, &row), 1).await;
    eventually("the rest is copied", async || {
        (count(&client, "COPIES").await >= 200).then_some(())
    })
    .await;
    let copies: Vec<Value> = all(&client, "COPIES").await.iter().map(body_of).collect();
    let expected: Vec<Value> = (0..200).map(|number| json!({"n": number})).collect();
    assert_eq!(copies, expected, "each once, in their order");
}

#[tokio::test]
async fn no_consumer_is_left_when_its_bridge_or_topic_has_gone() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    let stays = bridge("bus:stream/ORDERS/orders.eu", "bus:stream/COPIES/copies.eu", "");
    let goes = bridge("bus:stream/ORDERS/orders.us", "bus:stream/COPIES/copies.us", "");
    let topic = "[[topics]]\nmatch = \"orders.*\"\nfrom = \"bus:stream/ORDERS\"\n";
    let gateway = taking(&toml(&nats, &format!("{stays}{goes}{topic}")), 3).await;
    assert_eq!(consumers(&client, "ORDERS").await.len(), 3);
    let mut listener = Listener::listen(&gateway, "?topic=orders.us").await;
    store(&client, "ORDERS", "orders.us", 0..50).await;
    for number in 0..50 {
        assert_eq!(listener.event().await.data["data"], json!({"n": number}));
    }
    gateway.write_config(&toml(&nats, &stays));
    gateway.hang_up();
    eventually("one consumer is left", async || {
        (consumers(&client, "ORDERS").await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.logged("a bridge that has gone leaves its consumer").len(), 0);
    let before = count(&client, "COPIES").await;
    assert_eq!(before, 50, "what had been taken was carried");
    client.publish("orders.us", "1".into()).await.expect("published");
    store(&client, "ORDERS", "orders.eu", 0..1).await;
    eventually("the other one goes on", async || {
        (count(&client, "COPIES").await > before).then_some(())
    })
    .await;
    assert_eq!(all(&client, "COPIES").await.last().expect("one").subject.as_str(), "copies.eu");
}

#[tokio::test]
async fn two_gateways_share_a_bridge_and_one_that_goes_leaves_the_consumer() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    let row = bridge("bus:stream/ORDERS", "bus:stream/COPIES/copies.x", "");
    let one = taking(&toml(&nats, &row), 1).await;
    let other = taking(&toml(&nats, &row), 1).await;
    store(&client, "ORDERS", "orders.created", 0..1_000).await;
    eventually("all are copied", async || (count(&client, "COPIES").await >= 1_000).then_some(()))
        .await;
    one.write_config(&toml(&nats, ""));
    one.hang_up();
    one.wait_for_log(0, "reloaded: the new routing table is in force").await;
    store(&client, "ORDERS", "orders.created", 1_000..1_500).await;
    eventually("the other goes on", async || {
        (count(&client, "COPIES").await >= 1_500).then_some(())
    })
    .await;
    let mut numbers: Vec<u64> = Vec::new();
    for copy in all(&client, "COPIES").await {
        numbers.push(body_of(&copy)["n"].as_u64().expect("a number"));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1_500).collect::<Vec<_>>(), "each once");
    for gateway in [&one, &other] {
        let gaps = gateway.metric("genkan_events_total", &[("outcome", "gap")]).await;
        assert_eq!(gaps, 0.0, "what the other one took is no gap");
    }
    assert_eq!(consumers(&client, "ORDERS").await.len(), 1);
}

#[tokio::test]
async fn a_bridge_that_changes_goes_on_where_it_was() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    make(&client, "OTHERS", json!({})).await;
    let row = |to: &str, more: &str| bridge("bus:stream/ORDERS", to, more);
    let gateway = taking(&toml(&nats, &row("bus:stream/COPIES/copies.x", "")), 1).await;
    store(&client, "ORDERS", "orders.created", 0..500).await;
    let copied = async |stream: &str, expected: u64| {
        eventually(&format!("{expected} are in {stream}"), async || {
            (count(&client, stream).await >= expected).then_some(())
        })
        .await;
    };
    copied("COPIES", 1).await;
    // Another key of the row, under way: the same consumer, and nothing twice or out of its order.
    gateway.write_config(&toml(&nats, &row("bus:stream/COPIES/copies.x", "retries = 9")));
    gateway.hang_up();
    crate::nameko_events::listened(&gateway, 2).await;
    store(&client, "ORDERS", "orders.created", 500..1_000).await;
    copied("COPIES", 1_000).await;
    let copies: Vec<Value> = all(&client, "COPIES").await.iter().map(body_of).collect();
    let expected: Vec<Value> = (0..1_000).map(|number| json!({"n": number})).collect();
    assert_eq!(copies, expected, "each once, in their order");
    // Another target: another consumer, which does not begin at the beginning.
    gateway.write_config(&toml(&nats, &row("bus:stream/OTHERS/others.x", "")));
    gateway.hang_up();
    crate::nameko_events::listened(&gateway, 3).await;
    store(&client, "ORDERS", "orders.created", 1_000..1_100).await;
    copied("OTHERS", 100).await;
    let others: Vec<Value> = all(&client, "OTHERS").await.iter().map(body_of).collect();
    let expected: Vec<Value> = (1_000..1_100).map(|number| json!({"n": number})).collect();
    assert_eq!(others, expected);
    eventually("the other consumer has gone", async || {
        (consumers(&client, "ORDERS").await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bridge_from_a_work_queue_changes_its_target_and_goes_on() {
    let (nats, client) = orders().await;
    make(&client, "WORK", json!({"retention": "workqueue"})).await;
    make(&client, "COPIES", json!({})).await;
    let row = |to: &str| bridge("bus:stream/WORK", to, "");
    let gateway = taking(&toml(&nats, &row("bus:stream/COPIES/copies.one")), 1).await;
    client.publish("work.a", r#"{"n":1}"#.into()).await.expect("published");
    let copied = async |expected: u64| {
        eventually(&format!("{expected} are copied"), async || {
            (count(&client, "COPIES").await == expected).then_some(())
        })
        .await;
    };
    copied(1).await;
    gateway.write_config(&toml(&nats, &row("bus:stream/COPIES/copies.two")));
    gateway.hang_up();
    crate::nameko_events::listened(&gateway, 2).await;
    client.publish("work.a", r#"{"n":2}"#.into()).await.expect("published");
    copied(2).await;
    let copies: Vec<Value> = all(&client, "COPIES").await.iter().map(body_of).collect();
    assert_eq!(copies, [json!({"n": 1}), json!({"n": 2})], "each once, in their order");
    assert_eq!(consumers(&client, "WORK").await.len(), 1);
}

#[tokio::test]
async fn browsers_are_told_that_a_work_queue_cannot_be_listened_to() {
    let (nats, client) = orders().await;
    make(&client, "WORK", json!({"retention": "workqueue"})).await;
    make(&client, "COPIES", json!({})).await;
    let rows = "[[bridges]]\nfrom = \"bus:stream/WORK\"\nto = [\"bus:stream/COPIES/copies.one\", \"web:work\"]\n\
                [[topics]]\nmatch = \"work\"\n";
    let gateway = taking(&toml(&nats, rows), 1).await;
    let line = gateway.wait_for_log(0, "events cannot be taken").await;
    let mend = line["mend"].as_str().unwrap_or_default();
    assert!(mend.contains("let a bridge carry it into another stream"), "{line}");
    // The bridge has it for itself.
    client.publish("work.a", r#"{"n":1}"#.into()).await.expect("published");
    eventually("it is copied", async || (count(&client, "COPIES").await == 1).then_some(())).await;
}
