//! Connections that end: with a word, when a server is about to go, and without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::harness::{Answer, Gateway, Nats, NatsResponder, Proxy, Seen, as_fault, eventually};

/// A server that goes has a second for its calls, and the rest for its connections.
const GRACE: &str = "lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"";

/// A gateway that knows both servers.
async fn gateway(first: &Nats, second: &Nats) -> Gateway {
    let servers = format!("servers = [\"{}\", \"{}\"]", first.url(), second.url());
    let toml = first.config("picom");
    let line = toml.lines().find(|line| line.starts_with("servers")).expect("its servers");
    Gateway::ready(&toml.replace(line, &servers)).await
}

/// Waits until a service can be called, wherever in the cluster it is.
async fn reaches(gateway: &Gateway, service: &str) {
    eventually("the servers know of each other", async || {
        let response = gateway.post(&format!("/call/{service}/x"), &[], "[\"p\"]").await;
        (response.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_says_goodbye_costs_no_call() {
    let (leaving, staying) = Nats::cluster(GRACE);
    let gateway = Arc::new(gateway(&leaving, &staying).await);
    // The gateway can only be on the one that runs; the service is on the one that stays.
    staying.restart();
    let answer = |_: &_| Answer::after(r#"{"payload":"ok"}"#, Duration::from_millis(200));
    let _service = NatsResponder::serve(staying.client().await, "svc", answer).await;
    reaches(&gateway, "svc").await;

    let over = Arc::new(AtomicBool::new(false));
    let callers = (0..8).map(|_| {
        let (gateway, over) = (Arc::clone(&gateway), Arc::clone(&over));
        tokio::spawn(async move {
            let mut calls = 0;
            while !over.load(Ordering::SeqCst) {
                assert_eq!(gateway.result("svc.x", json!(["p"])).await, "ok");
                calls += 1;
            }
            calls
        })
    });
    let callers: Vec<_> = callers.collect();
    leaving.say_goodbye();
    eventually("it is gone", async || (!leaving.runs()).then_some(())).await;
    assert_eq!(gateway.page("/readyz").await.status, 200);
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(caller.await.expect("every call has its answer") > 0);
    }
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 1.0);
}

/// Whichever server the services are on: one of them moves with its server's end.
#[tokio::test]
async fn calls_that_outlive_their_server_have_their_answers() {
    let (leaving, staying) = Nats::cluster(GRACE);
    let gateway = Arc::new(gateway(&leaving, &staying).await);
    staying.restart();
    let answer = |seen: &Seen| match seen.method.as_str() {
        "slow" => Vec::new(),
        _ => Answer::new(r#"{"payload":"ok"}"#),
    };
    let there = NatsResponder::serve(staying.client().await, "there", answer).await;
    let moving = NatsResponder::serve(leaving.client().await, "moving", answer).await;
    reaches(&gateway, "there").await;
    reaches(&gateway, "moving").await;
    let calls = ["there.slow", "moving.slow"].map(|name| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.result(name, json!(["p"])).await })
    });
    for service in [&there, &moving] {
        eventually("it has the call", async || {
            (service.requests.last().method == "slow").then_some(())
        })
        .await;
    }
    leaving.say_goodbye();
    eventually("the server is gone", async || (!leaving.runs()).then_some(())).await;
    for service in [&there, &moving] {
        let late = Answer { body: r#"{"payload":"late"}"#.into(), ..Answer::default() };
        service.say(&service.requests.last(), late).await;
    }
    for call in calls {
        assert_eq!(call.await.expect("its answer"), "late");
    }
    assert_eq!(gateway.metric("genkan_late_replies_total", &[]).await, 0.0);
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_connection_that_is_cut_without_a_word_is_noticed_by_its_calls() {
    let nats = Nats::start();
    let service =
        NatsResponder::serve(nats.client().await, "svc", |_| Answer::new(r#"{"payload":"ok"}"#))
            .await;
    let proxy = Proxy::to(nats.address()).await;
    let toml = nats.config("picom").replace(&nats.address(), proxy.address());
    let gateway = Gateway::ready(&format!("{toml}timeout = \"10s\"\n")).await;
    assert_eq!(gateway.result("svc.x", json!(["p"])).await, "ok");
    proxy.cut();
    // It ends because the server is silent, long before its own time is over.
    let fault = gateway.fault("svc.x", json!(["p"])).await;
    fault.is("unavailable", "unknown");
    eventually("calls are served again", async || {
        let body = r#"{"jsonrpc":"2.0","method":"svc.x","params":["p"],"id":1}"#;
        gateway.post("/api", &[], body).await.json().get("result").cloned()
    })
    .await;
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 1.0);
    assert!(gateway.log_text().contains("the server has fallen silent"));
    assert_eq!(service.requests.count(), 2, "and nothing ran twice");
}

/// A service that takes its time is no silent server.
#[tokio::test]
async fn a_call_that_takes_long_is_waited_for() {
    let nats = Nats::start();
    let answer = |_: &_| Answer::after(r#"{"payload":"slow"}"#, Duration::from_secs(5));
    let _service = NatsResponder::serve(nats.client().await, "svc", answer).await;
    let gateway = Gateway::ready(&format!("{}timeout = \"60s\"\n", nats.config("picom"))).await;
    assert_eq!(gateway.result("svc.x", json!(["p"])).await, "slow");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    let never = gateway.post("/api", &[("X-Request-Timeout", "300ms")], CALL).await;
    as_fault(&never.json()).is("timeout", "unknown");
}

const CALL: &str = r#"{"jsonrpc":"2.0","method":"svc.x","params":["p"],"id":1}"#;

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_given_more_and_more_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens");
    let toml = format!(
        "[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://{address}\"]\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n"
    );
    let _gateway = Gateway::start(&toml).await;
    let mut logins = Vec::new();
    while logins.len() < 6 {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = BufReader::new(stream);
        stream.write_all(b"INFO {\"headers\":true,\"max_payload\":1048576}\r\n").await.unwrap();
        let mut line = String::new();
        while !line.ends_with("PING\r\n") {
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "it logs in: {line}");
        }
        stream.write_all(b"PONG\r\n").await.unwrap();
        logins.push(Instant::now());
        // Until it has subscribed, or has been let in for certain.
        drop(tokio::time::timeout(Duration::from_millis(20), stream.read_line(&mut line)).await);
    }
    // The pauses double from 50 ms, each shortened by a half at the most.
    let in_all = logins[5] - logins[0];
    assert!(in_all > Duration::from_millis(700), "no pauses: {in_all:?}");
}
