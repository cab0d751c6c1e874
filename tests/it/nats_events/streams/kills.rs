//! At least once, in order, over servers that die.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::ExchangeKind;
use lapin::options::BasicAckOptions;

use super::super::{header, json};
use super::{all, bridge, count, make, orders, store, taking, toml};
use crate::harness::{Nats, RabbitMq, eventually};
use crate::nameko_events::Peer;

const EVENTS: u64 = 20_000;
const KILLS: u64 = 10;

/// What came: each once, in the order of their numbers; what came again, and whether by another id.
#[derive(Default)]
struct Tally {
    ids: BTreeMap<u64, String>,
    last: u64,
    repeated: u64,
}

impl Tally {
    fn add(&mut self, number: u64, id: String) {
        assert!(!id.is_empty(), "{number} has no id");
        match self.ids.get(&number) {
            Some(before) => {
                assert_eq!(*before, id, "{number} came again by another id");
                self.repeated += 1;
            }
            None => {
                assert!(number >= self.last, "{number} came behind {}", self.last);
                self.last = number;
                self.ids.insert(number, id);
            }
        }
    }
}

#[tokio::test]
async fn a_streams_events_reach_handlers_though_its_server_is_killed_ten_times() {
    let (nats, client) = orders().await;
    let rabbit = RabbitMq::shared().vhost();
    let reader = Peer::connect(&rabbit.url()).await;
    reader.exchange("copies.events", ExchangeKind::Topic).await;
    let mut copies = reader.consume("copies", "copies.events", "created").await;
    let row = bridge("bus:stream/ORDERS", "rabbit:copies.created", "");
    let gateway = taking(&toml(&nats, &format!("{}{row}", rabbit.upstream("rabbit"))), 1).await;
    let mut tally = Tally::default();
    let part = EVENTS / (KILLS + 1);
    for round in 0..=KILLS {
        let upto = if round == KILLS { EVENTS } else { (round + 1) * part };
        store(&client, "ORDERS", "orders.created", round * part..upto).await;
        // Some are on their way when the server dies.
        let enough = if round == KILLS { EVENTS } else { upto - part / 2 };
        while (tally.ids.len() as u64) < enough {
            let next = tokio::time::timeout(Duration::from_secs(60), copies.next()).await;
            let Ok(next) = next else {
                panic!("{} of {enough} in round {round}:\n{}", tally.ids.len(), gateway.log_text());
            };
            let next = next.expect("consumed").expect("a delivery");
            let body: serde_json::Value = serde_json::from_slice(&next.data).expect("JSON");
            let id = next.properties.message_id().as_ref().map(ToString::to_string);
            tally.add(body["n"].as_u64().expect("a number"), id.unwrap_or_default());
            if next.delivery_tag % 100 == 0 {
                let options = BasicAckOptions { multiple: true };
                reader.channel.basic_ack(next.delivery_tag, options).await.expect("acked");
            }
        }
        if round < KILLS {
            nats.kill();
            nats.restart();
        }
    }
    println!("{EVENTS} events, {KILLS} kills: none lost, {} came twice", tally.repeated);
    assert_eq!(gateway.metric("genkan_events_total", &[("outcome", "gap")]).await, 0.0);
    eventually("the consumer has been told of all", async || {
        let names = super::consumers(&client, "ORDERS").await;
        let subject = format!("CONSUMER.INFO.ORDERS.{}", names[0]);
        let info = super::api(&client, &subject, serde_json::Value::Null).await;
        (info["num_ack_pending"] == 0 && info["num_pending"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rabbitmqs_events_reach_a_stream_though_its_server_is_killed_ten_times() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    make(&client, "COPIES", serde_json::json!({})).await;
    let rabbit = RabbitMq::shared().vhost();
    let row = bridge("rabbit:orders.created", "bus:stream/COPIES/copies.created", "");
    let gateway = taking(&toml(&nats, &format!("{}{row}", rabbit.upstream("rabbit"))), 1).await;
    let publisher = Peer::connect(&rabbit.url()).await;
    let part = EVENTS / (KILLS + 1);
    for round in 0..=KILLS {
        let upto = if round == KILLS { EVENTS } else { (round + 1) * part };
        for number in round * part..upto {
            let body = format!("{{\"n\":{number}}}");
            let sent = publisher.channel.basic_publish(
                "orders.events".into(),
                "created".into(),
                Default::default(),
                body.as_bytes(),
                lapin::BasicProperties::default().with_delivery_mode(2),
            );
            let confirm = sent.await.expect("sent");
            if number % 100 == 99 || number + 1 == upto {
                confirm.await.expect("confirmed");
            } else {
                tokio::spawn(confirm);
            }
        }
        let enough = if round == KILLS { EVENTS } else { upto - part / 2 };
        eventually(&format!("{enough} are stored"), async || {
            (count(&client, "COPIES").await >= enough).then_some(())
        })
        .await;
        if round < KILLS {
            nats.kill();
            nats.restart();
        }
    }
    let delivered = [("bridge", "rabbit:orders.created"), ("outcome", "delivered")];
    gateway.wait_for_metric("genkan_events_total", &delivered, EVENTS as f64).await;
    let mut tally = Tally::default();
    for message in all(&client, "COPIES").await {
        let number = json(&message)["n"].as_u64().expect("a number");
        tally.add(number, header(&message, "Genkan-Event-Id"));
    }
    assert_eq!(tally.ids.len() as u64, EVENTS);
    println!("{EVENTS} events, {KILLS} kills: none lost, {} came twice", tally.repeated);
}
