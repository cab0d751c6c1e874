//! Events that JetStream's streams keep.

mod carried;
mod cluster;
mod discarded;
mod kills;
mod odd;
mod outages;
mod replaced;
mod twice;

use std::time::Duration;

use async_nats::{Client, Message};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{PATIENCE, config};
use crate::harness::{Gateway, Nats, eventually};

/// Asks JetStream's API for something that it does.
pub async fn api(client: &Client, subject: &str, body: Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let subject = format!("$JS.API.{subject}");
    // A server that has just started has its API a moment later.
    let answer = eventually(&format!("{subject} is answered"), async || {
        // One that was killed meanwhile never answers.
        let asked = client.request(subject.clone(), body.clone().into());
        tokio::time::timeout(Duration::from_secs(1), asked).await.ok()?.ok()
    })
    .await;
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer.get("error"), None, "{subject}: {answer}");
    answer
}

/// Makes a stream for `NAME.>`, with further settings.
pub async fn make(client: &Client, name: &str, more: Value) {
    let mut stream = json!({"name": name, "subjects": [format!("{}.>", name.to_lowercase())],
        "storage": "file", "retention": "limits", "num_replicas": 1});
    stream.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("one"));
    api(client, &format!("STREAM.CREATE.{name}"), stream).await;
}

/// How many messages a stream has.
pub async fn count(client: &Client, name: &str) -> u64 {
    let info = api(client, &format!("STREAM.INFO.{name}"), Value::Null).await;
    info["state"]["messages"].as_u64().expect("a number")
}

/// The names of a stream's consumers.
pub async fn consumers(client: &Client, name: &str) -> Vec<String> {
    let found = api(client, &format!("CONSUMER.NAMES.{name}"), Value::Null).await;
    serde_json::from_value(found["consumers"].clone()).unwrap_or_default()
}

/// All that a stream has, in its order.
pub async fn all(client: &Client, name: &str) -> Vec<Message> {
    let expected = count(client, name).await;
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await.expect("subscribed");
    let config = json!({"deliver_subject": inbox, "ack_policy": "none", "deliver_policy": "all"});
    let body = json!({"stream_name": name, "config": config});
    api(client, &format!("CONSUMER.CREATE.{name}"), body).await;
    let mut found = Vec::new();
    while (found.len() as u64) < expected {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await.expect("in time");
        found.push(next.expect("subscribed"));
    }
    found
}

/// Stores events `{"n": N}`, and waits until they are.
pub async fn store(client: &Client, stream: &str, subject: &str, numbers: std::ops::Range<u64>) {
    let before = count(client, stream).await;
    let expected = before + numbers.end - numbers.start;
    for number in numbers {
        let body = format!("{{\"n\":{number}}}");
        client.publish(subject.to_owned(), body.into()).await.expect("published");
    }
    client.flush().await.expect("flushed");
    eventually("they are stored", async || (count(client, stream).await >= expected).then_some(()))
        .await;
}

/// A server with JetStream, a client of it, and the stream `ORDERS` for `orders.>`.
pub async fn orders() -> (Nats, Client) {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    make(&client, "ORDERS", json!({})).await;
    (nats, client)
}

/// A gateway that has these rows and takes so many sources' events.
pub async fn taking(toml: &str, sources: usize) -> Gateway {
    let gateway = Gateway::start(toml).await;
    crate::nameko_events::listened(&gateway, sources).await;
    gateway
}

/// A bridge.
pub fn bridge(from: &str, to: &str, more: &str) -> String {
    format!("[[bridges]]\nfrom = \"{from}\"\nto = [\"{to}\"]\n{more}\n")
}

/// The same with NATS as an upstream.
pub fn toml(nats: &Nats, rows: &str) -> String {
    config(nats, rows)
}
