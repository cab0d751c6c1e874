//! Bridges that go, or get another `to`, while something waits in their queues.

use super::lifecycle::queues;
use super::{Peer, bridge, listened};
use crate::harness::{Gateway, RabbitMq, eventually, until};

/// How many messages wait in a queue, also those that somebody has taken and not acked.
pub fn waiting(vhost: &str, queue: &str) -> u64 {
    let found = RabbitMq::shared().get(&format!("queues/{vhost}/{queue}"));
    found["messages"].as_u64().unwrap_or(0)
}

/// Whether a queue is bound to an exchange.
pub fn is_bound(vhost: &str, exchange: &str, queue: &str) -> bool {
    let listed = RabbitMq::shared().get(&format!("exchanges/{vhost}/{exchange}/bindings/source"));
    listed.as_array().into_iter().flatten().any(|it| it["destination"] == queue)
}

/// A bridge to a broker that does not run, and events that wait for it: the gateway, what publishes, and
/// the bridge's queue.
pub async fn stuck(
    vhost: &crate::harness::rabbit::Vhost<'_>,
    there: &RabbitMq,
    events: u64,
) -> (Gateway, Peer, String, String) {
    there.stop();
    let upstreams = format!(
        "{}[upstreams.there]\nprotocol = \"nameko\"\nurl = \"{}\"\n",
        vhost.upstream("here"),
        there.url()
    );
    let row = bridge("here:orders.created", "there:queue/copies", "");
    let gateway = Gateway::start(&format!("{upstreams}{row}")).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    for number in 0..events {
        peer.publish("orders.events", "created", number.to_string().as_bytes()).await;
    }
    gateway.wait_for_log(0, "a target takes no events").await;
    let queue = queues(vhost.name()).pop().expect("a queue");
    (gateway, peer, upstreams, queue)
}

pub fn reload(gateway: &Gateway, config: &str) {
    gateway.write_config(config);
    gateway.hang_up();
}

#[tokio::test]
async fn another_to_under_flow_leaves_no_queue_behind_and_loses_nothing() {
    let vhost = RabbitMq::shared().vhost();
    let upstream = vhost.upstream("rabbit");
    let row = |to: &str| bridge("rabbit:orders.created", &format!("rabbit:queue/{to}"), "");
    let gateway = Gateway::start(&format!("{upstream}{}", row("one"))).await;
    listened(&gateway, 1).await;
    let publisher = Peer::connect(&vhost.url()).await;
    let load = tokio::spawn(async move {
        for number in 0..4_000 {
            publisher.publish("orders.events", "created", number.to_string().as_bytes()).await;
        }
    });
    for (turn, to) in ["two", "one\", \"rabbit:queue/two", "one"].into_iter().enumerate() {
        reload(&gateway, &format!("{upstream}{}", row(to)));
        listened(&gateway, turn + 2).await;
    }
    load.await.expect("published");
    until("one queue is left", async || queues(vhost.name()).len() == 1).await;
    gateway.wait_for_log(0, "deleted the queue of a bridge that has gone").await;
    let reader = Peer::connect(&vhost.url()).await;
    let (mut one, mut two) =
        (reader.consume("one", "", "").await, reader.consume("two", "", "").await);
    let mut seen = std::collections::BTreeSet::new();
    let limit = std::time::Duration::from_secs(2);
    for consumer in [&mut one, &mut two] {
        while let Some(arrived) = super::arrived(consumer, limit).await {
            seen.insert(arrived.body.as_u64().expect("a number"));
            let options = lapin::options::BasicAckOptions::default();
            reader.channel.basic_ack(arrived.tag, options).await.expect("acked");
        }
    }
    assert_eq!(seen.len(), 4_000, "each is somewhere");
}

#[tokio::test]
async fn what_waits_for_a_target_that_is_down_still_reaches_it_after_its_bridge_has_gone() {
    let (vhost, there) = (RabbitMq::shared().vhost(), RabbitMq::private());
    let (gateway, peer, upstreams, queue) = stuck(&vhost, &there, 700).await;
    let row = bridge("here:orders.created", "here:queue/others", "");
    reload(&gateway, &format!("{upstreams}{row}"));
    listened(&gateway, 2).await;
    until("its queue is unbound", async || !is_bound(vhost.name(), "orders.events", &queue)).await;
    peer.publish("orders.events", "created", b"1000").await;
    let mut others = peer.consume("others", "", "").await;
    while peer.next(&mut others).await.body != 1_000 {}
    until("what was there waits", async || waiting(vhost.name(), &queue) == 700).await;
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
    eventually("it is gone", async || (queues(vhost.name()).len() == 1).then_some(())).await;
}

#[tokio::test]
async fn what_still_waits_at_the_end_stays_and_is_told_with_the_mend() {
    let (vhost, there) = (RabbitMq::shared().vhost(), RabbitMq::private());
    let (gateway, _peer, upstreams, queue) = stuck(&vhost, &there, 20).await;
    reload(&gateway, &upstreams);
    until("its queue is unbound", async || !is_bound(vhost.name(), "orders.events", &queue)).await;
    gateway.terminate();
    let line = gateway.wait_for_log(0, "a bridge that has gone leaves its queue").await;
    assert_eq!(line["queue"], queue, "{line}");
    assert!(line["mend"].as_str().is_some_and(|it| it.contains("delete_queue")), "{line}");
    gateway.exit_status().await;
    until("nothing is lost", async || waiting(vhost.name(), &queue) == 20).await;
}

#[tokio::test]
async fn a_bridge_that_comes_back_takes_its_queue_over() {
    let (vhost, there) = (RabbitMq::shared().vhost(), RabbitMq::private());
    let (gateway, peer, upstreams, queue) = stuck(&vhost, &there, 20).await;
    reload(&gateway, &upstreams);
    until("its queue is unbound", async || !is_bound(vhost.name(), "orders.events", &queue)).await;
    let row = bridge("here:orders.created", "there:queue/copies", "");
    reload(&gateway, &format!("{upstreams}{row}"));
    until("it is bound again", async || is_bound(vhost.name(), "orders.events", &queue)).await;
    listened(&gateway, 2).await;
    peer.publish("orders.events", "created", b"20").await;
    there.start();
    let reader = Peer::connect(&there.url()).await;
    let mut copies = reader.consume("copies", "", "").await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 21 {
        seen.insert(reader.next(&mut copies).await.body.as_u64().expect("a number"));
    }
    assert!(gateway.logged("deleted the queue of a bridge that has gone").is_empty());
    assert_eq!(queues(vhost.name()), [queue]);
}

#[tokio::test]
async fn a_queue_is_emptied_and_deleted_though_its_broker_is_killed_meanwhile() {
    let (here, there) = (RabbitMq::private(), RabbitMq::private());
    there.stop();
    let upstreams = format!(
        "[upstreams.here]\nprotocol = \"nameko\"\nurl = \"{}\"\n\
         [upstreams.there]\nprotocol = \"nameko\"\nurl = \"{}\"\n",
        here.url(),
        there.url()
    );
    let row = bridge("here:orders.created", "there:queue/copies", "");
    let gateway = Gateway::start(&format!("{upstreams}{row}")).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&here.url()).await;
    for number in 0..100 {
        peer.publish("orders.events", "created", number.to_string().as_bytes()).await;
    }
    gateway.wait_for_log(0, "a target takes no events").await;
    reload(&gateway, &upstreams);
    let bindings = async || {
        let all = here.get("exchanges/%2f/orders.events/bindings/source");
        all.as_array().map_or(0, Vec::len)
    };
    until("its queue is unbound", async || bindings().await == 0).await;
    here.kill();
    here.start();
    there.start();
    gateway.wait_for_log(0, "deleted the queue of a bridge that has gone").await;
    let reader = Peer::connect(&there.url()).await;
    let mut copies = reader.consume("copies", "", "").await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 100 {
        seen.insert(reader.next(&mut copies).await.body.as_u64().expect("a number"));
    }
    assert_eq!(bindings().await, 0);
}

#[tokio::test]
async fn two_gateways_that_give_a_bridge_up_together_leave_no_queue_behind() {
    let vhost = RabbitMq::shared().vhost();
    let upstream = vhost.upstream("rabbit");
    let row = |to: &str| bridge("rabbit:orders.created", &format!("rabbit:queue/{to}"), "");
    let config = format!("{upstream}{}", row("one"));
    let gateways = [Gateway::start(&config).await, Gateway::start(&config).await];
    for gateway in &gateways {
        listened(gateway, 1).await;
    }
    let publisher = Peer::connect(&vhost.url()).await;
    let load = tokio::spawn(async move {
        for number in 0..2_000 {
            publisher.publish("orders.events", "created", number.to_string().as_bytes()).await;
        }
    });
    for gateway in &gateways {
        reload(gateway, &format!("{upstream}{}", row("two")));
    }
    load.await.expect("published");
    until("one queue is left", async || queues(vhost.name()).len() == 1).await;
}

#[tokio::test]
async fn a_queue_of_another_type_is_left_and_stops_nobody_else() {
    let vhost = RabbitMq::shared().vhost();
    let upstream = vhost.upstream("rabbit");
    let going = bridge("rabbit:orders.created", "rabbit:queue/copies", "");
    let staying = bridge("rabbit:orders.sold", "rabbit:queue/sold", "");
    let config = format!("{upstream}{staying}{going}");
    let gateway = Gateway::start(&format!("{upstream}{going}")).await;
    listened(&gateway, 1).await;
    let queue = queues(vhost.name()).pop().expect("a queue");
    gateway.terminate();
    gateway.exit_status().await;
    let path = format!("queues/{}/{queue}", vhost.name());
    RabbitMq::shared().delete(&path);
    let quorum = serde_json::json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
    RabbitMq::shared().put(&path, &quorum);
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 2).await;
    let line = gateway.wait_for_log(0, "a bridge's queue is a quorum queue").await;
    assert_eq!(line["queue"], queue, "{line}");
    assert!(line["mend"].as_str().is_some_and(|it| it.contains("delivery-limit")), "{line}");
    reload(&gateway, &format!("{upstream}{staying}"));
    let line = gateway.wait_for_log(0, "a bridge that has gone leaves its queue").await;
    assert_eq!((&line["queue"], &line["is_bound"]), (&queue.into(), &false.into()), "{line}");
    let peer = Peer::connect(&vhost.url()).await;
    peer.publish("orders.events", "sold", b"1").await;
    let mut sold = peer.consume("sold", "", "").await;
    assert_eq!(peer.next(&mut sold).await.body, 1);
}
