//! What brokers do that are alive, or seem to be: cut connections, goodbyes, other policies.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::proxy::Proxy;
use crate::harness::rabbit::Vhost;
use crate::harness::responder::{connect, queue_state};
use crate::harness::{Answer, Gateway, NamekoResponder, RabbitMq, Seen, as_fault, eventually};

const OK: &str = r#"{"result": "ok", "error": null}"#;

/// Answers all but `wait`.
fn answer(seen: &Seen) -> Vec<Answer> {
    if seen.method == "wait" { Vec::new() } else { Answer::new(OK) }
}

#[tokio::test]
async fn a_connection_that_is_cut_without_a_word_is_given_up_for_another() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let proxy = Proxy::to(format!("127.0.0.1:{}", vhost.port())).await;
    // Heartbeats alone would take longer than this test waits for anything.
    let config = vhost.config().replace("protocol =", "heartbeat = \"5m\"\nprotocol =");
    let config = config.replace(&format!("127.0.0.1:{}", vhost.port()), proxy.address());
    let gateway = Gateway::ready(&config).await;
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    for cut in 1..=2 {
        let waiting = service.requests.count() + 1;
        let call = gateway.fault("orders.wait", json!([]));
        let cutting = async {
            let came = || service.requests.count() == waiting;
            eventually("it waits", async || came().then_some(())).await;
            proxy.cut();
        };
        let (fault, ()) = tokio::join!(call, cutting);
        fault.is("unavailable", "unknown");
        eventually("a call is served", async || {
            (gateway.rpc("orders.x", json!([])).await["result"] == "ok").then_some(())
        })
        .await;
        let reconnects = gateway.metric("genkan_upstream_reconnects_total", &[]).await;
        assert_eq!(reconnects, f64::from(cut));
    }
}

#[tokio::test]
async fn what_waits_long_for_a_broker_that_answers_costs_nothing() {
    let vhost = RabbitMq::shared().vhost();
    let slow = |_: &Seen| Answer::after(OK, Duration::from_secs(4));
    let _service = NamekoResponder::serve(&vhost.url(), "orders", slow).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    assert_eq!(gateway.result("orders.slow", json!([])).await, "ok");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

/// A queue, by the name of its exchange, for what nobody takes.
async fn alternate_exchange(vhost: &Vhost<'_>) {
    let channel = connect(&vhost.url()).await.create_channel().await.expect("a channel");
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default);
    let declared = channel.exchange_declare("spill".into(), ExchangeKind::Fanout, options, none());
    declared.await.expect("an exchange");
    let queue = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("spill".into(), queue, none()).await.expect("a queue");
    let (bind, key) = (QueueBindOptions::default(), "");
    let bound = channel.queue_bind("spill".into(), "spill".into(), key.into(), bind, none());
    bound.await.expect("a binding");
    let policy = json!({
        "pattern": "^nameko-rpc$",
        "apply-to": "exchanges",
        "definition": {"alternate-exchange": "spill"},
    });
    RabbitMq::shared().put(&format!("policies/{}/spill", vhost.name()), &policy);
}

#[tokio::test]
async fn a_misspelt_service_is_told_though_another_exchange_takes_its_calls() {
    let vhost = RabbitMq::shared().vhost();
    alternate_exchange(&vhost).await;
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let names = (0..20).map(|n| format!("ordres{}.x", n % 4));
    let calls: Vec<_> =
        names.map(|name| format!(r#"{{"jsonrpc":"2.0","method":"{name}","id":1}}"#)).collect();
    for answer in gateway.api(format!("[{}]", calls.join(","))).await.as_array().expect("a batch") {
        assert_eq!(as_fault(answer).data["kind"], "unknown_service", "{answer}");
    }
    let told = gateway.logged(
        "an alternate exchange takes calls to services that do not exist: rabbitmq does not return \
         them",
    );
    assert_eq!(told.len(), 1, "{told:?}");
    // From now on nothing goes there, and those that are there are called.
    let spilt = queue_state(&vhost.url(), "spill").await;
    for name in ["ordres0.x", "ordres0.x", "oders.x"] {
        gateway.fault(name, json!([])).await.is("unknown_service", "not_sent");
    }
    assert_eq!(queue_state(&vhost.url(), "spill").await, spilt);
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    let _late = NamekoResponder::serve(&vhost.url(), "ordres0", answer).await;
    eventually("it is found", async || {
        (gateway.rpc("ordres0.x", json!([])).await["result"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_probe_that_cannot_connect_makes_no_call_wait() {
    let vhost = RabbitMq::shared().vhost();
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens").to_string();
    let port = vhost.port();
    // The connections for calls and replies pass; that for probes is taken and left alone.
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut inner, _)) = listener.accept().await {
            if held.len() < 2 {
                let mut outer = TcpStream::connect(("127.0.0.1", port)).await.expect("the broker");
                held.push(None);
                tokio::spawn(async move {
                    drop(tokio::io::copy_bidirectional(&mut inner, &mut outer).await);
                });
            } else {
                held.push(Some(inner));
            }
        }
    });
    let config = vhost.config().replace("protocol =", "connect_timeout = \"5m\"\nprotocol =");
    let config = config.replace(&format!("127.0.0.1:{port}"), &address);
    let gateway = Gateway::ready(&config).await;
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
}
