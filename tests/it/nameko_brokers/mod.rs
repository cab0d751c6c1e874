//! What brokers do that are alive, or seem to be: cut connections, goodbyes, other policies.

mod closing;
mod large_replies;
mod misspelt;

use std::io::Write;
use std::time::Duration;

use flate2::write::GzEncoder;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::proxy::Proxy;
use crate::harness::rabbit::Vhost;
use crate::harness::responder::{connect, queue_state};
use crate::harness::{
    Answer, Gateway, NamekoResponder, RabbitMq, Rotating, Seen, as_fault, eventually,
};

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

#[tokio::test]
async fn a_probe_that_has_no_connection_is_told_once() {
    let vhost = RabbitMq::shared().vhost();
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let limit = format!("vhost-limits/{}/max-connections", vhost.name());
    // The service's own, that for calls and that for replies.
    RabbitMq::shared().put(&limit, &json!({"value": 3}));
    let gateway = Gateway::ready(&vhost.config()).await;
    let told = "no connection for probes, so calls wait for services that are not there: rabbitmq lets \
                no more connections be made";
    let line = gateway.wait_for_log(0, told).await;
    assert_eq!((&line["level"], &line["upstream"]), (&json!("WARN"), &json!("rabbit")), "{line}");
    assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("set_vhost_limits")), "{line}");
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    RabbitMq::shared().delete(&limit);
    gateway.wait_for_log(0, "the connection for probes is there").await;
    assert_eq!(gateway.logged(told).len(), 1);
}

#[tokio::test]
async fn events_that_have_no_connection_are_told_of_until_they_have() {
    let vhost = RabbitMq::shared().vhost();
    let limit = format!("vhost-limits/{}/max-connections", vhost.name());
    // That for calls and that for replies.
    RabbitMq::shared().put(&limit, &json!({"value": 2}));
    let topics = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"rabbit:shop.*\"\n";
    let gateway = Gateway::ready(&format!("{}{topics}", vhost.config())).await;
    let line = gateway.wait_for_log(0, "no connection for events").await;
    assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("set_vhost_limits")), "{line}");
    let failing = || async { gateway.metric("genkan_event_sources_failing", &[]).await };
    eventually("its metric tells", async || (failing().await == 1.0).then_some(())).await;
    let page = gateway.page("/readyz").await;
    assert!(
        page.text().contains("rabbit:shop.*") && page.text().contains("set_vhost_limits"),
        "{page:?}"
    );
    RabbitMq::shared().delete(&limit);
    eventually("they are heard", async || (failing().await == 0.0).then_some(())).await;
}

/// The names of a gateway's connections as the broker's operator sees them, by what they are for.
fn connections(vhost: &Vhost<'_>, purpose: &str) -> Vec<String> {
    let all = RabbitMq::shared().get(&format!("vhosts/{}/connections", vhost.name()));
    let is_for = |it: &&Value| {
        let name = it["client_properties"]["connection_name"].as_str().unwrap_or_default();
        name.starts_with("genkan") && name.ends_with(purpose)
    };
    let all = all.as_array().expect("a list").clone();
    all.iter().filter(is_for).filter_map(|it| Some(it["name"].as_str()?.to_owned())).collect()
}

/// Closes them as an operator does.
async fn close(vhost: &Vhost<'_>, purpose: &str) {
    let listed = eventually("the broker lists it", async || {
        let listed = connections(vhost, purpose);
        (!listed.is_empty()).then_some(listed)
    });
    for name in listed.await {
        let name = name.replace(' ', "%20").replace('>', "%3E");
        RabbitMq::shared().delete(&format!("connections/{name}"));
    }
}

#[tokio::test]
async fn an_operator_who_closes_a_connection_ends_no_call_that_others_carry() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let call = gateway.result("orders.wait", json!([]));
    let closing = async {
        eventually("it waits", async || (service.requests.count() == 1).then_some(())).await;
        let waiting = service.requests.last();
        close(&vhost, "publish").await;
        gateway.wait_for_log(0, "an operator closes the connection to publish on").await;
        eventually("a call is served", async || {
            (gateway.rpc("orders.x", json!([])).await["result"] == "ok").then_some(())
        })
        .await;
        service.say(&waiting, Answer::new(OK).remove(0)).await;
    };
    let (result, ()) = tokio::join!(call, closing);
    assert_eq!(result, "ok");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_node_that_is_down_is_passed_over() {
    let vhost = RabbitMq::shared().vhost();
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let down = vhost.url().replace(&format!(":{}/", vhost.port()), ":1/");
    let list = format!("urls = [\"{down}\", \"{}\"]", vhost.url());
    let config = vhost.config().replace(&format!("url = \"{}\"", vhost.url()), &list);
    let gateway = Gateway::ready(&config).await;
    for reconnects in 1..=2 {
        eventually("a call is served", async || {
            (gateway.rpc("orders.x", json!([])).await["result"] == "ok").then_some(())
        })
        .await;
        close(&vhost, "receive").await;
        let count = f64::from(reconnects);
        gateway.wait_for_metric("genkan_upstream_reconnects_total", &[], count).await;
    }
}

#[tokio::test]
async fn a_secret_that_is_rotated_is_in_force_without_a_signal() {
    let vhost = RabbitMq::shared().vhost();
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let user = Rotating::new(&vhost, "take-1");
    let gateway = Gateway::ready(&user.config(&vhost.config())).await;
    // The file is ahead of the broker, which disturbs nobody who is connected.
    user.write("take-2");
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    user.set("take-2");
    close(&vhost, "receive").await;
    gateway.wait_for_log(0, "connection to rabbitmq lost").await;
    eventually("a call is served", async || {
        (gateway.rpc("orders.x", json!([])).await["result"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_is_too_large_costs_its_own_call() {
    let vhost = RabbitMq::shared().vhost();
    let answer = |seen: &Seen| {
        let large = format!(r#"{{"result": "{}"}}"#, "x".repeat(200_000));
        let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(large.as_bytes()).expect("a buffer");
        let packed = packed.finish().expect("a buffer");
        match seen.method.as_str() {
            "large" => Answer::new(large),
            "packed" => vec![Answer {
                headers: vec![("compression".to_owned(), "application/x-gzip".to_owned())],
                ..Answer::new(packed).remove(0)
            }],
            _ => Answer::new(OK),
        }
    };
    let _service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let config = vhost.config().replace("protocol =", "max_reply = \"64KiB\"\nprotocol =");
    let gateway = Gateway::ready(&config).await;
    for method in ["orders.large", "orders.packed"] {
        let fault = gateway.fault(method, json!([])).await;
        fault.is("too_large", "executed");
        assert!(fault.message.contains("`max_reply`"), "{}", fault.message);
        assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    }
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}
