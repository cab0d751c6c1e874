//! Bodies, batches, nesting and connections over their limits: refused with the fault that says
//! so, and nothing of them is executed.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::http::{Connection, encode};
use crate::harness::{Echo, as_fault};

fn call(param: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"echo.x","params":["{param}"],"id":1}}"#)
}

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"echo.x"}"#;

#[tokio::test]
async fn a_body_of_the_limit_passes_and_one_byte_more_does_not() {
    let echo = Echo::with("[http]\nmax_body = \"4KiB\"").await;
    let fitting = call(&"x".repeat(4096 - call("").len()));
    assert_eq!(fitting.len(), 4096);
    let response = echo.gateway.post("/api", &[], &fitting).await;
    assert!(response.json().get("result").is_some());
    let over = call(&"x".repeat(4097 - call("").len()));
    let answer = echo.gateway.api(&over).await;
    let fault = as_fault(&answer);
    assert_eq!(fault.is("too_large", "not_sent").code, -32006);
    assert!(fault.message.contains("4KiB"), "{}", fault.message);
    let problem = echo.gateway.post("/call/echo/x", &[], &over).await;
    assert_eq!(problem.status, 413);
    assert_eq!(echo.called().len(), 1, "nothing of it was executed");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_chunks_too_and_before_it_has_all_come() {
    let echo = Echo::with("[http]\nmax_body = \"4KiB\"").await;
    let mut chunked = echo.gateway.connect().await;
    let head = encode(
        "POST",
        "/api",
        &[("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")],
        b"",
    );
    chunked.send(&head).await;
    for _ in 0..5 {
        let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
        if chunked.try_send(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = chunked.receive().await.expect("an answer").json();
    as_fault(&answer).is("too_large", "not_sent");

    let mut announced = echo.gateway.connect().await;
    let size = (100_u64 << 30).to_string();
    let head = encode(
        "POST",
        "/api",
        &[("Content-Type", "application/json"), ("Content-Length", &size)],
        b"",
    );
    announced.send(&head).await;
    let answer = announced.receive().await.expect("an answer at once").json();
    as_fault(&answer).is("too_large", "not_sent");

    // Who asks first is told before anything is sent.
    let mut asking = echo.gateway.connect().await;
    let expect = [
        ("Content-Type", "application/json"),
        ("Content-Length", "5000"),
        ("Expect", "100-continue"),
    ];
    asking.send(&encode("POST", "/api", &expect, b"")).await;
    let answer = asking.receive().await.expect("an answer, not 100 Continue");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    as_fault(&answer.json()).is("too_large", "not_sent");
}

#[tokio::test]
async fn a_batch_of_the_limit_passes_and_one_request_more_does_not() {
    let echo = Echo::with("[http]\nmax_batch = 3").await;
    let batch = |size: usize| format!("[{}]", vec![call("p"); size].join(","));
    assert_eq!(echo.gateway.api(batch(3)).await.as_array().map(Vec::len), Some(3));
    // Clients look for their ids: every one of them is told, and nobody else.
    let mixed = format!("[{},{},{},{}]", call("p"), NOTE, call("p").replace(":1}", ":\"b\"}"), "7");
    let answers = echo.gateway.api(mixed).await;
    let answers = answers.as_array().expect("a batch");
    for (answer, id) in answers.iter().zip([json!(1), json!("b"), json!(null)]) {
        assert_eq!(answer["id"], id);
        let fault = as_fault(answer);
        assert_eq!(fault.is("too_large", "not_sent").code, -32006);
        assert!(fault.message.contains('4') && fault.message.contains('3'), "{}", fault.message);
    }
    assert_eq!(answers.len(), 3);
    let notes = format!("[{}]", [NOTE; 4].join(","));
    as_fault(&echo.gateway.api(notes).await).is("too_large", "not_sent");
    // An answer is no larger than an answer may become: 500,000 entries get one.
    let many = format!("[{}]", vec!["1"; 500_000].join(","));
    as_fault(&echo.gateway.api(many).await).is("too_large", "not_sent");
    assert_eq!(echo.called().len(), 3);
    let thousand = Echo::start().await;
    let answers = thousand.gateway.api(batch(1_000)).await;
    assert!(answers.as_array().is_some_and(|all| all.iter().all(|one| one["result"] == "p")));
    let answers = thousand.gateway.api(batch(1_001)).await;
    assert_eq!(answers.as_array().map(Vec::len), Some(1_001));
    assert_eq!(thousand.called().len(), 1_000);
}

#[tokio::test]
async fn nesting_of_128_passes_and_129_does_not() {
    let echo = Echo::start().await;
    // The envelope is the first level.
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"jsonrpc":"2.0","method":"echo.x","params":{open}{close},"id":1}}"#)
    };
    assert!(echo.gateway.api(nested(128)).await.get("result").is_some());
    let fault = as_fault(&echo.gateway.api(nested(129)).await);
    assert_eq!(fault.is("too_large", "not_sent").code, -32006);
    let bomb = "[".repeat(500_000);
    as_fault(&echo.gateway.api(bomb).await).is("too_large", "not_sent");
    let bare = format!("{}{}", "[".repeat(129), "]".repeat(129));
    assert_eq!(echo.gateway.post("/call/echo/x", &[], bare).await.status, 413);
    assert_eq!(echo.called().len(), 1);
    // Brackets in a string nest nothing.
    assert!(echo.gateway.api(call(&"[".repeat(400))).await.get("result").is_some());
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let echo = Echo::with("[http]\nread_timeout = \"400ms\"").await;
    let body = call("p");
    let request = encode("POST", "/api", &[], body.as_bytes());
    let mut connection = echo.gateway.connect().await;
    connection.send(&request[..request.len() - 5]).await;
    let answer = connection.receive().await.expect("an answer").json();
    as_fault(&answer).is("timeout", "not_sent");
    assert!(connection.is_closed_within(Duration::from_secs(5)).await);
    assert_eq!(echo.called(), Vec::<String>::new());
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_refused() {
    let echo = Echo::with("[http]\nread_timeout = \"400ms\"").await;
    for head in ["P", "POST /api HTTP/1.1\r\nHost: a\r\nContent-"] {
        let mut connection = echo.gateway.connect().await;
        connection.send(head.as_bytes()).await;
        refused_for_its_head(&mut connection).await;
    }
    // After an answer too.
    let mut used = echo.gateway.connect().await;
    used.request("POST", "/api", &[], call("p").as_bytes()).await;
    assert_eq!(used.receive().await.expect("an answer").status, 200);
    used.send(b"POST /api HT").await;
    refused_for_its_head(&mut used).await;
    let labels = [("route", "none"), ("outcome", "timeout")];
    assert_eq!(echo.gateway.metric("genkan_calls_total", &labels).await, 3.0);
    assert_eq!(echo.called().len(), 1);
}

async fn refused_for_its_head(connection: &mut Connection) {
    let answer = connection.receive().await.expect("an answer");
    assert_eq!(answer.status, 408);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("connection"), Some("close"));
    let problem = answer.json();
    assert_eq!((&problem["kind"], &problem["status"]), (&json!("timeout"), &json!(408)));
    assert_eq!((&problem["outcome"], &problem["retryable"]), (&json!("not_sent"), &json!(true)));
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("400ms")), "{problem}");
    assert!(connection.is_closed_within(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_head_that_drips_in_does_not_keep_its_connection() {
    let echo = Echo::with("[http]\nread_timeout = \"400ms\"").await;
    let mut dripping = echo.gateway.connect().await;
    let started = Instant::now();
    while dripping.try_send(b"x").await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(8), "it kept its connection");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let echo = Echo::with("[http]\nidle_timeout = \"300ms\"").await;
    let mut idle = echo.gateway.connect().await;
    let mut used = echo.gateway.connect().await;
    used.request("POST", "/api", &[], call("p").as_bytes()).await;
    assert!(used.receive().await.is_some());
    assert!(idle.is_closed_within(Duration::from_secs(5)).await);
    assert!(used.is_closed_within(Duration::from_secs(5)).await);
    // The service takes longer than that: whoever waits for it is not idle.
    let slow = echo.gateway.result("echo.later", json!(["waited"])).await;
    assert_eq!(slow, "waited");
}

#[tokio::test]
async fn more_connections_than_the_limit_wait_for_a_place() {
    let echo = Echo::with("[http]\nmax_connections = 2").await;
    let mut held = (echo.gateway.connect().await, echo.gateway.connect().await);
    for connection in [&mut held.0, &mut held.1] {
        connection.request("POST", "/api", &[], call("p").as_bytes()).await;
        assert!(connection.receive().await.is_some());
    }
    let mut third = echo.gateway.connect().await;
    third.request("POST", "/api", &[], call("p").as_bytes()).await;
    assert!(!third.is_closed_within(Duration::from_millis(300)).await, "it waits, unanswered");
    drop(held);
    assert!(third.receive().await.is_some_and(|answer| answer.status == 200));
}

#[tokio::test]
async fn calls_beyond_an_upstreams_limit_are_told_to_come_back() {
    let echo = Echo::start().await;
    let toml = format!(
        "{}max_in_flight = 2\n[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\n",
        echo.nats.upstream("nats", "picom")
    );
    let gateway = crate::harness::Gateway::ready(&toml).await;
    let batch = r#"[{"jsonrpc":"2.0","method":"echo.slow","id":1},
                    {"jsonrpc":"2.0","method":"echo.slow","id":2},
                    {"jsonrpc":"2.0","method":"echo.slow","id":3}]"#;
    let answers = gateway.api(batch).await;
    let refused: Vec<_> = answers
        .as_array()
        .expect("a batch")
        .iter()
        .filter(|answer| answer.get("error").is_some())
        .collect();
    assert_eq!(refused.len(), 1, "{answers}");
    let fault = as_fault(refused[0]);
    assert_eq!(fault.is("overloaded", "not_sent").code, -32005);
    assert_eq!(fault.data["retryable"], true);

    let mut slow = (gateway.connect().await, gateway.connect().await);
    for connection in [&mut slow.0, &mut slow.1] {
        connection.request("POST", "/call/echo/later", &[], b"").await;
    }
    gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 2.0).await;
    let problem = gateway.post("/call/echo/x", &[], "").await;
    assert_eq!(problem.status, 429);
    assert!(problem.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
    assert!(slow.0.receive().await.is_some_and(|answer| answer.status == 200));
}
