//! Frames as no library sends them.

use crate::harness::Echo;
use crate::harness::websocket::{CLOSE, PING, PONG, TEXT, WebSocket, frame, head};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"echo.x","params":["é"]}"#;

/// What a fresh socket is closed with after some bytes.
async fn closed_after(echo: &Echo, bytes: &[u8]) -> (u16, String) {
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    socket.0.send(bytes).await;
    socket.closed().await
}

#[tokio::test]
async fn a_message_may_come_in_pieces_with_a_ping_among_them() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    for cut in [1, CALL.len() - 6, CALL.len()] {
        let (first, rest) = CALL.as_bytes().split_at(cut);
        socket.send(0x01, first).await;
        socket.send(0x00, b"").await;
        socket.send(PING, b"still there?").await;
        let pong = socket.receive().await.expect("a pong");
        assert_eq!((pong.first, &pong.payload[..]), (PONG, &b"still there?"[..]));
        socket.send(0x80, rest).await;
        assert_eq!(socket.json().await["result"], "é");
    }
    // Byte by byte, as slow networks may bring it.
    for byte in frame(TEXT, CALL.as_bytes()) {
        socket.0.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(socket.json().await["result"], "é");
    // A pong that nobody asked for is no harm.
    socket.send(PONG, b"here").await;
    assert_eq!(socket.ask(CALL).await["result"], "é");
}

#[tokio::test]
async fn what_comes_with_the_opening_request_is_read() {
    let echo = Echo::start().await;
    let mut connection = echo.gateway.connect().await;
    let opening = "GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let sent = [opening.as_bytes(), &frame(TEXT, CALL.as_bytes())].concat();
    connection.send(&sent).await;
    assert_eq!(connection.receive().await.expect("a response").status, 101);
    assert_eq!(WebSocket(connection).json().await["result"], "é");
}

#[tokio::test]
async fn each_kind_of_nonsense_ends_the_socket_with_the_reason() {
    let echo = Echo::start().await;
    let unmasked = [&[TEXT, 5][..], b"hello"].concat();
    for (bytes, code, reason) in [
        (frame(0x82, b"{}"), 1003, "text frames"),
        (frame(0x01, b"{").into_iter().chain(frame(0x02, b"}")).collect(), 1003, "text frames"),
        (unmasked, 1002, "not masked"),
        (frame(0xc1, b"{}"), 1002, "no extension"),
        (frame(0x83, b"{}"), 1002, "opcode"),
        (frame(0x8f, b""), 1002, "opcode"),
        (frame(0x80, b"{}"), 1002, "continuation"),
        ([frame(0x01, b"{"), frame(TEXT, b"}")].concat(), 1002, "before the last one's end"),
        (frame(0x09, b""), 1002, "control frame"),
        (frame(PING, &[b'x'; 126]), 1002, "control frame"),
        (frame(CLOSE, &[3]), 1002, "close code"),
        (frame(CLOSE, &1005_u16.to_be_bytes()), 1002, "close code"),
        (frame(TEXT, b"\xff"), 1007, "UTF-8"),
        (frame(TEXT, b"{\"\xed\xa0\x80\":1}"), 1007, "UTF-8"),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007, "UTF-8"),
        (head(TEXT, (1 << 20) + 1), 1009, "max_body"),
        (head(TEXT, usize::MAX), 1009, "max_body"),
    ] {
        let (got, said) = closed_after(&echo, &bytes).await;
        assert!(got == code && said.contains(reason), "{bytes:x?}: {got} {said}");
    }
    assert_eq!(WebSocket::open(&echo.gateway.http).await.ask(CALL).await["result"], "é");
    assert_eq!(echo.called(), ["x"], "nothing of the nonsense ran");
}

#[tokio::test]
async fn what_is_owed_comes_before_the_reason() {
    let echo = Echo::start().await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    socket.say(CALL.replace("echo.x", "echo.slow")).await;
    socket.send(0x82, b"{}").await;
    socket.say(CALL.replace("echo.x", "echo.never_begun")).await;
    assert_eq!(socket.json().await["result"], "é");
    assert_eq!(socket.closed().await.0, 1003);
    assert_eq!(echo.called(), ["slow"]);
}

#[tokio::test]
async fn a_message_of_max_body_is_taken_and_pieces_beyond_it_are_not() {
    let echo = Echo::with("[http]\nmax_body = \"4KiB\"").await;
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    let around = CALL.len() - "é".len();
    let largest = CALL.replace('é', &"x".repeat(4096 - around));
    assert_eq!(largest.len(), 4096);
    let answer = socket.ask(&largest).await;
    assert_eq!(answer["result"].as_str().map(str::len), Some(4096 - around));
    let half = "x".repeat(2_049);
    socket.send(0x01, &half).await;
    socket.send(0x80, &half).await;
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test]
async fn a_close_is_answered_and_nothing_after_it_is_read() {
    let echo = Echo::start().await;
    for (payload, code) in
        [(&b""[..], 1000), (&[3, 0xe9][..], 1001), (&[0x0f, 0xa0, b'x'][..], 4000)]
    {
        let mut socket = WebSocket::open(&echo.gateway.http).await;
        assert_eq!(socket.ask(CALL).await["result"], "é");
        let after = frame(TEXT, CALL.replace("echo.x", "echo.after").as_bytes());
        socket.0.send(&[frame(CLOSE, payload), after].concat()).await;
        assert_eq!(socket.closed().await.0, code);
    }
    assert_eq!(echo.called(), ["x", "x", "x"]);
}

#[tokio::test]
async fn who_closes_or_hangs_up_takes_its_calls_along() {
    let echo = Echo::start().await;
    for polite in [true, false] {
        let mut socket = WebSocket::open(&echo.gateway.http).await;
        socket.say(CALL.replace("echo.x", "echo.never")).await;
        echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
        if polite {
            socket.send(CLOSE, b"").await;
            assert_eq!(socket.closed().await.0, 1000);
        } else {
            socket.0.send(&frame(TEXT, CALL.as_bytes())[..20]).await;
        }
        drop(socket);
        let labels = [("ingress", "websocket"), ("outcome", "cancelled")];
        let ended = if polite { 1.0 } else { 2.0 };
        echo.gateway.wait_for_metric("genkan_calls_total", &labels, ended).await;
    }
}
