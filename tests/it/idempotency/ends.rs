//! What is kept of a call that has ended, and what is not.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{KEPT, Till, config, is_replayed, problem};
use crate::harness::gateway::genkan;
use crate::harness::web::Say;
use crate::harness::{Gateway, as_fault, process};
use crate::hub::{HUB, Peer};

#[tokio::test]
async fn a_repetition_gets_the_answer_of_the_first_and_nothing_runs() {
    let till = Till::start("", KEPT).await;
    let first = till.pay("\"8e03978e-40d5\"").await;
    assert_eq!((first.status, first.text(), is_replayed(&first)), (200, "1", false));
    assert_eq!(till.service.last().header("idempotency-key"), Some("\"8e03978e-40d5\""));
    for key in ["\"8e03978e-40d5\"", "8e03978e-40d5"] {
        let again = till.pay(key).await;
        assert_eq!((again.status, again.text(), is_replayed(&again)), (200, "1", true), "{key}");
    }
    // It is the same call with an envelope, or at the service's own address.
    let header = [("Idempotency-Key", "8e03978e-40d5")];
    for (path, method) in [("/api", "till.pay"), ("/api/till", "pay")] {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{"sum":10}}}}"#);
        let again = till.gateway.post(path, &header, body).await;
        assert_eq!(again.text(), r#"{"jsonrpc":"2.0","result":1,"id":7}"#);
        assert!(is_replayed(&again), "{again:?}");
    }
    assert_eq!(till.runs(), 1);
    let other = till.gateway.post("/call/till/refund", &header, r#"{"sum":10}"#).await;
    assert_eq!((other.text(), is_replayed(&other)), ("2", false), "a key is one method's");
    assert_eq!(till.service.last().header("idempotency-key"), Some("8e03978e-40d5"));
    assert_eq!(till.pay("").await.text(), "3", "without a key each runs");
    assert_eq!(till.service.last().header("idempotency-key"), None);
    for (outcome, count) in [("first", 2.0), ("replayed", 4.0)] {
        let labels = [("route", "till.*"), ("outcome", outcome)];
        let metric = "genkan_idempotency_calls_total";
        assert_eq!(till.gateway.metric(metric, &labels).await, count, "{outcome}");
    }
    let all = [("route", "till.*"), ("outcome", "ok")];
    assert_eq!(till.gateway.metric("genkan_calls_total", &all).await, 7.0, "each is a call");
}

#[tokio::test]
async fn another_body_under_the_same_key_is_refused() {
    let till = Till::start("", KEPT).await;
    assert_eq!(till.pay("k").await.text(), "1");
    let header = [("Idempotency-Key", "k")];
    for body in [r#"{"sum":11}"#, r#"{"sum": 10}"#, "[10]", ""] {
        let refused = till.pay_as(&header, body).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        let (kind, outcome, detail) = problem(&refused);
        assert_eq!((&*kind, &*outcome), ("invalid_params", "not_sent"), "{detail}");
        assert!(detail.contains("idempotency key is that of another call"), "{detail}");
        assert!(!is_replayed(&refused));
    }
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"till.pay","params":{"sum":11}}"#;
    let refused = till.gateway.post("/api", &header, body).await;
    as_fault(&refused.json()).is("invalid_params", "not_sent");
    assert_eq!(till.runs(), 1);
    assert_eq!(till.pay("k").await.text(), "1", "the first is still known");
    let labels = [("route", "till.*"), ("outcome", "refused")];
    assert_eq!(till.gateway.metric("genkan_idempotency_calls_total", &labels).await, 5.0);
}

#[tokio::test]
async fn what_did_not_run_is_forgotten_and_what_may_have_is_not() {
    let toml = format!("{HUB}[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\n{KEPT}\n");
    let gateway = Gateway::ready(&toml).await;
    let pay = async || gateway.post("/call/desk/pay", &[("Idempotency-Key", "k")], "{}").await;
    for _ in 0..2 {
        let nobody = pay().await;
        let (kind, outcome, _) = problem(&nobody);
        assert_eq!(
            (&*kind, &*outcome, is_replayed(&nobody)),
            ("unknown_service", "not_sent", false)
        );
    }
    let mut desk = Peer::module(&gateway, "desk", &["pay"]).await;
    let (first, call) = tokio::join!(pay(), async {
        let call = desk.receive().await;
        assert_eq!(call["meta"], json!({"idempotencyKey": "k"}), "{call}");
        desk.answer(&call, json!("paid")).await;
    });
    let () = call;
    assert_eq!((first.text(), is_replayed(&first)), ("\"paid\"", false));
    let again = pay().await;
    assert_eq!((again.text(), is_replayed(&again)), ("\"paid\"", true));
    desk.is_silent().await;
}

#[tokio::test]
async fn nobody_knows_whether_a_call_ran_that_was_cut_off_so_it_does_not_run_again() {
    let cuts = |keys| Till::serve("", keys, |_| Say::bytes("").and_close());
    let till = cuts(KEPT).await;
    for replayed in [false, true, true] {
        let cut = till.pay("k").await;
        let (kind, outcome, _) = problem(&cut);
        assert_eq!((&*kind, &*outcome), ("unavailable", "unknown"));
        assert_eq!((cut.status, is_replayed(&cut)), (503, replayed));
    }
    assert_eq!(till.runs(), 1);
    // Where its row says that it may run twice, it may.
    let till = cuts(&format!("{KEPT}\nidempotent = true")).await;
    for _ in 0..2 {
        assert!(!is_replayed(&till.pay("k").await));
    }
    assert_eq!(till.runs(), 2);
}

#[tokio::test]
async fn an_error_of_the_services_own_is_an_answer() {
    let count = AtomicUsize::new(0);
    let till = Till::serve("", KEPT, move |asked| {
        let nth = count.fetch_add(1, Ordering::SeqCst) + 1;
        asked.error(&format!(r#"{{"code":402,"message":"no money","data":{{"nth":{nth}}}}}"#))
    })
    .await;
    let first = till.pay("k").await;
    let again = till.pay("k").await;
    assert_eq!((first.status, again.status, first.text()), (402, 402, again.text()));
    assert!(is_replayed(&again) && !is_replayed(&first));
    assert_eq!(till.runs(), 1);
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_over_a_reload() {
    let till = Till::start("", KEPT).await;
    assert_eq!(till.pay("k").await.text(), "1");
    let seen = till.gateway.log().len();
    let other = "idempotency = { ttl = \"1ms\" }\nmax_in_flight = 5";
    till.gateway.write_config(&config("", &till.service, other));
    till.gateway.hang_up();
    till.gateway.wait_for_log(seen, "reloaded").await;
    assert_eq!(till.pay("k").await.text(), "1", "the time that it was given");
    // A new one is kept for the new time.
    assert_eq!(till.pay("l").await.text(), "2");
    crate::harness::eventually("it is forgotten", async || {
        (till.pay("l").await.text() == "3").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_notification_runs_once_too() {
    let till = Till::start("", KEPT).await;
    let header = [("Idempotency-Key", "k")];
    let body = r#"{"jsonrpc":"2.0","method":"till.pay","params":{"sum":10}}"#;
    for _ in 0..3 {
        let noted = till.gateway.post("/api", &header, body).await;
        assert_eq!((noted.status, noted.text()), (200, ""));
    }
    let labels = [("route", "till.*"), ("outcome", "ok")];
    till.gateway.wait_for_metric("genkan_calls_total", &labels, 3.0).await;
    assert_eq!(till.runs(), 1);
    // Nobody has its answer, so that a call under its key has none.
    let refused = till.pay("k").await;
    assert_eq!(refused.status, 422);
    let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("a notification had its idempotency key"), "{detail}");
}

#[tokio::test]
async fn a_notification_after_its_call_is_that_call_again() {
    let till = Till::start("", KEPT).await;
    assert_eq!(till.pay("k").await.text(), "1");
    let note =
        |sum: u32| format!(r#"{{"jsonrpc":"2.0","method":"till.pay","params":{{"sum":{sum}}}}}"#);
    let header = [("Idempotency-Key", "k")];
    till.gateway.post("/api", &header, note(10)).await;
    let became = |became| [("route", "till.*"), ("outcome", became)];
    let counted = "genkan_idempotency_calls_total";
    till.gateway.wait_for_metric(counted, &became("replayed"), 1.0).await;
    // One that asks for something else is refused, and nobody is there to be told: the log is.
    let seen = till.gateway.lines_logged();
    till.gateway.post("/api", &header, note(11)).await;
    let line = till.gateway.wait_for_log(seen, "call failed").await;
    assert_eq!((&line["kind"], &line["call"]), (&json!("invalid_params"), &json!("till.pay")));
    till.gateway.wait_for_metric(counted, &became("refused"), 1.0).await;
    assert_eq!((till.pay("k").await.text(), till.runs()), ("1", 1));
}

#[tokio::test]
async fn rows_are_checked_and_explained() {
    let till = Till::start("", KEPT).await;
    let run = |arguments: &[&str], keys: &str, tables: &str| {
        till.gateway.write_config(&config(tables, &till.service, keys));
        let mut command = genkan();
        command.args(arguments).arg("--config").arg(till.gateway.config());
        process::run(&mut command)
    };
    let (status, told, _) = run(&["explain", "till.pay"], KEPT, "");
    assert_eq!(status, 0, "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["idempotency"], json!({"ttl": "1h", "required": false}));
    for (keys, tables, expected) in [
        ("idempotency = \"24h\"", "", "must be a table"),
        ("idempotency = { ttl = \"soon\" }", "", "`ttl` in "),
        ("idempotency = { tll = \"1h\" }", "", "did you mean `ttl`"),
        ("idempotency = { ttl = \"1s\" }", "", "sooner than a call may take (30s)"),
        ("", "[idempotency]\nmax_keys = 10\n", "no [[routes]] row keeps answers"),
        (KEPT, "[idempotency]\nmax_keys = 0\n", "`max_keys` in [idempotency]"),
    ] {
        let (_, said, more) = run(&["check"], keys, tables);
        assert!(format!("{said}{more}").contains(expected), "{keys} {tables}: {said}{more}");
    }
    let (status, said, more) = run(&["check"], KEPT, "[idempotency]\nmax_bytes = \"1MiB\"\n");
    assert_eq!(status, 0, "{said}{more}");
}

#[tokio::test]
async fn a_row_may_want_a_key() {
    let till = Till::start("", "idempotency = { required = true }").await;
    let none = till.pay("").await;
    let (kind, outcome, detail) = problem(&none);
    assert_eq!((&*kind, &*outcome, none.status), ("invalid_request", "not_sent", 400));
    assert!(detail.contains("Idempotency-Key"), "{detail}");
    assert_eq!((till.pay("k").await.text(), till.runs()), ("1", 1));
}
