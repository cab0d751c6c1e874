//! Calls, notifications and their replies.

use async_nats::HeaderMap;
use futures_util::StreamExt;
use genkan::call::{Context, Payload};
use genkan::fault::{FaultKind, Outcome, RemoteCode};
use genkan::trace::TraceParent;
use tokio::time::timeout;

use super::world::{Egress, PATIENCE, is, service, soon, subscribe};
use crate::harness::{Nats, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_and_its_reply() {
    let server = Nats::start();
    let client = server.client().await;
    let egress = Egress::to(&server, "picom").await;
    let mut requests = subscribe(&client, "mailer.>").await;
    let trace = TraceParent::generate();
    let mut context = Context::new(trace);
    context.language = Some("de".to_owned());
    context.user_agent = Some("bad\r\nvalue".to_owned());
    let message = r#"{"id":9007199254740993,"x":1e400,"x":1.10}"#;
    let called = egress.call_in(&context, "mailer.send", message);
    let answered = async {
        let request = requests.next().await.expect("a request");
        assert_eq!(request.subject.as_str(), "mailer.send");
        assert_eq!(request.payload, message);
        let headers = request.headers.expect("headers");
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("traceparent").as_deref(), Some(trace.as_str()));
        assert_eq!(header("Accept-Language").as_deref(), Some("de"));
        assert_eq!(header("User-Agent"), None);
        let left = header("X-Request-Timeout").expect("a deadline");
        let millis: u128 = left.strip_suffix("ms").unwrap().parse().unwrap();
        assert!((1..=PATIENCE.as_millis()).contains(&millis));
        let inbox = request.reply.expect("a reply subject");
        assert!(inbox.starts_with("_INBOX."));
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", trace.as_str());
        let body = r#" {"payload":{"n":1180591620717411303424}} "#;
        client.publish_with_headers(inbox, headers, body.into()).await.unwrap();
    };
    let (reply, ()) = soon(async { tokio::join!(called, answered) }).await;
    let reply = reply.expect("a result");
    assert_eq!(reply.payload.as_str(), r#"{"n":1180591620717411303424}"#);
    assert_eq!(reply.trace, Some(trace));
    assert_eq!(egress.metric("genkan_upstream_up"), 1.0);
    assert_eq!(egress.metric("genkan_late_replies_total"), 0.0);
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_and_late_replies_are_counted() {
    let server = Nats::start();
    let client = server.client().await;
    let egress = Egress::to(&server, "plain").await;
    let mut requests = subscribe(&client, "twice.>").await;
    let called = egress.call("twice.now", "");
    let answered = async {
        let inbox = requests.next().await.unwrap().reply.unwrap();
        client.publish(inbox.clone(), "1".into()).await.unwrap();
        client.publish(inbox, "2".into()).await.unwrap();
    };
    let (reply, ()) = soon(async { tokio::join!(called, answered) }).await;
    assert_eq!(reply.expect("a result").payload.as_str(), "1");
    let late = async |expected| {
        until("late replies", async || egress.metric("genkan_late_replies_total") == expected)
            .await;
    };
    late(1.0).await;

    // A caller that goes away, and a reply after that.
    let request = tokio::select! {
        reply = egress.call("twice.late", "") => panic!("nobody has answered: {reply:?}"),
        request = requests.next() => request.unwrap(),
    };
    client.publish(request.reply.unwrap(), "3".into()).await.unwrap();
    late(2.0).await;

    // And one to a place where nobody has ever waited.
    let request = tokio::select! {
        reply = egress.call("twice.lost", "") => panic!("nobody has answered: {reply:?}"),
        request = requests.next() => request.unwrap(),
    };
    let (prefix, _) = request.reply.as_ref().unwrap().rsplit_once('.').unwrap();
    client.publish(format!("{prefix}.not-a-number"), "4".into()).await.unwrap();
    late(3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn side_by_side_calls_get_their_own_replies() {
    let server = Nats::start();
    let client = server.client().await;
    let egress = Egress::to(&server, "plain").await;
    let mut requests = subscribe(&client, "echo.>").await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            client.publish(request.reply.unwrap(), request.payload).await.unwrap();
        }
    });
    let calls = (0..2_000).map(|n| {
        let egress = &egress;
        async move {
            let params = format!("[{n}]");
            let reply = egress.call("echo.it", &params).await.expect("a result");
            assert_eq!(reply.payload.as_str(), n.to_string());
        }
    });
    timeout(PATIENCE, futures_util::future::join_all(calls)).await.expect("all have ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn micro_errors() {
    let server = Nats::start();
    let client = server.client().await;
    let egress = Egress::to(&server, "micro").await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Service-Error", "no such order");
    headers.insert("Nats-Service-Error-Code", "404");
    service(&client, "orders.bad", headers, "").await;
    service(&client, "orders.good", HeaderMap::new(), "").await;
    let fault = egress.fault("orders.bad", "").await;
    is(&fault, FaultKind::Application, Outcome::Executed);
    assert_eq!(fault.message(), "no such order");
    assert_eq!(fault.remote().unwrap().code, Some(RemoteCode::Number(404)));
    let reply = soon(egress.call("orders.good", "")).await.expect("a result");
    assert_eq!(reply.payload, Payload::NULL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_has_no_reply_subject() {
    let server = Nats::start();
    let client = server.client().await;
    let egress = Egress::to(&server, "picom").await;
    let mut requests = subscribe(&client, "mailer.>").await;
    soon(egress.notify("mailer.log", r#"[{"a":1}]"#)).await.expect("taken over");
    let request = soon(requests.next()).await.unwrap();
    assert_eq!((request.payload.as_ref(), request.reply), (&br#"{"a":1}"#[..], None));
    // Nobody listens: no protocol of NATS tells.
    soon(egress.notify("nobody.home", "")).await.expect("taken over");
}
