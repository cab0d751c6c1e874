//! Connections that get nowhere: without a module, with half a line, without reading.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{HUB, Peer, address, error};
use crate::harness::Gateway;

#[tokio::test]
async fn a_connection_without_a_module_is_ended() {
    let gateway = Gateway::start(&format!("{HUB}register_timeout = \"300ms\"\n")).await;
    let mut quiet = Peer::module(&gateway, "quiet", &["f"]).await;
    let mut waiting = Peer::connect(&gateway).await;
    assert_eq!(waiting.register("waiting", "1.0.0", json!({"none": "*"})).await["type"], 2);
    let started = Instant::now();
    let mut nobody = Peer::connect(&gateway).await;
    // To talk is not to register.
    nobody.is_served().await;
    let last = nobody.receive().await;
    assert_eq!((error(&last), &last["requestId"]), (2, &json!("undefined")));
    assert_eq!(last["data"]["kind"], "timeout");
    assert!(last["message"].as_str().unwrap().contains("register_timeout"), "{last}");
    assert_eq!(nobody.next().await, None);
    assert!(started.elapsed() >= Duration::from_millis(290), "{:?}", started.elapsed());
    let ended = [("reason", "unregistered")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &ended, 1.0).await;
    // Modules may be silent, and wait for others, as long as they like.
    tokio::time::sleep(Duration::from_millis(400)).await;
    quiet.is_served().await;
    waiting.is_served().await;
}

#[tokio::test]
async fn half_a_line_that_never_goes_on_ends_the_connection() {
    let gateway = Gateway::start(&format!("{HUB}stall_timeout = \"400ms\"\n")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "m.f"})).await;
    m.receive().await;
    // A line may take its time, and so may many after each other.
    for _ in 0..8 {
        m.write(b"{\"type\":77,\"requ").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        m.write(b"estId\":\"x\"}\n{").await;
        assert_eq!(error(&m.receive().await), 2);
        m.write(b"}\n").await;
        assert_eq!(error(&m.receive().await), 2);
    }
    // Bytes that trickle in do not make it longer.
    let trickle = async {
        let started = Instant::now();
        m.write(b"{\"type\":3,\"x\":\"").await;
        while started.elapsed() < Duration::from_millis(300) {
            m.write(b"x").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let last = m.receive().await;
        assert_eq!((error(&last), &last["data"]["kind"]), (2, &json!("timeout")));
        assert_eq!(m.next().await, None);
        started.elapsed()
    };
    let took = trickle.await;
    assert!(took >= Duration::from_millis(390) && took < Duration::from_secs(5), "{took:?}");
    let answer = caller.receive().await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (4, &json!("unavailable")));
    let ended = [("reason", "half_line")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &ended, 1.0).await;
    let line = gateway.wait_for_log(0, "disconnected: the rest of a line").await;
    assert_eq!((&line["module"], &line["limit"]), (&json!("m"), &json!("400ms")));
}

/// A line whose answer is longer than itself.
const ASKED: &str = "{\"type\":9,\"requestId\":\"r\",\"function\":7}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_faster_than_it_reads_is_held_back_and_kept() {
    let gateway = Gateway::start(&format!("{HUB}max_queue = \"1MiB\"\n")).await;
    let at = address(&gateway).await;
    let (mut read, mut write) = tokio::net::TcpStream::connect(at).await.unwrap().into_split();
    let register = json!({"type": 1, "requestId": "r", "moduleId": "m", "version": "1.0.0"});
    tokio::io::AsyncWriteExt::write_all(&mut write, format!("{register}\n").as_bytes())
        .await
        .unwrap();
    let writing = tokio::spawn(async move {
        for _ in 0..100 {
            let lines = ASKED.repeat(1_000);
            tokio::io::AsyncWriteExt::write_all(&mut write, lines.as_bytes()).await.unwrap();
        }
        write
    });
    // It begins to read when the hub has long had to wait for it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut lines, mut chunk) = (0, vec![0; 65_536]);
    while lines < 100_002 {
        let length = tokio::time::timeout(
            super::PATIENCE,
            tokio::io::AsyncReadExt::read(&mut read, &mut chunk),
        )
        .await
        .expect("in time")
        .unwrap();
        assert!(length > 0, "the hub closed the connection after {lines} answers");
        lines += chunk[..length].iter().filter(|byte| **byte == b'\n').count();
    }
    drop(writing.await.unwrap());
    assert_eq!(gateway.metric("genkan_hub_disconnects_total", &[]).await, 0.0);
}

/// It is read on at once, long before its patience would end; and later nothing counts against it.
#[tokio::test]
async fn whoever_was_held_back_and_reads_again_is_read_again() {
    for (stall, silence) in [("1m", Duration::ZERO), ("2s", Duration::from_millis(2_400))] {
        let limits = format!("max_queue = \"1MiB\"\nstall_timeout = \"{stall}\"\n");
        let gateway = Gateway::start(&format!("{HUB}{limits}")).await;
        let mut m = Peer::module(&gateway, "m", &["f"]).await;
        let (asked, mut whole, mut cut) = (ASKED.repeat(1_000), 0, 0);
        while let Some(written) = m.write_some(&asked.as_bytes()[cut..]).await {
            whole += (cut + written) / ASKED.len();
            cut = (cut + written) % ASKED.len();
        }
        for _ in 0..whole {
            assert_eq!(error(&m.receive().await), 0);
        }
        m.write(&ASKED.as_bytes()[cut..]).await;
        assert_eq!(error(&m.receive().await), 0);
        tokio::time::sleep(silence).await;
        m.is_served().await;
        assert_eq!(gateway.metric("genkan_hub_disconnects_total", &[]).await, 0.0);
    }
}

impl Peer {
    /// Writes what is taken at once; nothing where that is nothing for a while.
    async fn write_some(&mut self, bytes: &[u8]) -> Option<usize> {
        let written = tokio::io::AsyncWriteExt::write(&mut self.stream, bytes);
        tokio::time::timeout(super::SILENCE, written).await.ok().map(|written| written.unwrap())
    }
}

#[tokio::test]
async fn whoever_never_reads_is_ended_and_fills_no_memory() {
    let gateway = Gateway::start(&format!("{HUB}stall_timeout = \"500ms\"\n")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "m.f"})).await;
    let before = super::limits::resident(&gateway);
    let lines = ASKED.repeat(10_000);
    let flooded = async {
        for _ in 0..1_000 {
            if !m.try_write(&lines).await {
                return;
            }
        }
        panic!("it was never held back");
    };
    flooded.await;
    let grown = super::limits::resident(&gateway).saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more");
    let ended = [("reason", "slow")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &ended, 1.0).await;
    let answer = caller.receive().await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (4, &json!("unavailable")));
}

#[tokio::test]
async fn one_answer_larger_than_the_queue_is_no_slowness() {
    let gateway = Gateway::start(&format!(
        "{HUB}max_line = \"64KiB\"\nmax_queue = \"64KiB\"\n[http]\nmax_body = \"1MiB\"\n"
    ))
    .await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let text = "x".repeat(500_000);
    let (result, ()) = tokio::join!(gateway.result("m.f", json!({"text": text})), async {
        let call = m.receive().await;
        assert_eq!(call["arguments"]["text"], json!(text));
        m.answer(&call, json!(1)).await;
    });
    assert_eq!(result, json!(1));
    m.is_served().await;
}
