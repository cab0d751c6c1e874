//! A NestJS service, called by others.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::harness::clients::nameko;
use crate::harness::{Gateway, NamekoVersion, Nats, NestService, RabbitMq, as_fault, eventually};

async fn world() -> (Nats, NestService, Gateway) {
    let nats = Nats::start();
    let service = NestService::shop(&nats);
    let rows = "[[routes]]\nmatch = \"shop.sum\"\nupstream = \"nats\"\n\
                subject = '{\"cmd\":\"sum\",\"v\":1}'\n\
                [[routes]]\nmatch = \"shop.never\"\nupstream = \"nats\"\ntimeout = \"300ms\"\n";
    let toml = nats.config("nest").replacen("[[routes]]", &format!("{rows}[[routes]]"), 1);
    let gateway = Gateway::ready(&toml).await;
    (nats, service, gateway)
}

#[tokio::test]
async fn it_is_called_from_http() {
    let (_nats, service, gateway) = world().await;
    for (method, params, expected) in [
        ("shop.add", json!([1, 2, 3]), json!(6)),
        ("shop.echo", json!({"deep": ["é", 2.5, null]}), json!({"deep": ["é", 2.5, null]})),
        ("shop.echo", json!(["text"]), json!("text")),
        ("shop.echo", json!([null]), Value::Null),
        ("shop.echo", json!(["x".repeat(200 << 10)]), json!("x".repeat(200 << 10))),
        ("shop.nothing", json!([]), Value::Null),
        ("shop.sum", json!({"a": 20, "b": 22}), json!(42)),
    ] {
        assert_eq!(gateway.result(method, params).await, expected, "{method}");
    }
    // Without params it gets an empty object, as its own clients say nothing.
    assert_eq!(gateway.result("shop.echo", json!([])).await, json!({}));
    gateway.fault("shop.nope", json!({})).await.is("unknown_service", "not_sent");
    gateway.fault("shop.never", json!({})).await.is("timeout", "unknown");
    assert!(service.lives());
}

#[tokio::test]
async fn what_an_exception_says_is_kept() {
    let (_nats, _service, gateway) = world().await;
    let refused = gateway.fault("shop.refuse", json!({})).await;
    assert_eq!(refused.is("application", "executed").message, "no such order");
    assert_eq!(refused.data["info"], json!({"status": "error", "message": "no such order"}));
    let explained = gateway.fault("shop.explain", json!({})).await;
    assert_eq!(explained.message, "bad order");
    let said = json!({"code": "E42", "message": "bad order", "details": {"line": 7}});
    assert_eq!(explained.data["info"], said);
    assert!(explained.data.to_string().contains("E42"));
    let failed = gateway.fault("shop.fail", json!({})).await;
    assert_eq!(failed.is("application", "executed").message, "Internal server error");
}

#[tokio::test]
async fn of_a_stream_the_last_value_is_the_result() {
    let (_nats, _service, gateway) = world().await;
    assert_eq!(gateway.result("shop.count", json!({})).await, 3);
    assert_eq!(gateway.result("shop.tick", json!({})).await, 299);
    assert_eq!(gateway.result("shop.empty", json!({})).await, Value::Null);
    let fault = gateway.fault("shop.stumble", json!({})).await;
    assert_eq!(fault.is("application", "executed").message, "broke");
    assert_eq!(gateway.metric("genkan_late_replies_total", &[]).await, 0.0);
}

/// It has run, and that is known.
#[tokio::test]
async fn a_stream_that_does_not_end_in_time_has_run() {
    let (_nats, service, gateway) = world().await;
    let body = r#"{"jsonrpc":"2.0","method":"shop.endless","params":{},"id":1}"#;
    let answer = gateway.post("/api", &[("X-Request-Timeout", "1s")], body).await.json();
    let fault = as_fault(&answer);
    fault.is("timeout", "executed");
    assert!(fault.message.contains("did not end"), "{fault:?}");
    assert!(service.lives());
}

#[tokio::test]
async fn a_notification_is_an_event() {
    let (nats, service, gateway) = world().await;
    gateway.notify("shop.note", json!({"n": 1})).await;
    eventually("it is noted", async || {
        (gateway.result("shop.noted", json!({})).await == json!([{"n": 1}])).then_some(())
    })
    .await;
    // As its own client sends them.
    let client = nats.client().await;
    let mut events = client.subscribe("shop.note").await.expect("a subscription");
    // The server has it when it answers what comes after it.
    client.request("nobody.x", "".into()).await.expect_err("nobody is there");
    gateway.notify("shop.note", json!({"n": 2})).await;
    let event = events.next().await.expect("an event");
    assert_eq!(event.payload, r#"{"pattern":"shop.note","data":{"n":2}}"#);
    assert_eq!(event.reply, None);
    assert!(service.lives());
}

#[tokio::test]
async fn it_sees_who_asks() {
    let (_nats, _service, gateway) = world().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", trace), ("X-Request-Id", "r-1"), ("Accept-Language", "de")];
    let body = br#"{"jsonrpc":"2.0","method":"shop.context","params":{},"id":1}"#;
    let seen = gateway.post("/api", &headers, body).await.json()["result"].clone();
    assert_eq!((&seen["traceparent"], &seen["X-Request-Id"]), (&json!(trace), &json!("r-1")));
    assert_eq!((&seen["Accept-Language"], &seen["Genkan-Hops"]), (&json!("de"), &json!("1")));
    assert!(seen["X-Request-Timeout"].as_str().is_some_and(|left| left.ends_with("ms")), "{seen}");
}

#[tokio::test]
async fn it_is_called_from_nameko() {
    let (nats, vhost) = (Nats::start(), RabbitMq::shared().vhost());
    let _service = NestService::shop(&nats);
    let expose = "[[expose]]\nservice = \"shop\"\non = [\"rabbit\"]\n";
    let toml = format!("{}{}{expose}", nats.config("nest"), vhost.upstream("rabbit"));
    let gateway = Gateway::ready(&toml).await;
    crate::nameko_exposes::exposed(&gateway, "shop", 1).await;
    let calls = [
        ("shop", "echo", json!([]), json!({"a": [1, "é"]})),
        ("shop", "add", json!([20, 22]), json!({})),
        ("shop", "count", json!([]), json!({})),
        ("shop", "explain", json!([]), json!({})),
    ];
    for version in NamekoVersion::ALL {
        let outcomes = nameko(version, &vhost.url(), &calls).await;
        let results: Vec<_> = outcomes[..3].iter().map(|outcome| &outcome["result"]).collect();
        assert_eq!(results, [&json!({"a": [1, "é"]}), &json!(42), &json!(3)], "{version:?}");
        let raised = &outcomes[3]["error"];
        assert_eq!(raised["raised"], "nameko.exceptions.RemoteError", "{raised}");
        assert!(raised["value"].to_string().contains("bad order"), "{raised}");
    }
}
