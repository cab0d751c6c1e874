//! Clients that take their answers slowly or not at all, and that go away in the middle: each keeps what it is owed, and nobody keeps a place for nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::harness::certs::Certs;
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
    let shown = || String::from_utf8_lossy(&body[..body.len().min(300)]);
    let answers: serde_json::Value =
        serde_json::from_slice(body).unwrap_or_else(|_| panic!("no JSON: {}", shown()));
    let answers = answers.as_array().unwrap_or_else(|| panic!("no batch: {}", shown()));
    let whole = |one: &serde_json::Value| one["result"].as_str().map(str::len) == Some(PIECE);
    answers.len() == PIECES && answers.iter().all(whole)
}

pub type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// A socket that takes so much and then pauses: a slow line, whatever its reader would like.
struct SlowLine {
    stream: tokio::net::TcpStream,
    left: usize,
    pause: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl SlowLine {
    const TURN: usize = 64 * 1024;
    const PAUSE: Duration = Duration::from_millis(60);

    async fn open(address: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.expect("it accepts");
        Self { stream, left: Self::TURN, pause: Box::pin(tokio::time::sleep(Self::PAUSE)) }
    }
}

impl AsyncRead for SlowLine {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            ready!(self.pause.as_mut().poll(cx));
            self.left = Self::TURN;
            self.pause.as_mut().reset(tokio::time::Instant::now() + Self::PAUSE);
        }
        let most = self.left.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.left -= read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SlowLine {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether all of the answer to the large batch comes, over a connection that was made already.
async fn gets_all_of_it<B>(answer: Result<http::Response<B>, hyper::Error>) -> bool
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let body = answer.expect("a response").into_body().collect().await;
    body.is_ok_and(|body| is_all_of_it(&body.to_bytes()))
}

/// A connection of HTTP/2, and whether it has ended.
pub async fn http2(gateway: &Gateway) -> (Http2, tokio::task::JoinHandle<()>) {
    http2_with_room(gateway, 65_535, 65_535).await
}

/// The same, of a client that has room for so much of one answer, and of all.
async fn http2_with_room(
    gateway: &Gateway,
    room: u32,
    of_all: u32,
) -> (Http2, tokio::task::JoinHandle<()>) {
    let stream = tokio::net::TcpStream::connect(&gateway.http).await.expect("it accepts");
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(room).initial_connection_window_size(of_all);
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

/// The system tells of what was taken in its own steps, which must not pass for taking nothing.
#[tokio::test]
async fn a_reader_that_takes_anything_within_write_timeout_is_slow_and_not_deaf() {
    let certs = Certs::new();
    let limits =
        "[http]\nmax_body = \"16MiB\"\nread_timeout = \"60s\"\nwrite_timeout = \"1500ms\"\n";
    let tls = format!(
        "[http.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        certs.path("server.pem"),
        certs.path("server.key")
    );
    let (plain, secure) =
        tokio::join!(Echo::with(limits), async { Echo::with(&format!("{limits}{tls}")).await });
    let over_http1 = async {
        let line = TokioIo::new(SlowLine::open(&plain.gateway.http).await);
        let connected = hyper::client::conn::http1::handshake(line).await;
        let (mut sender, connection) = connected.expect("HTTP/1");
        tokio::spawn(connection);
        let request = host(request(&plain.gateway, large()), &plain.gateway.http);
        assert!(gets_all_of_it(sender.send_request(request).await).await, "HTTP/1");
    };
    let over_http2 = async {
        let line = TokioIo::new(SlowLine::open(&plain.gateway.http).await);
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(16 << 20).initial_connection_window_size(16 << 20);
        let (mut sender, connection) = builder.handshake(line).await.expect("HTTP/2");
        tokio::spawn(connection);
        let answer = sender.send_request(request(&plain.gateway, large())).await;
        assert!(gets_all_of_it(answer).await, "HTTP/2");
    };
    let over_tls = async {
        let line = SlowLine::open(&secure.gateway.http).await;
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let connector = tokio_rustls::TlsConnector::from(certs.client());
        let line = TokioIo::new(connector.connect(name, line).await.expect("TLS"));
        let connected = hyper::client::conn::http1::handshake(line).await;
        let (mut sender, connection) = connected.expect("HTTP/1");
        tokio::spawn(connection);
        let request = host(request(&secure.gateway, large()), &secure.gateway.http);
        assert!(gets_all_of_it(sender.send_request(request).await).await, "TLS");
    };
    tokio::join!(over_http1, over_http2, over_tls);
}

/// A request as HTTP/1 has it.
fn host(mut request: http::Request<Full<Bytes>>, host: &str) -> http::Request<Full<Bytes>> {
    request.headers_mut().insert("host", host.parse().expect("a header's value"));
    request
}

/// All of it has left the gateway's hands, and a part waits for room at the client.
#[tokio::test]
async fn the_end_of_the_gateway_does_not_cut_the_end_of_an_answer() {
    let echo = Echo::start().await;
    let (mut sender, _ended) = http2_with_room(&echo.gateway, 70_000, 1 << 20).await;
    let text = "x".repeat(75_000);
    let call = format!(r#"{{"jsonrpc":"2.0","method":"echo.x","params":["{text}"],"id":1}}"#);
    let response = sender.send_request(request(&echo.gateway, call)).await.expect("a response");
    echo.gateway.terminate();
    echo.gateway.wait_for_log(0, "draining").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let body = response.into_body().collect().await.expect("all of it").to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("all of it");
    assert_eq!(answer["result"], text);
    assert_eq!(echo.gateway.exit_status().await, 0);
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
async fn a_client_that_has_said_several_things_and_all_is_answered_to_each() {
    let echo = Echo::start().await;
    let mut said = echo.gateway.connect().await;
    let (long, longer) = ("x".repeat(5_000), "x".repeat(100_000));
    let calls = [("slow", "p"), ("x", &long), ("slow", &longer), ("x", "q")];
    let chunked = [("Transfer-Encoding", "chunked")];
    for (method, param) in calls {
        let call = json!({"jsonrpc": "2.0", "method": format!("echo.{method}"), "params": [param], "id": 1});
        let call = call.to_string();
        let chunks = call
            .as_bytes()
            .chunks(60)
            .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        let body = [chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat();
        said.send(&[encode("POST", "/api", &chunked, b""), body].concat()).await;
    }
    said.finish().await;
    for (method, param) in calls {
        let answer = said.receive().await.unwrap_or_else(|| panic!("no answer to {method}"));
        assert_eq!((answer.status, &answer.json()["result"]), (200, &json!(param)), "{method}");
    }
    assert!(said.is_closed_within(Duration::from_secs(20)).await);
}

/// Sixteen KiB, which hyper hands over at once, take it longer than `write_timeout`.
#[tokio::test]
async fn a_reader_over_http_2_that_takes_little_and_steadily_gets_all_of_it() {
    let echo = Echo::with("[http]\nwrite_timeout = \"600ms\"\nidle_timeout = \"600ms\"\n").await;
    let stream = tokio::net::TcpStream::connect(&echo.gateway.http).await.expect("it accepts");
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(2_000);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let text = "x".repeat(40_000);
    let call = format!(r#"{{"jsonrpc":"2.0","method":"echo.x","params":["{text}"],"id":1}}"#);
    let response = sender.send_request(request(&echo.gateway, call)).await;
    let mut body = response.expect("a response").into_body();
    let mut heard = Vec::new();
    while let Some(frame) = body.frame().await {
        heard.extend_from_slice(&frame.expect("it is not cut").into_data().expect("data"));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let answer: serde_json::Value = serde_json::from_slice(&heard).expect("all of it");
    assert_eq!(answer["result"], json!(text));
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()[..]];
    [&head.concat()[..], payload].concat()
}

/// A call on a stream of its own, its header fields written out (RFC 7541, section 6.2.2).
fn call_over_http2(stream: u32, host: &str, method: &str) -> Vec<u8> {
    let body = format!(r#"{{"jsonrpc":"2.0","method":"echo.{method}","params":["p"],"id":1}}"#);
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // POST and http are in the static table; the path, the authority and the content type by name.
    let fields = [
        vec![0x83, 0x86, 0x04],
        text("/api"),
        vec![0x01],
        text(host),
        vec![0x0f, 0x10],
        text("application/json"),
    ];
    [frame(1, 4, stream, &fields.concat()), frame(0, 1, stream, body.as_bytes())].concat()
}

#[tokio::test]
async fn a_client_over_http_2_that_has_said_all_is_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let echo = Echo::start().await;
    for methods in [&["x"][..], &["slow"], &["x", "later", "slow"]] {
        let host = echo.gateway.http.as_str();
        let mut stream = tokio::net::TcpStream::connect(host).await.expect("it accepts");
        let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        said.extend(frame(4, 0, 0, b""));
        for (number, method) in (0..).zip(methods) {
            said.extend(call_over_http2(2 * number + 1, host, method));
        }
        stream.write_all(&said).await.expect("it is taken");
        stream.shutdown().await.expect("it has said all");
        let mut heard = Vec::new();
        let reading = stream.read_to_end(&mut heard);
        tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .expect("it ends")
            .expect("well");
        let heard = String::from_utf8_lossy(&heard);
        let answers = heard.matches(r#""result":"p""#).count();
        assert_eq!(answers, methods.len(), "{methods:?}: {heard}");
    }
}

#[tokio::test]
async fn a_client_over_http_2_that_has_left_holds_no_call() {
    let echo = Echo::start().await;
    let (sender, connection) = http2(&echo.gateway).await;
    let mut calling = sender.clone();
    let never = request(&echo.gateway, r#"{"jsonrpc":"2.0","method":"echo.never","id":1}"#);
    let call = tokio::spawn(async move { drop(calling.send_request(never).await) });
    let of = [("upstream", "nats")];
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &of, 1.0).await;
    connection.abort();
    call.abort();
    drop(sender);
    let gone = [("outcome", "cancelled")];
    echo.gateway.wait_for_metric("genkan_calls_total", &gone, 1.0).await;
}
