//! What a service does wrong costs the call that it answers, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use super::config;
use crate::check_live::{check, tells};
use crate::harness::gateway::genkan;
use crate::harness::process::run;
use crate::harness::{Asked, Gateway, Say, Web, until};

/// What is answered to a method that is named after what is wrong.
fn wrong(asked: &Asked) -> Say {
    let json = "Content-Type: application/json\r\n";
    match asked.method().as_str() {
        "html" => Say::status("200 OK", "Content-Type: text/html\r\n", "<html>Welcome"),
        "text" => Say::status("200 OK", "Content-Type: text/plain\r\n", &body(asked)),
        "half" => {
            Say::bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"result\":").and_close()
        }
        "half_chunk" => {
            Say::bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n{\"re")
                .and_close()
        }
        "half_json" => Say::json("{\"result\":1").and_close(),
        "huge" => Say::bytes("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n[").and_again(),
        "endless" => Say::bytes("HTTP/1.1 200 OK\r\n\r\n[").and_again(),
        "nothing" => Say::bytes("").and_close(),
        "no_body" => Say::status("200 OK", json, ""),
        "many_headers" => {
            let more: String = (0..150).map(|n| format!("X-Header-{n}: 1\r\n")).collect();
            Say::status("200 OK", &format!("{json}{more}"), &body(asked))
        }
        "deep" => asked.result(&format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))),
        "boom" => Say::json(r#"{"error":"boom"}"#),
        "no_content" => Say::bytes("HTTP/1.1 204 No Content\r\n\r\n"),
        "no_http" => Say::bytes("220 mail.example ESMTP\r\n").and_close(),
        "redirect" => Say::status("301 Moved", "Location: http://127.0.0.1:9/\r\n", ""),
        "500" => Say::status("500 Oh", "", "oh"),
        "401" => Say::status("401 Who", "", ""),
        "denied" => {
            let error = r#"{"error":{"code":-32000,"message":"who are you?"},"id":null}"#;
            Say::status("401 Who", json, error)
        }
        "404" => Say::status("404 Where", "", "<html>"),
        "413" => Say::status("413 Much", "", ""),
        "429" => Say::status("429 Wait", "Retry-After: 7\r\n", ""),
        "503" => Say::status("503 Down", "Retry-After: 7\r\n", ""),
        "504" => Say::status("504 Late", "", ""),
        "other_id" => Say::json(r#"{"jsonrpc":"2.0","result":"another's","id":99999}"#),
        "batch" => Say::json(&format!("[{}]", body(asked))),
        "nan" => asked.result("[NaN, 1]"),
        "error" => {
            Say::json(r#"{"jsonrpc":"2.0","error":{"code":5,"message":"mailbox full"},"id":null}"#)
        }
        "silent" => Say::nothing(),
        "continue" => {
            let whole = body(asked);
            Say::bytes(format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{whole}",
                whole.len()
            ))
        }
        "second" => {
            // Somebody else's answer right behind: it must not become the next call's.
            let extra = "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"result\":\"smuggled\"}";
            let whole = body(asked);
            let length = whole.len();
            Say::bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{whole}{extra}"))
        }
        _ => asked.result("\"mine\""),
    }
}

fn body(asked: &Asked) -> String {
    format!(r#"{{"jsonrpc":"2.0","result":"fine","id":{}}}"#, asked.json()["id"])
}

#[tokio::test]
async fn each_gets_a_clear_fault() {
    let service = Web::serve(wrong).await;
    let gateway = Gateway::ready(&config(&service.url, "max_reply = \"64KiB\"")).await;
    for (method, kind, outcome, words) in [
        ("html", "internal", "unknown", "not JSON (it says text/html)"),
        ("half", "unavailable", "unknown", "was lost before its answer"),
        ("half_chunk", "unavailable", "unknown", "was lost before its answer"),
        ("half_json", "internal", "unknown", "not JSON"),
        ("huge", "too_large", "executed", "`max_reply`"),
        ("endless", "too_large", "executed", "`max_reply`"),
        ("nothing", "unavailable", "unknown", "it may have run, or not"),
        ("no_body", "internal", "unknown", "nothing at all"),
        ("no_content", "internal", "unknown", "nothing at all"),
        ("no_http", "internal", "unknown", "cannot be read as HTTP"),
        ("redirect", "internal", "unknown", "redirects are not followed: write the final URL"),
        ("500", "internal", "unknown", "HTTP status 500"),
        ("401", "access_denied", "unknown", "credentials"),
        ("denied", "access_denied", "unknown", "who are you?"),
        ("404", "unknown_service", "unknown", "path"),
        ("413", "too_large", "unknown", "send less"),
        ("429", "overloaded", "unknown", "it may have run, or not"),
        ("503", "unavailable", "unknown", "HTTP status 503"),
        ("504", "timeout", "unknown", "HTTP status 504"),
        ("other_id", "internal", "unknown", "another call"),
        ("batch", "internal", "unknown", "batch"),
        ("many_headers", "too_large", "unknown", "have it send fewer or shorter headers"),
        ("deep", "internal", "unknown", "have it answer with less deep lists and objects"),
    ] {
        let fault = gateway.fault(&format!("a.{method}"), Value::Null).await;
        fault.is(kind, outcome);
        assert!(fault.message.contains(words), "{method}: {fault:?}");
        assert!(!fault.message.contains("127.0.0.1"), "{method}: {fault:?}");
        let is_url = [
            "html",
            "half_json",
            "no_body",
            "no_content",
            "no_http",
            "redirect",
            "401",
            "404",
            "batch",
        ];
        assert_eq!(fault.message.contains("URL"), is_url.contains(&method), "{method}: {fault:?}");
        assert_eq!(gateway.result("a.fine", Value::Null).await, "mine", "after {method}");
    }
    let answer = gateway.post("/call/a/429", &[], "").await;
    // A 429 would have the call repeated, and the service may be passing on what its own call got.
    assert_eq!(answer.status, 503);
    assert_eq!(gateway.result("a.text", Value::Null).await, "fine");
    assert_eq!(gateway.result("a.continue", Value::Null).await, "fine");
    assert_eq!(gateway.result("a.nan", Value::Null).await, json!([null, 1]));
    assert!(gateway.metric("genkan_repaired_replies_total", &[("upstream", "web")]).await >= 1.0);
    for _ in 0..5 {
        assert_eq!(gateway.result("a.second", Value::Null).await, "fine");
        assert_eq!(gateway.result("a.fine", Value::Null).await, "mine");
    }
}

/// Nor is its port wrong where a service answers with more headers than are read.
#[tokio::test]
async fn a_head_that_is_too_large_is_http_all_the_same() {
    let service = Web::serve(wrong).await;
    let url = service.url.clone();
    let call = move || run(genkan().args(["call-raw", &url, "many_headers"]));
    let (_, _, said) = tokio::task::spawn_blocking(call).await.expect("it ran");
    assert!(said.contains("more headers, or longer ones, than are read"), "{said}");
}

/// Its answer, were it to come, could be nobody else's: the connection is closed.
#[tokio::test]
async fn a_call_that_is_given_up_takes_its_connection_with_it() {
    let service = Web::serve(wrong).await;
    let keys = "[[routes]]\nmatch = \"a.silent\"\nupstream = \"web\"\ntimeout = \"200ms\"\n";
    let gateway = Gateway::ready(&format!("{keys}{}", config(&service.url, ""))).await;
    gateway.result("a.fine", Value::Null).await;
    let fault = gateway.fault("a.silent", Value::Null).await;
    fault.is("timeout", "unknown");
    let asked = service.last();
    assert_eq!(gateway.result("a.fine", Value::Null).await, "mine");
    assert!(service.last().connection > asked.connection, "over another connection");
    crate::harness::until("the connection is closed", async || service.connections().1 > 0).await;
}

#[tokio::test]
async fn a_notification_is_taken_over_or_refused() {
    let service = Web::serve(wrong).await;
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    for method in ["no_content", "no_body", "fine"] {
        gateway.notify(&format!("a.{method}"), json!([])).await;
    }
    for method in ["500", "404", "nothing"] {
        gateway.notify(&format!("a.{method}"), json!([])).await;
    }
    let count = async |outcome| gateway.metric("genkan_calls_total", &[("outcome", outcome)]).await;
    crate::harness::until("all have ended", async || {
        let outcomes = [count("ok").await, count("internal").await, count("unknown_service").await];
        outcomes == [3.0, 1.0, 1.0] && count("unavailable").await == 1.0
    })
    .await;
    // Its caller hears nothing of an error that the service answers with, and the operator does.
    gateway.notify("a.error", json!([])).await;
    crate::harness::until("it has failed", async || count("application").await == 1.0).await;
    // Nor of an error of any other shape, or of a page in the place of the service.
    gateway.notify("a.boom", json!([])).await;
    gateway.notify("a.html", json!([])).await;
    crate::harness::until("they have failed", async || {
        (count("application").await, count("internal").await) == (2.0, 2.0)
    })
    .await;
    assert_eq!(count("ok").await, 3.0);
    let told = |line: &Value| line["call"] == "a.error" && line["reason"] == "mailbox full";
    crate::harness::until("it is logged", async || gateway.log().iter().any(told)).await;
}

/// A server that says `word` to whoever has sent it the first bytes, reads no more of it, and hangs up after a
/// while.
async fn curt(word: &'static str, buffer: u32) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(buffer).expect("a buffer");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(64).expect("it listens");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                drop(stream.read(&mut [0; 512]).await);
                drop(stream.write_all(word.as_bytes()).await);
                tokio::time::sleep(Duration::from_millis(500)).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn an_answer_that_comes_before_the_call_has_been_read_is_one() {
    let word = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
    // The system takes all of the call for one, and not for the other.
    for buffer in [4 << 20, 4 << 10] {
        let gateway = Gateway::ready(&config(&curt(word, buffer).await, "")).await;
        let large = json!(["x".repeat(900_000)]);
        for _ in 0..3 {
            gateway.fault("a.f", large.clone()).await.is("access_denied", "unknown");
        }
    }
}

#[tokio::test]
async fn one_that_does_not_speak_http_2_has_run_nothing() {
    for word in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "INFO {}\r\n"] {
        let url = curt(word, 64 << 10).await;
        let gateway = Gateway::start(&config(&url, "http2 = true")).await;
        let fault = gateway.fault("a.f", json!([1])).await;
        assert!(fault.is("unavailable", "not_sent").message.contains("HTTP/2"), "{fault:?}");
        let line = gateway.wait_for_log(0, "an instance is out: it does not speak HTTP/2").await;
        assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("`http2`")), "{line}");
        assert!(gateway.wait_until_not_ready().await.contains("does not speak HTTP/2"));
    }
}

/// Such a server reads nothing that does not begin as HTTP/2 does.
#[tokio::test]
async fn one_that_speaks_http_2_alone_has_run_nothing() {
    let settings = "\0\0\0\x04\0\0\0\0\0";
    let settings_and_goodbye = "\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
    for word in [settings, settings_and_goodbye] {
        let gateway = Gateway::start(&config(&curt(word, 64 << 10).await, "")).await;
        let fault = gateway.fault("a.f", json!([1])).await;
        assert!(fault.is("unavailable", "not_sent").message.contains("HTTP/2 alone"), "{fault:?}");
        let line = gateway.wait_for_log(0, "an instance is out: it speaks HTTP/2 alone").await;
        assert!(
            line["mend"].as_str().is_some_and(|mend| mend.contains("`http2 = true`")),
            "{line}"
        );
    }
}

/// A server that says one word when it is connected to, and another when it has heard something, and hangs up; and how
/// many connections to it have ended.
async fn odd(first: &'static str, answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let ended = Arc::new(AtomicUsize::new(0));
    let ends = Arc::clone(&ended);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let ends = Arc::clone(&ends);
            tokio::spawn(async move {
                drop(stream.write_all(first.as_bytes()).await);
                drop(stream.read(&mut [0; 512]).await);
                drop(stream.write_all(answer.as_bytes()).await);
                drop(stream);
                ends.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    (url, ended)
}

/// A connection alone says nothing of such a one, before its first call and after it.
#[tokio::test]
async fn an_instance_that_can_never_be_called_is_never_in_service() {
    let settings = "\0\0\0\x04\0\0\0\0\0";
    let goodbye = "\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
    let (closes, no_http) = ("closes connections at once", "speaks no HTTP: write the port");
    for (first, answer, words) in [
        (settings, "", "HTTP/2 alone: add `http2 = true`"),
        ("", goodbye, "HTTP/2 alone: add `http2 = true`"),
        ("INFO {}\r\n", "", no_http),
        ("", "", closes),
    ] {
        let (url, ended) = odd(first, answer).await;
        let gateway = Gateway::start(&config(&url, "")).await;
        until(words, async || gateway.page("/readyz").await.text().contains(words)).await;
        let fault = gateway.fault("a.f", json!([1])).await;
        // Whether one that hangs up, or says something of its own, has read the call before, nobody knows.
        if ![closes, no_http].contains(&words) {
            assert!(fault.is("unavailable", "not_sent").message.contains(words), "{fault:?}");
        }
        let before = ended.load(Ordering::Relaxed);
        until("three probes", async || ended.load(Ordering::Relaxed) >= before + 3).await;
        let told = |words: &str| gateway.log_text().matches(words).count();
        let seen = [told("an instance is in service"), told("an instance is out")];
        assert_eq!(seen, [0, 1], "{}", gateway.log_text());
        assert_eq!(gateway.metric("genkan_upstream_up", &[("upstream", "web")]).await, 0.0);

        let (_, problems) = check(&config(&url, "")).await;
        tells(&problems, "error", &[words]);
    }
}
