//! Replies that are larger than the memory that there is for them: lapin gathers each one whole, so
//! they lose their bodies before it sees them.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, NamekoResponder, RabbitMq, Seen, as_fault, eventually};

const MIB: usize = 1 << 20;
/// More than a generation's connections take for their buffers, and the replies for which there is room.
const ROOM: usize = 40 * MIB;

fn answer(seen: &Seen) -> Vec<Answer> {
    let size = match seen.method.as_str() {
        "huge" => 60 * MIB,
        "large" => MIB,
        _ => 2,
    };
    Answer::new(format!(r#"{{"result": "{}"}}"#, "x".repeat(size)))
}

/// The most memory that the gateway has ever had.
fn peak(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

async fn gateway(vhost: &crate::harness::rabbit::Vhost<'_>, max_reply: &str) -> Gateway {
    let limit = format!("max_reply = \"{max_reply}\"\nprotocol =");
    let config = vhost.config().replace("protocol =", &limit);
    let gateway = Gateway::ready(&format!("max_memory = \"16MiB\"\n{config}")).await;
    // The buffers of its connections have been used.
    for _ in 0..20 {
        assert_eq!(gateway.result("orders.x", json!([])).await, "xx");
    }
    gateway
}

/// Calls that each get a reply for which there is hardly room; meanwhile the gateway lives.
async fn calls(gateway: &Gateway, method: &str, count: usize) -> Vec<Value> {
    let calls = join_all((0..count).map(|_| gateway.rpc(method, json!([]))));
    let living = async {
        loop {
            assert_eq!(gateway.page("/healthz").await.status, 200);
            assert_eq!(gateway.result("orders.x", json!([])).await, "xx");
        }
    };
    tokio::select! {
        answers = calls => answers,
        () = living => unreachable!(),
    }
}

#[tokio::test]
async fn one_that_exceeds_max_memory_is_never_held() {
    let vhost = RabbitMq::shared().vhost();
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = gateway(&vhost, "1GiB").await;
    let before = peak(&gateway);
    for answer in calls(&gateway, "orders.huge", 3).await {
        as_fault(&answer).is("too_large", "executed");
    }
    let grown = peak(&gateway) - before;
    println!("three replies of 60 MiB: {} KiB more", grown / 1024);
    assert!(grown < ROOM, "{grown} bytes");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn one_that_exceeds_max_reply_is_never_held() {
    let vhost = RabbitMq::shared().vhost();
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = gateway(&vhost, "2MiB").await;
    let before = peak(&gateway);
    for answer in calls(&gateway, "orders.huge", 3).await {
        as_fault(&answer).is("too_large", "executed");
    }
    let grown = peak(&gateway) - before;
    assert!(grown < ROOM, "{grown} bytes");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn many_at_once_are_held_as_far_as_there_is_room() {
    let vhost = RabbitMq::shared().vhost();
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = gateway(&vhost, "2MiB").await;
    let before = peak(&gateway);
    let mut refused = 0;
    for answer in calls(&gateway, "orders.large", 60).await {
        if answer["result"].as_str().is_some_and(|text| text.len() == MIB) {
            continue;
        }
        as_fault(&answer).is("overloaded", "executed");
        refused += 1;
    }
    let grown = peak(&gateway) - before;
    println!("60 replies of 1 MiB: {} KiB more, {refused} refused", grown / 1024);
    assert!(grown < ROOM, "{grown} bytes");
    // All of it is given back.
    for _ in 0..20 {
        let result = eventually("there is room again", async || {
            gateway.rpc("orders.large", json!([])).await.get("result").cloned()
        });
        assert_eq!(result.await.as_str().map(str::len), Some(MIB));
    }
}
