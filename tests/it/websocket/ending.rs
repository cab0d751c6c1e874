//! SIGTERM, and settings that change while sockets are open.

use serde_json::json;

use crate::harness::http::{Connection, encode};
use crate::harness::process::PATIENCE;
use crate::harness::websocket::WebSocket;
use crate::harness::{Echo, as_fault, eventually};

fn call(id: usize, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"echo.{method}","params":[{id}]}}"#)
}

#[tokio::test]
async fn a_draining_gateway_answers_what_it_owes_and_says_goodbye() {
    let echo = Echo::start().await;
    let mut idle = WebSocket::open(&echo.gateway.http).await;
    let mut busy = WebSocket::open(&echo.gateway.http).await;
    busy.say(call(1, "later")).await;
    busy.say(call(2, "later")).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 2.0).await;
    echo.gateway.terminate();
    let (code, reason) = idle.closed().await;
    assert_eq!(code, 1001, "{reason}");
    // Each socket is told by itself: until this one is, what it says is answered, and at once.
    let mut answered = 0;
    let first = loop {
        let id = 3 + answered;
        busy.say(call(id, "x")).await;
        let answer = busy.json().await["id"].clone();
        if answer != id {
            break answer;
        }
        answered += 1;
    };
    let mut ids = [first, busy.json().await["id"].clone()];
    ids.sort_unstable_by_key(ToString::to_string);
    assert_eq!(ids, [1, 2], "what it says when it has been told is not taken");
    assert_eq!(busy.closed().await.0, 1001);
    assert_eq!(echo.gateway.exit_status().await, 0);
    assert_eq!(echo.called(), [&["later"; 2][..], &vec!["x"; answered]].concat());
}

/// It lies in the system's buffers when the signal comes: whoever has sent it cannot know.
#[tokio::test]
async fn what_was_sent_before_is_answered() {
    let echo = Echo::start().await;
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(WebSocket::open(&echo.gateway.http).await);
    }
    echo.gateway.freeze(true);
    for socket in &mut open {
        socket.say(call(1, "x")).await;
    }
    echo.gateway.terminate();
    echo.gateway.freeze(false);
    for socket in &mut open {
        assert_eq!(socket.json().await["result"], 1);
        assert_eq!(socket.closed().await.0, 1001);
    }
    assert_eq!(echo.gateway.exit_status().await, 0);
}

#[tokio::test]
async fn a_client_that_does_not_hang_up_holds_no_end_up() {
    let echo = Echo::start().await;
    let socket = WebSocket::open(&echo.gateway.http).await;
    echo.gateway.terminate();
    let ended = tokio::time::timeout(PATIENCE, echo.gateway.exit_status()).await;
    assert_eq!(ended.expect("it ends"), 0);
    drop(socket);
}

#[tokio::test]
async fn a_socket_lives_through_a_reload_and_new_settings_hold_for_it() {
    let echo = Echo::start().await;
    let config = std::fs::read_to_string(echo.gateway.config()).expect("the file");
    let mut socket = WebSocket::open(&echo.gateway.http).await;
    assert_eq!(socket.ask(call(1, "x")).await["result"], 1);
    socket.say(call(2, "later")).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    let smaller = config.replacen("[http]", "[http]\nmax_batch = 1", 1);
    let smaller = smaller.replace("match = \"echo.*\"", "match = \"mirror.*\"\nservice = \"echo\"");
    let seen = echo.gateway.log().len();
    echo.gateway.write_config(&smaller);
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(seen, "reloaded").await;
    let answer = socket.ask("[1,2]").await;
    as_fault(&answer[0]).is("too_large", "not_sent");
    let moved = r#"{"jsonrpc":"2.0","id":3,"method":"mirror.x","params":[3]}"#;
    assert_eq!(socket.ask(moved).await["result"], 3);
    assert_eq!(socket.json().await["result"], 2, "the call that was under way");
}

#[tokio::test]
async fn a_page_that_may_not_call_any_more_is_told_so() {
    let echo = Echo::with(
        "[http.cors]\norigins = [\"https://app.example\"]\n[http.websocket]\nping = \"5s\"",
    )
    .await;
    let config = std::fs::read_to_string(echo.gateway.config()).expect("the file");
    let headers = [("Origin", "https://app.example")];
    let mut page = WebSocket::open_with(&echo.gateway.http, "/api", &headers).await;
    let quiet = WebSocket::open_with(&echo.gateway.http, "/api", &headers).await;
    let mut program = WebSocket::open(&echo.gateway.http).await;
    assert_eq!(page.ask(call(1, "x")).await["result"], 1);
    let seen = echo.gateway.log().len();
    echo.gateway.write_config(&config.replace("app.example", "new.example"));
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(seen, "reloaded").await;
    page.say(call(2, "refused")).await;
    for mut socket in [page, quiet] {
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 1008, "{reason}");
        assert!(reason.contains("app.example"), "{reason}");
    }
    assert_eq!(program.ask(call(3, "x")).await["result"], 3);
    assert_eq!(echo.called(), ["x", "x"]);
}

#[tokio::test]
async fn sockets_count_as_connections_to_their_end() {
    let echo = Echo::with("[http]\nmax_connections = 2").await;
    let mut first = WebSocket::open(&echo.gateway.http).await;
    let _second = WebSocket::open(&echo.gateway.http).await;
    assert_eq!(first.ask(call(1, "x")).await["result"], 1);
    let mut waiting = echo.gateway.connect().await;
    waiting.request("POST", "/api", &[], call(2, "x").as_bytes()).await;
    assert_eq!(first.ask(call(3, "x")).await["result"], 3);
    assert_eq!(echo.called().len(), 2, "the third connection waits");
    drop(first);
    assert_eq!(waiting.receive().await.expect("an answer").json()["result"], 2);
    eventually("it has run", async || (echo.called().len() == 3).then_some(())).await;
}

/// The answer to its opening request can be read, and cannot be written.
#[tokio::test]
async fn a_client_that_has_left_before_its_socket_is_open_leaves_its_place() {
    let echo = Echo::with("[http]\nmax_connections = 1").await;
    let opening = [
        ("Host", &*echo.gateway.http),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let opening = encode("GET", "/api", &opening, b"");
    for _ in 0..3 {
        echo.gateway.freeze(true);
        let mut gone = Connection::open(&echo.gateway.http).await;
        gone.send(&opening).await;
        gone.reset();
        echo.gateway.freeze(false);
        assert_eq!(echo.gateway.result("echo.x", json!(["next"])).await, "next");
    }
    echo.gateway.terminate();
    let ended = tokio::time::timeout(PATIENCE, echo.gateway.exit_status()).await;
    assert_eq!(ended.expect("it ends"), 0);
}
