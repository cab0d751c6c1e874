//! A cluster, whose streams outlive the servers that lead them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use super::super::{header, json};
use super::{all, bridge, taking};
use crate::harness::{Nats, eventually};

const EVENTS: u64 = 100;

/// Asks for something until it is done: a cluster that has no leader yet does not answer, or says so.
async fn done(client: &Client, subject: &str, headers: HeaderMap, body: String) -> Value {
    eventually(&format!("{subject} is done"), async || {
        let (subject, headers, body) = (subject.to_owned(), headers.clone(), body.clone().into());
        let asked = client.request_with_headers(subject, headers, body);
        let answer = timeout(Duration::from_secs(2), asked).await.ok()?.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
        answer.get("error").is_none().then_some(answer)
    })
    .await
}

/// The same of JetStream's API.
async fn api(client: &Client, subject: &str, body: Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    done(client, &format!("$JS.API.{subject}"), HeaderMap::new(), body).await
}

/// A stream that each server has.
async fn make(client: &Client, name: &str) {
    let stream = serde_json::json!({"name": name, "subjects": [format!("{}.>", name.to_lowercase())],
        "storage": "file", "retention": "limits", "num_replicas": 3});
    api(client, &format!("STREAM.CREATE.{name}"), stream).await;
}

/// Waits until each server has all of a stream: which one leads it.
async fn whole(client: &Client, name: &str) -> String {
    eventually(&format!("{name} is whole"), async || {
        let info = api(client, &format!("STREAM.INFO.{name}"), Value::Null).await;
        let followers = info["cluster"]["replicas"].as_array()?;
        let are_current = followers.iter().all(|follower| follower["current"] == true);
        let leader = info["cluster"]["leader"].as_str()?;
        (followers.len() == 2 && are_current).then(|| leader.to_owned())
    })
    .await
}

/// Stores events, each once.
async fn store(client: &Client, numbers: Range<u64>) {
    for number in numbers {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("event {number}"));
        done(client, "orders.created", headers, format!("{{\"n\":{number}}}")).await;
    }
}

#[tokio::test]
async fn a_bridge_goes_on_when_the_leader_of_its_stream_or_of_its_target_dies() {
    let servers = Nats::cluster_with_streams();
    let urls = servers.each_ref().map(Nats::url);
    // It learns of the others.
    let client = servers[0].client().await;
    for name in ["ORDERS", "COPIES"] {
        make(&client, name).await;
    }
    let row = bridge("bus:stream/ORDERS", "bus:stream/COPIES/copies.created", "");
    let toml = format!("[upstreams.bus]\nprotocol = \"nats\"\nservers = {urls:?}\n{row}");
    let gateway = taking(&toml, 1).await;
    let mut stored = 0;
    for stream in ["ORDERS", "COPIES", "ORDERS"] {
        store(&client, stored..stored + EVENTS / 2).await;
        whole(&client, "ORDERS").await;
        whole(&client, "COPIES").await;
        let leader = whole(&client, stream).await;
        let leader = servers.iter().find(|server| server.is_called(&leader)).expect("one of them");
        leader.kill();
        store(&client, stored + EVENTS / 2..stored + EVENTS).await;
        leader.restart();
        stored += EVENTS;
    }
    let names = api(&client, "CONSUMER.NAMES.ORDERS", Value::Null).await;
    let Some([consumer]) = names["consumers"].as_array().map(Vec::as_slice) else {
        panic!("one: {names}")
    };
    let consumer = consumer.as_str().expect("a name");
    eventually("all are carried", async || {
        let info = api(&client, &format!("CONSUMER.INFO.ORDERS.{consumer}"), Value::Null).await;
        (info["ack_floor"]["stream_seq"].as_u64()? >= stored).then_some(())
    })
    .await;
    let mut ids = BTreeMap::new();
    for copy in all(&client, "COPIES").await {
        let number = json(&copy)["n"].as_u64().expect("a number");
        let id = header(&copy, "Genkan-Event-Id");
        match ids.get(&number) {
            // A server that dies may forget what has been acknowledged, and what it has.
            Some(before) => assert_eq!(*before, id, "{number} came again by another id"),
            None => {
                assert_eq!(ids.len() as u64, number, "in order, and none is missing");
                ids.insert(number, id);
            }
        }
    }
    assert_eq!(ids.len() as u64, stored);
    assert_eq!(gateway.metric("genkan_events_total", &[("outcome", "gap")]).await, 0.0);
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
}
