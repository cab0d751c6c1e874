//! Services of other worlds that live on NATS as if they were there: clients of Picom, of plain JSON
//! and of micro services call them.

mod calls;
mod context;
mod faults;
mod lifecycle;
mod limits;
mod loops;
mod micro;
mod odd;
mod permissions;

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use serde_json::Value;

use crate::harness::rabbit::Vhost;
use crate::harness::{Answer, Gateway, NamekoResponder, Nats, RabbitMq, Seen, eventually};

/// Long enough for anything that happens, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A NATS on which a service of Nameko's is exposed, and the gateway between.
pub struct World {
    pub nats: Nats,
    pub vhost: Vhost<'static>,
    pub gateway: Gateway,
    /// The service `desk`, which answers what the test says.
    pub desk: NamekoResponder,
    pub client: Client,
}

impl World {
    /// One that exposes `desk` in a dialect, with more keys in its row.
    pub async fn exposing(
        dialect: &str,
        keys: &str,
        handle: impl Fn(&Seen) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::with(&row("desk", dialect, keys), handle).await
    }

    /// One with rows of the test's own.
    pub async fn with(
        rows: &str,
        handle: impl Fn(&Seen) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Self {
        let (nats, vhost) = (Nats::start(), RabbitMq::shared().vhost());
        let desk = NamekoResponder::serve(&vhost.url(), "desk", handle).await;
        let gateway = Gateway::ready(&config(&nats, &vhost, rows)).await;
        for name in names(rows) {
            exposed(&gateway, name, 1).await;
        }
        let client = nats.client().await;
        Self { nats, vhost, gateway, desk, client }
    }

    /// What comes back for a call.
    pub async fn ask(&self, subject: &str, body: &str) -> Message {
        ask(&self.client, subject, body).await
    }

    /// The same, as JSON.
    pub async fn json(&self, subject: &str, body: &str) -> Value {
        as_json(&self.ask(subject, body).await)
    }
}

/// What comes back for a call.
pub async fn ask(client: &Client, subject: &str, body: &str) -> Message {
    let request = client.request(subject.to_owned(), body.to_owned().into());
    let reply = tokio::time::timeout(PATIENCE, request).await.expect("an answer in time");
    reply.unwrap_or_else(|error| panic!("{subject}: {error}"))
}

/// The same, with headers.
pub async fn ask_with(
    client: &Client,
    subject: &str,
    body: &str,
    rows: &[(&str, &str)],
) -> Message {
    let mut headers = HeaderMap::new();
    for (name, value) in rows {
        headers.insert(*name, *value);
    }
    let request = client.request_with_headers(subject.to_owned(), headers, body.to_owned().into());
    let reply = tokio::time::timeout(PATIENCE, request).await.expect("an answer in time");
    reply.unwrap_or_else(|error| panic!("{subject}: {error}"))
}

#[track_caller]
pub fn as_json(message: &Message) -> Value {
    let text = String::from_utf8_lossy(&message.payload);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A header of an answer; empty where there is none.
pub fn header(message: &Message, name: &str) -> String {
    let value = message.headers.as_ref().and_then(|headers| headers.get(name));
    value.map(ToString::to_string).unwrap_or_default()
}

/// Waits until a service has been exposed so many times.
pub async fn exposed(gateway: &Gateway, name: &str, times: usize) {
    eventually(&format!("{name} is exposed ({times})"), async || {
        let lines = gateway.logged("exposed: its calls are taken");
        let lines = lines.iter().filter(|line| line["name"] == name).count();
        (lines >= times).then_some(())
    })
    .await;
}

/// Both brokers; everything goes to RabbitMQ.
pub fn config(nats: &Nats, vhost: &Vhost<'_>, rows: &str) -> String {
    let (bus, rabbit) = (nats.upstream("bus", "picom"), vhost.upstream("rabbit"));
    format!("{bus}\n{rabbit}\n{rows}\n[[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n")
}

/// A row that exposes a service, with more keys.
pub fn row(service: &str, dialect: &str, keys: &str) -> String {
    format!(
        "[[expose]]\nservice = \"{service}\"\non = [\"bus\"]\ndialect = \"{dialect}\"\n{keys}\n"
    )
}

/// The names in rows that `row` has written.
fn names(rows: &str) -> impl Iterator<Item = &str> {
    rows.split("[[expose]]").skip(1).filter_map(|row| {
        let text = |key: &str| row.split(&format!("\n{key} = \"")).nth(1)?.split('"').next();
        text("as").or_else(|| text("service"))
    })
}

/// The reply of a Nameko service.
pub fn replies(json: &str) -> Vec<Answer> {
    Answer::new(format!("{{\"result\": {json}, \"error\": null}}"))
}

/// A Nameko service that echoes its args and kwargs, and is slow or silent where it is told so.
pub fn echo(seen: &Seen) -> Vec<Answer> {
    let later = r#"{"result": "kept", "error": null}"#;
    match &seen.method[..] {
        "never" => Vec::new(),
        "later" => Answer::after(later, Duration::from_millis(700)),
        _ => replies(&seen.body),
    }
}
