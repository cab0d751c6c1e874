//! Calls over NATS, in each of the three dialects: Picom's with a real JavaScript service, plain
//! JSON, and NATS micro services with their error headers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Fault, Gateway, Mailer, Nats, NatsResponder, Seen, as_fault, eventually,
};

async fn mailer() -> (Nats, Mailer, Gateway) {
    let nats = Nats::start();
    let mailer = Mailer::start(&nats, "mailer");
    let gateway = Gateway::ready(&nats.config("picom")).await;
    (nats, mailer, gateway)
}

async fn service(
    dialect: &str,
    answer: impl Fn(&Seen) -> Vec<Answer> + Send + Sync + 'static,
) -> (Nats, NatsResponder, Gateway) {
    let nats = Nats::start();
    let service = NatsResponder::serve(nats.client().await, "svc", answer).await;
    let gateway = Gateway::ready(&nats.config(dialect)).await;
    (nats, service, gateway)
}

#[tokio::test]
async fn a_javascript_service_answers() {
    let (_nats, mailer, gateway) = mailer().await;
    let sent = gateway.result("mailer.send", json!({"to": "玄関@example.com"})).await;
    assert_eq!(sent, json!({"sent": true, "to": "玄関@example.com"}));
    for (method, params, result) in [
        ("mailer.seven", Value::Null, json!(7)),
        ("mailer.text", Value::Null, json!("text")),
        ("mailer.nothing", Value::Null, Value::Null),
        ("mailer.zero", Value::Null, json!(0)),
        ("mailer.no", Value::Null, json!(false)),
        ("mailer.silent", Value::Null, Value::Null),
        ("mailer.add", json!([1, 2]), json!(3)),
        ("mailer.add", json!({"a": 1, "b": 2}), json!(3)),
        ("mailer.echo", json!(["one"]), json!("one")),
        ("mailer.echo", json!([["one"]]), json!(["one"])),
        ("mailer.echo", json!([1, null]), json!([1, null])),
        ("mailer.echo", json!([]), Value::Null),
        ("mailer.echo", json!({}), json!({})),
        ("mailer.echo", Value::Null, Value::Null),
        ("mailer.a.b.seven", Value::Null, json!(7)),
    ] {
        assert_eq!(gateway.result(method, params.clone()).await, result, "{method} {params}");
    }
    assert!(mailer.lives());
}

#[tokio::test]
async fn what_a_javascript_service_rejects_with() {
    let (_nats, mailer, gateway) = mailer().await;
    for (method, message) in [
        ("reject_text", "mailbox full"),
        ("reject_error", "an Error"),
        ("reject_code", r#"with props {"code":"E42"}"#),
        ("reject_object", r#"{"message":"not good","n":1}"#),
    ] {
        let fault = gateway.fault(&format!("mailer.{method}"), Value::Null).await;
        assert_eq!(fault.is("application", "executed").code, -32000);
        assert_eq!((fault.message.as_str(), &fault.data["info"]), (message, &json!(message)));
    }
    // Picom's own callers see success there, too (WIRE, section 2.1).
    assert_eq!(gateway.result("mailer.reject_nothing", Value::Null).await, Value::Null);
    assert_eq!(gateway.result("mailer.reject_empty", Value::Null).await, Value::Null);
    let unknown = gateway.fault("mailer.nope", Value::Null).await;
    assert_eq!(unknown.is("unknown_method", "unknown").code, -32601);
    assert!(mailer.lives());
}

#[tokio::test]
async fn what_a_picom_service_passes_on_is_never_told_as_rejected() {
    let (_nats, _mailer, gateway) = mailer().await;
    for (method, token) in [("pass_on", "one"), ("pass_bad_on", "two")] {
        let fault = gateway.fault(&format!("mailer.{method}"), json!([token])).await;
        let ran = gateway.result("mailer.noted", Value::Null).await;
        assert!(ran.as_array().is_some_and(|ran| ran.contains(&json!(token))), "{ran}");
        assert_ne!(fault.data["outcome"], "rejected", "it has run: {fault:?}");
        assert_ne!(fault.data["outcome"], "not_sent", "it has run: {fault:?}");
    }
}

#[tokio::test]
async fn what_would_end_a_picom_service_is_refused_before_it_is_sent() {
    let (_nats, mailer, gateway) = mailer().await;
    for member in [
        "constructor",
        "toString",
        "valueOf",
        "hasOwnProperty",
        "isPrototypeOf",
        "__proto__",
        "__defineGetter__",
        "toLocaleString",
        "propertyIsEnumerable",
        "__lookupSetter__",
    ] {
        let method = format!("mailer.{member}");
        let fault = gateway.fault(&method, json!(["x"])).await;
        assert_eq!(fault.is("unknown_method", "not_sent").code, -32601, "{member}");
        gateway.notify(&method, json!(["x"])).await;
        gateway.fault(&format!("mailer.deep.{member}"), json!(["x"])).await;
    }
    for falsy in ["[null]", "[0]", "[-0]", "[0.0]", "[false]", "[\"\"]", "[0e5]"] {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"mailer.echo","params":{falsy},"id":1}}"#);
        let fault = as_fault(&gateway.api(body).await);
        assert_eq!(fault.is("invalid_params", "not_sent").code, -32602, "{falsy}");
    }
    assert_eq!(gateway.result("mailer.seven", Value::Null).await, 7);
    assert!(mailer.lives());
    assert!(gateway.metric("genkan_refused_total", &[("upstream", "nats")]).await >= 10.0);
}

#[tokio::test]
async fn a_notification_is_published_without_a_reply_subject() {
    let (_nats, mailer, gateway) = mailer().await;
    gateway.notify("mailer.note", json!({"n": 1})).await;
    // Requested, this handler would end the process.
    gateway.notify("mailer.no_promise", json!({"n": 1})).await;
    let noted = eventually("the note", async || {
        let noted = gateway.result("mailer.noted", Value::Null).await;
        (noted != json!([])).then_some(noted)
    })
    .await;
    assert_eq!(noted, json!([{"n": 1}]));
    assert!(mailer.lives());
}

#[tokio::test]
async fn a_javascript_service_that_dies_in_a_call_costs_that_call_alone() {
    let (nats, mailer, gateway) = mailer().await;
    let body = r#"{"jsonrpc":"2.0","method":"mailer.throws","params":["x"],"id":1}"#;
    let response = gateway.post("/api", &[("X-Request-Timeout", "500ms")], body).await;
    as_fault(&response.json()).is("timeout", "unknown");
    eventually("it is dead", async || (!mailer.lives()).then_some(())).await;
    eventually("and unknown at once", async || {
        let fault = gateway.fault("mailer.seven", Value::Null).await;
        (fault.data["kind"] == "unknown_service").then_some(())
    })
    .await;
    let _again = Mailer::start(&nats, "mailer");
    assert_eq!(gateway.result("mailer.seven", Value::Null).await, 7);
}

#[tokio::test]
async fn nobody_listening_is_unknown_at_once() {
    for dialect in ["picom", "plain", "micro"] {
        let nats = Nats::start();
        let gateway = Gateway::ready(&nats.config(dialect)).await;
        let fault = gateway.fault("nobody.there", json!(["x"])).await;
        assert_eq!(fault.is("unknown_service", "not_sent").code, -32601);
        assert!(fault.message.contains("nobody"), "{}", fault.message);
    }
}

#[tokio::test]
async fn a_call_that_is_never_answered_ends_at_its_deadline() {
    let (_nats, _mailer, gateway) = mailer().await;
    let body = r#"{"jsonrpc":"2.0","method":"mailer.never","id":1}"#;
    let response = gateway.post("/api", &[("X-Request-Timeout", "300ms")], body).await;
    as_fault(&response.json()).is("timeout", "unknown");
    let late = r#"{"jsonrpc":"2.0","method":"mailer.slow","params":[600],"id":1}"#;
    gateway.post("/api", &[("X-Request-Timeout", "200ms")], late).await;
    gateway.wait_for_metric("genkan_late_replies_total", &[("upstream", "nats")], 1.0).await;
    assert_eq!(gateway.metric("genkan_calls_in_flight", &[("upstream", "nats")]).await, 0.0);
}

#[tokio::test]
async fn picom_replies_of_every_shape() {
    let results = [
        (r#"{"payload":1}"#, "1"),
        (r#" {"payload" : {"b": 1,"a": 2.50}, "x": 1} "#, r#"{"b": 1,"a": 2.50}"#),
        ("{}", "null"),
        (r#"{"error":null,"payload":2}"#, "2"),
        (r#"{"error":"","payload":2}"#, "2"),
    ];
    for (reply, result) in results {
        let (_nats, _service, gateway) = service("picom", move |_| Answer::new(reply)).await;
        assert_eq!(gateway.raw("svc.x", "[\"p\"]").await, result, "{reply}");
    }
    let faults: [(&[u8], &str, i64); 9] = [
        (br#"{"payload":1,"error":"e"}"#, "application", -32000),
        (br#"{"error":{"code":5}}"#, "application", -32000),
        (br#"{"error":5}"#, "application", -32000),
        (br#"{"error":"Bad JSON request"}"#, "invalid_params", -32602),
        (br#"{"error":"Method not found \"x\""}"#, "unknown_method", -32601),
        (br#"{"error":"Method not found \"other\""}"#, "application", -32000),
        (b"", "internal", -32050),
        (b"{\"payload\":", "internal", -32050),
        (b"{\"payload\":\"\xff\"}", "internal", -32050),
    ];
    for (reply, kind, code) in faults {
        let (_nats, _service, gateway) = service("picom", move |_| Answer::new(reply)).await;
        let fault = gateway.fault("svc.x", json!(["p"])).await;
        let shown = String::from_utf8_lossy(reply);
        assert_eq!((&fault.data["kind"], fault.code), (&json!(kind), code), "{shown}: {fault:?}");
    }
}

#[tokio::test]
async fn plain_json_in_and_out() {
    let (_nats, service, gateway) = service("plain", |seen| {
        let body = if seen.body.is_empty() { "\"nothing\"" } else { &seen.body };
        match seen.method.as_str() {
            "broken" => Answer::new("not JSON"),
            "empty" => Answer::new(""),
            _ => Answer::new(body),
        }
    })
    .await;
    for (params, sent, result) in [
        (r#"{"b": 1,"a":2.50}"#, r#"{"b": 1,"a":2.50}"#, r#"{"b": 1,"a":2.50}"#),
        ("[1, 2]", "[1, 2]", "[1, 2]"),
        ("[7]", "7", "7"),
        ("[null]", "null", "null"),
        ("[0]", "0", "0"),
        ("[]", "", "\"nothing\""),
    ] {
        assert_eq!(gateway.raw("svc.x", params).await, result, "{params}");
        assert_eq!(service.requests.last().body, sent, "{params}");
    }
    assert_eq!(gateway.result("svc.empty", json!([1])).await, Value::Null);
    gateway.fault("svc.broken", json!([1])).await.is("internal", "executed");
    // An object with `error` in it is a result like any other there.
    let result = gateway.result("svc.x", json!({"error": "e", "payload": 1})).await;
    assert_eq!(result, json!({"error": "e", "payload": 1}));
    assert_eq!(gateway.result("svc.constructor", json!([1])).await, 1, "no JavaScript here");
}

#[tokio::test]
async fn micro_services_tell_errors_in_headers() {
    let error = |code: &str, text: &str, body: &str| {
        let headers = [("Nats-Service-Error-Code", code), ("Nats-Service-Error", text)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        vec![Answer { body: body.into(), headers, ..Answer::default() }]
    };
    let (_nats, service, gateway) = service("micro", move |seen| match seen.method.as_str() {
        "full" => error("503", "mailbox full", ""),
        "odd" => error("teapot", "odd", "not JSON"),
        _ => Answer::new(if seen.body.is_empty() { "null".to_owned() } else { seen.body.clone() }),
    })
    .await;
    assert_eq!(gateway.raw("svc.x", r#"{"a": 1}"#).await, r#"{"a": 1}"#);
    assert_eq!(gateway.raw("svc.x", "[7]").await, "7");
    let full = gateway.fault("svc.full", json!(["x"])).await;
    assert_eq!(full.is("application", "executed").code, -32000);
    assert_eq!(full.message, "mailbox full");
    assert_eq!(full.data["code"], 503);
    let odd = gateway.fault("svc.odd", json!(["x"])).await;
    assert_eq!(odd.is("application", "executed").message, "odd");
    assert_eq!(service.requests.count(), 4);
}

#[tokio::test]
async fn pythons_nan_becomes_null_and_is_counted() {
    for dialect in ["plain", "micro"] {
        let reply = r#"{"nan": NaN, "more": [Infinity, -Infinity, "NaN"]}"#;
        let (_nats, _service, gateway) = service(dialect, move |_| Answer::new(reply)).await;
        let result = gateway.result("svc.x", json!([1])).await;
        assert_eq!(result, json!({"nan": null, "more": [null, null, "NaN"]}));
        let repaired = gateway.metric("genkan_repaired_replies_total", &[("upstream", "nats")]);
        assert_eq!(repaired.await, 1.0);
    }
}

#[tokio::test]
async fn a_notification_that_the_server_denies_is_counted_and_logged() {
    let nats = Nats::configured(
        r#"authorization { users = [{user: all, password: p},
            {user: some, password: p, permissions: {publish: ["open.>", "_INBOX.>"]}}] }"#,
    );
    let upstream =
        nats.config("plain").replace("dialect", "user = \"some\"\npassword = \"p\"\ndialect");
    let gateway = Gateway::ready(&upstream).await;
    gateway.notify("shut.note", json!([1])).await;
    let denied = [("outcome", "access_denied")];
    gateway.wait_for_metric("genkan_calls_total", &denied, 1.0).await;
    eventually("it is logged", async || gateway.log_text().contains("shut.note").then_some(()))
        .await;
    gateway.notify("open.note", json!([1])).await;
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "ok")], 1.0).await;
    assert_eq!(gateway.metric("genkan_calls_total", &denied).await, 1.0);
}

#[tokio::test]
async fn context_travels_in_headers() {
    let (_nats, service, gateway) = service("plain", |_| Answer::new("1")).await;
    let headers = [
        ("Accept-Language", "de-AT"),
        ("User-Agent", "till/7"),
        ("X-Request-Id", "order-4711"),
        ("X-Request-Timeout", "4s"),
        ("Authorization", "Bearer never-allowed"),
    ];
    gateway.post("/api/svc", &headers, r#"{"jsonrpc":"2.0","method":"x","id":1}"#).await;
    let seen = service.requests.last().headers;
    let header = |name: &str| {
        let found = seen.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("Accept-Language"), Some("de-AT"));
    assert_eq!(header("User-Agent"), Some("till/7"));
    assert_eq!(header("X-Request-Id"), Some("order-4711"));
    assert_eq!(header("Authorization"), None, "not unless it is configured");
    let left = header("X-Request-Timeout").and_then(|text| text.strip_suffix("ms")?.parse().ok());
    assert!((1..=4_000).contains(&left.unwrap_or(0)), "{seen:?}");
}

#[tokio::test]
async fn subjects_that_would_reach_somebody_else_are_refused() {
    let (_nats, service, gateway) = service("picom", |_| Answer::new(r#"{"payload":1}"#)).await;
    for name in [
        "svc.*",
        "svc.>",
        "*.x",
        ">.x",
        "svc..x",
        "sv c.x",
        "svc.x y",
        "svc.x\t",
        "$SYS.REQ.x",
        "$SRV.PING",
        "$JS.API.INFO",
        "_INBOX.a.b",
        "svc.x\r\nPUB a 0",
        ".svc.x",
    ] {
        let fault: Fault = gateway.fault(name, json!(["p"])).await;
        assert_eq!(fault.data["outcome"], "not_sent", "{name}: {fault:?}");
        assert_ne!(fault.data["kind"], "unavailable", "{name}: {fault:?}");
    }
    assert_eq!(service.requests.count(), 0);
    assert_eq!(gateway.result("svc.x", json!(["p"])).await, 1);
}

#[tokio::test]
async fn a_message_over_the_servers_limit_is_refused_with_both_sizes() {
    let nats = Nats::configured("max_payload: 4096");
    let service =
        NatsResponder::serve(nats.client().await, "svc", |_| Answer::new(r#"{"payload":1}"#)).await;
    let gateway = Gateway::ready(&nats.config("picom")).await;
    let fault = gateway.fault("svc.x", json!(["x".repeat(5_000)])).await;
    assert_eq!(fault.is("too_large", "not_sent").code, -32006);
    assert!(fault.message.contains("4096") || fault.message.contains("4KiB"), "{}", fault.message);
    assert!(fault.message.contains('5'), "{}", fault.message);
    assert_eq!(gateway.result("svc.x", json!(["x".repeat(2_000)])).await, 1);
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    assert_eq!(service.requests.count(), 1);
}

#[tokio::test]
async fn replies_that_come_twice_late_or_unasked_touch_no_other_call() {
    let (_nats, service, gateway) = service("picom", |seen| match seen.method.as_str() {
        "twice" => [Answer::new(r#"{"payload":1}"#), Answer::new(r#"{"payload":2}"#)].concat(),
        "slow" => Answer::after(r#"{"payload":"slow"}"#, Duration::from_millis(300)),
        _ => Answer::new(format!("{{\"payload\":{}}}", seen.body)),
    })
    .await;
    for _ in 0..10 {
        assert_eq!(gateway.result("svc.twice", Value::Null).await, 1);
        assert_eq!(gateway.result("svc.x", json!(["mine"])).await, "mine");
    }
    gateway.wait_for_metric("genkan_late_replies_total", &[("upstream", "nats")], 10.0).await;
    let seen = service.requests.last();
    let slow = gateway.result("svc.slow", Value::Null);
    let unasked = async {
        for body in ["garbage", "", r#"{"payload":"unasked"}"#] {
            service.say(&seen, Answer { body: body.into(), ..Answer::default() }).await;
        }
    };
    assert_eq!(tokio::join!(slow, unasked).0, "slow");
}
