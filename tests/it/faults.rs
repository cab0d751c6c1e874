//! CONTRACT's table of faults, row by row: the JSON-RPC code, the status at `/call`, and what
//! `data` says. Each row is provoked with real means; `access_denied` in `logins`, by a NATS that
//! does not permit a subject.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Nats, NatsResponder, as_fault, eventually};

struct Row {
    kind: &'static str,
    code: i64,
    status: u16,
    outcome: &'static str,
    retryable: bool,
    service: &'static str,
    method: &'static str,
    body: &'static str,
}

const fn row(
    (kind, code, status): (&'static str, i64, u16),
    (outcome, retryable): (&'static str, bool),
    (service, method, body): (&'static str, &'static str, &'static str),
) -> Row {
    Row { kind, code, status, outcome, retryable, service, method, body }
}

const ROWS: [Row; 10] = [
    row(("parse_error", -32700, 400), ("not_sent", false), ("svc", "x", "{")),
    row(("invalid_request", -32600, 400), ("not_sent", false), ("svc", "x", "7")),
    row(("unknown_method", -32601, 404), ("unknown", false), ("svc", "nope", "[1]")),
    row(("unknown_service", -32601, 404), ("not_sent", false), ("nobody", "x", "[1]")),
    row(("invalid_params", -32602, 422), ("not_sent", false), ("svc", "x", "[null]")),
    row(("internal", -32050, 500), ("executed", false), ("svc", "broken", "[1]")),
    row(("application", -32000, 500), ("executed", false), ("svc", "fail", "[1]")),
    row(("timeout", -32003, 504), ("unknown", false), ("svc", "never", "[1]")),
    row(("overloaded", -32005, 429), ("not_sent", true), ("full", "x", "[1]")),
    row(("unavailable", -32004, 503), ("not_sent", true), ("down", "x", "[1]")),
];

#[tokio::test]
async fn every_row() {
    let nats = Nats::start();
    let down = Nats::down();
    let answer = |seen: &crate::harness::Seen| match seen.method.as_str() {
        "nope" => Answer::new(r#"{"error":"Method not found \"nope\""}"#),
        "broken" => Answer::new("not JSON"),
        "fail" => Answer::new(r#"{"error":"mailbox full"}"#),
        "never" => Vec::new(),
        "hold" => Answer::after(r#"{"payload":1}"#, Duration::from_secs(3)),
        _ => Answer::new(r#"{"payload":1}"#),
    };
    let client = nats.client().await;
    let _service = NatsResponder::serve(client.clone(), "svc", answer).await;
    let _full = NatsResponder::serve(client, "full", answer).await;
    let toml = format!(
        "[http]\nmax_body = \"4KiB\"\n{}{}max_in_flight = 1\n{}\
         [[routes]]\nmatch = \"down.*\"\nupstream = \"down\"\n\
         [[routes]]\nmatch = \"full.*\"\nupstream = \"small\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"nats\"\ntimeout = \"500ms\"\n",
        nats.upstream("nats", "picom"),
        nats.upstream("small", "picom"),
        down.upstream("down", "picom"),
    );
    let gateway = Gateway::start(&toml).await;
    eventually("the two that are up are connected", async || {
        let small = gateway.rpc("full.x", json!([1])).await;
        let nats = gateway.rpc("svc.x", json!([1])).await;
        (small["result"] == 1 && nats["result"] == 1).then_some(())
    })
    .await;
    let mut holding = gateway.connect().await;
    holding.request("POST", "/call/full/hold", &[], b"[1]").await;
    gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "small")], 1.0).await;
    for row in &ROWS {
        check_row(&gateway, row).await;
    }
    let large = format!("[\"{}\"]", "x".repeat(5_000));
    let fault = as_fault(&gateway.api(&large).await);
    assert_eq!(fault.is("too_large", "not_sent").code, -32006);
    assert_eq!(gateway.post("/call/svc/x", &[], &large).await.status, 413);
}

async fn check_row(gateway: &Gateway, row: &Row) {
    let path = format!("/call/{}/{}", row.service, row.method);
    let problem = gateway.post(&path, &[], row.body).await;
    assert_eq!(problem.status, row.status, "{}: {problem:?}", row.kind);
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    assert_eq!(problem.header("retry-after").is_some(), row.kind == "overloaded", "{problem:?}");
    check_data(&problem.json(), row);
    let (service, method, body) = (row.service, row.method, row.body);
    let request = match body {
        "{" => "{".to_owned(),
        _ => format!(r#"{{"jsonrpc":"2.0","method":"{service}.{method}","params":{body},"id":1}}"#),
    };
    let response = gateway.post("/api", &[], request).await;
    assert_eq!(response.status, 200, "a fault is an answer like any other");
    let fault = as_fault(&response.json());
    assert_eq!(fault.code, row.code, "{}: {fault:?}", row.kind);
    assert!(!fault.message.is_empty());
    check_data(&fault.data, row);
}

fn check_data(data: &Value, row: &Row) {
    let said = (&data["kind"], &data["outcome"], &data["retryable"]);
    let expected = (&json!(row.kind), &json!(row.outcome), &json!(row.retryable));
    assert_eq!(said, expected, "{data}");
}

#[tokio::test]
async fn faults_hold_neither_addresses_nor_credentials() {
    let down = Nats::down();
    let toml = format!(
        "[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://till:hunter2@{}\"]\n\
         [[routes]]\nmatch = \"n.*\"\nupstream = \"nats\"\n\
         [upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"amqp://till:hunter2@{}/%2f\"\n\
         [[routes]]\nmatch = \"r.*\"\nupstream = \"rabbit\"\n",
        down.address(),
        down.address()
    );
    let gateway = Gateway::start(&toml).await;
    let ready = gateway.wait_until_not_ready().await;
    assert!(ready.contains("nats") && ready.contains("rabbit"), "{ready}");
    for name in ["n.x", "r.x"] {
        let fault = gateway.fault(name, json!([1])).await;
        fault.is("unavailable", "not_sent");
        for secret in ["hunter2", "till", "127.0.0.1", &down.address()] {
            assert!(!format!("{fault:?}").contains(secret), "{fault:?}");
        }
    }
    assert!(!gateway.log_text().contains("hunter2"), "{}", gateway.log_text());
}
