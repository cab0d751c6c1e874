//! Bodies that are refused while they are still being sent: whoever sends all before it reads has its
//! answer, and is told when the connection ends with it.

use std::future::poll_fn;

use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::harness::http::encode;
use crate::harness::{Echo, as_fault};

/// Far more than is taken off before an answer, and than waits in sockets.
const FAR_TOO_LARGE: usize = 40 << 20;
const LIMIT: &str = "[http]\nmax_body = \"64KiB\"\nread_timeout = \"2s\"";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":["p"],"id":1}"#;

#[tokio::test]
async fn whoever_sends_far_too_much_before_it_reads_has_its_answer() {
    let echo = Echo::with(LIMIT).await;
    let length = FAR_TOO_LARGE.to_string();
    let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
    let chunked = [&chunk.repeat(FAR_TOO_LARGE / 0x10000)[..], b"0\r\n\r\n"].concat();
    for (path, header, body) in [
        ("/api", ("Content-Length", &*length), vec![b'x'; FAR_TOO_LARGE]),
        ("/api", ("Transfer-Encoding", "chunked"), chunked),
        // Refused for something else.
        ("/nowhere", ("Content-Length", &*length), vec![b'x'; FAR_TOO_LARGE]),
    ] {
        let mut connection = echo.gateway.connect().await;
        connection.send(&encode("POST", path, &[JSON, header], b"")).await;
        connection.try_send(&body).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let answer = connection.receive().await.expect("an answer");
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        match path {
            "/api" => drop(as_fault(&answer.json()).is("too_large", "not_sent")),
            _ => assert_eq!(answer.status, 404),
        }
        assert!(connection.receive().await.is_none(), "nothing comes behind it");
    }
    assert_eq!(echo.called(), Vec::<String>::new());
}

#[tokio::test]
async fn a_connection_whose_refused_body_has_all_come_is_used_on() {
    let echo = Echo::with(LIMIT).await;
    let mut connection = echo.gateway.connect().await;
    connection.request("POST", "/api", &[JSON], &vec![b'x'; 1 << 20]).await;
    let answer = connection.receive().await.expect("an answer");
    as_fault(&answer.json()).is("too_large", "not_sent");
    assert_eq!(answer.header("connection"), None);
    connection.request("POST", "/api", &[JSON], CALL.as_bytes()).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "p");
}

#[tokio::test]
async fn an_answer_to_half_a_body_says_that_the_connection_ends() {
    let echo = Echo::with(LIMIT).await;
    for (ends, kind) in [(true, "invalid_request"), (false, "timeout")] {
        let mut connection = echo.gateway.connect().await;
        let request = encode("POST", "/api", &[JSON], CALL.as_bytes());
        connection.send(&request[..request.len() - 5]).await;
        if ends {
            connection.finish().await;
        }
        let answer = connection.receive().await.expect("an answer");
        as_fault(&answer.json()).is(kind, "not_sent");
        assert_eq!(answer.header("connection"), Some("close"), "{kind}");
    }
}

#[tokio::test]
async fn whoever_is_heard_out_holds_no_end_up() {
    let echo = Echo::with(LIMIT).await;
    let mut connection = echo.gateway.connect().await;
    let length = FAR_TOO_LARGE.to_string();
    connection.send(&encode("POST", "/api", &[JSON, ("Content-Length", &length)], b"")).await;
    assert!(connection.receive().await.is_some());
    echo.gateway.terminate();
    assert_eq!(echo.gateway.exit_status().await, 0);
    let log = echo.gateway.log_text();
    assert!(log.contains("stopped") && !log.contains("cut off"), "{log}");
}

#[tokio::test]
async fn over_http2_it_has_its_answer_too() {
    let echo = Echo::with(LIMIT).await;
    for (path, length) in [("/api", Some(FAR_TOO_LARGE)), ("/api", None), ("/nowhere", None)] {
        let stream = TcpStream::connect(&echo.gateway.http).await.expect("it accepts");
        let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let driving = tokio::spawn(connection);
        let url = format!("http://{}{path}", echo.gateway.http);
        let mut request = http::Request::post(url).header(JSON.0, JSON.1);
        if let Some(length) = length {
            request = request.header("Content-Length", length);
        }
        let request = request.body(()).expect("a request");
        let (answer, mut body) = client.send_request(request, false).expect("a stream");
        let mut left = FAR_TOO_LARGE;
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        while left > 0 {
            body.reserve_capacity(left.min(piece.len()));
            let room = poll_fn(|cx| body.poll_capacity(cx)).await;
            let room = room.expect("an open stream").expect("it is not reset");
            let part = piece.slice(..room.min(left).min(piece.len()));
            left -= part.len();
            body.send_data(part, left == 0).expect("an open stream");
        }
        let (head, mut rest) = answer.await.expect("an answer").into_parts();
        let mut text = Vec::new();
        while let Some(data) = rest.data().await {
            text.extend_from_slice(&data.expect("all of it"));
        }
        match path {
            "/api" => {
                let answer: Value = serde_json::from_slice(&text).expect("JSON");
                as_fault(&answer).is("too_large", "not_sent");
            }
            _ => assert_eq!(head.status, 404),
        }
        // The connection is used on.
        let request = http::Request::get(format!("http://{}/api", echo.gateway.http));
        let (answer, _) = client.send_request(request.body(()).unwrap(), true).expect("a stream");
        assert_eq!(answer.await.expect("an answer").status(), 405);
        driving.abort();
    }
    assert_eq!(echo.called(), Vec::<String>::new());
}
