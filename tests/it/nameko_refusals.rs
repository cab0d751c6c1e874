//! Messages that RabbitMQ would refuse, or does: the sender is told which it was and why, and
//! nobody else's call is touched.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::responder::{connect, declare_service};
use crate::harness::{Answer, Gateway, NamekoResponder, RabbitMq, Seen, as_fault, eventually};

const OK: &str = r#"{"result": "ok", "error": null}"#;

fn answer(seen: &Seen) -> Vec<Answer> {
    match seen.method.as_str() {
        "slow" => Answer::after(r#"{"result": "slow"}"#, Duration::from_millis(700)),
        _ => Answer::new(OK),
    }
}

/// Runs `disturb` while a call waits for its reply, which has to come all the same.
async fn beside_a_call_in_flight(
    gateway: &Gateway,
    service: &NamekoResponder,
    disturb: impl Future<Output = ()>,
) {
    let before = service.requests.count();
    let disturb = async {
        eventually("it waits", async || (service.requests.count() > before).then_some(())).await;
        disturb.await;
    };
    let (slow, ()) = tokio::join!(gateway.result("orders.slow", json!([])), disturb);
    assert_eq!(slow, "slow");
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

async fn ended(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("genkan_calls_total", &[("outcome", outcome)]).await
}

#[tokio::test]
async fn headers_that_do_not_fit_a_frame_are_refused_with_both_sizes() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let call = r#"{"jsonrpc":"2.0","method":"orders.x","id":1}"#;
    let note = r#"{"jsonrpc":"2.0","method":"orders.x"}"#;
    let (long, longer) = ("x".repeat(8_400), "x".repeat(17_000));
    let state = format!("a={}", &long[..8_200]);
    beside_a_call_in_flight(&gateway, &service, async {
        for (header, value) in [
            ("User-Agent", &longer),
            ("Accept-Language", &longer),
            ("X-Request-Id", &longer),
            ("tracestate", &state),
        ] {
            let answer = gateway.post("/api", &[(header, value)], call).await.json();
            // A header may also be too long for what reads it, and be left out.
            if answer["result"] != "ok" {
                let fault = as_fault(&answer);
                assert_eq!(fault.is("too_large", "not_sent").code, -32006, "{header}");
                assert!(fault.message.contains("16384"), "{}", fault.message);
            } else {
                assert_ne!(header, "User-Agent");
            }
        }
        gateway.post("/api", &[("User-Agent", &longer)], note).await;
        eventually("the notification is counted", async || {
            (ended(&gateway, "too_large").await >= 2.0).then_some(())
        })
        .await;
    })
    .await;
    let refused = [("upstream", "rabbit"), ("reason", "large_headers")];
    assert!(gateway.metric("genkan_refused_total", &refused).await >= 2.0);
    let fits = "x".repeat(15_000);
    let answer = gateway.post("/api", &[("User-Agent", &fits)], call).await.json();
    assert_eq!(answer["result"], "ok");
}

/// A gateway and its service, with a broker that takes 64 KiB at most.
async fn before_a_limit() -> (RabbitMq, NamekoResponder, Gateway) {
    let rabbit = RabbitMq::configured("max_message_size = 65536");
    let service = NamekoResponder::serve(&rabbit.url(), "orders", answer).await;
    let config = format!(
        "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n",
        rabbit.url()
    );
    let gateway = Gateway::ready(&config).await;
    (rabbit, service, gateway)
}

#[tokio::test]
async fn a_message_over_the_brokers_limit_costs_its_own_caller_alone() {
    let (_rabbit, service, gateway) = before_a_limit().await;
    let large = json!(["x".repeat(100_000)]);
    beside_a_call_in_flight(&gateway, &service, async {
        let fault = gateway.fault("orders.x", large.clone()).await;
        assert_eq!(fault.is("too_large", "rejected").code, -32006);
        assert!(fault.message.contains("65536"), "{}", fault.message);
        assert!(fault.message.contains("100025"), "{}", fault.message);
        // What is known is not tried again.
        let fault = gateway.fault("orders.x", large.clone()).await;
        fault.is("too_large", "not_sent");
        gateway.notify("orders.x", large.clone()).await;
        eventually("counted", async || (ended(&gateway, "too_large").await == 3.0).then_some(()))
            .await;
    })
    .await;
    let refused = [("upstream", "rabbit"), ("reason", "large_message")];
    assert_eq!(gateway.metric("genkan_refused_total", &refused).await, 2.0);
    assert_eq!(gateway.result("orders.x", json!(["x".repeat(60_000)])).await, "ok");
}

#[tokio::test]
async fn a_refused_message_among_many_costs_none_of_the_others_its_answer() {
    let (_rabbit, service, gateway) = before_a_limit().await;
    gateway.result("orders.x", json!([])).await;
    let calls: Vec<_> = (0..50)
        .map(|id| {
            let text = "x".repeat(if id == 25 { 100_000 } else { 10 });
            format!(r#"{{"jsonrpc":"2.0","method":"orders.x","params":["{text}"],"id":{id}}}"#)
        })
        .collect();
    let answers = gateway.api(format!("[{}]", calls.join(","))).await;
    for answer in answers.as_array().expect("a batch") {
        if answer["id"] == 25 {
            as_fault(answer).is("too_large", "rejected");
        } else {
            assert_eq!(answer["result"], "ok", "{answer}");
        }
    }
    assert_eq!(service.requests.count(), 50, "each once");
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
}

/// A user by a name that must not show, with its permissions on a virtual host.
fn user(vhost: &str, name: &str, write: &str) {
    let rabbit = RabbitMq::shared();
    rabbit.put(&format!("users/{name}"), &json!({"password": "p", "tags": ""}));
    let permissions = json!({"configure": ".*", "write": write, "read": ".*"});
    rabbit.put(&format!("permissions/{vhost}/{name}"), &permissions);
}

fn as_user(config: &str, name: &str) -> String {
    let (before, rest) = config.split_once("gateway:").expect("a URL");
    let (_, after) = rest.split_once('@').expect("a URL");
    format!("{before}{name}:p@{after}")
}

async fn shows_no_name(gateway: &Gateway, name: &str) {
    let page = gateway.page("/readyz").await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(!page.text().contains(name), "{}", page.text());
}

fn warnings(gateway: &Gateway) -> Vec<Value> {
    let log = gateway.log();
    let ours = log.into_iter().filter(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("rabbitmq does not let this user publish")
    });
    ours.collect()
}

#[tokio::test]
async fn a_topic_that_the_user_may_not_write_is_denied_to_its_callers_alone() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    user(vhost.name(), "mukashibanashi", ".*");
    let topics = json!({"exchange": "nameko-rpc", "write": "^orders\\.(x|slow)$", "read": ".*"});
    RabbitMq::shared().put(&format!("topic-permissions/{}/mukashibanashi", vhost.name()), &topics);
    let gateway = Gateway::ready(&as_user(&vhost.config(), "mukashibanashi")).await;
    beside_a_call_in_flight(&gateway, &service, async {
        let fault = gateway.fault("orders.secret", json!([])).await;
        assert_eq!(fault.is("access_denied", "rejected").code, -32001);
        assert!(fault.message.contains("orders.secret"), "{}", fault.message);
        assert!(!fault.message.contains("mukashibanashi"), "{}", fault.message);
        for _ in 0..20 {
            gateway.fault("orders.secret", json!([])).await.is("access_denied", "not_sent");
        }
        gateway.notify("orders.secret", json!([])).await;
        eventually("counted", async || {
            (ended(&gateway, "access_denied").await == 22.0).then_some(())
        })
        .await;
        shows_no_name(&gateway, "mukashibanashi").await;
    })
    .await;
    let warnings = warnings(&gateway);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].to_string().contains("set_topic_permissions"), "{warnings:?}");
    assert_eq!(service.requests.all().iter().filter(|seen| seen.method == "secret").count(), 0);
}

#[tokio::test]
async fn denied_topics_among_many_calls_cost_no_other_caller() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    user(vhost.name(), "momotarou", ".*");
    let topics = json!({"exchange": "nameko-rpc", "write": "^orders\\.(x|slow)$", "read": ".*"});
    RabbitMq::shared().put(&format!("topic-permissions/{}/momotarou", vhost.name()), &topics);
    let gateway = Gateway::ready(&as_user(&vhost.config(), "momotarou")).await;
    let mut ran = 0;
    for round in 0..8 {
        let secret = |id: u64| id % 16 == round;
        let call = |id: u64| {
            let method = if secret(id) { format!("secret{round}") } else { "x".to_owned() };
            format!(r#"{{"jsonrpc":"2.0","method":"orders.{method}","id":{id}}}"#)
        };
        let batches = (0..4).map(|batch| {
            let calls: Vec<_> = (batch * 50..batch * 50 + 50).map(call).collect();
            gateway.api(format!("[{}]", calls.join(",")))
        });
        for batch in futures_util::future::join_all(batches).await {
            for answer in batch.as_array().expect("a batch") {
                if secret(answer["id"].as_u64().expect("an id")) {
                    let fault = as_fault(answer);
                    assert_eq!(fault.data["kind"], "access_denied", "{fault:?}");
                    assert_ne!(fault.data["outcome"], "unknown", "{fault:?}");
                } else {
                    assert_eq!(answer["result"], "ok", "{answer}");
                    ran += 1;
                }
            }
        }
    }
    assert_eq!(service.requests.count(), ran, "each once");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
}

#[tokio::test]
async fn a_flood_of_denied_names_holds_up_nobody_who_is_permitted() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    user(vhost.name(), "issunboushi", ".*");
    let topics = json!({"exchange": "nameko-rpc", "write": "^orders\\..*", "read": ".*"});
    RabbitMq::shared().put(&format!("topic-permissions/{}/issunboushi", vhost.name()), &topics);
    let gateway = Gateway::ready(&as_user(&vhost.config(), "issunboushi")).await;
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    let flooding = std::cell::Cell::new(true);
    let flood = async {
        let parts = (0..8).map(async |part| {
            for name in 0..25 {
                let name = format!("x{part}n{name}.m");
                let fault = gateway.fault(&name, json!([])).await;
                assert_eq!(fault.data["kind"], "access_denied", "{fault:?}");
                assert_ne!(fault.data["outcome"], "unknown", "{fault:?}");
            }
        });
        futures_util::future::join_all(parts).await;
        flooding.set(false);
    };
    let served = std::cell::Cell::new(0);
    let calls = async {
        while flooding.get() {
            // One that is known to be permitted, and one that has to be found out.
            for method in ["orders.x".to_owned(), format!("orders.y{}", served.get())] {
                assert_eq!(gateway.result(&method, json!([])).await, "ok");
                served.set(served.get() + 1);
            }
        }
    };
    tokio::join!(flood, calls);
    assert_eq!(service.requests.count(), served.get() + 1, "each once");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_user_who_may_not_write_at_all_is_denied() {
    let vhost = RabbitMq::shared().vhost();
    let connection = connect(&vhost.url()).await;
    declare_service(&connection.create_channel().await.expect("a channel"), "orders").await;
    user(vhost.name(), "yomihajime", "^rpc\\.reply-.*");
    let gateway = Gateway::ready(&as_user(&vhost.config(), "yomihajime")).await;
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    for outcome in ["rejected", "not_sent"] {
        let fault = gateway.fault("orders.x", json!([])).await;
        assert_eq!(fault.is("access_denied", outcome).code, -32001);
        assert!(!fault.message.contains("yomihajime"), "{}", fault.message);
    }
    shows_no_name(&gateway, "yomihajime").await;
    let warnings = warnings(&gateway);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].to_string().contains("set_permissions"), "{warnings:?}");
    assert_eq!(service.requests.count(), 0);
}
