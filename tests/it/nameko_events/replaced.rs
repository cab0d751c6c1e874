//! Upstreams that get other settings while their bridges go, change or wait for a target.

use std::collections::BTreeSet;
use std::time::Duration;

use super::leaving::{is_bound, reload, stuck, waiting};
use super::lifecycle::queues;
use super::{Peer, arrived, bridge, listened};
use crate::harness::{Gateway, RabbitMq, until};

/// The same upstreams, of which the first has another setting.
fn changed(upstreams: &str) -> String {
    let setting = "protocol = \"nameko\"\nmax_reply = \"1MB\"\n";
    upstreams.replacen("protocol = \"nameko\"\n", setting, 1)
}

/// All that comes out of a queue until nothing does for a while.
async fn drained(reader: &Peer, queue: &str, seen: &mut BTreeSet<u64>) {
    let mut consumer = reader.consume(queue, "", "").await;
    while let Some(arrived) = arrived(&mut consumer, Duration::from_secs(2)).await {
        seen.insert(arrived.body.as_u64().expect("a number"));
        let options = lapin::options::BasicAckOptions::default();
        reader.channel.basic_ack(arrived.tag, options).await.expect("acked");
    }
}

#[tokio::test]
async fn a_bridge_changed_together_with_its_upstream_loses_nothing_and_leaves_no_queue() {
    let vhost = RabbitMq::shared().vhost();
    let upstream = vhost.upstream("rabbit");
    let row = |to: &str| bridge("rabbit:orders.created", &format!("rabbit:queue/{to}"), "");
    let gateway = Gateway::start(&format!("{upstream}{}", row("one"))).await;
    listened(&gateway, 1).await;
    let publisher = Peer::connect(&vhost.url()).await;
    let load = tokio::spawn(async move {
        for number in 0..3_000 {
            publisher.publish("orders.events", "created", number.to_string().as_bytes()).await;
        }
    });
    reload(&gateway, &format!("{}{}", changed(&upstream), row("two")));
    listened(&gateway, 2).await;
    reload(&gateway, &format!("{upstream}{}", row("two\", \"rabbit:queue/one")));
    load.await.expect("published");
    until("one queue is left", async || queues(vhost.name()).len() == 1).await;
    gateway.wait_for_log(0, "deleted the queue of a bridge that has gone").await;
    let reader = Peer::connect(&vhost.url()).await;
    let mut seen = BTreeSet::new();
    drained(&reader, "one", &mut seen).await;
    drained(&reader, "two", &mut seen).await;
    assert_eq!(seen.len(), 3_000, "each is somewhere");
}

#[tokio::test]
async fn a_bridge_that_goes_together_with_a_setting_of_its_upstream_takes_its_queue_along() {
    let vhost = RabbitMq::shared().vhost();
    let upstream = vhost.upstream("rabbit");
    let row = bridge("rabbit:orders.created", "rabbit:queue/one", "");
    let gateway = Gateway::start(&format!("{upstream}{row}")).await;
    listened(&gateway, 1).await;
    reload(&gateway, &changed(&upstream));
    gateway.wait_for_log(0, "deleted the queue of a bridge that has gone").await;
    until("it has gone", async || queues(vhost.name()).is_empty()).await;
}

#[tokio::test]
async fn what_waits_for_a_target_that_is_down_goes_over_to_the_upstream_with_other_settings() {
    let (vhost, there) = (RabbitMq::shared().vhost(), RabbitMq::private());
    let (gateway, peer, upstreams, queue) = stuck(&vhost, &there, 700).await;
    let others = bridge("here:orders.created", "here:queue/others", "");
    reload(&gateway, &format!("{upstreams}{others}"));
    listened(&gateway, 2).await;
    until("its queue is unbound", async || !is_bound(vhost.name(), "orders.events", &queue)).await;
    reload(&gateway, &format!("{}{others}", changed(&upstreams)));
    listened(&gateway, 3).await;
    until("what was there waits", async || waiting(vhost.name(), &queue) == 700).await;
    peer.publish("orders.events", "created", b"1000").await;
    there.start();
    let reader = Peer::connect(&there.url()).await;
    let mut copies = reader.consume("copies", "", "").await;
    let mut next = 0;
    while next < 700 {
        let number = reader.next(&mut copies).await.body.as_u64().expect("a number");
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
    gateway.wait_for_log(0, "deleted the queue of a bridge that has gone").await;
    until("it is gone", async || queues(vhost.name()).len() == 1).await;
    assert!(gateway.logged("a bridge that has gone leaves its queue").is_empty());
}

#[tokio::test]
async fn an_upstream_by_another_name_takes_over_and_one_that_goes_takes_its_queues_along() {
    let vhost = RabbitMq::shared().vhost();
    let row =
        |name: &str| bridge(&format!("{name}:orders.created"), &format!("{name}:queue/{name}"), "");
    let config = |name: &str| format!("{}{}", vhost.upstream(name), row(name));
    let gateway = Gateway::start(&config("one")).await;
    listened(&gateway, 1).await;
    let publisher = Peer::connect(&vhost.url()).await;
    let load = tokio::spawn(async move {
        for number in 0..2_000 {
            publisher.publish("orders.events", "created", number.to_string().as_bytes()).await;
        }
    });
    reload(&gateway, &config("two"));
    listened(&gateway, 2).await;
    load.await.expect("published");
    until("one queue is left", async || queues(vhost.name()).len() == 1).await;
    let reader = Peer::connect(&vhost.url()).await;
    let mut seen = BTreeSet::new();
    drained(&reader, "one", &mut seen).await;
    drained(&reader, "two", &mut seen).await;
    assert_eq!(seen.len(), 2_000, "each is somewhere");
    reload(&gateway, "");
    until("no queue is left", async || queues(vhost.name()).is_empty()).await;
}

#[tokio::test]
async fn a_bridge_goes_on_in_order_over_an_upstream_with_other_settings() {
    let vhost = RabbitMq::shared().vhost();
    let upstream = vhost.upstream("rabbit");
    let row = bridge("rabbit:orders.created", "rabbit:queue/one", "");
    let gateway = Gateway::start(&format!("{upstream}{row}")).await;
    listened(&gateway, 1).await;
    let publisher = Peer::connect(&vhost.url()).await;
    let load = tokio::spawn(async move {
        for number in 0..3_000 {
            publisher.publish("orders.events", "created", number.to_string().as_bytes()).await;
        }
    });
    for (turn, upstreams) in [changed(&upstream), upstream.clone()].iter().enumerate() {
        reload(&gateway, &format!("{upstreams}{row}"));
        listened(&gateway, turn + 2).await;
    }
    load.await.expect("published");
    let reader = Peer::connect(&vhost.url()).await;
    let mut copies = reader.consume("one", "", "").await;
    let mut next = 0;
    while next < 3_000 {
        let number = reader.next(&mut copies).await.body.as_u64().expect("a number");
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
}

#[tokio::test]
async fn an_end_does_not_wait_for_what_waits_for_a_target_and_is_kept() {
    let (vhost, there) = (RabbitMq::shared().vhost(), RabbitMq::private());
    let (gateway, _peer, upstreams, queue) = stuck(&vhost, &there, 20).await;
    let row = bridge("here:orders.created", "there:queue/copies", "");
    reload(&gateway, &format!("drain_timeout = \"1h\"\n{upstreams}{row}"));
    gateway.wait_for_log(0, "reloaded: the new routing table is in force").await;
    gateway.terminate();
    gateway.exit_status().await;
    until("nothing is lost", async || waiting(vhost.name(), &queue) == 20).await;
}
