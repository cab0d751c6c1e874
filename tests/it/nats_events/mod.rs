//! Events over core NATS: from its subjects to browsers and hooks, and back.

mod bursts;
mod carried;
mod lifecycle;
mod permissions;
mod streams;

use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt;
use serde_json::Value;

use crate::harness::{Gateway, Nats, eventually};

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(90);

/// A gateway with NATS by the name `bus`, and rows.
pub async fn gateway(nats: &Nats, rows: &str) -> Gateway {
    Gateway::ready(&config(nats, rows)).await
}

/// The same as TOML.
pub fn config(nats: &Nats, rows: &str) -> String {
    format!("{}{rows}", nats.upstream("bus", "plain"))
}

/// Publishes one event after the other until `heard` says that one has come: NATS keeps none for those
/// who subscribe later.
pub async fn until_heard(client: &Client, subject: &str, heard: impl AsyncFn() -> bool) {
    eventually(&format!("events of {subject} are carried"), async || {
        client.publish(subject.to_owned(), "\"probe\"".into()).await.expect("published");
        client.flush().await.expect("flushed");
        heard().await.then_some(())
    })
    .await;
}

/// Waits until a bridge carries events, by those that probe it. How many it had delivered by then.
pub async fn carries(gateway: &Gateway, client: &Client, subject: &str, bridge: &str) -> f64 {
    let delivered = async || delivered(gateway, bridge).await;
    let before = delivered().await;
    until_heard(client, subject, async || delivered().await > before).await;
    delivered().await
}

/// How many events a bridge has delivered.
pub async fn delivered(gateway: &Gateway, bridge: &str) -> f64 {
    let labels = [("bridge", bridge), ("outcome", "delivered")];
    gateway.metric("genkan_events_total", &labels).await
}

/// What comes next to a subscriber, probes left out.
pub async fn next(subscriber: &mut Subscriber) -> Message {
    loop {
        let next = tokio::time::timeout(PATIENCE, subscriber.next()).await.expect("in time");
        let message = next.expect("it is subscribed");
        if message.payload != "\"probe\"" {
            return message;
        }
    }
}

/// A header; empty where there is none.
pub fn header(message: &Message, name: &str) -> String {
    let value = message.headers.as_ref().and_then(|headers| headers.get(name));
    value.map(ToString::to_string).unwrap_or_default()
}

pub fn json(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).expect("JSON")
}
