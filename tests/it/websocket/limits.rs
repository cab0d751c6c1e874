//! What one socket may take of the gateway.

use std::time::Duration;

use crate::harness::websocket::{PING, PONG, TEXT, WebSocket, frame};
use crate::harness::{Echo, as_fault, eventually};

fn call(id: usize, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"echo.{method}","params":[{id}]}}"#)
}

#[tokio::test]
async fn calls_beyond_max_in_flight_wait_for_the_first_ones() {
    let echo = Echo::with("[http.websocket]\nmax_in_flight = 2").await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    for (id, method) in [(1, "slow"), (2, "slow"), (3, "third")] {
        socket.say(call(id, method)).await;
    }
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 2.0).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(socket.json().await["id"].as_u64().expect("an id"));
    }
    assert_eq!(ids[2], 3, "{ids:?}");
    assert_eq!(echo.called(), ["slow", "slow", "third"]);
}

#[tokio::test]
async fn notifications_take_places_too() {
    let echo = Echo::with("[http.websocket]\nmax_in_flight = 1").await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let note = r#"{"jsonrpc":"2.0","method":"echo.note","params":[1]}"#;
    for _ in 0..20 {
        socket.say(note).await;
    }
    assert_eq!(socket.ask(call(1, "x")).await["result"], 1);
    eventually("all have run", async || (echo.called().len() == 21).then_some(())).await;
}

#[tokio::test]
async fn half_a_message_and_silence_end_the_socket() {
    let echo = Echo::with("[http]\nread_timeout = \"300ms\"").await;
    let whole = frame(TEXT, call(1, "x").as_bytes());
    let in_pieces = frame(0x01, b"{");
    let after_another = [&whole[..], &whole[..9]].concat();
    for half in [&whole[..1], &whole[..9], &in_pieces[..], &after_another[..]] {
        let mut socket = WebSocket::open(&echo.gateway.http).await;
        socket.0.send(half).await;
        if half.len() > whole.len() {
            assert_eq!(socket.json().await["result"], 1);
        }
        let (code, reason) = socket.closed().await;
        assert_eq!((code, reason.as_str()), (1008, "a message did not arrive within 300ms"));
    }
}

#[tokio::test]
async fn a_quiet_peer_is_pinged_and_cut_if_it_does_not_answer() {
    let echo = Echo::with("[http.websocket]\nping = \"200ms\"").await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    for _ in 0..3 {
        let ping = socket.receive().await.expect("a ping");
        assert_eq!(ping.first, PING);
        socket.send(PONG, ping.payload).await;
    }
    assert_eq!(socket.receive().await.expect("a ping").first, PING);
    assert!(socket.0.is_closed_within(Duration::from_secs(10)).await, "it is cut");
}

#[tokio::test]
async fn a_socket_that_nobody_uses_is_closed() {
    let echo = Echo::with("[http.websocket]\nidle_timeout = \"600ms\"").await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    assert_eq!(socket.ask(call(1, "later")).await["result"], 1, "a call may take its time");
    // Pings alone are no use.
    socket.send(PING, b"").await;
    assert_eq!(socket.receive().await.expect("a pong").first, PONG);
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1001, "idle for too long"));
}

#[tokio::test]
async fn a_socket_that_never_reads_holds_no_call_up_and_is_cut() {
    let echo = Echo::with("[http]\nwrite_timeout = \"2s\"").await;
    let mut deaf = WebSocket::open_small(&echo.gateway.http).await;
    let mut other = WebSocket::open(&echo.gateway.http).await;
    // As many as it takes until nothing of it is read any more.
    let asked = async {
        for id in 0.. {
            let sent = deaf.0.try_send(&frame(TEXT, call(id, "large").as_bytes())).await;
            if sent.is_err() {
                return id;
            }
        }
        unreachable!("it is cut")
    };
    let (asked, ()) = tokio::join!(asked, async {
        for id in 0..50 {
            assert_eq!(other.ask(call(id, "x")).await["id"], id);
        }
    });
    assert!(asked > 10, "{asked}");
    let in_flight = [("upstream", "nats")];
    eventually("nothing of it is left", async || {
        let calls = echo.gateway.metric("genkan_calls_in_flight", &in_flight).await;
        let bytes = echo.gateway.metric("genkan_memory_held_bytes", &[]).await;
        (calls == 0.0 && bytes == 0.0).then_some(())
    })
    .await;
    // Of what it asked, the gateway took what had a place.
    let ran = echo.called().iter().filter(|method| *method == "large").count();
    assert!(ran < asked, "{ran} of {asked}");
    assert_eq!(other.ask(call(60, "x")).await["id"], 60);
}

#[tokio::test]
async fn half_messages_of_many_sockets_stay_within_max_memory() {
    let echo = Echo::with(
        "max_memory = \"2MiB\"\n[http]\nmax_body = \"256KiB\"\n[hub]\nmax_line = \"256KiB\"\n",
    )
    .await;
    let half = &frame(TEXT, &vec![b' '; 256 * 1024])[..200 * 1024];
    let mut sockets = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut socket = WebSocket::open(&echo.gateway.http).await;
        // Whoever has no place is told so, and may be cut while it still sends.
        drop(socket.0.try_send(half).await);
        sockets.push(socket);
    }
    let held = echo.gateway.metric("genkan_memory_held_bytes", &[]).await;
    assert!(held <= f64::from(2 << 20), "{held}");
    for socket in &mut sockets[15..] {
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 1013, "{reason}");
        assert!(reason.contains("max_memory"), "{reason}");
        refused += 1;
    }
    assert_eq!(refused, 5);
    drop(sockets);
    eventually("all of it is given back", async || {
        (echo.gateway.metric("genkan_memory_held_bytes", &[]).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn idle_sockets_cost_next_to_nothing() {
    const SOCKETS: usize = 1_000;
    const EACH: f64 = 12.0 * 1024.0;
    let echo = Echo::start().await;
    let resident = async || echo.gateway.metric("process_resident_memory_bytes", &[]).await;
    // What a first one takes, all have.
    WebSocket::open(&echo.gateway.http).await.ask(call(0, "large")).await;
    let before = resident().await;
    let origin = format!("http://{}", echo.gateway.http);
    let headers = [("Origin", &*origin), ("Host", &*echo.gateway.http), ("User-Agent", "browser")];
    let mut sockets = Vec::new();
    for id in 0..SOCKETS {
        let mut socket = WebSocket::open_with(&echo.gateway.http, "/api", &headers).await;
        socket.ask(call(id, "large")).await;
        sockets.push(socket);
    }
    let each = (resident().await - before) / SOCKETS as f64;
    assert!(each <= EACH, "{each} bytes each");
}

#[tokio::test]
async fn an_answer_without_a_place_is_a_fault() {
    let limits =
        "max_memory = \"128KiB\"\n[http]\nmax_body = \"16KiB\"\n[hub]\nmax_line = \"16KiB\"\n";
    let echo = Echo::with(limits).await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let answer = socket.ask(call(1, "large")).await;
    let fault = as_fault(&answer);
    fault.is("too_large", "executed");
    assert_eq!(socket.ask(call(2, "x")).await["result"], 2, "the socket goes on");
}
