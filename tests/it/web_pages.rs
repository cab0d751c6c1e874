//! What a browser lets any web page do: requests that need no preflight, and those of a page whose
//! name has been pointed at this machine. Nothing of them is executed.

use serde_json::json;

use crate::harness::http::{Connection, Response, encode, send};
use crate::harness::{Echo, as_fault};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":["p"],"id":1}"#;

/// Whether a request was turned away with 403, in the terms of its path.
#[track_caller]
fn is_turned_away(response: &Response, path: &str) {
    assert_eq!(response.status, 403, "{path}: {response:?}");
    assert_eq!(response.header("access-control-allow-origin"), None);
    let answer = response.json();
    if path.starts_with("/api") {
        assert_eq!(as_fault(&answer).is("access_denied", "not_sent").code, -32001);
    } else {
        assert_eq!((&answer["kind"], &answer["status"]), (&json!("access_denied"), &json!(403)));
        assert!(answer["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer}");
    }
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_is_turned_away_from_every_path() {
    let echo = Echo::start().await;
    let address = &echo.gateway.http;
    let port = address.rsplit(':').next().expect("a port");
    let origins = [
        "https://evil.example",
        "null",
        "file://",
        "http://localhost:1",
        &format!("https://localhost:{port}"),
        "chrome-extension://abc",
    ];
    for origin in origins {
        for path in ["/api", "/api/echo", "/call/echo/x", "/elsewhere"] {
            for (method, body) in [("POST", ""), ("POST", CALL), ("GET", ""), ("OPTIONS", "")] {
                // `text/plain` and no body at all need no preflight.
                for kind in ["", "text/plain", "application/json"] {
                    let headers = [
                        ("Origin", origin),
                        ("Content-Type", kind),
                        ("Access-Control-Request-Method", "POST"),
                    ];
                    let response = send(address, method, path, &headers, body.as_bytes()).await;
                    is_turned_away(&response, path);
                }
            }
        }
    }
    // An image or a form of another site: no Origin, but the browser says where it comes from.
    for site in ["cross-site", "same-site"] {
        for method in ["GET", "POST"] {
            let headers = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "no-cors")];
            let response = send(address, method, "/call/echo/x", &headers, b"").await;
            is_turned_away(&response, "/call/echo/x");
        }
    }
    assert_eq!(echo.called(), Vec::<String>::new(), "nothing of it was executed");
    let labels = [("route", "none"), ("outcome", "access_denied")];
    assert!(echo.gateway.metric("genkan_calls_total", &labels).await > 100.0);
}

#[tokio::test]
async fn a_page_of_the_listeners_own_origin_may_call() {
    let echo = Echo::start().await;
    let address = &echo.gateway.http;
    let own = format!("http://{address}");
    let headers = [("Host", address.as_str()), ("Origin", &own), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(echo.gateway.post("/api", &headers, CALL).await.json()["result"], "p");
    assert_eq!(echo.gateway.post("/call/echo/x", &headers, "[1]").await.text(), "1");
    let typed = [("Sec-Fetch-Site", "none")];
    assert_eq!(send(address, "GET", "/api", &typed, b"").await.status, 405);
}

#[tokio::test]
async fn behind_a_proxy_that_ends_tls_its_own_pages_may_call() {
    let echo = Echo::with("[http]\nhosts = [\"api.example\"]").await;
    let own = [("Host", "api.example"), ("Origin", "https://api.example")];
    for site in [None, Some(("Sec-Fetch-Site", "same-origin"))] {
        let headers: Vec<_> = own.into_iter().chain(site).collect();
        let answer = echo.gateway.post("/api", &headers, CALL).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["result"], "p");
    }
    assert_eq!(echo.called().len(), 2);
    // Pages of another site; and where the proxy does not hand on its clients' `Host`, nobody can tell
    // its own pages from those whose name was pointed at it: what the browser says is true of both.
    let address = echo.gateway.http.as_str();
    for (host, origin) in [
        ("api.example", "https://evil.example"),
        ("evil.example", "https://evil.example"),
        (address, "https://api.example"),
    ] {
        let headers = [("Host", host), ("Origin", origin), ("Sec-Fetch-Site", "same-origin")];
        is_turned_away(&echo.gateway.post("/api", &headers, CALL).await, "/api");
    }
    assert_eq!(echo.called().len(), 2);
}

#[tokio::test]
async fn a_name_that_was_pointed_at_this_machine_is_not_the_listeners() {
    let echo = Echo::with("[http]\nhosts = [\"gateway.example\"]").await;
    let address = &echo.gateway.http;
    let port = address.rsplit(':').next().expect("a port");
    for host in
        ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example"]
    {
        // For the browser the page and the gateway are of one origin.
        let origin = format!("http://{host}:{port}");
        let host = format!("{host}:{port}");
        for headers in [vec![("Host", host.as_str())], vec![("Host", &host), ("Origin", &origin)]] {
            for path in ["/api", "/api/echo", "/call/echo/x"] {
                let response = echo.gateway.post(path, &headers, CALL).await;
                // Two ports make no host.
                if host.matches(':').count() == 1 {
                    is_turned_away(&response, path);
                } else {
                    assert_eq!(response.status, 400);
                }
            }
        }
    }
    assert_eq!(echo.called(), Vec::<String>::new());
    let target = format!("http://evil.example:{port}/api");
    is_turned_away(&echo.gateway.post(&target, &[], CALL).await, "/api");
    for host in [address.as_str(), "localhost", "app.localhost:1", "[::1]:80", "gateway.example:81"]
    {
        let response = echo.gateway.post("/api", &[("Host", host)], CALL).await;
        assert_eq!(response.json()["result"], "p", "{host}");
    }
}

#[tokio::test]
async fn over_http_2_the_authority_is_the_host() {
    let echo = Echo::start().await;
    let stream = tokio::net::TcpStream::connect(&echo.gateway.http).await.expect("it accepts");
    let (executor, io) =
        (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let connected = hyper::client::conn::http2::handshake(executor, io).await;
    let (mut sender, connection) = connected.expect("HTTP/2");
    tokio::spawn(connection);
    for (url, status) in [("http://localhost/api", 200), ("http://evil.example/api", 403)] {
        let request = http::Request::post(url).header("content-type", "application/json");
        let body = http_body_util::Full::new(bytes::Bytes::from(CALL));
        let response = sender.send_request(request.body(body).expect("a request")).await;
        assert_eq!(response.expect("a response").status(), status, "{url}");
    }
    assert_eq!(echo.called().len(), 1);
}

/// Sends bytes and returns the answer, after which the connection must have ended.
async fn refused(address: &str, bytes: &[u8]) -> Response {
    let mut connection = Connection::open(address).await;
    connection.send(bytes).await;
    let answer = connection.receive().await.expect("an answer");
    let patience = std::time::Duration::from_secs(20);
    assert!(connection.is_closed_within(patience).await, "what follows is no request");
    answer
}

#[tokio::test]
async fn a_request_says_once_for_whom_it_is() {
    let echo = Echo::start().await;
    let address = &echo.gateway.http;
    let rest = "Content-Type: application/json\r\nContent-Length: 0\r\n\r\n";
    for hosts in ["", "Host: localhost\r\nHost: localhost\r\n", "Host:\r\n", "Host: a b\r\n"] {
        for path in ["/api", "/call/echo/x"] {
            let head = format!("POST {path} HTTP/1.1\r\n{hosts}{rest}");
            let answer = refused(address, head.as_bytes()).await;
            assert_eq!(answer.status, 400, "{hosts:?}: {answer:?}");
            assert!(answer.text().contains("Host"), "{answer:?}");
        }
    }
    // HTTP/1.0 had no such header.
    let answer = refused(address, b"POST /call/echo/x HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(echo.called().len(), 1);
}

#[tokio::test]
async fn a_body_has_one_end_whoever_reads_it() {
    let echo = Echo::start().await;
    let address = &echo.gateway.http;
    let chunked = format!("{:x}\r\n{CALL}\r\n0\r\n\r\n", CALL.len());
    for coding in ["gzip, chunked", "identity, chunked", "chunked, chunked", "x,chunked"] {
        let headers = [("Transfer-Encoding", coding)];
        let bytes = [encode("POST", "/api", &headers, b""), chunked.clone().into_bytes()].concat();
        let answer = refused(address, &bytes).await;
        assert!([400, 501].contains(&answer.status), "{coding}: {answer:?}");
    }
    let twice = [("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked")];
    let bytes = [encode("POST", "/api", &twice, b""), chunked.clone().into_bytes()].concat();
    assert!([400, 501].contains(&refused(address, &bytes).await.status));
    assert_eq!(echo.called(), Vec::<String>::new());
    let plain =
        [encode("POST", "/api", &[("Transfer-Encoding", "Chunked")], b""), chunked.into_bytes()];
    let mut connection = Connection::open(address).await;
    connection.send(&plain.concat()).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "p");
}
