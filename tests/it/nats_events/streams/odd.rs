//! Streams that are not there, are full, or go.

use serde_json::{Value, json};

use super::super::json as body_of;
use super::{all, api, bridge, count, make, orders, store, taking, toml};
use crate::events::Listener;
use crate::harness::{Gateway, Nats, eventually};

#[tokio::test]
async fn a_stream_that_is_not_there_is_told_with_the_mend_and_its_events_come_when_it_is() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    let rows = [
        bridge("bus:stream/ORDERS", "bus:stream/COPIES/copies.x", ""),
        bridge("bus:in", "bus:stream/COPIES/copies.in", "dead_letter = \"bus:dead\"\nretries = 0"),
    ];
    let gateway = Gateway::ready(&toml(&nats, &rows.concat())).await;
    let line = gateway.wait_for_log(0, "events cannot be taken").await;
    assert_eq!(
        (&line["reason"], &line["level"]),
        (&json!("there is no such stream"), &json!("ERROR"))
    );
    assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("nats stream add")), "{line}");
    // What it would have to store is a dead letter that says so.
    let mut dead = client.subscribe("dead").await.expect("subscribed");
    let letters = [("bridge", "bus:in"), ("outcome", "dead_letter")];
    super::super::until_heard(&client, "in", async || {
        gateway.metric("genkan_events_total", &letters).await > 0.0
    })
    .await;
    let letter = futures_util::StreamExt::next(&mut dead).await.expect("a letter");
    let reason = body_of(&letter)["reason"].to_string();
    assert!(reason.contains("no stream takes `copies.in`"), "{reason}");
    make(&client, "ORDERS", json!({})).await;
    store(&client, "ORDERS", "orders.created", 0..50).await;
    let line = gateway.wait_for_log(0, "a target takes no events").await;
    assert!(line["reason"].as_str().is_some_and(|it| it.contains("no stream takes")), "{line}");
    let stands = [("bridge", "bus:stream/ORDERS")];
    gateway.wait_for_metric("genkan_event_targets_failing", &stands, 1.0).await;
    make(&client, "COPIES", json!({})).await;
    eventually("they are copied", async || (count(&client, "COPIES").await >= 50).then_some(()))
        .await;
    gateway.wait_for_metric("genkan_event_targets_failing", &stands, 0.0).await;
}

#[tokio::test]
async fn what_a_full_stream_does_not_take_is_laid_in_another_with_the_reason() {
    let (nats, client) = orders().await;
    make(&client, "SMALL", json!({"max_msgs": 10, "discard": "new", "max_msg_size": 2_000})).await;
    make(&client, "DEAD", json!({})).await;
    let more = "dead_letter = \"bus:stream/DEAD/dead.orders\"\nretries = 1";
    let row = bridge("bus:stream/ORDERS", "bus:stream/SMALL/small.x", more);
    let gateway = taking(&toml(&nats, &row), 1).await;
    let large = format!("\"{}\"", "x".repeat(3_000));
    client.publish("orders.large", large.into()).await.expect("published");
    store(&client, "ORDERS", "orders.created", 0..12).await;
    eventually("three are dead letters", async || {
        (count(&client, "DEAD").await >= 3).then_some(())
    })
    .await;
    let letters: Vec<Value> = all(&client, "DEAD").await.iter().map(body_of).collect();
    let told: Vec<_> =
        letters.iter().map(|it| (it["topic"].clone(), it["reason"].to_string())).collect();
    assert!(told[0].1.contains("max_msg_size"), "{told:?}");
    for (number, letter) in (10..12).zip(&letters[1..]) {
        assert_eq!(letter["data"], json!({"n": number}));
        let reason = letter["reason"].to_string();
        assert!(reason.contains("SMALL") && reason.contains("maximum messages"), "{reason}");
    }
    assert_eq!(count(&client, "SMALL").await, 10);
    let labels = [("bridge", "bus:stream/ORDERS"), ("outcome", "dead_letter")];
    gateway.wait_for_metric("genkan_events_total", &labels, 3.0).await;
}

#[tokio::test]
async fn a_dead_letter_has_what_came_also_where_that_is_no_text() {
    let (nats, client) = orders().await;
    make(&client, "DEAD", json!({})).await;
    make(&client, "SMALL", json!({"max_msg_size": 400})).await;
    let dead = "dead_letter = \"bus:stream/DEAD/dead.orders\"";
    let row = bridge("bus:stream/ORDERS", "bus:stream/SMALL/small.x", dead);
    let _gateway = taking(&toml(&nats, &row), 1).await;
    let own = format!("\"{}\"", "x".repeat(400));
    let bodies = [&b"\x00\xff\xfe"[..], b"\"M\xfcller\"", b"no JSON", own.as_bytes()];
    for body in bodies {
        let published = client.publish("orders.created", body.to_vec().into());
        published.await.expect("published");
    }
    eventually("all are dead letters", async || (count(&client, "DEAD").await >= 4).then_some(()))
        .await;
    let letters = all(&client, "DEAD").await;
    let held: Vec<Value> = letters.iter().map(body_of).collect();
    let held: Vec<_> = held.iter().map(|it| json!([it["data"], it.get("encoding")])).collect();
    let own = json!(["x".repeat(400), null]);
    let expected = [
        json!(["AP/+", "base64"]),
        json!(["Ik38bGxlciI=", "base64"]),
        json!(["no JSON", "text"]),
        own,
    ];
    for letter in expected {
        assert!(held.contains(&letter), "{letter}: {held:?}");
    }
}

#[tokio::test]
async fn a_stream_or_a_consumer_that_is_deleted_under_way_is_found_again() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    let row = bridge("bus:stream/ORDERS", "bus:stream/COPIES/copies.x", "");
    let gateway = taking(&toml(&nats, &row), 1).await;
    store(&client, "ORDERS", "orders.created", 0..100).await;
    let copied = async |expected: u64| {
        eventually(&format!("{expected} are copied"), async || {
            (count(&client, "COPIES").await >= expected).then_some(())
        })
        .await;
    };
    copied(100).await;
    // The consumer goes, and is made again behind what has been carried.
    let name = super::consumers(&client, "ORDERS").await.remove(0);
    api(&client, &format!("CONSUMER.DELETE.ORDERS.{name}"), Value::Null).await;
    gateway.wait_for_log(0, "no events are taken now").await;
    store(&client, "ORDERS", "orders.created", 100..200).await;
    copied(200).await;
    // The stream goes, and another one comes.
    api(&client, "STREAM.DELETE.ORDERS", Value::Null).await;
    gateway.wait_for_log(0, "events cannot be taken").await;
    make(&client, "ORDERS", json!({})).await;
    store(&client, "ORDERS", "orders.created", 200..300).await;
    copied(300).await;
    let copies: Vec<Value> = all(&client, "COPIES").await.iter().map(body_of).collect();
    let expected: Vec<Value> = (0..300).map(|number| json!({"n": number})).collect();
    assert_eq!(copies, expected, "each once, in their order");
}

/// One that an operator has made is used as it is.
#[tokio::test]
async fn a_consumer_that_may_lose_events_is_told_of() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    let toml = toml(&nats, &bridge("bus:stream/ORDERS", "bus:stream/COPIES/copies.x", ""));
    let gateway = taking(&toml, 1).await;
    let name = super::consumers(&client, "ORDERS").await.remove(0);
    assert!(gateway.logged("a stream's consumer may lose events").is_empty());
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    api(&client, &format!("CONSUMER.DELETE.ORDERS.{name}"), Value::Null).await;
    let config = json!({"durable_name": name, "ack_policy": "explicit", "deliver_policy": "all",
        "max_deliver": 2, "inactive_threshold": 3_600_000_000_000_u64});
    let body = json!({"stream_name": "ORDERS", "config": config});
    api(&client, &format!("CONSUMER.DURABLE.CREATE.ORDERS.{name}"), body).await;
    let gateway = taking(&toml, 1).await;
    let told = gateway.logged("a stream's consumer may lose events");
    assert_eq!(told.len(), 2, "{told:?}");
    for (told, words) in
        told.iter().zip([["2 times", "`max_deliver`"], ["1h", "`inactive_threshold`"]])
    {
        assert_eq!((&told["level"], &told["consumer"]), (&json!("WARN"), &json!(name)), "{told}");
        let reason = told["reason"].as_str().expect("a reason");
        assert!(words.iter().all(|word| reason.contains(word)), "{told}");
        assert!(told["mend"].as_str().is_some_and(|mend| mend.contains(words[1])), "{told}");
    }
}

#[tokio::test]
async fn a_topic_of_a_stream_that_is_made_again_hears_all_of_the_new_one_behind_a_gap() {
    let (nats, client) = orders().await;
    let topic = "[[topics]]\nmatch = \"orders.*\"\nfrom = \"bus:stream/ORDERS\"\n";
    let gateway = taking(&toml(&nats, topic), 1).await;
    let mut listener = Listener::listen(&gateway, "?topic=orders.created").await;
    store(&client, "ORDERS", "orders.created", 0..2).await;
    for number in 0..2 {
        assert_eq!(listener.event().await.data["data"]["n"], number);
    }
    // Its consumer goes: it goes on where it was, and nothing is lost.
    let name = super::consumers(&client, "ORDERS").await.remove(0);
    api(&client, &format!("CONSUMER.DELETE.ORDERS.{name}"), Value::Null).await;
    store(&client, "ORDERS", "orders.created", 2..3).await;
    assert_eq!(listener.event().await.data["data"]["n"], 2);
    api(&client, "STREAM.DELETE.ORDERS", Value::Null).await;
    let page = eventually("its page tells", async || {
        let page = gateway.page("/readyz").await;
        page.text().contains("nats stream add").then_some(page)
    })
    .await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("\nbus:stream/ORDERS: its events are not taken: "), "{page:?}");
    make(&client, "ORDERS", json!({})).await;
    store(&client, "ORDERS", "orders.created", 3..5).await;
    let gap = listener.next().await.expect("a gap");
    assert_eq!((&*gap.kind, &gap.data["missed"]), ("gap", &json!(null)));
    for number in 3..5 {
        assert_eq!(listener.event().await.data["data"]["n"], number);
    }
    assert_eq!(gateway.page("/readyz").await.text(), "ready\n");
}

#[tokio::test]
async fn a_server_without_streams_is_told_of() {
    let nats = Nats::start();
    let row = bridge("bus:stream/ORDERS", "bus:out", "");
    let gateway = Gateway::ready(&toml(&nats, &row)).await;
    let line = gateway.wait_for_log(0, "events cannot be taken").await;
    assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("-js")), "{line}");
}

#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_and_the_next_one_arrives() {
    let (nats, client) = orders().await;
    make(&client, "DEAD", json!({})).await;
    let more = "dead_letter = \"bus:stream/DEAD/dead.orders\"";
    let row = bridge("bus:stream/ORDERS", "bus:stream/DEAD/dead.good", more);
    let limits = toml(&nats, &row).replacen("dialect", "max_request = \"4KiB\"\ndialect", 1);
    let _gateway = taking(&limits, 1).await;
    let large = format!("\"{}\"", "x".repeat(8_000));
    for body in ["{no json", &large, "7"] {
        client.publish("orders.x", body.to_owned().into()).await.expect("published");
    }
    eventually("all have arrived", async || (count(&client, "DEAD").await >= 3).then_some(()))
        .await;
    let found = all(&client, "DEAD").await;
    let of = |subject: &str| -> Vec<Value> {
        found.iter().filter(|it| it.subject.as_str() == subject).map(body_of).collect()
    };
    let letters = of("dead.orders");
    assert_eq!(letters[0]["data"], "{no json");
    assert!(letters[1]["reason"].to_string().contains("max_request"), "{}", letters[1]);
    assert_eq!(of("dead.good"), [json!(7)]);
}
