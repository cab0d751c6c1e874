//! Bursts on core NATS, which waits for nobody: whoever reads gets all of them.

use async_nats::Client;
use serde_json::json;

use super::streams::{count, make};
use super::{carries, config, gateway, json, next};
use crate::events::Listener;
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, Nats, eventually};

/// How many events a burst of small ones has.
const MANY: usize = 3_000;

/// Publishes events in one go.
async fn burst(client: &Client, subject: &str, count: usize) {
    for number in 0..count {
        let body = json!({ "n": number }).to_string();
        client.publish(subject.to_owned(), body.into()).await.expect("published");
    }
    client.flush().await.expect("flushed");
}

/// A gateway where browsers may hear `bu.*`.
async fn browsers(nats: &Nats) -> (Gateway, Client) {
    let rows = "[[topics]]\nmatch = \"bu.*\"\nfrom = \"bus:bu.*\"\nslow = \"disconnect\"\n";
    let gateway = gateway(nats, rows).await;
    let client = nats.client().await;
    carries(&gateway, &client, "bu.probe", "bus:bu.*").await;
    (gateway, client)
}

async fn socket(gateway: &Gateway) -> WebSocket {
    let mut socket = WebSocket::open(gateway.url().trim_start_matches("http://")).await;
    let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "genkan.subscribe",
        "params": {"topics": ["bu.a"]}});
    socket.ask(subscribe.to_string()).await;
    socket
}

#[tokio::test]
async fn whoever_reads_hears_a_burst_of_small_events_whole() {
    let nats = Nats::start();
    let (gateway, client) = browsers(&nats).await;
    let mut stream = Listener::listen(&gateway, "?topic=bu.a").await;
    let mut socket = socket(&gateway).await;
    burst(&client, "bu.a", MANY).await;
    for number in 0..MANY {
        assert_eq!(stream.event().await.data["data"]["n"], number);
        let told = socket.json().await;
        assert_eq!(told["params"]["data"]["n"], number, "{told}");
    }
}

#[tokio::test]
async fn a_bridge_carries_a_burst_whole_to_where_each_event_is_confirmed() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    make(&client, "KEPT", json!({})).await;
    let rows = "[[bridges]]\nfrom = \"bus:cb.*\"\nto = [\"bus:stream/KEPT/kept.$1\"]\n";
    let gateway = Gateway::ready(&config(&nats, rows)).await;
    carries(&gateway, &client, "cb.probe", "bus:cb.*").await;
    let mut kept = client.subscribe("kept.a").await.expect("subscribed");
    client.flush().await.expect("flushed");
    let before = count(&client, "KEPT").await;
    burst(&client, "cb.a", MANY).await;
    for number in 0..MANY {
        assert_eq!(json(&next(&mut kept).await)["n"], number);
    }
    eventually("all are stored", async || {
        (count(&client, "KEPT").await >= before + MANY as u64).then_some(())
    })
    .await;
}
