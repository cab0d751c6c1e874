//! Queues that are deleted, bridges that come and go, gateways that end.

use serde_json::json;

use super::{Peer, bridge, listened};
use crate::events::Listener;
use crate::harness::{Gateway, RabbitMq, eventually};

/// The names of the queues in which a bridge's events wait.
pub fn queues(vhost: &str) -> Vec<String> {
    let listed = RabbitMq::shared().get(&format!("queues/{vhost}"));
    let names = listed.as_array().into_iter().flatten().filter_map(|queue| queue["name"].as_str());
    names.filter(|name| name.starts_with("genkan.bridge-")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_made_again_and_its_bridge_goes_on() {
    let vhost = RabbitMq::shared().vhost();
    let row = bridge("rabbit:orders.created", "rabbit:queue/copies", "");
    let gateway = Gateway::start(&format!("{}{row}", vhost.upstream("rabbit"))).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    let queue = queues(vhost.name()).pop().expect("a queue");
    assert!(queue.starts_with("genkan.bridge-orders.created-"), "{queue}");
    RabbitMq::shared().delete(&format!("queues/{}/{queue}", vhost.name()));
    let line = gateway.wait_for_log(0, "no events are taken now").await;
    assert!(line["reason"].as_str().is_some_and(|it| it.contains("cancelled")), "{line}");
    listened(&gateway, 2).await;
    peer.publish("orders.events", "created", b"1").await;
    let mut copies = peer.consume("copies", "", "").await;
    assert_eq!(peer.next(&mut copies).await.body, 1);
    // So is the queue that events go to.
    RabbitMq::shared().delete(&format!("queues/{}/copies", vhost.name()));
    peer.publish("orders.events", "created", b"2").await;
    let other = Peer::connect(&vhost.url()).await;
    let delivered = [("outcome", "delivered")];
    gateway.wait_for_metric("genkan_events_total", &delivered, 2.0).await;
    let mut copies = other.consume("copies", "", "").await;
    assert_eq!(other.next(&mut copies).await.body, 2);
}

#[tokio::test]
async fn what_is_published_while_the_gateway_is_away_waits_for_it() {
    let vhost = RabbitMq::shared().vhost();
    let row = bridge("rabbit:orders.created", "rabbit:queue/copies", "");
    let config = format!("{}{row}", vhost.upstream("rabbit"));
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    for number in 0..50 {
        peer.publish("orders.events", "created", number.to_string().as_bytes()).await;
    }
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    for number in 50..60 {
        peer.publish("orders.events", "created", number.to_string().as_bytes()).await;
    }
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 1).await;
    let mut copies = peer.consume("copies", "", "").await;
    for number in 0..60 {
        assert_eq!(peer.next(&mut copies).await.body, number, "drained: none lost, none twice");
    }
    assert_eq!(queues(vhost.name()).len(), 1);
}

#[tokio::test]
async fn bridges_come_and_go_by_a_reload_under_load_and_the_others_go_on() {
    let vhost = RabbitMq::shared().vhost();
    let one = bridge("rabbit:orders.created", "rabbit:queue/one", "");
    let two = bridge("rabbit:orders.created", "rabbit:queue/two", "");
    let config = |rows: &str| format!("{}{rows}", vhost.upstream("rabbit"));
    let gateway = Gateway::start(&config(&one)).await;
    listened(&gateway, 1).await;
    let publisher = Peer::connect(&vhost.url()).await;
    let load = tokio::spawn(async move {
        for number in 0..3_000 {
            publisher.publish("orders.events", "created", number.to_string().as_bytes()).await;
        }
    });
    let reload = async |rows: &str, times: usize| {
        gateway.write_config(&config(rows));
        gateway.hang_up();
        eventually("it has reloaded", async || {
            let lines = gateway.logged("reloaded: the new routing table is in force");
            (lines.len() >= times).then_some(())
        })
        .await;
    };
    reload(&format!("{one}{two}"), 1).await;
    listened(&gateway, 2).await;
    let reader = Peer::connect(&vhost.url()).await;
    let mut second = reader.consume("two", "", "").await;
    let first = reader.next(&mut second).await.body.as_u64().expect("a number");
    assert_eq!(reader.next(&mut second).await.body, first + 1);
    // Another key of the row: the bridge begins anew, over the same queue.
    reload(&format!("{one}retries = 9\n"), 2).await;
    load.await.expect("published");
    let mut all = reader.consume("one", "", "").await;
    let mut next = 0;
    while next < 3_000 {
        let number = reader.next(&mut all).await.body.as_u64().expect("a number");
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
}

#[tokio::test]
async fn a_browser_is_told_of_the_gap_where_the_upstream_has_new_settings() {
    let vhost = RabbitMq::shared().vhost();
    let rows = |more: &str| {
        let row = bridge("rabbit:orders.created", "rabbit:queue/copies", "");
        let topic = "[[topics]]\nmatch = \"orders.*\"\nfrom = \"rabbit:orders.*\"\n";
        format!("{}\n{more}{topic}{row}", vhost.upstream("rabbit"))
    };
    let gateway = Gateway::start(&rows("")).await;
    listened(&gateway, 2).await;
    let mut browser = Listener::listen(&gateway, "?topic=orders.created").await;
    gateway.write_config(&rows("max_reply = \"1MB\"\n"));
    gateway.hang_up();
    let gap = browser.next().await.expect("a gap");
    assert_eq!((&*gap.kind, &gap.data["missed"]), ("gap", &json!(null)));
    let peer = Peer::connect(&vhost.url()).await;
    peer.publish("orders.events", "created", b"1").await;
    assert_eq!(browser.event().await.data["data"], 1);
    // What a durable queue keeps is not missed.
    let gap = [("bridge", "rabbit:orders.created"), ("outcome", "gap")];
    assert_eq!(gateway.metric("genkan_events_total", &gap).await, 0.0);
}

#[tokio::test]
async fn a_browser_is_told_of_the_gap_where_the_connection_was_lost() {
    let node = RabbitMq::private();
    let config = format!(
        "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{}\"\n\
         [[topics]]\nmatch = \"orders.*\"\nfrom = \"rabbit:orders.*\"\n",
        node.url()
    );
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 1).await;
    let mut browser = Listener::listen(&gateway, "?topic=orders.created").await;
    let peer = Peer::connect(&node.url()).await;
    peer.publish("orders.events", "created", b"1").await;
    assert_eq!(browser.event().await.data["data"], 1);
    node.kill();
    let gap = browser.next().await.expect("a gap");
    assert_eq!((&*gap.kind, &gap.data["missed"]), ("gap", &json!(null)));
    node.start();
    listened(&gateway, 2).await;
    let peer = Peer::connect(&node.url()).await;
    peer.publish("orders.events", "created", b"2").await;
    assert_eq!(browser.event().await.data["data"], 2);
}

#[tokio::test]
async fn an_alarm_holds_events_back_and_loses_none() {
    let (here, there) = (RabbitMq::shared().vhost(), RabbitMq::private());
    let config = format!(
        "{}[upstreams.there]\nprotocol = \"nameko\"\nurl = \"{}\"\n{}",
        here.upstream("here"),
        there.url(),
        bridge("here:orders.created", "there:queue/copies", "")
    );
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 1).await;
    let publisher = Peer::connect(&here.url()).await;
    publisher.publish("orders.events", "created", b"0").await;
    gateway.wait_for_metric("genkan_events_total", &[("outcome", "delivered")], 1.0).await;
    there.control(&["set_vm_memory_high_watermark", "0"]);
    for number in 1..20 {
        publisher.publish("orders.events", "created", number.to_string().as_bytes()).await;
    }
    let line = gateway.wait_for_log(0, "a target takes no events").await;
    assert!(line["reason"].as_str().is_some_and(|it| it.contains("memory")), "{line}");
    there.control(&["set_vm_memory_high_watermark", "0.4"]);
    let reader = Peer::connect(&there.url()).await;
    let mut copies = reader.consume("copies", "", "").await;
    let mut next = 0;
    while next < 20 {
        let number = reader.next(&mut copies).await.body.as_u64().expect("a number");
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
}

#[tokio::test]
async fn a_bridge_that_goes_takes_its_queue_along_unless_somebody_reads_it() {
    let vhost = RabbitMq::shared().vhost();
    let upstream = vhost.upstream("rabbit");
    let row = bridge("rabbit:orders.created", "rabbit:queue/copies", "");
    let gateway = Gateway::start(&format!("{upstream}{row}")).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    peer.publish("orders.events", "created", b"1").await;
    let mut copies = peer.consume("copies", "", "").await;
    assert_eq!(peer.next(&mut copies).await.body, 1);
    let reload = async |rows: &str| {
        gateway.write_config(&format!("{upstream}{rows}"));
        gateway.hang_up();
    };
    reload("").await;
    gateway.wait_for_log(0, "deleted the queue of a bridge that has gone").await;
    eventually("it has gone", async || queues(vhost.name()).is_empty().then_some(())).await;
    // The next time another gateway reads it too.
    reload(&row).await;
    listened(&gateway, 2).await;
    let other = Gateway::start(&format!("{upstream}{row}")).await;
    listened(&other, 1).await;
    reload("").await;
    let line = gateway.wait_for_log(0, "a bridge that has gone leaves its queue").await;
    assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("delete_queue")), "{line}");
    peer.publish("orders.events", "created", b"2").await;
    assert_eq!(peer.next(&mut copies).await.body, 2);
}
