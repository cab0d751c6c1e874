//! Connections that get nowhere: without a module, with half a line, without reading.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HUB, Peer, address, error};
use crate::harness::{Echo, Gateway, eventually};

#[tokio::test]
async fn a_connection_without_a_module_is_ended() {
    let gateway = Gateway::start(&format!("{HUB}register_timeout = \"300ms\"\n")).await;
    let mut quiet = Peer::module(&gateway, "quiet", &["f"]).await;
    let mut waiting = Peer::connect(&gateway).await;
    assert_eq!(waiting.register("waiting", "1.0.0", json!({"none": "*"})).await["type"], 2);
    let mut nobody = Peer::connect(&gateway).await;
    // To talk is not to register.
    nobody.is_served().await;
    let last = nobody.receive().await;
    assert_eq!((error(&last), &last["requestId"]), (2, &json!("undefined")));
    assert_eq!(last["data"]["kind"], "timeout");
    assert!(last["message"].as_str().unwrap().contains("register_timeout"), "{last}");
    assert_eq!(nobody.next().await, None);
    let ended = [("reason", "unregistered")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &ended, 1.0).await;
    // Modules may be silent, and wait for others, as long as they like: these are there for longer.
    quiet.is_served().await;
    waiting.is_served().await;
}

/// Ready when `stall_timeout` has passed: a connection that sent half a line has been ended for it.
async fn stall_timeout_passed(gateway: &Gateway) {
    let mut clock = Peer::connect(gateway).await;
    clock.write("{").await;
    while clock.next().await.is_some() {}
}

#[tokio::test]
async fn half_a_line_that_never_goes_on_ends_the_connection() {
    let gateway = Gateway::start(&format!("{HUB}stall_timeout = \"400ms\"\n")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "m.f"})).await;
    m.receive().await;
    // Many lines after each other may come in halves for as long as they like.
    let halves = async {
        loop {
            m.write(b"{\"type\":77,\"requ").await;
            tokio::task::yield_now().await;
            m.write(b"estId\":\"x\"}\n{").await;
            assert_eq!(error(&m.receive().await), 2);
            m.write(b"}\n").await;
            assert_eq!(error(&m.receive().await), 2);
        }
    };
    tokio::select! {
        () = halves => {}
        () = stall_timeout_passed(&gateway) => {}
    }
    m.finish_halves().await;
    // Bytes that trickle in do not make it longer.
    m.write(b"{\"type\":3,\"x\":\"").await;
    let last = loop {
        if let Ok(last) = tokio::time::timeout(Duration::from_millis(1), m.receive()).await {
            break last;
        }
        m.write(b"x").await;
    };
    assert_eq!((error(&last), &last["data"]["kind"]), (2, &json!("timeout")));
    assert_eq!(m.next().await, None);
    let answer = caller.receive().await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (4, &json!("unavailable")));
    let ended = [("reason", "half_line")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &ended, 2.0).await;
    let line = eventually("the log says it", async || {
        let ended = |line: &serde_json::Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("disconnected: the rest of a line") && line["module"] == "m"
        };
        gateway.log().into_iter().find(ended)
    })
    .await;
    assert_eq!(line["limit"], "400ms");
}

/// More lines than the system holds on their way: some let that grow to 32 MB.
const MOST_ASKED: usize = 2_000_000;
/// A line whose answer is longer than itself.
const ASKED: &str = "{\"type\":9,\"requestId\":\"r\",\"function\":7}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_faster_than_it_reads_is_held_back_and_kept() {
    let gateway = Gateway::start(&format!("{HUB}max_queue = \"1MiB\"\n")).await;
    let at = address(&gateway).await;
    let (mut read, mut write) = tokio::net::TcpStream::connect(at).await.unwrap().into_split();
    let register = json!({"type": 1, "requestId": "r", "moduleId": "m", "version": "1.0.0"});
    write.write_all(format!("{register}\n").as_bytes()).await.unwrap();
    let some = ASKED.repeat(1_000);
    // It begins to read when the hub reads no more.
    let (mut asked, mut cut) = (0, 0);
    while let Ok(more) =
        tokio::time::timeout(super::SILENCE, write.write(&some.as_bytes()[cut..])).await
    {
        let end = cut + more.unwrap();
        (asked, cut) = (asked + end / ASKED.len() - cut / ASKED.len(), end % some.len());
        assert!(asked < MOST_ASKED, "it was never held back");
    }
    let writing = tokio::spawn(async move {
        let rest = ASKED.len() - cut % ASKED.len();
        write.write_all(&some.as_bytes()[cut..cut + rest]).await.unwrap();
        write
    });
    let (mut lines, mut chunk) = (0, vec![0; 65_536]);
    while lines < asked + 2 {
        let reading = tokio::time::timeout(super::PATIENCE, read.read(&mut chunk));
        let length = reading.await.expect("in time").unwrap();
        assert!(length > 0, "the hub closed the connection after {lines} answers");
        lines += chunk[..length].iter().filter(|byte| **byte == b'\n').count();
    }
    drop(writing.await.unwrap());
    assert_eq!(gateway.metric("genkan_hub_disconnects_total", &[]).await, 0.0);
}

/// It is read on at once, long before its patience would end; and later nothing counts against it.
#[tokio::test]
async fn whoever_was_held_back_and_reads_again_is_read_again() {
    for (stall, passes) in [("1m", false), ("2s", true)] {
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
        if passes {
            stall_timeout_passed(&gateway).await;
        }
        m.is_served().await;
        let slow = gateway.metric("genkan_hub_disconnects_total", &[("reason", "slow")]).await;
        assert_eq!(slow, 0.0);
    }
}

impl Peer {
    /// Ends a line that it may have begun, and takes the answers to what it has asked.
    async fn finish_halves(&mut self) {
        self.write(b"\n").await;
        let id = self.request(json!({"type": 77})).await;
        while self.receive().await["requestId"] != json!(id) {}
    }

    /// Writes what is taken at once; nothing where that is nothing for a while.
    async fn write_some(&mut self, bytes: &[u8]) -> Option<usize> {
        let written = self.stream.write(bytes);
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

/// Far more comes back than may wait for it, from outside of the hub and from another module.
#[tokio::test]
async fn whoever_reads_more_slowly_than_it_is_answered_is_answered() {
    let echo = Echo::with(&format!("{HUB}max_queue = \"1MiB\"\n")).await;
    let mut other = Peer::module(&echo.gateway, "other", &["f"]).await;
    let mut caller = Peer::module(&echo.gateway, "caller", &[]).await;
    const CALLS: usize = 100;
    for _ in 0..CALLS {
        caller.request(json!({"type": 3, "function": "echo.large"})).await;
        caller.request(json!({"type": 3, "function": "other.f"})).await;
    }
    for _ in 0..CALLS {
        let call = other.receive().await;
        other.answer(&call, json!("y".repeat(50_000))).await;
    }
    eventually("all have run", async || (echo.called().len() == CALLS).then_some(())).await;
    for before in 0..2 * CALLS {
        let answer = caller.receive().await;
        let length = answer["data"].as_str().map(str::len);
        assert_eq!(length, Some(50_000), "after {before}: {answer}");
    }
    let ended = [("reason", "slow")];
    assert_eq!(echo.gateway.metric("genkan_hub_disconnects_total", &ended).await, 0.0);
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

/// Small buffers of its own, so that little is on its way to it.
async fn one_that_does_not_read(gateway: &Gateway) -> Peer {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let at = address(gateway).await.parse().expect("an address");
    let mut module = Peer::over(socket.connect(at).await.expect("connected"));
    assert_eq!(module.register("deaf", "1.0.0", json!({})).await["type"], 2);
    assert_eq!(module.receive().await["hook"], "juno.activated");
    for function in ["f", "last"] {
        assert_eq!(module.ask(json!({"type": 9, "function": function})).await["type"], 10);
    }
    module
}

#[tokio::test]
async fn a_call_that_never_left_says_so_and_never_does() {
    let rows = "[[routes]]\nmatch = \"deaf.f\"\nupstream = \"hub\"\ntimeout = \"200ms\"\n\
                [[routes]]\nmatch = \"deaf.last\"\nupstream = \"hub\"\n";
    let gateway = Gateway::start(&format!("{HUB}{rows}")).await;
    let mut deaf = one_that_does_not_read(&gateway).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let text = json!({"text": "x".repeat(500_000)});
    // What the system takes has left; then calls wait in the gateway, from both of its sides.
    loop {
        let fault = gateway.fault("deaf.f", text.clone());
        let (fault, answer) = tokio::join!(fault, caller.call("deaf.f", text.clone()));
        let outcomes = [&fault.data, &answer["data"]].map(|data| {
            assert_eq!(data["kind"], "timeout", "{data}");
            data["outcome"].as_str().expect("an outcome").to_owned()
        });
        if outcomes == ["not_sent", "not_sent"] {
            break;
        }
    }
    let marked = json!({"mark": 1});
    let fault = gateway.fault("deaf.f", marked.clone()).await;
    fault.is("timeout", "not_sent");
    assert_eq!(fault.data["retryable"], true);
    assert_eq!(caller.call("deaf.f", marked).await["data"]["outcome"], "not_sent");
    // It reads again: what was told to have stayed has.
    let call = gateway.result("deaf.last", json!({}));
    let answer = async {
        loop {
            let call = deaf.receive().await;
            assert_eq!(call["arguments"].get("mark"), None, "it was never to be delivered");
            if call["function"] == "last" {
                return deaf.answer(&call, json!("heard")).await;
            }
        }
    };
    let (result, ()) = tokio::join!(call, answer);
    assert_eq!(result, "heard");
}
