//! What is refused: before it is sent, by the server, and because nobody is there.

use async_nats::{ConnectOptions, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt;
use genkan::fault::{FaultKind, Outcome};

use super::world::{Egress, is, service, soon, subscribe};
use crate::harness::Nats;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_service_is_told_soon() {
    let server = Nats::start();
    for dialect in ["picom", "plain", "micro"] {
        let egress = Egress::to(&server, dialect).await;
        let fault = egress.fault("nobody.home", "").await;
        is(&fault, FaultKind::UnknownService, Outcome::NotSent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_harm_a_peer_never_leaves() {
    let server = Nats::start();
    let client = server.client().await;
    let mut everything = subscribe(&client, ">").await;
    let egress = Egress::to(&server, "picom").await;
    for (name, kind) in [
        ("mailer.*", FaultKind::InvalidRequest),
        ("$SYS.REQ.x", FaultKind::InvalidRequest),
        ("mailer.constructor", FaultKind::UnknownMethod),
        ("mailer.__proto__", FaultKind::UnknownMethod),
    ] {
        is(&egress.fault(name, "").await, kind, Outcome::NotSent);
        is(&soon(egress.notify(name, "")).await.unwrap_err(), kind, Outcome::NotSent);
    }
    is(&egress.fault("mailer.send", "[null]").await, FaultKind::InvalidParams, Outcome::NotSent);
    assert_eq!(egress.metric("genkan_refused_total"), 8.0);
    client.publish("end", Bytes::new()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(message) = soon(everything.next()).await {
        match message.subject.as_str() {
            "end" => break,
            inbox if inbox.starts_with("_INBOX.") => {}
            other => seen.push(other.to_owned()),
        }
    }
    assert_eq!(seen, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_are_checked_before_sending() {
    let server = Nats::configured("max_payload: 1000");
    let egress = Egress::to(&server, "plain").await;
    let params = format!("[\"{}\"]", "x".repeat(900));
    let fault = egress.fault("mailer.send", &params).await;
    is(&fault, FaultKind::TooLarge, Outcome::NotSent);
    let numbers: Vec<usize> = fault
        .message()
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert!(numbers[0] > 1000 && numbers[1] == 1000, "{}", fault.message());
    is(
        &soon(egress.notify("a.b", &params)).await.unwrap_err(),
        FaultKind::TooLarge,
        Outcome::NotSent,
    );
    // The connection has not suffered.
    let fault = egress.fault("mailer.send", "").await;
    is(&fault, FaultKind::UnknownService, Outcome::NotSent);
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions() {
    let config = r#"authorization { users = [
        {user: all, password: p}
        {user: some, password: p, permissions: {publish: "open.>", subscribe: "own.>"}}
        {user: echoing, password: p, permissions: {publish: "open.>", subscribe: "open.>"}}
    ] }"#;
    let server = Nats::configured(config);
    let options = ConnectOptions::with_user_and_password("all".into(), "p".into());
    let client = options.connect(server.url()).await.unwrap();
    service(&client, "open.call", HeaderMap::new(), "1").await;
    service(&client, "shut.call", HeaderMap::new(), "1").await;
    let mut published = subscribe(&client, "open.note").await;
    let base = format!(
        "servers = \"{}\"\ndialect = \"plain\"\nuser = \"some\"\npassword = \"p\"\n",
        server.url()
    );

    let egress = Egress::new(&format!("{base}inbox_prefix = \"own.inbox\""));
    egress.ready().await;
    let reply = soon(egress.call("open.call", "")).await.expect("a result");
    assert_eq!(reply.payload.as_str(), "1");
    is(&egress.fault("shut.call", "").await, FaultKind::AccessDenied, Outcome::Rejected);
    // It may not publish to its own inbox, and can notify all the same.
    soon(egress.notify("open.note", "")).await.expect("sent");
    soon(published.next()).await.expect("a notification");

    let config = format!("{base}inbox_prefix = \"open.inbox\"");
    let config = config.replace("\"some\"", "\"echoing\"");
    let echoing = Egress::new(&config);
    echoing.ready().await;
    for n in 0..100 {
        let denied = soon(echoing.notify("shut.note", "")).await;
        let fault = denied.expect_err(&format!("it is denied, {n}"));
        is(&fault, FaultKind::AccessDenied, Outcome::Rejected);
        soon(echoing.notify("open.note", "")).await.expect("sent");
    }

    let inboxless = Egress::new(&base);
    inboxless.not_ready("does not permit to subscribe").await;
    is(&inboxless.fault("open.call", "").await, FaultKind::Unavailable, Outcome::NotSent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_headers_is_named() {
    let server = Nats::configured("no_header_support: true");
    let egress = Egress::new(&format!("servers = \"{}\"\ndialect = \"plain\"", server.url()));
    egress.not_ready("without headers").await;
    is(&egress.fault("a.b", "").await, FaultKind::Unavailable, Outcome::NotSent);
}
