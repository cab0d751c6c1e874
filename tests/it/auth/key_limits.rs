//! Limits of an API key: they hold for all that is called with it, by whichever way and row.

use serde_json::{Value, json};

use super::{Guarded, answer, new_key, rpc};
use crate::harness::gateway::genkan;
use crate::harness::http::Connection;
use crate::harness::process::{Folder, run};
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, Nats, NatsResponder, as_fault, eventually};
use crate::hub::{HUB, Peer};

const ALLOW: &str = "allow = [\"key:*\"]";

async fn open(gateway: &Gateway, key: &str) -> WebSocket {
    WebSocket::open_with(&gateway.http, "/api", &[("X-API-Key", key)]).await
}

#[tokio::test]
async fn a_key_is_held_to_its_rate_by_every_way_and_row() {
    let ((web, lines), (other, more)) = (new_key(&["web"]), new_key(&["other"]));
    let second = "[[routes]]\nmatch = \"second.*\"\nupstream = \"nats\"\nservice = \"echo\"\n";
    let tables = format!("{lines}rate = \"4/d\"\n{more}");
    let row = format!("{ALLOW}\nrate = \"100/d\"\n{second}{ALLOW}");
    let guarded = Guarded::start(&tables, &row).await;
    let shown = [("X-API-Key", web.as_str())];
    // What is left of the tightest limit is told.
    let first = guarded.gateway.post("/call/echo/x", &shown, "[1]").await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"caller\";q=4;w=86400"));
    assert_eq!(first.header("ratelimit"), Some("\"caller\";r=3;t=21600"));
    assert_eq!(guarded.gateway.post("/call/second/x", &shown, "[1]").await.status, 200);
    let bearer = format!("Bearer {web}");
    let shown_too = [("Authorization", bearer.as_str())];
    let batch = format!("[{},{}]", rpc("echo.x"), rpc("second.x"));
    let batch = guarded.gateway.post("/api", &shown_too, batch).await.json();
    assert_eq!((&batch[0]["result"], &batch[1]["result"]), (&json!(1), &json!(1)), "{batch}");
    let refused = guarded.gateway.post("/call/echo/x", &shown, "[1]").await;
    assert_eq!(refused.status, 429);
    let detail = refused.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail.contains("4/d calls with the key `web` already, its limit (rate)"), "{detail}");
    let seconds: u64 = refused.header("retry-after").expect("a header").parse().expect("seconds");
    assert!((1..=21_600).contains(&seconds), "{seconds}");
    let left = format!("\"caller\";r=0;t={seconds}");
    assert_eq!(refused.header("ratelimit"), Some(left.as_str()));
    // It is the same key over a WebSocket, whether its opening shows it or it is said.
    let mut socket = open(&guarded.gateway, &web).await;
    as_fault(&socket.ask(rpc("second.x")).await).is("overloaded", "not_sent");
    let mut late = WebSocket::open(&guarded.gateway.http).await;
    let said = json!({"jsonrpc": "2.0", "id": 1, "method": "genkan.authenticate",
                      "params": {"token": web}});
    assert_eq!(late.ask(said.to_string()).await["result"]["subject"], "web");
    as_fault(&late.ask(rpc("echo.x")).await).is("overloaded", "not_sent");
    assert_eq!(guarded.calls(), 4, "nothing else was sent");
    // Others are not held to it.
    assert_eq!(guarded.status(&[("X-API-Key", other.as_str())]).await, 200);
    for (route, count) in [("echo.*", 2.0), ("second.*", 1.0)] {
        let labels = [("route", route), ("limit", "rate")];
        guarded.gateway.wait_for_metric("genkan_limited_total", &labels, count).await;
    }
}

#[tokio::test]
async fn a_key_s_limits_are_edited_under_open_connections_and_what_was_used_stays_used() {
    let (web, lines) = new_key(&["web"]);
    let mut guarded = Guarded::start(&format!("{lines}rate = \"2/d\"\n"), ALLOW).await;
    let mut socket = open(&guarded.gateway, &web).await;
    for _ in 0..2 {
        assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    }
    // Whatever else of the key changes, its rate is the same one.
    guarded.change(&format!("{lines}rate = \"2/d\"\nuser_id = \"7\"\n"), ALLOW).await;
    as_fault(&socket.ask(rpc("echo.x")).await).is("overloaded", "not_sent");
    assert_eq!(guarded.status(&[("X-API-Key", &web)]).await, 429);
    guarded.change(&format!("{lines}rate = \"3/d\"\n"), ALLOW).await;
    for _ in 0..3 {
        assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1, "another one begins anew");
    }
    as_fault(&socket.ask(rpc("echo.x")).await).is("overloaded", "not_sent");
    guarded.change(&lines, ALLOW).await;
    for _ in 0..5 {
        assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    }
    assert_eq!(guarded.calls(), 10);
}

/// A row whose calls a module answers, when the test lets it.
fn desk(lines: &str, limits: &str) -> String {
    let row = "[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\nallow = [\"key:*\"]\n";
    format!("{lines}{limits}\n{HUB}{row}[routes.idempotency]\n")
}

async fn begin(gateway: &Gateway, method: &str, headers: &[(&str, &str)]) -> Connection {
    let mut connection = gateway.connect().await;
    connection.request("POST", &format!("/call/desk/{method}"), headers, b"{}").await;
    connection
}

async fn status(connection: &mut Connection) -> u16 {
    connection.receive().await.expect("an answer").status
}

async fn serve(desk: &mut Peer, function: &str) {
    let call = desk.receive().await;
    assert_eq!(call["function"], function, "{call}");
    desk.answer(&call, json!(function)).await;
}

#[tokio::test]
async fn so_many_calls_with_a_key_are_under_way_at_once() {
    let ((web, lines), (other, more)) = (new_key(&["web"]), new_key(&["other"]));
    let keys = format!("{more}{lines}");
    let gateway = Gateway::start(&desk(&keys, "max_in_flight = 1")).await;
    let mut module = Peer::module(&gateway, "desk", &["a", "b", "c", "d"]).await;
    let shown = [("X-API-Key", web.as_str())];
    let mut first = begin(&gateway, "a", &shown).await;
    let held = module.receive().await;
    let refused = gateway.post("/call/desk/b", &shown, "{}").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let detail = refused.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail.contains("1 calls with the key `web` are under way already"), "{detail}");
    // One that has an idempotency key too is held to it, and so is a WebSocket.
    let keyed = [shown[0], ("Idempotency-Key", "first")];
    assert_eq!(gateway.post("/call/desk/b", &keyed, "{}").await.status, 429);
    let call = r#"{"jsonrpc":"2.0","method":"desk.b","id":2}"#;
    as_fault(&open(&gateway, &web).await.ask(call).await).is("overloaded", "not_sent");
    let mut others = begin(&gateway, "b", &[("X-API-Key", &other)]).await;
    serve(&mut module, "b").await;
    assert_eq!(status(&mut others).await, 200, "another key is not held to it");
    gateway.wait_for_metric("genkan_limited_total", &[("limit", "max_in_flight")], 3.0).await;
    // Edited, those under way count, and further ones wait for their turn.
    let seen = gateway.log().len();
    gateway.write_config(&desk(&keys, "max_in_flight = 1\nqueue = 2"));
    gateway.hang_up();
    gateway.wait_for_log(seen, "reloaded").await;
    let mut second = begin(&gateway, "c", &shown).await;
    waiting(&gateway, 1.0).await;
    let mut third = begin(&gateway, "d", &[shown[0], ("Idempotency-Key", "second")]).await;
    waiting(&gateway, 2.0).await;
    let full = gateway.post("/call/desk/b", &shown, "{}").await.json();
    let detail = full["detail"].as_str().expect("a text");
    assert!(detail.contains("1 calls of the key `web` are under way and 2 wait"), "{detail}");
    module.answer(&held, json!("a")).await;
    assert_eq!(status(&mut first).await, 200);
    for (method, waits) in [("c", &mut second), ("d", &mut third)] {
        serve(&mut module, method).await;
        assert_eq!(status(waits).await, 200, "{method}");
    }
}

async fn waiting(gateway: &Gateway, calls: f64) {
    eventually(&format!("{calls} calls wait"), async || {
        let there = gateway.metric("genkan_calls_waiting", &[("route", "desk.*")]).await;
        (there == calls).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_has_ended_has_the_limits_of_its_address() {
    let (late, lines) = new_key(&["late"]);
    let nats = Nats::start();
    let echo = NatsResponder::serve(nats.client().await, "echo", answer).await;
    let row = "[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\nallow = [\"any\"]\n";
    let ended = format!("{lines}rate = \"1/d\"\nexpires = 2020-01-01\n");
    let gateway = Gateway::ready(&format!("{ended}{}{row}", nats.upstream("nats", "plain"))).await;
    for _ in 0..3 {
        let answer = gateway.post("/call/echo/x", &[("X-API-Key", &late)], "[1]").await;
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
    }
    assert_eq!(echo.requests.count(), 3);
}

#[test]
fn explain_tells_a_key_s_limits_and_check_what_is_wrong_with_them() {
    let folder = Folder::new();
    let rows = "[limits]\nrate = \"100/s\"\n[[routes]]\nmatch = \"a.*\"\nupstream = \"hub\"\n\
                allow = [\"key:web\"]\n";
    let lines = new_key(&["web"]).1;
    let told = |limits: &str, arguments: &[&str]| {
        let config = folder.write("genkan.toml", &format!("{lines}{limits}\n{rows}"));
        run(genkan().args(arguments).arg("--config").arg(config))
    };
    let limits = "rate = \"9/m\"\nmax_in_flight = 2\nqueue = 5";
    let (_, out, err) = told(limits, &["explain", "a.x", "--as", "key:web"]);
    let read: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {err}"));
    let expected = json!([
        {"key": "rate", "most": "9/m", "of": "key"},
        {"key": "max_in_flight", "most": "2 at once", "of": "key"},
        {"key": "queue", "most": "5 more wait for their turn", "of": "key"},
        {"key": "rate", "most": "100/s from each caller", "of": "gateway"}]);
    assert_eq!(read["limits"], expected, "{read}");
    for (wrong, words) in [
        ("rate = \"0/s\"", "`rate` in [[auth.keys]] #1"),
        ("queue = 5", "there is nothing to wait for"),
        ("max_in_flight = 0", "`max_in_flight` in [[auth.keys]] #1"),
        ("total_rate = \"9/s\"", "`total_rate`"),
    ] {
        let (status, out, err) = told(wrong, &["check"]);
        assert!(status == 1 && out.contains(words), "{wrong}: {out} {err}");
    }
}
