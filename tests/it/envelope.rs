//! JSON-RPC over `/api` and `/api/{service}`: ids, batches, notifications, and every way in which
//! an envelope can be wrong.

use serde_json::{Value, json};

use crate::harness::{Echo, as_fault, eventually};

#[tokio::test]
async fn an_id_comes_back_with_the_same_type_and_bytes() {
    let echo = Echo::start().await;
    let ids = [
        "1",
        "0",
        "-0",
        "\"\"",
        "\"1\"",
        "9223372036854775807",
        "5894854055454046922",
        "36893488147419103232",
        "1.50",
        "1e3",
        "-7",
        "null",
        r#""\u00e9\"\\\/\ud800""#,
        r#""é玄""#,
    ];
    for id in ids {
        for (method, params) in [("echo.x", "[\"p\"]"), ("nobody.x", "[]")] {
            let body =
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{id}}}"#);
            let response = echo.gateway.post("/api", &[], &body).await;
            let end = format!(",\"id\":{id}}}");
            assert!(response.text().ends_with(&end), "{id}: {}", response.text());
        }
    }
}

#[tokio::test]
async fn a_result_has_no_error_and_an_error_no_result() {
    let echo = Echo::start().await;
    let result = echo.gateway.rpc("echo.x", json!(["a"])).await;
    assert_eq!(result, json!({"jsonrpc": "2.0", "result": "a", "id": 1}));
    let fault = echo.gateway.rpc("echo.fail", json!(["a"])).await;
    assert!(fault.get("result").is_none() && fault["error"]["message"].is_string(), "{fault}");
}

#[tokio::test]
async fn wrong_types_at_every_place_of_the_envelope() {
    let echo = Echo::start().await;
    let cases = [
        (r#"{"method":"echo.x","id":1}"#, "1"),
        (r#"{"jsonrpc":"1.0","method":"echo.x","id":1}"#, "1"),
        (r#"{"jsonrpc":2.0,"method":"echo.x","id":1}"#, "1"),
        (r#"{"jsonrpc":null,"method":"echo.x","id":1}"#, "1"),
        (r#"{"jsonrpc":["2.0"],"method":"echo.x","id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","id":"a"}"#, "\"a\""),
        (r#"{"jsonrpc":"2.0","method":null,"id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":true,"id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":{"a":1},"id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":["echo.x"],"id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":"echo.x","params":"bar","id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":"echo.x","params":7,"id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":"echo.x","params":false,"id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":"echo.x","id":{}}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"echo.x","id":[1]}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"echo.x","id":true}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"echo.x","method":"echo.y","id":1}"#, "1"),
        ("{}", "null"),
        ("1", "null"),
        ("\"text\"", "null"),
        ("null", "null"),
        ("true", "null"),
    ];
    for (body, id) in cases {
        for (sent, batch) in [(body.to_owned(), false), (format!("[{body}]"), true)] {
            let response = echo.gateway.api(&sent).await;
            let answer = if batch { response[0].clone() } else { response };
            let fault = as_fault(&answer);
            assert_eq!(fault.code, -32600, "{sent}: {answer}");
            fault.is("invalid_request", "not_sent");
            assert_eq!(answer["id"], serde_json::from_str::<Value>(id).unwrap(), "{sent}");
        }
    }
    assert_eq!(echo.called(), Vec::<String>::new(), "nothing of it was executed");
}

#[tokio::test]
async fn bodies_that_are_not_json() {
    let echo = Echo::start().await;
    let bodies: [&[u8]; 10] = [
        b"",
        b"   ",
        b"{",
        b"nonsense",
        b"{\"jsonrpc\":\"2.0\",}",
        b"[1,]",
        b"{} {}",
        b"\xff\xfe",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"echo.\xc3\x28\",\"id\":1}",
        b"[NaN]",
    ];
    for body in bodies {
        let response =
            echo.gateway.post("/api", &[("Content-Type", "application/json")], body).await;
        assert_eq!(response.status, 200);
        let answer = response.json();
        let fault = as_fault(&answer);
        assert_eq!(fault.code, -32700, "{answer}");
        fault.is("parse_error", "not_sent");
        assert_eq!(answer["id"], Value::Null);
    }
    assert_eq!(echo.gateway.result("echo.x", json!(["still there"])).await, "still there");
}

#[tokio::test]
async fn names_that_name_no_method() {
    let echo = Echo::start().await;
    for method in ["", "echo", ".x", "echo.", ".", "rpc.unheard_of"] {
        let fault = echo.gateway.fault(method, Value::Null).await;
        assert_eq!(fault.code, -32601, "{method}: {fault:?}");
        assert_eq!(fault.data["outcome"], "not_sent");
    }
    let unknown = echo.gateway.fault("nobody.there", Value::Null).await;
    assert_eq!(unknown.is("unknown_service", "not_sent").code, -32601);
    assert!(unknown.message.contains("nobody"), "{}", unknown.message);
}

#[tokio::test]
async fn a_service_with_dots_in_its_name_splits_at_the_last_one() {
    let echo = Echo::start().await;
    assert_eq!(echo.gateway.result("echo.a.b.x", json!(["deep"])).await, "deep");
    assert_eq!(echo.called(), ["x"]);
}

#[tokio::test]
async fn at_its_own_address_a_service_takes_bare_methods() {
    let echo = Echo::start().await;
    let body = r#"{"jsonrpc":"2.0","method":"x","params":["here"],"id":"a"}"#;
    let response = echo.gateway.post("/api/echo", &[], body).await;
    assert_eq!(response.text(), r#"{"jsonrpc":"2.0","result":"here","id":"a"}"#);
    // A method's dots are its own, and belong to what the service is asked for.
    let dotted = r#"{"jsonrpc":"2.0","method":"deep.x","params":["here"],"id":"a"}"#;
    for path in ["/api/echo", "/api/echo/"] {
        let response = echo.gateway.post(path, &[], dotted).await;
        assert_eq!(response.json()["result"], "here", "{path}");
    }
    assert_eq!(echo.gateway.post("/call/echo/deep.x", &[], "[1]").await.text(), "1");
}

#[tokio::test]
async fn a_dot_in_a_method_does_not_move_into_its_services_name() {
    let gateway = crate::harness::Gateway::start(crate::hub::HUB).await;
    let _files = crate::hub::Peer::module(&gateway, "files", &["read"]).await;
    let body = r#"{"jsonrpc":"2.0","method":"read.all","id":1}"#;
    let fault = as_fault(&gateway.post("/api/files", &[], body).await.json());
    // Not: nobody serves `files.read`.
    assert!(fault.message.contains("`files` has declared no function `read.all`"), "{fault:?}");
    as_fault(&gateway.post("/api/files", &[], body).await.json()).is("unknown_method", "not_sent");
}

#[tokio::test]
async fn params_that_are_null_are_no_params() {
    let echo = Echo::start().await;
    // What the crate `jsonrpc` sends where a method has none.
    let body = r#"{"method":"echo.seen","params":null,"id":0,"jsonrpc":"2.0"}"#;
    assert_eq!(echo.gateway.api(body).await, json!({"jsonrpc": "2.0", "result": null, "id": 0}));
    assert_eq!(echo.service.requests.last().body, "");
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let echo = Echo::start().await;
    let body = "\u{feff}{\"jsonrpc\":\"2.0\",\"method\":\"echo.x\",\"params\":[\"p\"],\"id\":1}";
    assert_eq!(echo.gateway.api(body).await["result"], "p");
    assert_eq!(echo.gateway.post("/call/echo/x", &[], "\u{feff}[\"p\"]").await.text(), "\"p\"");
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_runs_in_turns() {
    let echo = Echo::start().await;
    let method = |id: usize| if id.is_multiple_of(50) { "echo.slow" } else { "echo.x" };
    let call = |id: usize| json!({"jsonrpc": "2.0", "method": method(id), "params": [id.to_string()], "id": id});
    let batch = Value::from((0..1_000).map(call).collect::<Vec<_>>());
    let answers = echo.gateway.api(batch.to_string()).await;
    let answers = answers.as_array().expect("a batch");
    assert_eq!(answers.len(), 1_000);
    for (id, answer) in answers.iter().enumerate() {
        assert_eq!((&answer["id"], &answer["result"]), (&json!(id), &json!(id.to_string())));
    }
}

#[tokio::test]
async fn at_most_64_calls_of_a_batch_are_under_way() {
    let echo = Echo::start().await;
    let never = r#"{"jsonrpc":"2.0","method":"echo.never","id":1}"#;
    let note = r#"{"jsonrpc":"2.0","method":"echo.noted"}"#;
    let batch = format!("[{},{note}]", vec![never; 200].join(","));
    let mut waiting = echo.gateway.connect().await;
    let headers = [("X-Request-Timeout", "9s")];
    waiting.request("POST", "/api", &headers, batch.as_bytes()).await;
    let of = [("upstream", "nats")];
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &of, 64.0).await;
    // Others are served meanwhile, and no further one of the batch has begun.
    for _ in 0..20 {
        echo.gateway.result("echo.x", json!(["p"])).await;
    }
    assert_eq!(echo.gateway.metric("genkan_calls_in_flight", &of).await, 64.0);
    assert_eq!(echo.called().iter().filter(|method| *method == "never").count(), 64);
    assert!(echo.called().contains(&"noted".to_owned()), "a notification waits for no call");
}

#[tokio::test]
async fn a_notification_is_answered_with_nothing_and_executed() {
    let echo = Echo::start().await;
    let body = r#"{"jsonrpc":"2.0","method":"echo.seen","params":{"a":1}}"#;
    for path in ["/api", "/api/echo"] {
        let body = if path == "/api" { body.to_owned() } else { body.replace("echo.seen", "seen") };
        let response = echo.gateway.post(path, &[], body).await;
        assert_eq!(response.status, 200);
        assert_eq!((response.text(), response.header("content-length")), ("", Some("0")));
    }
    eventually("both ran", async || (echo.service.requests.count() == 2).then_some(())).await;
    let seen = echo.service.requests.last();
    assert_eq!((seen.method.as_str(), seen.body.as_str()), ("seen", r#"{"a":1}"#));
    assert_eq!(seen.reply_to, None, "Picom services die of requests that nobody waits for");
}

#[tokio::test]
async fn a_notification_that_cannot_be_delivered_is_answered_with_nothing_too() {
    let echo = Echo::start().await;
    for method in ["nobody.x", "nodot", "echo.constructor"] {
        echo.gateway.notify(method, json!([1])).await;
    }
}

#[tokio::test]
async fn calls_of_a_batch_run_side_by_side_and_hold_no_other_up() {
    let echo = Echo::start().await;
    let call = |id: usize, method: &str| json!({"jsonrpc": "2.0", "method": method, "params": [format!("p{id}")], "id": id});
    let mut batch: Vec<Value> = (0..20).map(|id| call(id, "echo.later")).collect();
    batch.push(call(20, "echo.fail"));
    batch.push(call(21, "nobody.x"));
    batch.push(json!(7));
    batch.push(json!({"jsonrpc": "2.0", "method": "echo.noted", "params": ["n"]}));
    let side_by_side =
        echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 20.0);
    let (answers, ()) =
        tokio::join!(echo.gateway.api(Value::from(batch).to_string()), side_by_side);
    let answers = answers.as_array().expect("a batch");
    assert_eq!(answers.len(), 23, "the notification is left out");
    for id in 0..20 {
        let answer = answers.iter().find(|answer| answer["id"] == id).expect("an answer");
        assert_eq!(answer["result"], format!("p{id}"));
    }
    let by_id = |id: Value| answers.iter().find(|answer| answer["id"] == id).expect("an answer");
    as_fault(by_id(json!(20))).is("application", "executed");
    as_fault(by_id(json!(21))).is("unknown_service", "not_sent");
    as_fault(by_id(Value::Null)).is("invalid_request", "not_sent");
    eventually("the notification ran", async || {
        echo.called().contains(&"noted".to_owned()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_call_in_a_batch_that_never_answers_ends_at_its_deadline_alone() {
    let echo = Echo::start().await;
    let batch = r#"[{"jsonrpc":"2.0","method":"echo.never","id":1},
                    {"jsonrpc":"2.0","method":"echo.x","params":["quick"],"id":2}]"#;
    let response = echo.gateway.post("/api", &[("X-Request-Timeout", "300ms")], batch).await.json();
    as_fault(&response[0]).is("timeout", "unknown");
    assert_eq!(response[1]["result"], "quick");
}

#[tokio::test]
async fn two_calls_with_one_id_are_both_answered() {
    let echo = Echo::start().await;
    let batch = r#"[{"jsonrpc":"2.0","method":"echo.x","params":["a"],"id":1},
                    {"jsonrpc":"2.0","method":"echo.x","params":["b"],"id":1}]"#;
    let response = echo.gateway.api(batch).await;
    assert_eq!((&response[0]["result"], &response[1]["result"]), (&json!("a"), &json!("b")));
}

#[tokio::test]
async fn nested_batches_are_requests_of_no_valid_form() {
    let echo = Echo::start().await;
    let inner = r#"{"jsonrpc":"2.0","method":"echo.x","id":1}"#;
    let response = echo.gateway.api(format!("[[{inner}],[],{inner}]")).await;
    assert_eq!(response[0]["error"]["code"], -32600);
    assert_eq!(response[1]["error"]["code"], -32600);
    assert_eq!(response[2]["result"], Value::Null);
    assert_eq!(echo.called(), ["x"]);
}

#[tokio::test]
async fn members_that_nobody_knows_are_ignored() {
    let echo = Echo::start().await;
    let body = r#"{"auth_token":"t","jsonrpc":"2.0","extra":{"id":[]},"method":"echo.x","params":["a"],"id":1}"#;
    assert_eq!(echo.gateway.api(body).await["result"], "a");
}
