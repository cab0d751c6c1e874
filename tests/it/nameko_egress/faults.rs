//! What happens when the broker is down, refuses, blocks, dies, and comes back.

use std::time::Duration;

use futures_util::future::join_all;
use genkan::call::Params;
use genkan::fault::{FaultKind, Outcome};
use genkan::upstream::Readiness;
use lapin::ExchangeKind;
use lapin::message::Delivery;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::FieldTable;

use super::world::{Answer, Service, World, kind_and_outcome};
use crate::harness::rabbit::PASSWORD;
use crate::harness::{RabbitMq, until};

const NOT_SENT: (FaultKind, Outcome) = (FaultKind::Unavailable, Outcome::NotSent);

fn not_ready(world: &World, expected: &str) -> bool {
    match world.linked.upstream.readiness() {
        Readiness::NotReady(reason) => {
            assert!(!reason.contains("hunter2") && !reason.contains("127.0.0.1"), "{reason}");
            reason.contains(expected)
        }
        Readiness::Ready => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_is_named_and_tried_again() {
    let url = RabbitMq::shared().url();
    let refusals = [
        (url.replace(PASSWORD, "hunter2"), "the password"),
        (url.replace("%2f", "nowhere"), "virtual host"),
    ];
    for (url, reason) in refusals {
        let world = World::not_waiting(&url, "");
        until(reason, async || not_ready(&world, reason)).await;
        assert_eq!(kind_and_outcome(world.call("a", "b", Params::None).await), NOT_SENT);
        assert_eq!(kind_and_outcome(world.notify("a", "b").await), NOT_SENT);
        assert_eq!(world.linked.metric("genkan_upstream_up"), 0.0);
        assert!(world.linked.tasks.end(Duration::from_secs(10)).await, "it ends while it tries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_of_another_type_is_named_and_its_removal_noticed() {
    let helper = World::new(RabbitMq::shared(), "").await;
    let connection = helper.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let exchange = format!("direct-{:x}", fastrand::u64(..));
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default());
    let declared =
        channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Direct, options, none);
    declared.await.unwrap();
    let world = World::on_exchange(&RabbitMq::shared().url(), &exchange);
    until("named", async || not_ready(&world, "another type")).await;
    channel
        .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    world.linked.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_is_made_again() {
    let world = World::new(RabbitMq::shared(), "").await;
    let channel = world.connect().await.create_channel().await.unwrap();
    let options = ExchangeDeleteOptions::default();
    channel.exchange_delete(world.exchange.as_str().into(), options).await.unwrap();
    let lost = kind_and_outcome(world.notify("missing", "m").await);
    assert_eq!(lost.0, FaultKind::Unavailable);
    until("made again", async || {
        kind_and_outcome(world.notify("missing", "m").await).0 == FaultKind::UnknownService
    })
    .await;
    assert_eq!(world.linked.metric("genkan_upstream_reconnects_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_holds_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://127.0.0.1:{}/", silent.local_addr().unwrap().port());
    let world = World::not_waiting(&url, "connect_timeout = \"100ms\"");
    let (mut peer, _) = silent.accept().await.unwrap();
    // Genkan hangs up by itself: the read ends.
    let mut nowhere = tokio::io::sink();
    let hung_up = tokio::io::copy(&mut peer, &mut nowhere);
    tokio::time::timeout(Duration::from_secs(20), hung_up).await.unwrap().ok();
    assert!(not_ready(&world, "no connection within"), "{:?}", world.linked.upstream.readiness());
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_calls_and_connections() {
    let world = World::new(RabbitMq::shared(), "").await;
    let service = Service::start(&world, hang_or_serve).await;
    // The next one goes out without a probe before it.
    world.call(&service.name, "serve", Params::None).await.unwrap();
    let call = world.call(&service.name, "hang", Params::None);
    let end = async {
        all_sent(&world, &service.name).await;
        world.linked.tasks.shutdown().cancel();
    };
    let (fault, ()) = tokio::join!(call, end);
    assert_eq!(kind_and_outcome(fault), (FaultKind::Unavailable, Outcome::Unknown));
    service.stop().await;
    assert!(world.linked.tasks.end(Duration::from_secs(10)).await);
}

fn hang_or_serve(request: &Delivery) -> Vec<Answer> {
    if request.routing_key.as_str().ends_with(".hang") {
        Vec::new()
    } else {
        Answer::body(r#"{"result": "served"}"#)
    }
}

/// Whatever was sent before has reached the broker once a notification has been confirmed.
async fn all_sent(world: &World, service: &str) {
    world.notify(service, "after").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_ends_what_is_pending_at_once_and_traffic_resumes_by_itself() {
    let rabbit = RabbitMq::private();
    let world = World::new(&rabbit, "").await;
    let service = Service::start(&world, hang_or_serve).await;
    // The next ones go out without a probe before them.
    world.call(&service.name, "serve", Params::None).await.unwrap();
    let calls = join_all((0..50).map(|_| world.call(&service.name, "hang", Params::None)));
    let crash = async {
        all_sent(&world, &service.name).await;
        tokio::task::block_in_place(|| rabbit.kill());
    };
    let (faults, ()) = tokio::join!(calls, crash);
    for fault in faults {
        assert_eq!(kind_and_outcome(fault), (FaultKind::Unavailable, Outcome::Unknown));
    }
    assert_eq!(kind_and_outcome(world.call(&service.name, "x", Params::None).await), NOT_SENT);
    assert_eq!(kind_and_outcome(world.notify(&service.name, "x").await), NOT_SENT);
    assert_eq!(world.linked.metric("genkan_upstream_up"), 0.0);

    tokio::task::block_in_place(|| rabbit.start());
    world.linked.ready().await;
    let back =
        Service::serve(&world, &service.name, |_| Answer::body(r#"{"result": "back"}"#)).await;
    until("served again", async || {
        let reply = world.call(&back.name, "x", Params::None).await;
        reply.is_ok_and(|reply| reply.payload.as_str() == r#""back""#)
    })
    .await;
    assert_eq!(world.linked.metric("genkan_upstream_up"), 1.0);
    assert_eq!(world.linked.metric("genkan_upstream_reconnects_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_at_start_is_waited_for() {
    let rabbit = RabbitMq::private();
    tokio::task::block_in_place(|| rabbit.kill());
    let world = World::not_waiting(&rabbit.url(), "");
    assert_eq!(kind_and_outcome(world.call("a", "b", Params::None).await), NOT_SENT);
    until("refused", async || not_ready(&world, "refused")).await;
    tokio::task::block_in_place(|| rabbit.start());
    world.linked.ready().await;
    assert_eq!(world.linked.metric("genkan_upstream_reconnects_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_blocks_is_unavailable_at_once_until_it_takes_messages_again() {
    let rabbit = RabbitMq::private();
    let world = World::new(&rabbit, "").await;
    let service = Service::start(&world, |_| Answer::body(r#"{"result": 1}"#)).await;
    world.call(&service.name, "x", Params::None).await.unwrap();
    let watermark = |to: &str| {
        tokio::task::block_in_place(|| rabbit.control(&["set_vm_memory_high_watermark", to]))
    };
    watermark("0");
    // RabbitMQ says so only when it is sent the next message: which does not wait for its deadline.
    until("blocked", async || {
        let Err(fault) = world.call(&service.name, "x", Params::None).await else { return false };
        assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Unavailable, Outcome::Unknown));
        true
    })
    .await;
    assert_ne!(world.linked.upstream.readiness(), Readiness::Ready);
    assert_eq!(kind_and_outcome(world.call(&service.name, "x", Params::None).await), NOT_SENT);
    assert_eq!(kind_and_outcome(world.notify(&service.name, "x").await), NOT_SENT);
    assert!(not_ready(&world, "memory"));
    until("shown", async || world.linked.metric("genkan_upstream_up") == 0.0).await;
    watermark("0.4");
    world.linked.ready().await;
    world.call(&service.name, "x", Params::None).await.unwrap();
    until("shown", async || world.linked.metric("genkan_upstream_up") == 1.0).await;
    assert_eq!(world.linked.metric("genkan_upstream_reconnects_total"), 0.0);
}
