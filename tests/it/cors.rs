//! CORS: which pages of other origins may call, with what, and what they may read.

use crate::harness::Echo;
use crate::harness::http::{Response, send};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":["p"],"id":1}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","result":"p","id":1}"#;

#[tokio::test]
async fn a_browser_on_a_configured_origin_may_call() {
    let echo = Echo::with("[http.cors]\norigins = [\"https://app.example\"]\n").await;
    let preflight = |origin: &'static str| {
        [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,x-request-timeout"),
        ]
    };
    let address = &echo.gateway.http;
    for path in ["/api", "/api/echo", "/call/echo/x"] {
        let headers = preflight("https://app.example");
        let response = send(address, "OPTIONS", path, &headers, b"").await;
        assert!((200..300).contains(&response.status), "{response:?}");
        assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
        let methods = response.header("access-control-allow-methods").unwrap_or_default();
        assert!(methods.contains("POST"), "{response:?}");
        let allowed = response.header("access-control-allow-headers").unwrap_or_default();
        assert!(allowed.to_lowercase().contains("content-type"), "{response:?}");
    }
    let response = echo.gateway.post("/api", &[("Origin", "https://app.example")], CALL).await;
    assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(response.text(), ANSWER);
    for stranger in
        ["https://evil.example", "http://app.example", "https://app.example.evil", "null"]
    {
        let headers = preflight(stranger);
        let response = send(address, "OPTIONS", "/api", &headers, b"").await;
        assert_eq!(response.header("access-control-allow-origin"), None, "{stranger}");
        assert_eq!(response.status, 403, "{stranger}");
    }
}

/// What programs in browsers send: a stream of events that goes on where it was, tracing, libraries' habits.
#[tokio::test]
async fn a_page_may_send_what_programs_in_browsers_send_and_read_what_is_told() {
    let cors = "[http.cors]\norigins = [\"https://app.example\"]\nheaders = [\"Sentry-Trace\"]\n";
    let echo = Echo::with(cors).await;
    let sent = "accept,authorization,baggage,cache-control,content-type,idempotency-key,last-event-id,\
                pragma,sentry-trace,traceparent,tracestate,x-api-key,x-request-id,x-requested-with";
    let listed = |response: &Response, header: &str| {
        let names = response.header(header).unwrap_or_default().to_lowercase();
        names.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>()
    };
    for (path, method) in [("/events?topic=a.b", "GET"), ("/api", "POST")] {
        let preflight = [
            ("Origin", "https://app.example"),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", sent),
        ];
        let address = &echo.gateway.http;
        let response = send(address, "OPTIONS", path, &preflight, b"").await;
        assert_eq!(response.status, 200, "{response:?}");
        let allowed = listed(&response, "access-control-allow-headers");
        for name in sent.split(',') {
            assert!(allowed.iter().any(|allowed| allowed == name), "{name}: {allowed:?}");
        }
    }
    let response = echo.gateway.post("/api", &[("Origin", "https://app.example")], CALL).await;
    let exposed = listed(&response, "access-control-expose-headers");
    for name in [
        "idempotency-replayed",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "www-authenticate",
        "x-request-id",
    ] {
        assert!(exposed.iter().any(|exposed| exposed == name), "{name}: {exposed:?}");
    }
}

#[tokio::test]
async fn a_page_may_send_credentials_only_where_that_is_configured() {
    const CREDENTIALS: &str = "access-control-allow-credentials";
    let page = "https://app.example";
    let named = "origins = [\"https://app.example\", \"https://other.example\"]";
    for (cors, allowed, credentials) in [
        (format!("{named}\ncredentials = true"), Some(page), Some("true")),
        (format!("{named}\ncredentials = false"), Some(page), None),
        (named.to_owned(), Some(page), None),
        ("origins = [\"*\"]".to_owned(), Some("*"), None),
    ] {
        let echo = Echo::with(&format!("[http.cors]\n{cors}\n")).await;
        let ask = async |origin: &'static str| {
            let preflight = [
                ("Origin", origin),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "content-type,authorization"),
            ];
            let address = &echo.gateway.http;
            let asked = send(address, "OPTIONS", "/api", &preflight, b"");
            [asked.await, echo.gateway.post("/api", &[("Origin", origin)], CALL).await]
        };
        for response in ask(page).await {
            assert_eq!(response.header("access-control-allow-origin"), allowed, "{cors}");
            assert_eq!(response.header(CREDENTIALS), credentials, "{cors}: {response:?}");
            if credentials.is_some() {
                let vary = response.header("vary").unwrap_or_default();
                assert!(vary.contains("origin"), "a cache must keep origins apart: {response:?}");
            }
        }
        for response in ask("https://evil.example").await {
            assert_ne!(response.header("access-control-allow-origin"), Some(page));
            assert_ne!(
                response.header("access-control-allow-origin"),
                Some("https://evil.example")
            );
        }
    }
}
