//! Limits, and connections that behave badly.

use serde_json::json;

use super::{HUB, Peer, address, error};
use crate::harness::{Gateway, eventually};

#[tokio::test]
async fn each_limit_has_an_error_and_keeps_the_connection() {
    let gateway = Gateway::start(&format!(
        "{HUB}max_functions = 2\nmax_hooks = 2\nmax_calls = 3\nmax_modules = 2\n"
    ))
    .await;
    let mut m = Peer::module(&gateway, "m", &["a", "b"]).await;
    let answer = m.ask(json!({"type": 9, "function": "c"})).await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (0, &json!("too_large")));
    assert_eq!(m.ask(json!({"type": 9, "function": "a"})).await["type"], 10);
    for hook in ["x.a", "x.b"] {
        assert_eq!(m.ask(json!({"type": 5, "hook": hook})).await["type"], 6);
    }
    assert_eq!(error(&m.ask(json!({"type": 5, "hook": "x.c"})).await), 0);
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    for _ in 0..3 {
        caller.request(json!({"type": 3, "function": "m.a"})).await;
    }
    let answer = caller.ask(json!({"type": 3, "function": "m.a"})).await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (2, &json!("overloaded")));
    gateway.fault("m.a", json!({})).await.is("overloaded", "not_sent");
    let mut third = Peer::connect(&gateway).await;
    assert_eq!(error(&third.register("third", "1.0.0", json!({})).await), 2);
    drop(caller);
    eventually("there is room again", async || {
        let page = gateway.page("/hub/modules").await.json();
        (page["modules"].as_array()?.len() == 1).then_some(())
    })
    .await;
    assert_eq!(third.register("third", "1.0.0", json!({})).await["type"], 2);
    m.is_served_after_calls(3).await;
}

/// What was called is known, and so its row.
#[tokio::test]
async fn calls_over_the_limit_are_counted_and_logged_as_what_they_are() {
    let row = "[[routes]]\nmatch = \"m.*\"\nupstream = \"hub\"\n";
    let gateway = Gateway::start(&format!("{HUB}max_calls = 1\n{row}")).await;
    let _m = Peer::module(&gateway, "m", &["a"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "m.a"})).await;
    let answer = caller.ask(json!({"type": 3, "function": "m.a"})).await;
    assert_eq!(answer["data"]["kind"], "overloaded", "{answer}");
    let answer = caller
        .ask(json!({"type": 3, "function": "caller.b", "meta": {"idempotencyKey": ""}}))
        .await;
    assert_eq!(answer["data"]["kind"], "overloaded", "{answer}");
    let mut stranger = Peer::connect(&gateway).await;
    assert_eq!(error(&stranger.call("m.a", json!({})).await), 3);
    let told = caller.call("nonsense", json!({})).await;
    assert_eq!(error(&told), 5);
    for (route, outcome) in [
        ("m.*", "overloaded"),
        ("*", "overloaded"),
        ("m.*", "access_denied"),
        ("none", "unknown_method"),
    ] {
        let labels = [("ingress", "hub"), ("route", route), ("outcome", outcome)];
        assert_eq!(gateway.metric("genkan_calls_total", &labels).await, 1.0, "{labels:?}");
    }
    let lines = gateway.logged("call failed");
    let seen: Vec<_> = lines.iter().map(|line| (&line["call"], &line["route"])).collect();
    let expected = [("m.a", "m.*"), ("caller.b", "*"), ("m.a", "m.*"), ("", "none")];
    let expected = expected.map(|(call, route)| (json!(call), json!(route)));
    assert_eq!(seen, expected.each_ref().map(|(call, route)| (call, route)));
    assert!(lines.iter().all(|line| line["address"] == "127.0.0.1"), "{lines:?}");
}

impl Peer {
    async fn is_served_after_calls(&mut self, calls: usize) {
        for _ in 0..calls {
            assert_eq!(self.receive().await["type"], 3);
        }
        self.is_served().await;
    }
}

#[tokio::test]
async fn a_million_functions() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &[]).await;
    let before = resident(&gateway);
    let (mut accepted, mut refused) = (0, 0);
    for batch in 0..50 {
        let lines: String = (0..20_000)
            .map(|n| format!("{{\"type\":9,\"requestId\":\"r\",\"function\":\"f{batch}_{n}\"}}\n"))
            .collect();
        let (mut written, bytes) = (0, lines.as_bytes());
        // Reads while it writes: whoever does not is disconnected.
        while written < bytes.len() {
            let end = (written + 100_000).min(bytes.len());
            m.write(&bytes[written..end]).await;
            let whole = bytes[written..end].iter().filter(|byte| **byte == b'\n').count();
            written = end;
            for _ in 0..whole {
                match m.receive().await["type"].as_i64() {
                    Some(10) => accepted += 1,
                    _ => refused += 1,
                }
            }
        }
    }
    assert_eq!((accepted, refused), (1_000, 999_000));
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more");
}

#[tokio::test]
async fn a_slow_listener_is_disconnected_and_delays_nobody() {
    let gateway = Gateway::start(&format!("{HUB}max_queue = \"2MiB\"\n")).await;
    let mut source = Peer::module(&gateway, "source", &[]).await;
    let mut quick = Peer::module(&gateway, "quick", &[]).await;
    let mut slow = Peer::module(&gateway, "slow", &["f"]).await;
    for peer in [&mut quick, &mut slow] {
        assert_eq!(peer.ask(json!({"type": 5, "hook": "source.tick"})).await["type"], 6);
    }
    let text = "x".repeat(50_000);
    for n in 0..400 {
        // Nothing is sent before all that was has come.
        source.ask(json!({"type": 7, "hook": "tick", "data": {"n": n, "text": text}})).await;
        assert_eq!(quick.receive().await["data"]["n"], n);
    }
    gateway.wait_for_metric("genkan_hub_disconnects_total", &[("reason", "slow")], 1.0).await;
    let line = gateway.wait_for_log(0, "disconnected: the module does not read").await;
    assert_eq!((&line["module"], &line["limit"]), (&json!("slow"), &json!("2MiB")));
    // A call to it meanwhile is no stuck call.
    gateway.fault("slow.f", json!({})).await.is("unknown_service", "not_sent");
}

/// Its callers are told at once, and it keeps its connection: it may be slow for a while.
#[tokio::test]
async fn a_callee_that_does_not_read_gets_no_more_calls() {
    let gateway = Gateway::start(&format!("{HUB}max_queue = \"1MiB\"\n")).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let mut slow = Peer::module(&gateway, "slow", &["f"]).await;
    let text = "x".repeat(50_000);
    let (mut sent, mut refused) = (0, None);
    while refused.is_none() {
        let call = json!({"type": 3, "function": "slow.f", "arguments": {"text": text}});
        caller.request(call).await;
        refused = caller.ask_again().await;
        sent += 1;
        assert!(sent < 2_000, "it was never refused");
    }
    let refused = refused.unwrap();
    assert_eq!((error(&refused), &refused["data"]["kind"]), (2, &json!("overloaded")));
    assert_eq!(refused["data"]["outcome"], "not_sent");
    gateway.fault("slow.f", json!({})).await.is("overloaded", "not_sent");
    // It reads again, and is called again.
    let mut calls = Vec::new();
    for _ in 1..sent {
        calls.push(slow.receive().await);
    }
    for call in calls {
        slow.answer(&call, json!(1)).await;
        assert_eq!(caller.receive().await["data"], 1);
    }
    caller.request(json!({"type": 3, "function": "slow.f"})).await;
    assert_eq!(slow.receive().await["type"], 3);
    assert_eq!(gateway.metric("genkan_hub_disconnects_total", &[]).await, 0.0);
}

impl Peer {
    /// Asks something that is answered at once; what came before that answer, if anything did.
    pub async fn ask_again(&mut self) -> Option<serde_json::Value> {
        let id = self.request(json!({"type": 77})).await;
        let first = self.receive().await;
        if first["requestId"] == json!(id) {
            return None;
        }
        assert_eq!(self.receive().await["requestId"], json!(id));
        Some(first)
    }
}

#[tokio::test]
async fn thousands_of_connections_leave_nothing_behind() {
    let gateway = Gateway::start(HUB).await;
    let at = address(&gateway).await;
    let mut stays = Peer::module(&gateway, "stays", &["f"]).await;
    let churn = async |rounds: usize| {
        for round in 0..rounds {
            let mut peers = Vec::new();
            for n in 0..100 {
                let mut peer = Peer::tcp(&at).await;
                let id = format!("m{round}-{n}");
                let register =
                    json!({"type": 1, "requestId": "r", "moduleId": id, "version": "1.0.0"});
                let declare = json!({"type": 9, "requestId": "d", "function": "f"});
                let call = json!({"type": 3, "requestId": "c", "function": "stays.f"});
                peer.write(format!("{register}\n{declare}\n{call}\nhalf a li")).await;
                peers.push(peer);
            }
        }
    };
    // The callee answers nobody: its callers go first.
    let reading = async {
        for _ in 0..2_000 {
            assert_eq!(stays.receive().await["type"], 3);
        }
    };
    tokio::join!(churn(20), reading);
    settled(&gateway).await;
    let before = resident(&gateway);
    let reading = async {
        for _ in 0..10_000 {
            assert_eq!(stays.receive().await["type"], 3);
        }
    };
    tokio::join!(churn(100), reading);
    settled(&gateway).await;
    let after = resident(&gateway);
    assert!(after <= before + before / 10, "{before} bytes before, {after} after");
    assert_eq!(gateway.metric("genkan_calls_in_flight", &[("upstream", "hub")]).await, 0.0);
    stays.is_served().await;
}

#[tokio::test]
async fn whoever_registers_and_vanishes_leaves_no_stuck_call() {
    let gateway = Gateway::start(HUB).await;
    let at = address(&gateway).await;
    let mut caller = Peer::module(&gateway, "caller", &["f"]).await;
    for n in 0..50 {
        let stream = tokio::net::TcpStream::connect(&at).await.unwrap();
        // With a reset instead of an end, every other time.
        if n % 2 == 0 {
            stream.set_zero_linger().unwrap();
        }
        let mut peer = Peer::over(stream);
        let register = json!({"type": 1, "requestId": "r", "moduleId": "v", "version": "1.0.0"});
        let declare = json!({"type": 9, "requestId": "d", "function": "f"});
        let call = json!({"type": 3, "requestId": "c", "function": "caller.f"});
        peer.write(format!("{register}\n{declare}\n{call}\n")).await;
        for _ in 0..3 {
            peer.receive().await;
        }
        let called = caller.receive().await;
        let id = caller.request(json!({"type": 3, "function": "v.f"})).await;
        assert_eq!(peer.receive().await["type"], 3);
        drop(peer);
        let told = caller.receive().await;
        assert_eq!((error(&told), &told["requestId"]), (4, &json!(id)), "{told}");
        // Its own call has nobody to be answered to.
        caller.answer(&called, json!(1)).await;
        gateway.wait_for_modules(1).await;
    }
    caller.is_served().await;
    assert_eq!(gateway.metric("genkan_calls_in_flight", &[("upstream", "hub")]).await, 0.0);
    let cancelled = [("ingress", "hub"), ("outcome", "cancelled")];
    assert_eq!(gateway.metric("genkan_calls_total", &cancelled).await, 50.0);
}

async fn settled(gateway: &Gateway) {
    eventually("all have gone", async || {
        let page = gateway.page("/hub/modules").await.json();
        (page["active"] == 1 && page["unregistered"] == 0).then_some(())
    })
    .await;
}

/// The resident memory of the gateway, in bytes.
pub fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
