//! A fault of each kind, as each dialect tells it.

use async_nats::Message;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::calls::picom;
use super::{World, as_json, ask, header, replies, row};
use crate::harness::{Answer, Gateway, Nats, Seen};

/// The body of a Nameko service's answer.
fn error(exc_type: &str, exc_path: &str, more: Value) -> String {
    let mut error = json!({"exc_type": exc_type, "exc_path": exc_path, "exc_args": ["bad 1"], "value": "bad 1"});
    error.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
    json!({"result": null, "error": error}).to_string()
}

fn desk(seen: &Seen) -> Vec<Answer> {
    let told = |kind: &str, class: &str| {
        let data = json!({"kind": kind, "outcome": "not_sent", "retryable": false, "call": seen.correlation_id});
        error(class, &format!("genkan.{class}"), json!({"data": data}))
    };
    Answer::new(match &seen.method[..] {
        "application" => error("ValueError", "builtins.ValueError", json!({})),
        "spoken" => {
            error("ValueError", "builtins.ValueError", json!({"value": "ungültig", "exc_args": []}))
        }
        "invalid_params" => {
            error("IncorrectSignature", "nameko.exceptions.IncorrectSignature", json!({}))
        }
        "unknown_method" => {
            let own = json!({"exc_args": ["unknown_method"], "value": "unknown_method"});
            error("MethodNotFound", "nameko.exceptions.MethodNotFound", own)
        }
        "access_denied" => told("access_denied", "AccessDenied"),
        "internal" => "no reply of Nameko's".to_owned(),
        "too_large" => return replies(&format!("\"{}\"", "x".repeat(2 << 20))),
        _ => return Vec::new(),
    })
}

/// One that exposes all that fails, in one dialect.
async fn world(dialect: &str) -> World {
    let methods = "methods = [\"application\", \"invalid_params\", \"unknown_method\", \"timeout\", \
                   \"access_denied\", \"internal\", \"too_large\", \"parse_error\", \"invalid_request\", \
                   \"spoken\"]";
    let away = Nats::start();
    let rows = [
        row("desk", dialect, methods),
        row("ghost", dialect, "methods = [\"x\"]"),
        // Its other method can be called, or nobody would take its calls.
        row("down", dialect, "methods = [\"x\", \"up\"]"),
        row("busy", dialect, "methods = [\"x\"]\nprefetch = 1"),
        format!(
            "{}\n[[routes]]\nmatch = \"down.x\"\nupstream = \"away\"\n\
             [[routes]]\nmatch = \"busy.*\"\nupstream = \"rabbit\"\nservice = \"desk\"\n\
             [[routes]]\nmatch = \"desk.timeout\"\nupstream = \"rabbit\"\ntimeout = \"300ms\"\n",
            away.upstream("away", "plain")
        ),
    ];
    let world = World::with(&rows.concat(), desk).await;
    away.kill();
    world.gateway.wait_for_log(0, "the connection to NATS was lost").await;
    world
}

/// What is asked for each kind: a subject and a body.
fn cases() -> Vec<(&'static str, &'static str, String, &'static str, &'static str)> {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let none = String::new;
    vec![
        ("parse_error", "desk.parse_error", "{broken".to_owned(), "400", "not_sent"),
        ("invalid_request", "desk.invalid_request", deep, "400", "not_sent"),
        ("unknown_method", "desk.unknown_method", none(), "404", "unknown"),
        ("unknown_service", "ghost.x", none(), "404", "not_sent"),
        ("invalid_params", "desk.invalid_params", none(), "422", "unknown"),
        ("internal", "desk.internal", none(), "500", "executed"),
        ("application", "desk.application", none(), "500", "executed"),
        ("access_denied", "desk.access_denied", none(), "403", "not_sent"),
        ("timeout", "desk.timeout", none(), "504", "unknown"),
        ("unavailable", "down.x", none(), "503", "not_sent"),
        ("too_large", "desk.too_large", none(), "413", "executed"),
    ]
}

fn told(reply: &Message) -> String {
    header(reply, "Genkan-Fault")
}

#[tokio::test]
async fn in_the_standard_headers() {
    for dialect in ["plain", "micro"] {
        let world = world(dialect).await;
        for (kind, subject, body, code, outcome) in cases() {
            let reply = world.ask(subject, &body).await;
            let answer = as_json(&reply);
            assert_eq!(header(&reply, "Nats-Service-Error-Code"), code, "{kind}: {answer}");
            assert!(!header(&reply, "Nats-Service-Error").is_empty(), "{kind}: {answer}");
            assert_eq!(told(&reply), format!("{kind} {outcome}"), "{answer}");
            assert_eq!((&answer["kind"], &answer["outcome"]), (&json!(kind), &json!(outcome)));
            assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{answer}");
        }
        // nats-py up to 2.14 has no headers at all where one is not ASCII, and a fault would be a result.
        let reply = world.ask("desk.spoken", "").await;
        assert_eq!(header(&reply, "Nats-Service-Error"), "ValueError: ung\\u00fcltig");
        assert_eq!(as_json(&reply)["error"], "ValueError: ungültig");
    }
}

#[tokio::test]
async fn as_text_to_picom() {
    let world = world("picom").await;
    let mut calls = Vec::new();
    for (kind, subject, body, _, outcome) in cases() {
        let reply = world.ask(subject, &body).await;
        assert_eq!(told(&reply), format!("{kind} {outcome}"));
        let answer = as_json(&reply);
        let members = answer.as_object().expect("an object");
        assert_eq!(members.len(), 1, "{answer}");
        let text = answer["error"].as_str().expect("a text");
        match kind {
            "parse_error" | "invalid_request" => assert_eq!(text, "Bad JSON request"),
            "unknown_method" => assert_eq!(text, "Method not found \"unknown_method\""),
            "application" => assert_eq!(text, "ValueError: bad 1"),
            _ => assert!(!text.is_empty(), "{kind}"),
        }
        let is_broken = matches!(kind, "parse_error" | "invalid_request");
        calls.push(if is_broken { json!([subject, 0]) } else { json!([subject, [1]]) });
    }
    // Its real client survives every one of them.
    for outcome in picom(&world.nats, calls.into()).await {
        let text = outcome["error"].as_str().unwrap_or_default();
        assert!(outcome["is_text"] == true && !text.is_empty(), "{outcome}");
    }
}

#[tokio::test]
async fn more_calls_than_there_is_room_for_are_told_at_once() {
    for dialect in ["picom", "plain"] {
        let world = world(dialect).await;
        let client = world.client.clone();
        let held = tokio::spawn(async move { ask(&client, "busy.x", "").await });
        crate::harness::eventually("it runs", async || {
            (world.desk.requests.count() == 1).then_some(())
        })
        .await;
        let reply = world.ask("busy.x", "").await;
        assert_eq!(told(&reply), "overloaded not_sent");
        assert!(as_json(&reply)["error"].as_str().is_some_and(|text| text.contains("`prefetch`")));
        held.abort();
        let calls = [("ingress", "nats"), ("outcome", "overloaded")];
        assert_eq!(world.gateway.metric("genkan_calls_total", &calls).await, 1.0);
    }
}

/// Far more at once than wait to be written: none of them is left without a word.
#[tokio::test]
async fn each_of_a_burst_is_told() {
    const BURST: usize = 3_000;
    for (dialect, subject, body, told) in [
        ("plain", "busy.x", "{}", "overloaded"),
        ("picom", "ghost.x", "{}", "unknown_service"),
        ("micro", "desk.parse_error", "{broken", "parse_error"),
    ] {
        let world = world(dialect).await;
        let client = world.client.clone();
        let _held = tokio::spawn(async move { ask(&client, "busy.x", "").await });
        crate::harness::eventually("it runs", async || {
            (world.desk.requests.count() == 1).then_some(())
        })
        .await;
        let mut answers = world.client.subscribe("burst.>").await.expect("subscribed");
        for number in 0..BURST {
            let reply = format!("burst.{number}");
            let asked = world.client.publish_with_reply(subject, reply, body.into());
            asked.await.expect("published");
        }
        let all = async {
            for _ in 0..BURST {
                let answer = answers.next().await.expect("an answer");
                let is = self::told(&answer);
                // Some come when as many are looked at as may be.
                assert!([told, "overloaded"].iter().any(|told| is.starts_with(told)), "{is}");
            }
        };
        let all = tokio::time::timeout(super::PATIENCE, all).await;
        all.unwrap_or_else(|_| panic!("{dialect}: not all are answered"));
        let upstream = [("upstream", "nats")];
        assert_eq!(world.gateway.metric("genkan_unsent_replies_total", &upstream).await, 0.0);
    }
}

/// Whoever publishes cannot be told to come back, and NATS holds nothing back.
#[tokio::test]
async fn notifications_wait_for_their_turn() {
    const BURST: usize = 2_000;
    for dialect in ["picom", "plain"] {
        let world = World::exposing(dialect, "prefetch = 5", |_| replies("1")).await;
        for number in 0..BURST {
            let body = format!("[{number}]");
            world.client.publish("desk.note", body.into()).await.expect("published");
        }
        crate::harness::eventually("all have come", async || {
            (world.desk.requests.count() == BURST).then_some(())
        })
        .await;
        let refused = [("ingress", "nats"), ("outcome", "overloaded")];
        assert_eq!(world.gateway.metric("genkan_calls_total", &refused).await, 0.0);
    }
}

/// Through two gateways in a row a fault is what it would be through one.
#[tokio::test]
async fn another_gateway_knows_what_it_was() {
    for dialect in ["picom", "plain", "micro"] {
        let world = world(dialect).await;
        let before = Gateway::ready(&world.nats.config(dialect)).await;
        for (kind, subject, _, _, outcome) in cases() {
            if matches!(kind, "parse_error" | "invalid_request") {
                continue;
            }
            let fault = before.fault(subject, json!({})).await;
            fault.is(kind, outcome);
            if kind == "application" && dialect != "picom" {
                let data = &fault.data;
                assert_eq!(
                    (&data["class"], &data["info"]),
                    (&json!("ValueError"), &json!("bad 1"))
                );
                assert_eq!(data["args"], json!(["bad 1"]), "{data}");
            }
        }
    }
}

#[tokio::test]
async fn requests_have_a_limit() {
    let world = World::exposing("picom", "", super::echo).await;
    let rows = row("desk", "picom", "");
    let toml = super::config(&world.nats, &world.vhost, &rows);
    world.gateway.write_config(&toml.replacen("dialect", "max_request = \"64KiB\"\ndialect", 1));
    world.gateway.hang_up();
    super::exposed(&world.gateway, "desk", 2).await;
    let large = format!("\"{}\"", "x".repeat(70 << 10));
    let reply = crate::harness::eventually("the old one has gone", async || {
        let reply = ask(&world.client, "desk.x", &large).await;
        (!told(&reply).is_empty()).then_some(reply)
    })
    .await;
    assert_eq!(told(&reply), "too_large not_sent");
    let text = as_json(&reply)["error"].as_str().unwrap_or_default().to_owned();
    assert!(text.contains("64KiB are taken at most") && text.contains("`max_request`"), "{text}");
}

#[tokio::test]
async fn a_call_whose_answer_is_too_large_is_counted_once_and_named() {
    let nats = Nats::configured("max_payload: 65536");
    let vhost = crate::harness::RabbitMq::shared().vhost();
    let large = |_: &Seen| replies(&format!("\"{}\"", "x".repeat(70_000)));
    let _desk = crate::harness::NamekoResponder::serve(&vhost.url(), "desk", large).await;
    let rows = row("desk", "plain", "as = \"other\"");
    let gateway = Gateway::ready(&super::config(&nats, &vhost, &rows)).await;
    super::exposed(&gateway, "other", 1).await;
    let reply = ask(&nats.client().await, "other.x", "").await;
    assert_eq!(told(&reply), "too_large executed");
    let calls = async |labels: &[(&str, &str)]| {
        let all = [&[("ingress", "nats")], labels].concat();
        gateway.metric("genkan_calls_total", &all).await
    };
    let counted = [("outcome", "too_large"), ("route", "*"), ("upstream", "rabbit")];
    assert_eq!((calls(&[]).await, calls(&counted).await), (1.0, 1.0));
    let line = gateway.wait_for_log(0, "call failed").await;
    assert_eq!((&line["call"], &line["route"]), (&json!("desk.x"), &json!("*")), "{line}");
}

#[tokio::test]
async fn what_is_refused_early_is_named_in_the_log() {
    let world = World::exposing("plain", "as = \"other\"", |_| replies("1")).await;
    assert_eq!(
        header(&world.ask("other.create", "{").await, "Genkan-Fault"),
        "parse_error not_sent"
    );
    let line = world.gateway.wait_for_log(0, "call failed").await;
    assert_eq!((&line["call"], &line["kind"]), (&json!("desk.create"), &json!("parse_error")));
}
