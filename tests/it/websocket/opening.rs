//! Who may open a WebSocket, and how.

use crate::harness::http::Response;
use crate::harness::websocket::WebSocket;
use crate::harness::{Echo, as_fault};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"echo.x","params":[1]}"#;

/// Opens a socket; the response where it is refused.
async fn open(echo: &Echo, path: &str, headers: &[(&str, &str)]) -> Result<WebSocket, Response> {
    WebSocket::upgrade(echo.gateway.connect().await, path, headers).await
}

async fn refused(echo: &Echo, path: &str, headers: &[(&str, &str)]) -> Response {
    match open(echo, path, headers).await {
        Ok(_) => panic!("{path} {headers:?}: it is opened"),
        Err(response) => response,
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_before_anything_runs() {
    let echo = Echo::with("[http.cors]\norigins = [\"https://app.example\"]").await;
    let own = format!("http://{}", echo.gateway.http);
    for (origin, host) in
        [(own.as_str(), &*echo.gateway.http), ("https://app.example", "localhost")]
    {
        let headers = [("Origin", origin), ("Host", host), ("Sec-Fetch-Site", "cross-site")];
        let mut socket = open(&echo, "/api", &headers).await.expect(origin);
        assert_eq!(socket.ask(CALL).await["result"], 1, "{origin}");
    }
    for headers in [
        vec![("Origin", "https://evil.example")],
        vec![("Origin", "null")],
        vec![("Origin", "http://localhost:1")],
        vec![("Origin", "https://app.example"), ("Origin", "https://app.example")],
        vec![("Sec-Fetch-Site", "cross-site")],
        vec![("Host", "evil.example"), ("Origin", "http://evil.example")],
    ] {
        let response = refused(&echo, "/api", &headers).await;
        assert_eq!(response.status, 403, "{headers:?}: {response:?}");
        as_fault(&response.json()).is("access_denied", "not_sent");
    }
    assert_eq!(echo.called().len(), 2);
}

#[tokio::test]
async fn what_is_no_handshake_is_told() {
    let echo = Echo::start().await;
    let old = refused(&echo, "/api", &[("Sec-WebSocket-Version", "8")]).await;
    assert_eq!((old.status, old.header("sec-websocket-version")), (426, Some("13")), "{old:?}");
    for headers in [
        vec![("Sec-WebSocket-Key", "")],
        vec![("Sec-WebSocket-Key", "c2hvcnQ=")],
        vec![("Sec-WebSocket-Key", "no base64 at all!!!!!!==")],
        vec![("Connection", "keep-alive")],
        vec![("Content-Length", "2")],
        vec![("X-Request-Timeout", "soon")],
    ] {
        let response = refused(&echo, "/api", &headers).await;
        assert_eq!(response.status, 400, "{headers:?}: {response:?}");
        as_fault(&response.json()).is("invalid_request", "not_sent");
    }
    let plain = refused(&echo, "/api", &[("Upgrade", "")]).await;
    assert_eq!(plain.status, 405, "{plain:?}");
    assert!(as_fault(&plain.json()).message.contains("WebSocket"), "{plain:?}");
    let elsewhere = refused(&echo, "/call/echo/x", &[]).await;
    assert_eq!(elsewhere.status, 405, "{elsewhere:?}");
    assert!(echo.called().is_empty());
}

#[tokio::test]
async fn a_subprotocol_is_chosen_that_the_client_named() {
    let echo = Echo::start().await;
    for (asked, chosen) in [
        ("", None),
        ("graphql-ws", None),
        ("graphql-ws, jsonrpc", Some("jsonrpc")),
        ("jsonrpc-2.0,jsonrpc", Some("jsonrpc-2.0")),
    ] {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", asked),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
            ("X-Request-Id", "seen-again"),
        ];
        let mut connection = echo.gateway.connect().await;
        connection.request("GET", "/api", &headers, b"").await;
        let response = connection.receive().await.expect("a response");
        assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, chosen));
        assert_eq!(response.header("sec-websocket-extensions"), None, "nothing is compressed");
        assert_eq!(response.header("x-request-id"), Some("seen-again"));
    }
}

#[tokio::test]
async fn a_connection_that_made_calls_may_become_a_websocket() {
    let echo = Echo::start().await;
    let mut connection = echo.gateway.connect().await;
    connection.request("POST", "/api", &[], CALL.as_bytes()).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], 1);
    let socket = WebSocket::upgrade(connection, "/api", &[]).await;
    assert_eq!(socket.expect("it is opened").ask(CALL).await["result"], 1);
}
