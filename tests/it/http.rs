//! HTTP itself: content types, methods and paths, keep-alive, pipelining, HTTP/2, TLS,
//! compression, and the headers that travel with a call and its answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::harness::certs::Certs;
use crate::harness::http::encode;
use crate::harness::process::{Folder, program, run};
use crate::harness::{Echo, Gateway, as_fault};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":["p"],"id":1}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","result":"p","id":1}"#;

#[tokio::test]
async fn content_types_of_json_are_taken_and_others_refused() {
    let echo = Echo::start().await;
    for accepted in [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        "application/json-rpc",
    ] {
        let response = echo.gateway.post("/api", &[("Content-Type", accepted)], CALL).await;
        assert_eq!(response.text(), ANSWER, "{accepted}");
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    // Libraries send none at all (an empty header is left out); browsers do where a page may
    // send what it likes.
    assert_eq!(echo.gateway.post("/api", &[("Content-Type", "")], CALL).await.text(), ANSWER);
    assert_eq!(echo.gateway.post("/call/echo/x", &[("Content-Type", "")], "[1]").await.text(), "1");
    let before = echo.called().len();
    let page = ("Sec-Fetch-Site", "same-origin");
    for headers in [
        vec![("Content-Type", "text/plain")],
        vec![("Content-Type", "application/x-www-form-urlencoded")],
        vec![("Content-Type", "multipart/form-data")],
        vec![("Content-Type", "text/json")],
        vec![("Content-Type", ""), page],
        // Which of two holds, everybody on the way decides for himself.
        vec![("Content-Type", "application/json"), ("Content-Type", "text/plain")],
        vec![("Content-Type", "text/plain"), ("Content-Type", "application/json")],
        vec![("Content-Type", "application/json"), ("Content-Type", "application/json")],
    ] {
        let response = echo.gateway.post("/api", &headers, CALL).await;
        assert_eq!(response.status, 200, "{headers:?}");
        let fault = as_fault(&response.json());
        assert!(fault.is("invalid_request", "not_sent").message.contains("application/json"));
        let response = echo.gateway.post("/call/echo/x", &headers, "[1]").await;
        assert_eq!(response.status, 415, "{headers:?}");
        assert_eq!(response.json()["kind"], "invalid_request");
    }
    for encoding in ["gzip", "br", "identity, gzip"] {
        let headers = [("Content-Encoding", encoding)];
        let fault = as_fault(&echo.gateway.post("/api", &headers, CALL).await.json());
        assert!(fault.is("invalid_request", "not_sent").message.contains("Content-Encoding"));
        assert_eq!(echo.gateway.post("/call/echo/x", &headers, "[1]").await.status, 415);
    }
    assert_eq!(echo.called().len(), before, "nothing of it was executed");
}

#[tokio::test]
async fn other_methods_and_paths() {
    let echo = Echo::start().await;
    let address = &echo.gateway.http;
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        for path in ["/api", "/api/", "/api/echo", "/call/echo/x", "/call/echo/x/"] {
            let response = crate::harness::http::send(address, method, path, &[], b"").await;
            assert_eq!(response.status, 405, "{method} {path}");
            assert_eq!(response.header("allow"), Some("POST"), "{method} {path}");
            // What becomes of a WebSocket behind a proxy that was not told of it.
            let tells = response.text().contains("Upgrade and Connection: a proxy");
            assert_eq!(tells, path.starts_with("/api"), "{method} {path}: {}", response.text());
        }
    }
    for path in ["/", "/apis", "//api", "/call", "/call/echo", "/call/a/b/c", "/metrics"] {
        let response = echo.gateway.post(path, &[], CALL).await;
        assert_eq!(response.status, 404, "{path}");
    }
    assert_eq!(echo.called(), Vec::<String>::new());
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_in_the_callers_terms() {
    let echo = Echo::start().await;
    let answer = echo.gateway.post("/api/%ff", &[], r#"{"jsonrpc":"2.0","method":"x","id":1}"#);
    let answer = answer.await;
    assert_eq!(answer.status, 200);
    as_fault(&answer.json()).is("invalid_request", "not_sent");
    for path in ["/call/%ff/x", "/call/a/%C3"] {
        let problem = echo.gateway.post(path, &[], "").await;
        assert_eq!(problem.status, 400);
        assert_eq!(problem.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem.json()["kind"], "invalid_request");
    }
    let labels = [("route", "none"), ("outcome", "invalid_request")];
    assert_eq!(echo.gateway.metric("genkan_calls_total", &labels).await, 3.0);
}

#[tokio::test]
async fn a_connection_carries_one_request_after_another() {
    let echo = Echo::start().await;
    let mut connection = echo.gateway.connect().await;
    for _ in 0..3 {
        connection.request("POST", "/api", &[], CALL.as_bytes()).await;
        assert_eq!(connection.receive().await.expect("an answer").text(), ANSWER);
        // A faulty request costs its sender the answer, not the connection.
        connection.request("POST", "/api", &[], b"{").await;
        assert_eq!(connection.receive().await.expect("an answer").json()["error"]["code"], -32700);
    }
    connection.request("POST", "/api", &[("Connection", "close")], CALL.as_bytes()).await;
    assert!(connection.receive().await.is_some());
    assert!(connection.is_closed_within(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let echo = Echo::start().await;
    let mut connection = echo.gateway.connect().await;
    let mut bytes = Vec::new();
    for (id, method) in [(0, "slow"), (1, "x"), (2, "fail"), (3, "x")] {
        let body =
            format!(r#"{{"jsonrpc":"2.0","method":"echo.{method}","params":["p"],"id":{id}}}"#);
        bytes.extend(encode("POST", "/api", &[], body.as_bytes()));
    }
    connection.send(&bytes).await;
    for id in 0..4 {
        assert_eq!(connection.receive().await.expect("an answer").json()["id"], id);
    }
}

#[tokio::test]
async fn http_2_with_prior_knowledge_carries_many_calls_at_once() {
    let echo = Echo::start().await;
    let stream = tokio::net::TcpStream::connect(&echo.gateway.http).await.expect("it accepts");
    let connected =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = connected.await.expect("HTTP/2");
    tokio::spawn(connection);
    let call = |method: &'static str, id: usize| {
        let mut sender = sender.clone();
        let body =
            format!(r#"{{"jsonrpc":"2.0","method":"echo.{method}","params":["p"],"id":{id}}}"#);
        let url = format!("{}/api", echo.gateway.url());
        async move {
            let request = http::Request::post(url).header("content-type", "application/json");
            let request = request.body(Full::new(Bytes::from(body))).expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            assert_eq!(response.version(), http::Version::HTTP_2);
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON")
        }
    };
    let slow = futures_util::future::join_all((0..10).map(|id| call("later", id)));
    let quick = async {
        let of = [("upstream", "nats")];
        echo.gateway.wait_for_metric("genkan_calls_in_flight", &of, 10.0).await;
        call("x", 99).await
    };
    let (answers, quick) = tokio::join!(slow, quick);
    assert_eq!(quick, json!({"jsonrpc": "2.0", "result": "p", "id": 99}));
    for (id, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, json!({"jsonrpc": "2.0", "result": "p", "id": id}));
    }
}

#[tokio::test]
async fn https_by_configuration() {
    let certs = Certs::new();
    let toml = format!(
        "[http.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        certs.path("server.pem"),
        certs.path("server.key")
    );
    let gateway = Gateway::start(&toml).await;
    let url = format!("https://{}/api", gateway.http);
    let mut command = std::process::Command::new(program("curl", &[]));
    command.args(["-sS", "--cacert", &certs.path("ca.pem"), "-d", CALL]);
    command.args(["-H", "Content-Type: application/json", "-w", "\n%{http_version}", &url]);
    let (status, out, err) = run(&mut command);
    assert_eq!(status, 0, "{err}");
    let (body, version) = out.split_once('\n').expect("two lines");
    assert!(body.contains("unknown_service"), "{body}");
    assert_eq!(version, "2");
}

/// Over HTTP/2 the rest of a body that nobody reads costs some clients the answer; over HTTP/1 a
/// large one does.
#[tokio::test]
async fn a_client_hears_why_it_is_refused_before_its_body_is_looked_at() {
    let gateway = Gateway::start("").await;
    let folder = Folder::new();
    folder.write("small", CALL);
    folder.write("large", &" ".repeat(1_000_000));
    let json = "Content-Type: application/json";
    let refusals = [
        ("/api", vec!["Content-Type: text/plain"], "Content-Type"),
        ("/call/a/b", vec!["Content-Type: text/plain"], "Content-Type"),
        ("/call/a/b", vec![json, "Content-Encoding: gzip"], "Content-Encoding"),
        ("/call/a/b", vec![json, "X-Request-Timeout: soon"], "X-Request-Timeout"),
        ("/api", vec![json, "Origin: https://evil.example"], "evil.example"),
        ("/call/a/b", vec![json, "Host: evil.example"], "evil.example"),
        ("/call/a/b", vec![json, "Sec-Fetch-Site: cross-site"], "other sites"),
        ("/elsewhere", vec![json], "nothing is served"),
        ("/api/%ff", vec![json], "UTF-8"),
        ("/call/%ff/b", vec![json], "UTF-8"),
    ];
    for version in ["--http2-prior-knowledge", "--http1.1"] {
        for (path, headers, told) in &refusals {
            for (body, times) in [("small", 10), ("large", 3)] {
                for _ in 0..times {
                    let mut command = std::process::Command::new(program("curl", &[]));
                    let file = format!("@{}", folder.path().join(body).display());
                    command.args(["-sS", version, "--data-binary", &file, "-H", "Expect:"]);
                    command.args(headers.iter().flat_map(|header| ["-H", header]));
                    command.arg(format!("{}{path}", gateway.url()));
                    let ran = tokio::task::spawn_blocking(move || run(&mut command)).await;
                    let (status, out, err) = ran.expect("no panic");
                    let of = format!("{version} {path} {headers:?} {body}");
                    assert_eq!(status, 0, "{of}: {err}");
                    assert!(out.contains(told), "{of}: {out}");
                }
            }
        }
    }
}

#[tokio::test]
async fn answers_are_compressed_when_configured_and_asked_for() {
    let echo = Echo::with("[http]\ncompression = true\n").await;
    let body = r#"{"jsonrpc":"2.0","method":"echo.large","id":1}"#;
    let response = echo.gateway.post("/api", &[("Accept-Encoding", "gzip")], body).await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert!(response.body.len() < 5_000);
    let plain = echo.gateway.post("/api", &[], body).await;
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.json()["result"].as_str().map(str::len), Some(50_000));
}

#[tokio::test]
async fn a_caller_may_shorten_the_deadline_and_not_lengthen_it() {
    let echo = Echo::start().await;
    let toml = format!(
        "{}[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\ntimeout = \"700ms\"\n",
        echo.nats.upstream("nats", "picom")
    );
    let gateway = Gateway::ready(&toml).await;
    let never = r#"{"jsonrpc":"2.0","method":"echo.never","id":1}"#;
    for (header, deadline) in [("200ms", "200ms"), ("60s", "700ms"), ("", "700ms")] {
        let response = gateway.post("/api", &[("X-Request-Timeout", header)], never).await;
        let fault = as_fault(&response.json());
        assert_eq!(fault.is("timeout", "unknown").code, -32003);
        assert!(fault.message.contains(deadline), "`{header}`: {fault:?}");
    }
    let twice = [("X-Request-Timeout", "5s"), ("X-Request-Timeout", "5s")];
    as_fault(&gateway.post("/api", &twice, CALL).await.json()).is("invalid_request", "not_sent");
    for nonsense in ["soon", "5", "-1s", "0s", "1e9s"] {
        let response = gateway.post("/api", &[("X-Request-Timeout", nonsense)], CALL).await;
        let answer = response.json();
        assert_eq!(answer["id"], 1, "{answer}");
        let fault = as_fault(&answer);
        assert!(fault.is("invalid_request", "not_sent").message.contains("X-Request-Timeout"));
    }
}

#[tokio::test]
async fn server_timing_tells_the_gateways_share_from_the_services() {
    let echo = Echo::start().await;
    for (path, body) in
        [("/api", r#"{"jsonrpc":"2.0","method":"echo.slow","id":1}"#), ("/call/echo/slow", "")]
    {
        let asked = Instant::now();
        let response = echo.gateway.post(path, &[], body).await;
        let all = asked.elapsed().as_secs_f64() * 1e3;
        let timing = response.header("server-timing").expect("the header").to_owned();
        let share = |name: &str| -> f64 {
            let part = timing.split(',').find(|part| part.trim().starts_with(name));
            let duration = part.and_then(|part| part.split("dur=").nth(1));
            duration.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("{timing}"))
        };
        // The service sleeps that long, and nothing else has a part in it.
        let (service, gateway) = (share("service"), share("gateway"));
        assert!(service >= 400.0 && service + gateway <= all, "{timing} of {all}");
    }
}

#[tokio::test]
async fn a_request_id_comes_back_and_one_is_made_where_there_is_none() {
    let echo = Echo::start().await;
    for (path, body) in [("/api", CALL), ("/api", "{"), ("/call/echo/x", "[1]"), ("/call/a/b", "")]
    {
        let response = echo.gateway.post(path, &[("X-Request-Id", "order-4711")], body).await;
        assert_eq!(response.header("x-request-id"), Some("order-4711"), "{path} {body}");
        let response = echo.gateway.post(path, &[], body).await;
        assert!(response.header("x-request-id").is_some_and(|id| id.len() >= 16), "{response:?}");
    }
}

#[tokio::test]
async fn the_callers_trace_is_kept_and_one_begins_where_there_is_none() {
    let echo = Echo::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("traceparent", trace), ("tracestate", "vendor=1")];
    echo.gateway.post("/api", &headers, CALL).await;
    let seen = echo.service.requests.last();
    let carried = seen.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
    let carried = carried.expect("a trace on NATS").1;
    assert_eq!(carried[3..35], trace[3..35], "the same trace");
    for broken in ["", "garbage", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        echo.gateway.post("/api", &[("traceparent", broken)], CALL).await;
        let seen = echo.service.requests.last();
        let made = seen.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
        let made = made.expect("a trace on NATS").1;
        assert_eq!(made.len(), 55);
        assert_ne!(made[3..35], trace[3..35]);
    }
    echo.gateway.post("/api", &[("traceparent", trace), ("traceparent", trace)], CALL).await;
    let seen = echo.service.requests.last();
    let made = seen.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
    assert_ne!(made.expect("a trace on NATS").1[3..35], trace[3..35], "of two, neither");
}

#[tokio::test]
async fn gemstones_dialect_for_its_client() {
    let echo = Echo::start().await;
    let agent = ("User-Agent", "gemstone-client");
    let (gateway, headers) = (&echo.gateway, &[agent]);
    {
        let result = gateway.post("/api", headers, CALL).await.json();
        assert_eq!(result, json!({"jsonrpc": "2.0", "result": "p", "error": null, "id": 1}));
        let fail = r#"{"jsonrpc":"2.0","method":"echo.fail","id":2}"#;
        let fault = gateway.post("/api/", headers, fail).await.json();
        assert!(fault.get("result").is_some_and(serde_json::Value::is_null), "{fault}");
        assert_eq!(fault["error"]["data"]["kind"], "application");
        let note = r#"{"jsonrpc":"2.0","method":"echo.noted"}"#;
        let batch = gateway.post("/api", headers, format!("[{note},{note}]")).await;
        assert_eq!((batch.status, batch.text()), (200, "[]"));
        let mixed = gateway.post("/api", headers, format!("[{note},{CALL}]")).await.json();
        assert_eq!(mixed, json!([{"jsonrpc": "2.0", "result": "p", "error": null, "id": 1}]));
    }
    let strict = echo.gateway.post("/api", &[("User-Agent", "Python-urllib/3.11")], CALL).await;
    assert_eq!(strict.text(), ANSWER);
}

#[tokio::test]
async fn requests_that_are_not_http_harm_nobody() {
    let echo = Echo::start().await;
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"POST /api HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /api HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0",
    ] {
        let mut connection = echo.gateway.connect().await;
        connection.send(nonsense).await;
        if let Some(answer) = connection.receive().await {
            assert!(answer.status >= 400, "{answer:?}");
        }
    }
    assert_eq!(echo.gateway.result("echo.x", json!(["still there"])).await, "still there");
}

/// Where only HTTP/1.1 is to be spoken, HTTP/2's preface (RFC 9113, section 3.4) is no request.
#[tokio::test]
async fn http2_is_spoken_only_where_it_may_be() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for http2 in [true, false] {
        let gateway = Gateway::start(&format!("[http]\nhttp2 = {http2}\n")).await;
        let mut client = gateway.connect().await;
        client.send(preface).await;
        // A frame of settings, but for its length.
        let begins = client.receive_bytes(5).await;
        let settings = begins.map(|bytes| bytes[3..] == [4, 0]);
        assert_eq!(settings, http2.then_some(true));
    }
}
