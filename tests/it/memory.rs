//! What callers send and do not finish, and what they ask for and do not read, is held within
//! `max_memory`: beyond it they are told to come back, and everybody else is served.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::harness::http::encode;
use crate::harness::{Echo, Gateway};

const CONNECTIONS: usize = 4;
const STREAMS: usize = 100;
const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(40);

type Body = BoxBody<Bytes, Infallible>;

async fn connect(gateway: &Gateway) -> SendRequest<Body> {
    let stream = tokio::net::TcpStream::connect(&gateway.http).await.expect("it accepts");
    // An answer has hardly any room, and yet none stands in another's way.
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535).initial_connection_window_size(1 << 30);
    let connected = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = connected.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn post(gateway: &Gateway, body: Body) -> http::Request<Body> {
    post_to(gateway, "x", body)
}

fn post_to(gateway: &Gateway, method: &str, body: Body) -> http::Request<Body> {
    let request = http::Request::post(format!("{}/call/echo/{method}", gateway.url()));
    request.header("content-type", "application/json").body(body).expect("a request")
}

/// A body that begins and does not end.
fn unfinished(size: usize) -> Body {
    let piece = Bytes::from(vec![b' '; size]);
    let begun = stream::iter([Ok(Frame::data(piece))]).chain(stream::pending());
    BodyExt::boxed(StreamBody::new(begun))
}

async fn resident(gateway: &Gateway) -> f64 {
    gateway.metric("process_resident_memory_bytes", &[]).await
}

#[tokio::test]
async fn bodies_that_do_not_end_fill_no_memory() {
    let echo = Echo::with("max_memory = \"32MiB\"\n[http]\nread_timeout = \"10m\"\n").await;
    let gateway = &echo.gateway;
    let before = resident(gateway).await;
    let (mut senders, waiting) = (Vec::new(), FuturesUnordered::new());
    for _ in 0..CONNECTIONS {
        let sender = connect(gateway).await;
        for _ in 0..STREAMS {
            let request = post(gateway, unfinished(900_000));
            waiting.push(sender.clone().send_request(request));
        }
        senders.push(sender);
    }
    // 360 MB have begun to come; what has no place is answered, so that all but 35 are.
    let refused = waiting.take(CONNECTIONS * STREAMS - 36);
    let refused = refused.map(|answer| answer.expect("an answer")).collect::<Vec<_>>();
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("answers in time");
    for answer in refused {
        assert_eq!(answer.status(), 429);
        assert!(answer.headers().contains_key("retry-after"));
        let problem = answer.into_body().collect().await.expect("a body").to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&problem).expect("JSON");
        assert_eq!(
            (&problem["kind"], &problem["outcome"]),
            (&json!("overloaded"), &json!("not_sent"))
        );
    }
    let grown = resident(gateway).await - before;
    assert!(grown < 100e6, "{grown} bytes");
    assert_eq!(gateway.result("echo.x", json!(["small"])).await, "small");
    drop(senders);
    // What they held is given back.
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "overloaded")], 300.0).await;
    let large = format!("[\"{}\"]", "x".repeat(900_000));
    crate::harness::eventually("a large body fits again", async || {
        (gateway.post("/call/echo/x", &[], &large).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn answers_that_nobody_reads_fill_no_memory() {
    unread("x").await;
}

/// What a service says of its error may be as long as a result.
#[tokio::test]
async fn errors_that_nobody_reads_fill_no_memory() {
    unread("moan").await;
}

async fn unread(method: &str) {
    let echo = Echo::with("max_memory = \"16MiB\"\n[http]\nwrite_timeout = \"10m\"\n").await;
    let gateway = &echo.gateway;
    let text = format!("[\"{}\"]", "x".repeat(900_000));
    let (mut senders, mut unread, mut refused) = (Vec::new(), Vec::new(), 0);
    for _ in 0..3 {
        let mut sender = connect(gateway).await;
        for _ in 0..10 {
            let body = BodyExt::boxed(Full::from(text.clone()));
            let answer = sender.send_request(post_to(gateway, method, body)).await.expect("a head");
            let length = answer.headers().get("content-length").expect("a length");
            if length.len() > 5 {
                unread.push(answer);
                continue;
            }
            let (status, after) = (answer.status(), answer.headers().contains_key("retry-after"));
            let problem = answer.into_body().collect().await.expect("a body").to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&problem).expect("JSON");
            assert_eq!(problem["kind"], "overloaded");
            // Where it ran, and only its answer had no place, nothing asks for a repetition.
            match problem["outcome"].as_str() {
                Some("not_sent") => assert_eq!((status.as_u16(), after), (429, true)),
                Some("executed") => assert_eq!((status.as_u16(), after), (503, false)),
                _ => panic!("{problem}"),
            }
            refused += 1;
        }
        senders.push(sender);
    }
    assert!(unread.len() * 900_000 <= 16 * MIB, "{} answers are held", unread.len());
    assert_eq!(unread.len() + refused, 30);
    assert_eq!(gateway.result("echo.x", json!(["small"])).await, "small");
    for answer in unread {
        let body = answer.into_body().collect().await.expect("all of it").to_bytes();
        assert!(body.len() >= 900_000);
    }
}

/// What ran is not to be repeated, which 429 and `Retry-After` would have every client do.
#[tokio::test]
async fn an_answer_that_never_has_a_place_asks_for_no_repetition() {
    let limits =
        "max_memory = \"128KiB\"\n[http]\nmax_body = \"16KiB\"\n[hub]\nmax_line = \"16KiB\"\n";
    let echo = Echo::with(limits).await;
    let answer = echo.gateway.post("/call/echo/large", &[], "").await;
    let problem = answer.json();
    assert_eq!((&problem["kind"], &problem["outcome"]), (&json!("too_large"), &json!("executed")));
    assert_eq!((answer.status, answer.header("retry-after")), (413, None), "{problem}");
    assert!(
        problem["detail"].as_str().is_some_and(|text| text.contains("`max_memory`")),
        "{problem}"
    );
    assert_eq!(echo.called(), ["large"]);
}

#[tokio::test]
async fn heads_that_do_not_end_fill_no_memory() {
    let limits = "max_memory = \"4MiB\"\n[http]\nread_timeout = \"10m\"\nmax_body = \"64KiB\"\n";
    let echo = Echo::with(limits).await;
    let half = format!("POST /api HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(60_000));
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut connection = echo.gateway.connect().await;
        drop(connection.try_send(half.as_bytes()).await);
        held.push(connection);
    }
    let refused = "genkan_memory_refused_total";
    echo.gateway.wait_for_metric(refused, &[], 50.0).await;
    drop(held);
    crate::harness::eventually("there is place again", async || {
        let large = format!("[\"{}\"]", "x".repeat(60_000));
        (echo.gateway.post("/call/echo/x", &[], large).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_burst_the_memory_is_given_back() {
    let gateway = Gateway::start("").await;
    let call =
        json!({"jsonrpc": "2.0", "method": "nobody.x", "params": ["x".repeat(MIB - 100)], "id": 1});
    let headers = [("Content-Type", "application/json")];
    let request = encode("POST", "/api", &headers, call.to_string().as_bytes());
    let (most, last) = request.split_at(request.len() - 10);
    let before = resident(&gateway).await;
    for _ in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut client = gateway.connect().await;
            client.send(most).await;
            clients.push(client);
        }
        crate::harness::until("the bodies are held", async || {
            resident(&gateway).await - before > 64.0 * MIB as f64
        })
        .await;
        for client in &mut clients {
            client.send(last).await;
            client.receive().await.expect("an answer");
        }
    }
    crate::harness::until("what they took is given back", async || {
        resident(&gateway).await - before < 16.0 * MIB as f64
    })
    .await;
}

/// A client keeps its connection, and says nothing for a while: that costs next to nothing, and it
/// is served as before when it comes back, in whatever pieces.
#[tokio::test]
async fn connections_that_rest_hold_no_buffers() {
    const CLIENTS: usize = 1000;
    let echo = Echo::start().await;
    let gateway = &echo.gateway;
    let request = encode("POST", "/call/echo/x", &[("Content-Type", "application/json")], b"[1]");
    let mut first = gateway.connect().await;
    first.send(&request).await;
    first.receive().await.expect("an answer");
    let before = resident(gateway).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = gateway.connect().await;
        client.send(&request).await;
        assert_eq!(client.receive().await.expect("an answer").body, b"1");
        clients.push(client);
    }
    crate::harness::until("they take 12 KiB each at most", async || {
        resident(gateway).await - before < (CLIENTS * 12 * 1024) as f64
    })
    .await;
    for (number, client) in clients.iter_mut().enumerate().take(20) {
        let (begins, rest) = request.split_at(number + 1);
        client.send(begins).await;
        client.send(rest).await;
        assert_eq!(client.receive().await.expect("an answer").body, b"1", "{number}");
    }
    for client in &mut clients[20..40] {
        client.send(&request.repeat(3)).await;
        for _ in 0..3 {
            assert_eq!(client.receive().await.expect("an answer").body, b"1");
        }
    }
}
