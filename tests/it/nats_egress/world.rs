//! What a test needs beside the server: an upstream, and services that answer what it says.

use std::future::Future;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use genkan::call::{Context, Deadline, Params, Payload, Reply, Request};
use genkan::fault::{Fault, FaultKind, Outcome};
use genkan::trace::TraceParent;
use genkan::upstream::Readiness;
use tokio::time::{Instant, timeout};

use crate::harness::{Linked, Nats, eventually};

/// Long enough for anything that happens, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Fails where something does not come.
pub async fn soon<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it ends")
}

/// An upstream under test.
pub struct Egress {
    pub linked: Linked,
}

impl Egress {
    pub fn new(keys: &str) -> Self {
        Self { linked: Linked::start(&format!("protocol = \"nats\"\n{keys}")) }
    }

    pub async fn to(server: &Nats, dialect: &str) -> Self {
        let url = server.url();
        let egress = Self::new(&format!("servers = \"{url}\"\ndialect = \"{dialect}\""));
        egress.ready().await;
        egress
    }

    pub async fn ready(&self) {
        self.linked.ready().await;
    }

    pub async fn not_ready(&self, words: &str) {
        eventually(words, async || match self.linked.upstream.readiness() {
            Readiness::NotReady(reason) => reason.contains(words).then_some(()),
            Readiness::Ready => None,
        })
        .await;
    }

    pub async fn call(&self, name: &str, params: &str) -> Result<Reply, Fault> {
        self.call_in(&Context::new(TraceParent::generate()), name, params).await
    }

    pub async fn call_in(
        &self,
        context: &Context,
        name: &str,
        params: &str,
    ) -> Result<Reply, Fault> {
        let (service, method) = name.rsplit_once('.').unwrap();
        let params = parse_params(params);
        let deadline = Deadline::after(Instant::now(), PATIENCE);
        let request = Request::new((service, method), &params, context, deadline);
        self.linked.upstream.call(&request).await
    }

    pub async fn fault(&self, name: &str, params: &str) -> Fault {
        soon(self.call(name, params)).await.expect_err("a fault")
    }

    pub async fn notify(&self, name: &str, params: &str) -> Result<(), Fault> {
        let (service, method) = name.rsplit_once('.').unwrap();
        let params = parse_params(params);
        let context = &Context::new(TraceParent::generate());
        let deadline = Deadline::after(Instant::now(), PATIENCE);
        let request = Request::new((service, method), &params, context, deadline);
        self.linked.upstream.notify(&request).await
    }

    pub fn metric(&self, metric: &str) -> f64 {
        self.linked.metric(metric)
    }
}

fn parse_params(json: &str) -> Params {
    let payload = || Payload::from_validated(Bytes::from(json.to_owned()));
    match json.chars().next() {
        None => Params::None,
        Some('[') => Params::Array(payload()),
        Some(_) => Params::Object(payload()),
    }
}

#[track_caller]
pub fn is(fault: &Fault, kind: FaultKind, outcome: Outcome) {
    assert_eq!((fault.kind(), fault.outcome()), (kind, outcome), "{}", fault.message());
    assert!(!fault.message().contains("127.0.0.1"), "{}", fault.message());
}

/// Subscribes, and knows that the server has taken the subscription.
pub async fn subscribe(client: &Client, subject: &str) -> Subscriber {
    let subscriber = client.subscribe(subject.to_owned()).await.unwrap();
    let echo = client.new_inbox();
    let mut echoes = client.subscribe(echo.clone()).await.unwrap();
    client.publish(echo, Bytes::new()).await.unwrap();
    soon(echoes.next()).await.expect("the server is there");
    subscriber
}

/// A service that answers every request with the same reply, and hands the requests on.
pub async fn service(client: &Client, subject: &str, headers: HeaderMap, body: &'static str) {
    let mut requests = subscribe(client, subject).await;
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let Some(inbox) = request.reply else { continue };
            let reply = client.publish_with_headers(inbox, headers.clone(), body.into());
            reply.await.expect("the reply is sent");
        }
    });
}
