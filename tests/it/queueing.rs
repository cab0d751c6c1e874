//! `queue`: who comes over a limit waits for its turn, whichever way it came.

use serde_json::{Value, json};

use crate::harness::gateway::genkan;
use crate::harness::http::Connection;
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, Nats, as_fault, eventually, process};
use crate::hub::{HUB, Peer};
use crate::nats_exposes::exposed;

/// A row whose calls a module answers, when the test lets it.
fn desk(keys: &str) -> String {
    let row = "[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\ntimeout = \"1m\"\n";
    format!("{HUB}{row}{keys}\n")
}

async fn waiting(gateway: &Gateway, calls: f64) {
    let labels = [("route", "desk.*")];
    eventually(&format!("{calls} calls wait"), async || {
        let page = gateway.page("/metrics").await;
        let there = crate::harness::gateway::sum(page.text(), "genkan_calls_waiting", &labels);
        (there == calls).then_some(())
    })
    .await;
}

/// Calls `desk.METHOD`, and leaves the answer where it is.
async fn begin(gateway: &Gateway, method: &str, headers: &[(&str, &str)]) -> Connection {
    let mut connection = gateway.connect().await;
    connection.request("POST", &format!("/call/desk/{method}"), headers, b"{}").await;
    connection
}

async fn text(connection: &mut Connection) -> String {
    connection.receive().await.expect("an answer").text().to_owned()
}

fn problem(text: &str) -> (String, String, String) {
    let problem: Value = serde_json::from_str(text).expect(text);
    let said = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    (said("kind"), said("outcome"), said("detail"))
}

/// Takes the next call, of that function, and answers it with its name.
async fn serve(desk: &mut Peer, function: &str) -> Value {
    let call = desk.receive().await;
    assert_eq!(call["function"], function, "{call}");
    desk.answer(&call, json!(function)).await;
    call
}

#[tokio::test]
async fn whoever_calls_waits_for_its_turn_in_the_order_in_which_they_came() {
    let nats = Nats::start();
    let expose = "[[expose]]\nservice = \"desk\"\non = [\"bus\"]\n";
    let rows = desk("max_in_flight = 1\nqueue = 5");
    let gateway = Gateway::ready(&format!("{rows}{}{expose}", nats.upstream("bus", "picom"))).await;
    let mut desk = Peer::module(&gateway, "desk", &["a", "b", "c", "d", "e", "f"]).await;
    exposed(&gateway, "desk", 1).await;
    let mut first = begin(&gateway, "a", &[]).await;
    let held = desk.receive().await;
    let mut socket = WebSocket::open(&gateway.http).await;
    socket.say(r#"{"jsonrpc":"2.0","method":"desk.b","id":2}"#).await;
    waiting(&gateway, 1.0).await;
    let mut module = Peer::module(&gateway, "till", &[]).await;
    let asked = module
        .request(json!({"type": 3, "function": "desk.c", "arguments": {"x": 1}, "trace": "t"}))
        .await;
    waiting(&gateway, 2.0).await;
    let client = nats.client().await;
    let by_nats = client.request("desk.d", "{}".into());
    let rest = async {
        waiting(&gateway, 3.0).await;
        let batch = [
            r#"{"jsonrpc":"2.0","method":"desk.e","id":1}"#,
            r#"{"jsonrpc":"2.0","method":"desk.f","id":2}"#,
            r#"{"jsonrpc":"2.0","method":"desk.f","id":3}"#,
        ];
        let mut batched = gateway.connect().await;
        batched.request("POST", "/api", &[], format!("[{}]", batch.join(",")).as_bytes()).await;
        waiting(&gateway, 5.0).await;
        desk.is_silent().await;
        desk.answer(&held, json!("a")).await;
        serve(&mut desk, "b").await;
        let of_module = serve(&mut desk, "c").await;
        assert_eq!(
            (&of_module["caller"], &of_module["arguments"], &of_module["trace"]),
            (&json!("till"), &json!({"x": 1}), &json!("t")),
            "it comes as if it had not waited"
        );
        serve(&mut desk, "d").await;
        serve(&mut desk, "e").await;
        serve(&mut desk, "f").await;
        batched.receive().await.expect("an answer").json()
    };
    let (by_nats, batch) = tokio::join!(by_nats, rest);
    assert_eq!(text(&mut first).await, "\"a\"");
    assert_eq!(socket.json().await["result"], "b");
    assert_eq!(module.receive().await, json!({"requestId": asked, "type": 4, "data": "c"}));
    assert_eq!(by_nats.expect("an answer").payload, r#"{"payload":"d"}"#);
    assert_eq!((&batch[0]["result"], &batch[1]["result"]), (&json!("e"), &json!("f")));
    let fault = as_fault(&batch[2]);
    let told = &fault.is("overloaded", "not_sent").message;
    assert!(
        told.contains("1 calls of the row `desk.*` are under way and 5 wait")
            && told.contains("max_in_flight, queue"),
        "{told}"
    );
    waiting(&gateway, 0.0).await;
    let labels = [("route", "desk.*"), ("limit", "queue")];
    gateway.wait_for_metric("genkan_limited_total", &labels, 1.0).await;
}

#[tokio::test]
async fn whose_turn_does_not_come_in_time_has_not_run_and_who_can_know_does_not_wait() {
    let gateway = Gateway::ready(&desk("max_in_flight = 1\nqueue = 5")).await;
    let mut desk = Peer::module(&gateway, "desk", &["a", "b"]).await;
    let short = [("X-Request-Timeout", "300ms")];
    let mut first = begin(&gateway, "a", &[]).await;
    let held = desk.receive().await;
    // Nobody knows yet how long a call takes.
    let mut late = begin(&gateway, "b", &short).await;
    let mut module = Peer::module(&gateway, "till", &[]).await;
    let asked = module.request(json!({"type": 3, "function": "desk.b"})).await;
    let (kind, outcome, detail) = problem(&text(&mut late).await);
    assert_eq!((&*kind, &*outcome), ("timeout", "not_sent"), "{detail}");
    assert!(detail.contains("1 calls of the row `desk.*`") && detail.contains("max_in_flight"));
    desk.answer(&held, json!("a")).await;
    assert_eq!(text(&mut first).await, "\"a\"");
    // The module's call was made meanwhile; it is answered when it is.
    serve(&mut desk, "b").await;
    assert_eq!(module.receive().await["requestId"], json!(asked));
    // Now it is known.
    let mut second = begin(&gateway, "a", &[]).await;
    let held = desk.receive().await;
    let mut refused = begin(&gateway, "b", &[("X-Request-Timeout", "5ms")]).await;
    let refused = refused.receive().await.expect("an answer");
    let (kind, outcome, detail) = problem(refused.text());
    assert_eq!((&*kind, &*outcome, refused.status), ("overloaded", "not_sent", 429), "{detail}");
    assert!(
        detail.contains("its turn would come too late for its deadline (5ms), as its calls"),
        "{detail}"
    );
    assert!(refused.header("retry-after").is_some());
    desk.answer(&held, json!("a")).await;
    assert_eq!(text(&mut second).await, "\"a\"");
    desk.is_silent().await;
}

#[tokio::test]
async fn a_call_of_a_module_that_waited_ends_at_its_deadline_too() {
    let rows = desk("max_in_flight = 1\nqueue = 5").replace("1m", "5s");
    let gateway = Gateway::ready(&rows).await;
    let mut desk = Peer::module(&gateway, "desk", &["a", "b"]).await;
    let mut first = begin(&gateway, "a", &[]).await;
    let held = desk.receive().await;
    let mut module = Peer::module(&gateway, "till", &[]).await;
    let asked = module.request(json!({"type": 3, "function": "desk.b"})).await;
    waiting(&gateway, 1.0).await;
    desk.answer(&held, json!("a")).await;
    assert_eq!(text(&mut first).await, "\"a\"");
    assert_eq!(desk.receive().await["function"], "b");
    let fault = module.receive().await;
    assert_eq!((&fault["type"], &fault["requestId"]), (&json!(0), &json!(asked)), "{fault}");
    assert_eq!(fault["data"]["kind"], "timeout");
    assert_eq!(fault["data"]["outcome"], "unknown");
}

#[tokio::test]
async fn who_goes_away_leaves_the_line() {
    let gateway = Gateway::ready(&desk("max_in_flight = 1\nqueue = 5")).await;
    let mut desk = Peer::module(&gateway, "desk", &["a", "b", "c"]).await;
    let mut first = begin(&gateway, "a", &[]).await;
    let held = desk.receive().await;
    let gone = begin(&gateway, "b", &[]).await;
    waiting(&gateway, 1.0).await;
    let mut module = Peer::module(&gateway, "till", &[]).await;
    module.request(json!({"type": 3, "function": "desk.b"})).await;
    waiting(&gateway, 2.0).await;
    drop((gone, module));
    waiting(&gateway, 0.0).await;
    let mut last = begin(&gateway, "c", &[]).await;
    waiting(&gateway, 1.0).await;
    desk.answer(&held, json!("a")).await;
    assert_eq!(text(&mut first).await, "\"a\"");
    serve(&mut desk, "c").await;
    assert_eq!(text(&mut last).await, "\"c\"");
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "cancelled")], 2.0).await;
}

#[tokio::test]
async fn a_reload_with_another_limit_calls_as_many_as_there_are_places() {
    let toml = desk("max_in_flight = 1\nqueue = 5");
    let gateway = Gateway::ready(&toml).await;
    let mut desk = Peer::module(&gateway, "desk", &["a"]).await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        calls.push(begin(&gateway, "a", &[]).await);
    }
    waiting(&gateway, 4.0).await;
    let change = async |text: &str| {
        gateway.write_config(text);
        gateway.hang_up();
    };
    change(&toml.replace("max_in_flight = 1", "max_in_flight = 3")).await;
    waiting(&gateway, 2.0).await;
    change(&toml.replace("max_in_flight = 1", "").replace("queue = 5", "")).await;
    waiting(&gateway, 0.0).await;
    for _ in 0..5 {
        serve(&mut desk, "a").await;
    }
    for call in &mut calls {
        assert_eq!(text(call).await, "\"a\"");
    }
}

#[tokio::test]
async fn the_gateways_own_limit_has_a_line_too_behind_that_of_the_row() {
    let limits = "[limits]\nmax_in_flight = 2\nqueue = 1\n";
    let rows = desk("max_in_flight = 2\nqueue = 5");
    let more = "[[routes]]\nmatch = \"*\"\nupstream = \"hub\"\n";
    let gateway = Gateway::ready(&format!("{limits}{rows}{more}")).await;
    let mut desk = Peer::module(&gateway, "desk", &["a", "b"]).await;
    let mut other = Peer::module(&gateway, "other", &["x"]).await;
    let mut elsewhere = gateway.connect().await;
    elsewhere.request("POST", "/call/other/x", &[], b"{}").await;
    let held = other.receive().await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(begin(&gateway, "a", &[]).await);
    }
    waiting(&gateway, 2.0).await;
    let fault = gateway.fault("other.x", json!({})).await;
    let told = &fault.is("overloaded", "not_sent").message;
    assert!(told.contains("2 calls of the gateway are under way and 1 wait"), "{told}");
    other.answer(&held, json!("x")).await;
    for _ in 0..3 {
        serve(&mut desk, "a").await;
    }
    for call in &mut calls {
        assert_eq!(text(call).await, "\"a\"");
    }
    assert_eq!(text(&mut elsewhere).await, "\"x\"");
}

#[tokio::test]
async fn at_the_end_who_waits_runs_or_is_told_that_it_has_not() {
    let begun = async |drain_timeout: &str| {
        let rows = desk("max_in_flight = 1\nqueue = 5");
        let gateway = Gateway::ready(&format!("drain_timeout = \"{drain_timeout}\"\n{rows}")).await;
        let mut desk = Peer::module(&gateway, "desk", &["a", "b"]).await;
        let first = begin(&gateway, "a", &[]).await;
        let held = desk.receive().await;
        let second = begin(&gateway, "b", &[]).await;
        waiting(&gateway, 1.0).await;
        gateway.terminate();
        gateway.wait_for_log(0, "draining").await;
        (gateway, desk, held, first, second)
    };
    let (gateway, mut desk, held, mut first, mut second) = begun("1m").await;
    desk.answer(&held, json!("a")).await;
    serve(&mut desk, "b").await;
    assert_eq!((text(&mut first).await, text(&mut second).await), ("\"a\"".into(), "\"b\"".into()));
    assert_eq!(gateway.exit_status().await, 0);

    let (gateway, mut desk, _, mut first, mut second) = begun("500ms").await;
    let (kind, outcome, detail) = problem(&text(&mut second).await);
    assert_eq!((&*kind, &*outcome), ("unavailable", "not_sent"), "{detail}");
    let (kind, outcome, _) = problem(&text(&mut first).await);
    assert_eq!((&*kind, &*outcome), ("unavailable", "unknown"));
    assert!(desk.next().await.is_none_or(|frame| frame["type"] != 3), "it never came");
    assert_eq!(gateway.exit_status().await, 0);
}

#[tokio::test]
async fn who_waits_at_a_row_that_a_reload_has_removed_is_told_of_the_end_too() {
    let toml = format!("drain_timeout = \"500ms\"\n{}", desk("max_in_flight = 1\nqueue = 5"));
    let gateway = Gateway::ready(&toml).await;
    let mut desk = Peer::module(&gateway, "desk", &["a", "b"]).await;
    let _first = begin(&gateway, "a", &[]).await;
    desk.receive().await;
    let mut second = begin(&gateway, "b", &[]).await;
    waiting(&gateway, 1.0).await;
    gateway.write_config(&toml.replace("desk.*", "desk.?"));
    gateway.hang_up();
    gateway.wait_for_log(0, "reloaded").await;
    waiting(&gateway, 1.0).await;
    gateway.terminate();
    let (kind, outcome, detail) = problem(&text(&mut second).await);
    assert_eq!((&*kind, &*outcome), ("unavailable", "not_sent"), "{detail}");
    assert!(detail.contains("wait for its turn in the row `desk.*`"), "{detail}");
    assert_eq!(gateway.exit_status().await, 0);
}

#[tokio::test]
async fn a_queue_is_checked_and_explained() {
    let gateway = Gateway::start("").await;
    let run = |arguments: &[&str]| {
        let mut command = genkan();
        command.args(arguments).arg("--config").arg(gateway.config());
        process::run(&mut command)
    };
    gateway.write_config(&desk("max_in_flight = 2\nqueue = 100"));
    let (status, told, _) = run(&["explain", "desk.a"]);
    assert_eq!(status, 0, "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let queue = json!({"key": "queue", "most": "100 more wait for their turn", "of": "row"});
    assert_eq!(told["limits"][1], queue, "{told}");
    let wrong = [
        ("queue = 100", "add `max_in_flight`"),
        ("max_in_flight = 1\nqueue = 0", "`queue`"),
        ("max_in_flight = 1\nqueue = 10001", "`queue`"),
    ];
    for (keys, mend) in wrong {
        gateway.write_config(&desk(keys));
        let (status, _, said) = run(&["check"]);
        assert!(status == 1 && said.contains(mend), "{keys}: {said}");
    }
}
