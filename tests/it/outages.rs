//! Brokers that are down at the start, restarted, killed with calls in flight, frozen or blocked:
//! Genkan goes on, callers are told at once, traffic resumes by itself, and nothing runs late.

use serde_json::{Value, json};

use crate::harness::{
    Answer, Gateway, NamekoResponder, Nats, NatsResponder, RabbitMq, Seen, as_fault, eventually,
};

/// Sends a call and lets it wait.
fn in_flight(gateway: &Gateway, method: &str) -> tokio::task::JoinHandle<Value> {
    let address = gateway.http.clone();
    let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":["p"],"id":1}}"#);
    tokio::spawn(async move {
        let response =
            crate::harness::http::send(&address, "POST", "/api", &[], body.as_bytes()).await;
        response.json()
    })
}

/// Calls until there is a result.
async fn resumes(gateway: &Gateway, method: &str) {
    eventually("traffic resumes", async || {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":["again"],"id":1}}"#);
        let response = gateway.post("/api", &[("X-Request-Timeout", "1s")], body).await;
        response.json().get("result").cloned()
    })
    .await;
}

fn answer_nats(seen: &Seen) -> Vec<Answer> {
    if seen.method == "never" { Vec::new() } else { Answer::new(r#"{"payload":"ok"}"#) }
}

fn answer_nameko(seen: &Seen) -> Vec<Answer> {
    if seen.method == "never" { Vec::new() } else { Answer::new(r#"{"result":"ok"}"#) }
}

#[tokio::test]
async fn a_nats_that_is_down_at_the_start_does_not_stop_genkan() {
    let nats = Nats::down();
    let gateway = Gateway::start(&nats.config("picom")).await;
    assert!(gateway.wait_until_not_ready().await.contains("nats"));
    assert_eq!(gateway.page("/healthz").await.status, 200, "the process lives");
    let fault = gateway.fault("svc.x", json!(["p"])).await;
    assert_eq!(fault.is("unavailable", "not_sent").code, -32004);
    assert_eq!(fault.data["retryable"], true);
    nats.restart();
    gateway.wait_until_ready().await;
    let _service = NatsResponder::serve(nats.client().await, "svc", answer_nats).await;
    assert_eq!(gateway.result("svc.x", json!(["p"])).await, "ok");
}

#[tokio::test]
async fn calls_in_flight_end_at_once_when_nats_is_killed_and_nothing_is_sent_late() {
    let nats = Nats::start();
    let service = NatsResponder::serve(nats.client().await, "svc", answer_nats).await;
    let gateway = Gateway::ready(&nats.config("picom")).await;
    let calls: Vec<_> = (0..5).map(|_| in_flight(&gateway, "svc.never")).collect();
    eventually("they wait", async || (service.requests.count() == 5).then_some(())).await;
    nats.kill();
    for call in calls {
        let answer = call.await.expect("no panic");
        let fault = as_fault(&answer);
        assert_eq!(fault.is("unavailable", "unknown").code, -32004);
        assert_eq!(fault.data["retryable"], false, "it may have run");
    }
    for _ in 0..50 {
        gateway.fault("svc.zombie", json!(["p"])).await.is("unavailable", "not_sent");
    }
    gateway.notify("svc.zombie", json!(["p"])).await;
    nats.restart();
    gateway.wait_until_ready().await;
    let again = NatsResponder::serve(nats.client().await, "svc", answer_nats).await;
    resumes(&gateway, "svc.x").await;
    let zombies = |service: &NatsResponder| {
        service.requests.all().iter().filter(|seen| seen.method == "zombie").count()
    };
    assert_eq!(zombies(&again) + zombies(&service), 0);
    assert!(
        gateway.metric("genkan_upstream_reconnects_total", &[("upstream", "nats")]).await >= 1.0
    );
}

#[tokio::test]
async fn a_nats_that_hangs_without_hanging_up_is_noticed() {
    let nats = Nats::start();
    let _service = NatsResponder::serve(nats.client().await, "svc", answer_nats).await;
    let upstream = nats.config("picom").replace("dialect", "ping_interval = \"300ms\"\ndialect");
    let gateway = Gateway::ready(&upstream).await;
    nats.freeze(true);
    let body = r#"{"jsonrpc":"2.0","method":"svc.x","params":["p"],"id":1}"#;
    let response = gateway.post("/api", &[("X-Request-Timeout", "500ms")], body).await;
    assert_eq!(as_fault(&response.json()).data["outcome"], "unknown");
    gateway.wait_until_not_ready().await;
    gateway.fault("svc.x", json!(["p"])).await.is("unavailable", "not_sent");
    nats.freeze(false);
    gateway.wait_until_ready().await;
    resumes(&gateway, "svc.x").await;
}

#[tokio::test]
async fn one_upstream_that_is_down_leaves_the_others_alone() {
    let (up, down) = (Nats::start(), Nats::down());
    let _service = NatsResponder::serve(up.client().await, "svc", answer_nats).await;
    let toml = format!(
        "{}[[routes]]\nmatch = \"down.*\"\nupstream = \"down\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"up\"\n{}",
        down.upstream("down", "picom"),
        up.upstream("up", "picom")
    );
    let gateway = Gateway::start(&toml).await;
    resumes(&gateway, "svc.x").await;
    let page = gateway.page("/readyz").await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("down") && !page.text().contains("up:"), "{}", page.text());
    let answers = gateway
        .api(
            r#"[{"jsonrpc":"2.0","method":"down.x","params":["p"],"id":1},
                {"jsonrpc":"2.0","method":"svc.x","params":["p"],"id":2}]"#,
        )
        .await;
    as_fault(&answers[0]).is("unavailable", "not_sent");
    assert_eq!(answers[1]["result"], "ok");
}

/// One node for all of RabbitMQ's outages: starting one costs seconds.
#[tokio::test]
async fn a_rabbitmq_that_is_down_restarted_killed_and_blocked() {
    let rabbit = RabbitMq::private();
    let config = format!(
        "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n",
        rabbit.url()
    );
    rabbit.stop();
    let gateway = Gateway::start(&config).await;
    assert!(gateway.wait_until_not_ready().await.contains("rabbit"));
    gateway.fault("svc.x", json!([])).await.is("unavailable", "not_sent");

    rabbit.start();
    gateway.wait_until_ready().await;
    let service = NamekoResponder::serve(&rabbit.url(), "svc", answer_nameko).await;
    assert_eq!(gateway.result("svc.x", json!([])).await, "ok");

    let calls: Vec<_> = (0..5).map(|_| in_flight(&gateway, "svc.never")).collect();
    eventually("they wait", async || (service.requests.count() >= 6).then_some(())).await;
    rabbit.kill();
    for call in calls {
        let answer = call.await.expect("no panic");
        as_fault(&answer).is("unavailable", "unknown");
    }
    for _ in 0..20 {
        gateway.fault("svc.zombie", json!([])).await.is("unavailable", "not_sent");
    }

    rabbit.start();
    gateway.wait_until_ready().await;
    let again = NamekoResponder::serve(&rabbit.url(), "svc", answer_nameko).await;
    resumes(&gateway, "svc.x").await;
    let zombies = again.requests.all().iter().filter(|seen| seen.method == "zombie").count();
    assert_eq!(zombies, 0, "nothing was sent late");
    assert!(
        gateway.metric("genkan_upstream_reconnects_total", &[("upstream", "rabbit")]).await >= 1.0
    );

    rabbit.control(&["set_vm_memory_high_watermark", "0"]);
    eventually("the alarm is noticed", async || {
        let body = r#"{"jsonrpc":"2.0","method":"svc.x","id":1}"#;
        let response = gateway.post("/api", &[("X-Request-Timeout", "500ms")], body).await.json();
        (response["error"]["data"]["kind"] == "unavailable").then_some(())
    })
    .await;
    gateway.fault("svc.x", json!([])).await.is("unavailable", "not_sent");
    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]);
    resumes(&gateway, "svc.x").await;

    let connections = rabbit.get("connections");
    for connection in connections.as_array().expect("a list") {
        let name =
            connection["name"].as_str().expect("a name").replace(' ', "%20").replace('>', "%3E");
        // The responder's own ends with it.
        rabbit.delete(&format!("connections/{name}"));
    }
    let _third = NamekoResponder::serve(&rabbit.url(), "svc", answer_nameko).await;
    resumes(&gateway, "svc.x").await;
    assert!(gateway.runs());
}

#[tokio::test]
async fn an_exchange_of_the_wrong_type_is_told_and_stops_nobody_else() {
    let vhost = RabbitMq::shared().vhost();
    let exchange = format!("exchanges/{}/nameko-rpc", vhost.name());
    RabbitMq::shared().put(&exchange, &json!({"type": "fanout", "durable": true}));
    let gateway = Gateway::start(&vhost.config()).await;
    let page = gateway.wait_until_not_ready().await;
    assert!(page.contains("rabbit"), "{page}");
    gateway.fault("svc.x", json!([])).await.is("unavailable", "not_sent");
    eventually("the log names the exchange", async || {
        gateway.log_text().contains("nameko-rpc").then_some(())
    })
    .await;
    RabbitMq::shared().delete(&exchange);
    gateway.wait_until_ready().await;
}
