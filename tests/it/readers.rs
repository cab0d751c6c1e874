//! Clients that take their answers slowly or not at all, that stop sending, and that go away in
//! the middle: each keeps what it is owed, and nobody keeps a place for nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::harness::http::{Connection, encode};
use crate::harness::{Echo, Gateway, eventually};

const PIECES: usize = 40;
const PIECE: usize = 200_000;

/// A batch whose answer is as long as itself: 8 MB, more than any socket holds for a reader.
fn large() -> String {
    let text = "x".repeat(PIECE);
    let call = |id: usize| {
        format!(r#"{{"jsonrpc":"2.0","method":"echo.x","params":["{text}"],"id":{id}}}"#)
    };
    format!("[{}]", (0..PIECES).map(call).collect::<Vec<_>>().join(","))
}

fn is_all_of_it(body: &[u8]) -> bool {
    let answers: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    let answers = answers.as_array().expect("a batch");
    let whole = |one: &serde_json::Value| one["result"].as_str().map(str::len) == Some(PIECE);
    answers.len() == PIECES && answers.iter().all(whole)
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// A connection of HTTP/2, and whether it has ended.
async fn http2(gateway: &Gateway) -> (Http2, tokio::task::JoinHandle<()>) {
    let stream = tokio::net::TcpStream::connect(&gateway.http).await.expect("it accepts");
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("HTTP/2");
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

fn request(gateway: &Gateway, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    let request = http::Request::post(format!("{}/api", gateway.url()));
    let request = request.header("content-type", "application/json");
    request.body(Full::new(body.into())).expect("a request")
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_its_answer() {
    let limits =
        "[http]\nmax_body = \"16MiB\"\nidle_timeout = \"400ms\"\nwrite_timeout = \"20s\"\n";
    let echo = Echo::with(limits).await;
    // What it takes in a turn, and how long it pauses: ten times what an idle connection may.
    let (turn, pause) = (512 * 1024, Duration::from_millis(250));
    let over_http1 = async {
        let mut slow = Connection::open_small(&echo.gateway.http).await;
        slow.request("POST", "/api", &[], large().as_bytes()).await;
        let answer = slow.receive_slowly(turn, pause).await;
        assert!(is_all_of_it(&answer.expect("all of it").body));
    };
    let over_http2 = async {
        let (mut sender, _ended) = http2(&echo.gateway).await;
        let response = sender.send_request(request(&echo.gateway, large())).await;
        let mut body = response.expect("a response").into_body();
        let (mut heard, mut taken) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let data = frame.expect("no error").into_data().expect("data");
            heard.extend_from_slice(&data);
            if heard.len() / turn > taken {
                taken = heard.len() / turn;
                tokio::time::sleep(pause).await;
            }
        }
        assert!(is_all_of_it(&heard));
    };
    tokio::join!(over_http1, over_http2);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_at_all_gives_its_place_up() {
    let limits = "[http]\nmax_body = \"16MiB\"\nmax_connections = 1\nwrite_timeout = \"400ms\"\n";
    let echo = Echo::with(limits).await;
    let mut deaf = Connection::open_small(&echo.gateway.http).await;
    deaf.request("POST", "/api", &[], large().as_bytes()).await;
    assert_eq!(echo.gateway.result("echo.x", json!(["next"])).await, "next");
    let (mut sender, ended) = http2(&echo.gateway).await;
    let response = sender.send_request(request(&echo.gateway, large())).await;
    // Its body is not asked for: the window fills.
    let _unread = response.expect("a response");
    assert_eq!(echo.gateway.result("echo.x", json!(["next"])).await, "next");
    ended.await.expect("no panic");
}

#[tokio::test]
async fn a_connection_whose_client_reset_its_streams_is_idle_again() {
    let echo = Echo::with("[http]\nidle_timeout = \"400ms\"\nmax_connections = 1").await;
    let (sender, ended) = http2(&echo.gateway).await;
    let never = r#"{"jsonrpc":"2.0","method":"echo.never","id":1}"#;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut sender = sender.clone();
            let request = request(&echo.gateway, never);
            tokio::spawn(async move { drop(sender.send_request(request).await) })
        })
        .collect();
    let of = [("upstream", "nats")];
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &of, 100.0).await;
    for call in calls {
        call.abort();
    }
    eventually("the calls are forgotten", async || {
        (echo.gateway.metric("genkan_calls_in_flight", &of).await == 0.0).then_some(())
    })
    .await;
    // The only place is free for somebody else.
    assert_eq!(echo.gateway.result("echo.x", json!(["next"])).await, "next");
    ended.await.expect("no panic");
    drop(sender);
}

#[tokio::test]
async fn a_client_that_has_said_all_is_answered() {
    let echo = Echo::start().await;
    for method in ["x", "slow", "later"] {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"echo.{method}","params":["p"],"id":1}}"#);
        let mut said = echo.gateway.connect().await;
        said.request("POST", "/api", &[], body.as_bytes()).await;
        said.finish().await;
        let answer = said.receive().await.unwrap_or_else(|| panic!("no answer to {method}"));
        assert_eq!((answer.status, &answer.json()["result"]), (200, &json!("p")), "{method}");
        assert!(said.is_closed_within(Duration::from_secs(20)).await);
        // Old HTTP too, and without the envelope.
        let head = format!("POST /call/echo/{method} HTTP/1.0\r\nContent-Length: 5\r\n\r\n[\"p\"]");
        let mut said = echo.gateway.connect().await;
        said.send(head.as_bytes()).await;
        said.finish().await;
        let answer = said.receive().await.unwrap_or_else(|| panic!("no answer to {method}"));
        assert_eq!((answer.status, answer.text()), (200, "\"p\""), "{method}");
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_is_told_so_at_once() {
    let echo = Echo::start().await;
    let whole = encode("POST", "/api", &[], br#"{"jsonrpc":"2.0","method":"echo.x","id":1}"#);
    let mut broken = echo.gateway.connect().await;
    broken.send(&whole[..whole.len() - 5]).await;
    broken.finish().await;
    let answer = broken.receive().await.expect("an answer").json();
    let fault = crate::harness::as_fault(&answer);
    assert!(fault.is("invalid_request", "not_sent").message.contains("broke off"), "{answer}");
    assert_eq!(echo.called(), Vec::<String>::new());
}

#[tokio::test]
async fn half_sent_requests_hold_no_shutdown_up() {
    let limits = "drain_timeout = \"10m\"\n[http]\nread_timeout = \"10m\"\n";
    let echo = Echo::with(limits).await;
    let whole = encode("POST", "/api", &[], br#"{"jsonrpc":"2.0","method":"echo.x","id":1}"#);
    let mut held = Vec::new();
    for length in [0, 1, 20, whole.len() - 5] {
        let mut half = echo.gateway.connect().await;
        // After an answer too.
        half.send(&whole).await;
        assert!(half.receive().await.is_some());
        half.send(&whole[..length]).await;
        held.push(half);
    }
    let mut waiting = echo.gateway.connect().await;
    let later = r#"{"jsonrpc":"2.0","method":"echo.later","params":["p"],"id":1}"#;
    waiting.request("POST", "/api", &[], later.as_bytes()).await;
    let (_idle, _ended) = http2(&echo.gateway).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    echo.gateway.terminate();
    assert_eq!(waiting.receive().await.expect("its answer").json()["result"], "p");
    assert_eq!(echo.gateway.exit_status().await, 0);
}
