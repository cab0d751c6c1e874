//! Connections that are lost, and what their calls are told.

use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use genkan::call::Reply;
use genkan::fault::{Fault, FaultKind, Outcome};
use tokio::time::timeout;

use super::world::{Egress, PATIENCE, is, soon, subscribe};
use crate::harness::{Nats, Proxy, until};

const TWO_USERS: &str = r#"authorization { users = [
    {user: recorder, password: r}
    {user: gateway, password: g}
] }"#;
const RECORDER_ALONE: &str = r"authorization { users = [ {user: recorder, password: r} ] }";

async fn recorder(server: &Nats) -> Client {
    let options = ConnectOptions::with_user_and_password("recorder".into(), "r".into());
    options.connect(server.url()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_at_start_and_shut_down() {
    let server = Nats::down();
    let egress = Egress::new(&format!("servers = [\"{}\"]", server.url()));
    egress.not_ready("the server cannot be reached").await;
    is(&egress.fault("a.b", "").await, FaultKind::Unavailable, Outcome::NotSent);
    let notified = soon(egress.notify("a.b", "")).await;
    is(&notified.unwrap_err(), FaultKind::Unavailable, Outcome::NotSent);
    assert_eq!(egress.metric("genkan_upstream_up"), 0.0);

    server.restart();
    egress.ready().await;
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 0.0);
    let client = server.client().await;
    let mut requests = subscribe(&client, "a.>").await;
    let call = egress.call("a.b", "");
    let end = async {
        requests.next().await.expect("the call has arrived");
        assert!(egress.linked.tasks.end(PATIENCE).await, "the supervisor has ended");
    };
    let (result, ()) = soon(async { tokio::join!(call, end) }).await;
    is(&result.unwrap_err(), FaultKind::Unavailable, Outcome::Unknown);
    egress.not_ready("shutting down").await;
    is(&egress.fault("a.b", "").await, FaultKind::Unavailable, Outcome::NotSent);
}

/// Calls before, while and after the server goes away. The one that comes in its place lets the
/// gateway in only when somebody records everything that is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_after_its_caller_was_told() {
    let server = Nats::configured(TWO_USERS);
    let old_recorder = recorder(&server).await;
    let mut arrived = subscribe(&old_recorder, "hang.>").await;
    let url = server.url().replace("nats://", "nats://gateway:g@");
    let egress = Egress::new(&format!("servers = \"{url}\"\ndialect = \"plain\""));
    egress.ready().await;

    let big = format!("[\"{}\"]", "x".repeat(500_000));
    let mut calls: Vec<BoxFuture<'_, Result<Reply, Fault>>> = Vec::new();
    for n in 0..50 {
        let egress = &egress;
        let mut call = Box::pin(async move { egress.call("hang.before", &format!("[{n}]")).await });
        assert!(futures_util::poll!(&mut call).is_pending());
        calls.push(call);
    }
    for _ in 0..50 {
        soon(arrived.next()).await.expect("a call");
    }
    // It takes nothing more in, and nobody knows yet: what is called now waits in queues. The
    // big ones fill the socket.
    server.freeze(true);
    for n in 0..300 {
        let (egress, big) = (&egress, &big);
        let mut call = Box::pin(async move {
            let params = if n < 20 { big.clone() } else { format!("[{n}]") };
            egress.call("hang.while", &params).await
        });
        assert!(futures_util::poll!(&mut call).is_pending());
        calls.push(call);
    }
    server.kill();
    let results = soon(futures_util::future::join_all(calls)).await;
    for (n, result) in results.into_iter().enumerate() {
        let fault = result.unwrap_err();
        // What had not even reached the connection's queue is known not to have been sent.
        let unsent = n >= 50 && fault.outcome() == Outcome::NotSent;
        let outcome = if unsent { Outcome::NotSent } else { Outcome::Unknown };
        is(&fault, FaultKind::Unavailable, outcome);
    }
    assert_eq!(egress.metric("genkan_upstream_up"), 0.0);
    for _ in 0..50 {
        is(&egress.fault("hang.down", "").await, FaultKind::Unavailable, Outcome::NotSent);
        let notified = soon(egress.notify("hang.down", "")).await;
        is(&notified.unwrap_err(), FaultKind::Unavailable, Outcome::NotSent);
    }

    server.configure(RECORDER_ALONE);
    server.restart();
    let new_recorder = recorder(&server).await;
    let mut arrived = subscribe(&new_recorder, "hang.>").await;
    egress.not_ready("NATS refuses the credentials").await;
    server.configure(TWO_USERS);
    server.reload();
    egress.ready().await;
    assert_eq!(egress.metric("genkan_upstream_up"), 1.0);
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 1.0);
    let mut call = Box::pin(egress.call("hang.after", ""));
    assert!(futures_util::poll!(&mut call).is_pending());
    let first = soon(arrived.next()).await.expect("a call");
    assert_eq!(first.subject.as_str(), "hang.after", "nothing came before it");
    new_recorder.publish(first.reply.unwrap(), "5".into()).await.unwrap();
    assert_eq!(soon(call).await.expect("a result").payload.as_str(), "5");
}

/// async-nats would connect again by itself, and leave the calls to their deadlines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_ends_its_calls_though_the_server_lives() {
    let server = Nats::start();
    let client = server.client().await;
    let mut requests = subscribe(&client, "hang.>").await;
    let proxy = Proxy::to(server.address()).await;
    let egress = Egress::new(&format!("servers = \"nats://{}\"", proxy.address()));
    for reconnects in 0..3 {
        until("a new connection", async || {
            egress.metric("genkan_upstream_reconnects_total") == f64::from(reconnects)
        })
        .await;
        egress.ready().await;
        let call = egress.call("hang.up", "");
        let end = async {
            requests.next().await.expect("the call has arrived");
            proxy.hang_up();
        };
        let (result, ()) = soon(async { tokio::join!(call, end) }).await;
        is(&result.unwrap_err(), FaultKind::Unavailable, Outcome::Unknown);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_is_given_up() {
    let server = Nats::start();
    let client = server.client().await;
    let mut requests = subscribe(&client, "hang.>").await;
    let config = format!(
        "servers = \"{}\"\nping_interval = \"100ms\"\nconnect_timeout = \"200ms\"",
        server.url()
    );
    let egress = Egress::new(&config);
    egress.ready().await;
    let call = egress.call("hang.up", "");
    let stop = async {
        requests.next().await.expect("the call has arrived");
        server.freeze(true);
    };
    let (result, ()) = timeout(PATIENCE, async { tokio::join!(call, stop) }).await.unwrap();
    is(&result.unwrap_err(), FaultKind::Unavailable, Outcome::Unknown);
    egress.not_ready("the server does not answer").await;
    server.freeze(false);
    egress.ready().await;
    is(&egress.fault("nobody.home", "").await, FaultKind::UnknownService, Outcome::NotSent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_server_is_tried() {
    let dead = Nats::down();
    let first = Nats::start();
    let second = Nats::start();
    let config =
        format!("servers = [\"{}\", \"{}\", \"{}\"]", dead.url(), first.url(), second.url());
    let egress = Egress::new(&config);
    egress.ready().await;
    drop(first);
    egress.ready().await;
    drop(second);
    egress.not_ready("the server cannot be reached").await;
}

/// Its supervisor has gone on to the next connection, and waits for nothing that this one carries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_retired_connection_end_with_the_process() {
    const GOING: &str = "lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"60s\"";
    // Not of one cluster: the next connection does not take the calls over.
    let (leaving, staying) = (Nats::configured(GOING), Nats::down());
    let servers = format!("servers = [\"{}\", \"{}\"]", leaving.url(), staying.url());
    let egress = Egress::new(&servers);
    egress.ready().await;
    staying.restart();
    let client = leaving.client().await;
    let mut requests = subscribe(&client, "a.>").await;
    let call = egress.call("a.b", "");
    let end = async {
        requests.next().await.expect("the call has arrived");
        leaving.say_goodbye();
        until("another connection is in its place", async || {
            egress.metric("genkan_upstream_reconnects_total") == 1.0
        })
        .await;
        assert!(leaving.runs(), "it serves its last calls");
        assert!(egress.linked.tasks.end(PATIENCE).await, "every task has ended");
    };
    let (result, ()) = soon(async { tokio::join!(call, end) }).await;
    is(&result.unwrap_err(), FaultKind::Unavailable, Outcome::Unknown);
}
