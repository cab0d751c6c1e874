//! What connections make the gateway hold: together it has a bound, `max_memory`.

use serde_json::json;

use super::limits::resident;
use super::{HUB, Peer, error};
use crate::harness::Gateway;

const MEMORY: &str = "max_memory = \"8MiB\"\n";
/// What the process may take beside the payloads that it counts: sockets, tasks, fragments.
const BESIDE: u64 = 8 << 20;

async fn held(gateway: &Gateway) -> f64 {
    gateway.metric("genkan_memory_held_bytes", &[]).await
}

/// Each is far below `max_line`. Who is beyond the bound is told when its line ends, and stays.
#[tokio::test]
async fn half_lines_have_a_bound_together() {
    let gateway = Gateway::start(&format!("{MEMORY}{HUB}")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut callers = Vec::new();
    for n in 0..40 {
        callers.push(Peer::module(&gateway, &format!("caller{n}"), &[]).await);
    }
    let before = resident(&gateway);
    let text = "x".repeat(900_000);
    for caller in &mut callers {
        let half = format!("{{\"type\":3,\"function\":\"m.f\",\"arguments\":{{\"text\":\"{text}");
        caller.write(half).await;
    }
    gateway.wait_for_metric("genkan_memory_refused_total", &[("limit", "process")], 20.0).await;
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < (8 << 20) + BESIDE, "{grown} bytes more");
    // A module with small lines is served meanwhile.
    assert_eq!(m.call("juno.getModuleInfo", json!({})).await["type"], 4);
    let (mut served, mut refused) = (0, 0);
    for caller in &mut callers {
        caller.write("\"},\"requestId\":\"r\"}\n").await;
        // What is let through reaches the callee; what is not, its caller.
        let told = tokio::select! {
            call = m.receive() => { m.answer(&call, json!(1)).await; caller.receive().await }
            told = caller.receive() => told,
        };
        assert_eq!(told["requestId"], "r", "{told}");
        if told["type"] == 4 {
            served += 1;
        } else {
            refused += 1;
            assert_eq!(error(&told), 2, "{told}");
            assert_eq!(told["data"]["kind"], "overloaded", "{told}");
            assert_eq!(told["data"]["outcome"], "not_sent");
            assert!(told["message"].as_str().unwrap().contains("max_memory"), "{told}");
        }
    }
    assert!(served >= 4 && refused >= 20, "{served} served, {refused} refused");
    // All of it is given back, with the connections open.
    crate::harness::eventually("nothing is held any more", async || {
        (held(&gateway).await < 100_000.0).then_some(())
    })
    .await;
    for caller in &mut callers {
        caller.is_served().await;
    }
}

/// An answer that finds no room ends its call, and the module that gave it is told nothing.
#[tokio::test]
async fn an_answer_without_room_ends_its_call() {
    let gateway = Gateway::start(&format!("{MEMORY}{HUB}")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let mut holders = Vec::new();
    let half = format!("{{\"x\":\"{}", "x".repeat(1_000_000));
    for _ in 0..12 {
        let mut holder = Peer::connect(&gateway).await;
        holder.write(&half).await;
        holders.push(holder);
    }
    gateway.wait_for_metric("genkan_memory_refused_total", &[("limit", "process")], 1.0).await;
    caller.request(json!({"type": 3, "function": "m.f"})).await;
    let call = m.receive().await;
    m.answer(&call, json!("x".repeat(900_000))).await;
    let told = caller.receive().await;
    assert_eq!((error(&told), &told["data"]["kind"]), (2, &json!("overloaded")), "{told}");
    assert_eq!(told["data"]["outcome"], "executed");
    m.is_served().await;
}

#[tokio::test]
async fn queues_have_a_bound_together() {
    let gateway = Gateway::start(&format!("{MEMORY}{HUB}")).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let mut deaf = Vec::new();
    for n in 0..12 {
        deaf.push(Peer::module(&gateway, &format!("deaf{n}"), &["f"]).await);
    }
    let before = resident(&gateway);
    let text = "x".repeat(200_000);
    let (mut sent, mut refused) = (0, 0);
    for n in 0..12 {
        // As many as one that does not read is sent, its socket's own buffers among them.
        loop {
            let function = format!("deaf{n}.f");
            let call = json!({"type": 3, "function": function, "arguments": {"text": text}});
            caller.request(call).await;
            match caller.ask_again().await {
                None => sent += 1,
                Some(told) => {
                    assert_eq!(error(&told), 2, "{told}");
                    assert_eq!(told["data"]["kind"], "overloaded", "{told}");
                    assert_eq!(told["data"]["outcome"], "not_sent", "{told}");
                    refused += 1;
                    break;
                }
            }
        }
    }
    assert_eq!(refused, 12);
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < (8 << 20) + BESIDE, "{grown} bytes more after {sent} calls");
    // They read again, and nothing is held.
    drop(caller);
    drop(deaf);
    crate::harness::eventually("nothing is held any more", async || {
        (held(&gateway).await < 100_000.0).then_some(())
    })
    .await;
}

/// Hooks are held once for all of their listeners. Beyond the bound they are not delivered.
#[tokio::test]
async fn hooks_have_a_bound_together() {
    let gateway = Gateway::start(&format!("{MEMORY}{HUB}")).await;
    let mut source = Peer::module(&gateway, "source", &[]).await;
    let mut deaf = Vec::new();
    for n in 0..8 {
        let mut peer = Peer::module(&gateway, &format!("deaf{n}"), &[]).await;
        peer.ask(json!({"type": 5, "hook": format!("source.tick{n}")})).await;
        deaf.push(peer);
    }
    let before = resident(&gateway);
    let text = "x".repeat(200_000);
    for n in 0..8 {
        // What the sockets take, and some five megabytes more.
        for _ in 0..50 {
            let hook = format!("tick{n}");
            let trigger = json!({"type": 7, "hook": hook, "data": {"text": text}});
            assert_eq!(source.ask(trigger).await["type"], 8);
        }
    }
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < (8 << 20) + BESIDE, "{grown} bytes more");
    let line = gateway.wait_for_log(0, "hook not delivered").await;
    assert!(line["why"].as_str().unwrap().contains("max_memory"), "{line}");
    source.is_served().await;
}
