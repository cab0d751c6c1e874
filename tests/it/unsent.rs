//! A deadline that passes while the call still waits on this side of the broker: it has not run, and
//! its caller is told so.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Gateway, NamekoResponder, Nats, NatsResponder, RabbitMq, as_fault, eventually,
};

/// How often the broker is frozen until a call waits for a look at it.
const ATTEMPTS: u32 = 3;
const SOON: [(&str, &str); 1] = [("X-Request-Timeout", "500ms")];

#[tokio::test]
async fn nameko_calls_whose_service_is_still_looked_for_are_not_sent() {
    let rabbit = RabbitMq::private();
    let vhost = rabbit.vhost();
    let routes = "[[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n";
    // No look of the background's is under way when the broker falls silent.
    let often = "probe_interval = \"1h\"\n";
    let gateway = Gateway::ready(&format!("{}{often}{routes}", vhost.upstream("rabbit"))).await;
    let _other = NamekoResponder::serve(&vhost.url(), "other", |_| {
        Answer::new(r#"{"result": 1, "error": null}"#)
    })
    .await;
    assert_eq!(gateway.result("other.x", json!({})).await, 1);
    eventually("the connection that looks for services", async || {
        let channels = rabbit.get("channels");
        let looks = |channel: &Value| {
            let connection = channel["connection_details"]["name"].as_str();
            connection.is_some_and(|name| connections(&rabbit, "genkan probe").contains(name))
        };
        channels.as_array().expect("a list").iter().any(looks).then_some(())
    })
    .await;
    // A look that the machine held up costs its connection, and calls go out unchecked until there is
    // another: such an attempt says nothing.
    let mut attempt = 0;
    let (frozen, fault) = loop {
        attempt += 1;
        let frozen = rabbit.freeze();
        let call = json!({"jsonrpc": "2.0", "method": format!("orders{attempt}.create"), "id": 1});
        let fault = as_fault(&gateway.post("/api", &SOON, call.to_string()).await.json());
        if fault.data["outcome"] == "not_sent" || attempt == ATTEMPTS {
            break (frozen, fault);
        }
        drop(frozen);
        gateway.wait_until_ready().await;
        assert_eq!(gateway.result("other.x", json!({})).await, 1);
    };
    assert_eq!(fault.is("timeout", "not_sent").data["retryable"], true, "{fault:?}");
    let notification = r#"{"jsonrpc":"2.0","method":"orders.create"}"#;
    gateway.post("/api", &SOON, notification).await;
    let kept = eventually("the notification's end", async || {
        gateway.logged("call failed").into_iter().find(|line| line["call"] == "orders.create")
    })
    .await;
    // It was published to a broker that does not read.
    assert_eq!((&kept["kind"], &kept["outcome"]), (&"timeout".into(), &"unknown".into()), "{kept}");
    drop(frozen);
    gateway.wait_until_ready().await;
}

#[tokio::test]
async fn nameko_calls_that_an_alarm_holds_back_do_not_run_when_it_is_over() {
    // More than the system takes in on both sides: a buffer that grows by itself may take all of it.
    const LARGE: usize = 12 << 20;
    let rabbit = RabbitMq::configured("tcp_listen_options.recbuf = 131072");
    let service = NamekoResponder::serve(&rabbit.url(), "orders", |_| {
        Answer::new(r#"{"result": 1, "error": null}"#)
    })
    .await;
    let config = format!(
        "max_memory = \"256MiB\"\n[http]\nmax_body = \"16MiB\"\n\
         [upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n",
        rabbit.url()
    );
    let gateway = Gateway::ready(&config).await;
    assert_eq!(gateway.result("orders.x", json!(["x".repeat(LARGE)])).await, 1);

    rabbit.control(&["set_vm_memory_high_watermark", "0"]);
    let alarm = async |on: bool| {
        eventually("the alarm", async || (rabbit.get("nodes")[0]["mem_alarm"] == on).then_some(()))
            .await;
    };
    alarm(true).await;
    let fault = gateway.fault("orders.late", json!(["x".repeat(LARGE)])).await;
    fault.is("unavailable", "unknown");
    gateway.fault("orders.x", json!([])).await.is("unavailable", "not_sent");
    let publishing = || connections(&rabbit, "genkan publish");
    let held_back = publishing();
    assert_eq!(held_back.len(), 1, "{held_back:?}");

    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]);
    gateway.wait_until_ready().await;
    assert_eq!(gateway.result("orders.after", json!([])).await, 1);
    // What was published on the old connection is through once it has gone, or before the call.
    eventually("the end of what held it", async || {
        let gone = publishing().is_disjoint(&held_back);
        (gone || service.requests.count() > 2).then_some(())
    })
    .await;
    assert_eq!(gateway.result("orders.last", json!([])).await, 1);
    let ran: Vec<_> = service.requests.all().into_iter().map(|seen| seen.method).collect();
    assert_eq!(ran, ["x", "after", "last"], "nobody waited for the late one any more");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn nats_calls_that_wait_for_their_turn_are_not_sent_then_or_later() {
    // More than its client takes in behind a server that does not read.
    const CONNECTIONS: usize = 60;
    const BATCH: usize = 60;
    let nats = Nats::start();
    let service =
        NatsResponder::serve(nats.client().await, "echo", |seen| Answer::new(seen.body.clone()))
            .await;
    let routes = "max_in_flight = 10000\n[[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n";
    let gateway = Gateway::ready(&format!("{}{routes}", nats.upstream("nats", "plain"))).await;
    // Nor than the system takes in.
    let pad = "x".repeat(8 * 1024);
    nats.freeze(true);
    let batches = (0..CONNECTIONS).map(|connection| {
        let calls = (0..BATCH).map(|call| {
            let id = connection * BATCH + call;
            json!({"jsonrpc": "2.0", "method": "echo.m", "id": id, "params": {"id": id, "pad": pad}})
        });
        let batch = Value::from(calls.collect::<Vec<_>>()).to_string();
        let gateway = &gateway;
        async move { gateway.post("/api", &SOON, batch).await.json() }
    });
    let answers = join_all(batches).await;
    let mut unsent = BTreeSet::new();
    for answer in answers.iter().flat_map(|batch| batch.as_array().expect("a batch")) {
        let fault = as_fault(answer);
        // On a slow machine the server's silence is noticed before the last deadlines.
        let kind = fault.data["kind"].as_str().unwrap_or_default();
        assert!(["timeout", "unavailable"].contains(&kind), "{fault:?}");
        let is_unsent = fault.data["outcome"] == "not_sent";
        assert!(is_unsent || fault.data["outcome"] == "unknown", "{fault:?}");
        assert_eq!(fault.data["retryable"], is_unsent, "{fault:?}");
        if is_unsent {
            unsent.insert(answer["id"].as_u64().expect("an id"));
        }
    }
    assert!(!unsent.is_empty() && unsent.len() < CONNECTIONS * BATCH, "{}", unsent.len());
    nats.freeze(false);
    // What is sent now comes behind all that was sent before.
    eventually("a call gets through", async || {
        let answer = gateway.rpc("echo.m", json!({"id": "last"})).await;
        (answer["result"]["id"] == "last").then_some(())
    })
    .await;
    let ran =
        service.requests.all().into_iter().filter_map(|seen| {
            serde_json::from_str::<Value>(&seen.body).expect("JSON")["id"].as_u64()
        });
    let ran: BTreeSet<u64> = ran.collect();
    assert!(!ran.is_empty(), "those that were sent arrive");
    assert_eq!(
        ran.intersection(&unsent).collect::<Vec<_>>(),
        [0_u64; 0].iter().collect::<Vec<_>>()
    );
}

/// The broker's connections that the gateway calls so.
fn connections(rabbit: &RabbitMq, called: &str) -> BTreeSet<String> {
    let connections = rabbit.get("connections");
    let ours = connections
        .as_array()
        .expect("a list")
        .iter()
        .filter(|connection| connection["client_properties"]["connection_name"] == called);
    ours.filter_map(|connection| connection["name"].as_str()).map(str::to_owned).collect()
}
