//! At least once, in order, over brokers that die.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::BasicAckOptions;
use serde_json::json;

use super::{Peer, arrived, bridge, listened};
use crate::harness::{Gateway, RabbitMq};

/// Publishes so many events, kills the broker so many times on the way, and reads what comes: how many
/// came twice, and with another id than before.
async fn kills(events: u64, kills: u64) -> (u64, u64) {
    let (here, there) = (RabbitMq::private(), RabbitMq::shared().vhost());
    let upstreams = format!(
        "[upstreams.here]\nprotocol = \"nameko\"\nurl = \"{}\"\n{}",
        here.url(),
        there.upstream("there")
    );
    let row = bridge("here:orders.created", "there:copies.created", "");
    let gateway = Gateway::start(&format!("{upstreams}{row}")).await;
    listened(&gateway, 1).await;
    let reader = Peer::connect(&there.url()).await;
    reader.exchange("copies.events", ExchangeKind::Topic).await;
    let mut copies = reader.consume("copies", "copies.events", "#").await;
    let part = events / (kills + 1);
    let (mut seen, mut repeated, mut renamed) = (BTreeMap::<u64, String>::new(), 0, 0);
    let mut last = 0;
    for round in 0..=kills {
        let publisher = Peer::connect(&here.url()).await;
        let upto = if round == kills { events } else { (round + 1) * part };
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
        // Some are on their way when the broker dies.
        let enough = if round == kills { events } else { upto - part / 4 };
        while (seen.len() as u64) < enough {
            let event = arrived(&mut copies, Duration::from_secs(60)).await;
            let event = event.unwrap_or_else(|| {
                panic!("{} of {enough} in round {round}:\n{}", seen.len(), gateway.log_text())
            });
            reader.channel.basic_ack(event.tag, BasicAckOptions::default()).await.expect("acked");
            let (number, id) = (event.body["n"].as_u64().expect("a number"), event.id());
            match seen.get(&number) {
                None => {
                    assert!(number >= last, "{number} came behind {last}");
                    last = number;
                    seen.insert(number, id);
                }
                Some(before) => {
                    repeated += 1;
                    renamed += u64::from(*before != id);
                }
            }
        }
        if round < kills {
            here.kill();
            here.start();
        }
    }
    assert_eq!(seen.len() as u64, events);
    (repeated, renamed)
}

#[tokio::test]
async fn none_is_lost_while_the_broker_is_killed_and_those_that_come_twice_have_one_id() {
    let (_, renamed) = kills(3_000, 3).await;
    assert_eq!(renamed, 0);
}

/// The long form: `cargo test --test it -- --ignored twenty_thousand --nocapture`.
#[tokio::test]
#[ignore = "takes minutes: the short form above runs always"]
async fn ten_kills_under_twenty_thousand_events() {
    let (repeated, renamed) = kills(20_000, 10).await;
    println!(
        "20,000 events, 10 kills: none lost, {repeated} came twice, {renamed} with another id"
    );
    assert_eq!(renamed, 0);
}

#[tokio::test]
async fn a_target_that_is_down_at_the_start_gets_all_in_their_order_when_it_is_there() {
    let (here, there) = (RabbitMq::shared().vhost(), RabbitMq::private());
    there.stop();
    let upstreams = format!(
        "{}[upstreams.there]\nprotocol = \"nameko\"\nurl = \"{}\"\n",
        here.upstream("here"),
        there.url()
    );
    let row = bridge("here:orders.created", "there:queue/copies", "");
    let gateway = Gateway::start(&format!("{upstreams}{row}")).await;
    listened(&gateway, 1).await;
    let publisher = Peer::connect(&here.url()).await;
    for number in 0..1_200 {
        let body = json!({"n": number}).to_string();
        publisher.publish("orders.events", "created", body.as_bytes()).await;
    }
    gateway.wait_for_log(0, "a target takes no events").await;
    there.start();
    let reader = Peer::connect(&there.url()).await;
    let mut copies = reader.consume("copies", "", "").await;
    for number in 0..1_200 {
        let copy = reader.next(&mut copies).await;
        assert_eq!(copy.body, json!({"n": number}));
    }
}
