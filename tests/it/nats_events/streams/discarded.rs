//! What a stream discards before it was taken: a gap, and of what was taken, or is nobody's, none.

use std::ops::Range;

use async_nats::Client;
use serde_json::{Value, json};

use super::super::{PATIENCE, delivered, json as body_of};
use super::{all, api, bridge, count, make, orders, taking, toml};
use crate::events::Listener;
use crate::harness::proxy::Weather;
use crate::harness::{Gateway, Proxy, eventually};

const LOST: &str = "the connection to NATS was lost; connecting again";

/// Publishes events `{"n": N}`, and waits until each is stored, though the stream keeps few.
async fn publish(client: &Client, subject: &str, numbers: Range<u64>) {
    for number in numbers {
        let body = format!("{{\"n\":{number}}}");
        let stored = client.request(subject.to_owned(), body.into()).await.expect("stored");
        let stored: Value = serde_json::from_slice(&stored.payload).expect("JSON");
        assert!(stored["seq"].is_u64(), "{stored}");
    }
}

async fn gaps(gateway: &Gateway, bridge: &str) -> f64 {
    let labels = [("bridge", bridge), ("outcome", "gap")];
    gateway.metric("genkan_events_total", &labels).await
}

/// The numbers of the events that a stream has.
async fn numbers(client: &Client, stream: &str) -> Vec<u64> {
    let there = all(client, stream).await;
    there.iter().map(|it| body_of(it)["n"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn what_a_stream_discards_while_the_gateway_is_away_is_a_gap() {
    let (nats, client) = orders().await;
    make(&client, "LIM", json!({"max_msgs": 5})).await;
    make(&client, "COPIES", json!({})).await;
    let row = bridge("bus:stream/LIM", "bus:stream/COPIES/copies.x", "");
    let topics = "[[topics]]\nmatch = \"lim.*\"\nfrom = \"bus:stream/LIM/lim.*\"\n\
                  [[topics]]\nmatch = \"orders.*\"\nfrom = \"bus:stream/ORDERS\"\n";
    let proxy = Proxy::to(nats.address()).await;
    let toml = toml(&nats, &[&row, topics].concat()).replace(&nats.address(), proxy.address());
    let gateway = taking(&toml, 3).await;
    let mut listener = Listener::listen(&gateway, "?topic=lim.a&topic=orders.a").await;
    for topic in ["lim.a", "orders.a"] {
        publish(&client, topic, 0..3).await;
        for number in 0..3 {
            let heard = listener.event().await;
            assert_eq!(
                (&heard.data["topic"], &heard.data["data"]["n"]),
                (&json!(topic), &json!(number))
            );
        }
    }
    eventually("all are copied", async || (count(&client, "COPIES").await >= 3).then_some(()))
        .await;
    proxy.set(Weather { refuses: true, ..Weather::default() });
    proxy.hang_up();
    gateway.wait_for_log(0, LOST).await;
    publish(&client, "lim.a", 3..20).await;
    publish(&client, "orders.a", 3..20).await;
    api(&client, "STREAM.PURGE.ORDERS", Value::Null).await;
    publish(&client, "orders.a", 20..22).await;
    proxy.set(Weather::default());
    let mut heard = Vec::new();
    while heard.len() < 9 {
        let next = tokio::time::timeout(PATIENCE, listener.next()).await.expect("in time");
        let next = next.expect("the stream goes on");
        heard.push((next.data["topic"].clone(), next.kind, next.data["data"]["n"].as_u64()));
    }
    for (topic, numbers) in [("lim.a", 15..20), ("orders.a", 20..22)] {
        let its = heard.iter().filter(|it| it.0 == topic);
        let its: Vec<_> = its.map(|(_, kind, number)| (&**kind, *number)).collect();
        let events = numbers.map(|number| ("", Some(number)));
        let expected: Vec<_> = std::iter::once(("gap", None)).chain(events).collect();
        assert_eq!(its, expected, "{topic}");
    }
    eventually("the rest is copied", async || (count(&client, "COPIES").await >= 8).then_some(()))
        .await;
    assert_eq!(numbers(&client, "COPIES").await, [0, 1, 2, 15, 16, 17, 18, 19]);
    for bridge in ["bus:stream/LIM", "bus:stream/LIM/lim.*", "bus:stream/ORDERS"] {
        assert_eq!(gaps(&gateway, bridge).await, 1.0, "{bridge}");
    }
    let lines = gateway.logged("events may have been missed");
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].to_string()).collect();
    for words in [
        "`LIM` has discarded 12 of its events",
        "`ORDERS` has discarded 17 of its events",
        "`LIM` may have discarded some",
        "raise its `max_msgs`",
    ] {
        assert!(reasons.iter().any(|reason| reason.contains(words)), "{words}: {reasons:?}");
    }
}

#[tokio::test]
async fn what_a_stream_discards_while_a_target_takes_nothing_is_a_gap() {
    let (nats, client) = orders().await;
    make(&client, "LIM", json!({"max_msgs": 100})).await;
    let small = json!({"max_msgs": 1, "discard": "new"});
    make(&client, "ALL", small.clone()).await;
    make(&client, "SOME", small).await;
    let rows = [
        bridge("bus:stream/LIM", "bus:stream/ALL/all.x", ""),
        bridge("bus:stream/LIM/lim.a", "bus:stream/SOME/some.x", ""),
    ];
    let gateway = taking(&toml(&nats, &rows.concat()), 2).await;
    publish(&client, "lim.a", 0..1).await;
    for bridge in ["bus:stream/LIM", "bus:stream/LIM/lim.a"] {
        let labels = [("bridge", bridge), ("outcome", "delivered")];
        gateway.wait_for_metric("genkan_events_total", &labels, 1.0).await;
    }
    // A bridge takes 512, and no more while it has those.
    publish(&client, "lim.a", 1..513).await;
    eventually("all were taken", async || {
        let names = super::consumers(&client, "LIM").await;
        let mut taken = names.len() == 2;
        for name in names {
            let info = api(&client, &format!("CONSUMER.INFO.LIM.{name}"), Value::Null).await;
            taken &= info["delivered"]["stream_seq"] == 513;
        }
        taken.then_some(())
    })
    .await;
    publish(&client, "lim.a", 513..800).await;
    for name in ["ALL", "SOME"] {
        let subjects = [format!("{}.>", name.to_lowercase())];
        let roomy =
            json!({"name": name, "subjects": subjects, "storage": "file", "discard": "new"});
        api(&client, &format!("STREAM.UPDATE.{name}"), roomy).await;
    }
    let expected: Vec<u64> = (0..513).chain(700..800).collect();
    for (name, bridge) in [("ALL", "bus:stream/LIM"), ("SOME", "bus:stream/LIM/lim.a")] {
        eventually("the rest is there", async || {
            (count(&client, name).await >= expected.len() as u64).then_some(())
        })
        .await;
        let there = numbers(&client, name).await;
        let odd = there.iter().zip(&expected).position(|(one, other)| one != other);
        let around = odd.map(|odd| &there[odd.saturating_sub(3)..there.len().min(odd + 8)]);
        assert_eq!((there.len(), around), (expected.len(), None), "{name}");
        let labels = [("bridge", bridge), ("outcome", "gap")];
        gateway.wait_for_metric("genkan_events_total", &labels, 1.0).await;
    }
}

#[tokio::test]
async fn what_was_taken_or_is_replaced_or_was_not_wanted_is_no_gap() {
    let (nats, client) = orders().await;
    make(&client, "LIM", json!({"max_msgs": 5})).await;
    make(&client, "COPIES", json!({})).await;
    make(&client, "KV_conf", json!({"subjects": ["$KV.conf.>"], "max_msgs_per_subject": 1})).await;
    let rows = [
        bridge("bus:stream/LIM", "bus:stream/COPIES/copies.all", ""),
        bridge("bus:stream/LIM/lim.a", "bus:stream/COPIES/copies.some", ""),
        bridge("bus:stream/KV_conf", "bus:stream/COPIES/copies.conf", ""),
        bridge("bus:stream/LATEST", "bus:stream/COPIES/copies.latest", ""),
    ];
    // What was gone before there was a bridge, in between others.
    make(&client, "LATEST", json!({"max_msgs_per_subject": 2})).await;
    publish(&client, "latest.a", 0..2).await;
    publish(&client, "latest.b", 0..9).await;
    let proxy = Proxy::to(nats.address()).await;
    let toml = toml(&nats, &rows.concat()).replace(&nats.address(), proxy.address());
    let gateway = taking(&toml, 4).await;
    let carried = async |bridge: &str, expected: f64| {
        eventually(&format!("{expected} of {bridge} are carried"), async || {
            (delivered(&gateway, bridge).await >= expected).then_some(())
        })
        .await;
    };
    carried("bus:stream/LATEST", 4.0).await;
    publish(&client, "latest.c", 0..1).await;
    carried("bus:stream/LATEST", 5.0).await;
    publish(&client, "lim.a", 0..1).await;
    carried("bus:stream/LIM/lim.a", 1.0).await;
    // Of a stream that keeps five, each is taken before it goes.
    for number in 0..20 {
        publish(&client, "lim.b", number..number + 1).await;
        carried("bus:stream/LIM", (number + 2) as f64).await;
    }
    publish(&client, "lim.a", 1..2).await;
    carried("bus:stream/LIM/lim.a", 2.0).await;
    publish(&client, "$KV.conf.a", 0..1).await;
    carried("bus:stream/KV_conf", 1.0).await;
    proxy.set(Weather { refuses: true, ..Weather::default() });
    proxy.hang_up();
    gateway.wait_for_log(0, LOST).await;
    publish(&client, "$KV.conf.a", 1..8).await;
    publish(&client, "lim.b", 20..22).await;
    publish(&client, "lim.a", 2..3).await;
    proxy.set(Weather::default());
    carried("bus:stream/KV_conf", 2.0).await;
    carried("bus:stream/LIM", 25.0).await;
    carried("bus:stream/LIM/lim.a", 3.0).await;
    assert_eq!(gaps(&gateway, "bus:stream/LIM").await, 0.0);
    assert_eq!(gaps(&gateway, "bus:stream/LIM/lim.a").await, 0.0);
    assert_eq!(gaps(&gateway, "bus:stream/KV_conf").await, 0.0);
    assert_eq!(gaps(&gateway, "bus:stream/LATEST").await, 0.0);
}
