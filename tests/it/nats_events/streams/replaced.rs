//! Upstreams that get other settings while their bridges from streams change.

use serde_json::json;

use super::{bridge, consumers, count, make, orders, store, taking, toml};
use crate::harness::{Gateway, Nats, eventually, until};
use crate::nameko_events::listened;

/// Another setting of the upstream in the file, and other rows.
fn reload(gateway: &Gateway, nats: &Nats, rows: &str) {
    let text = toml(nats, rows).replacen("dialect", "ping_interval = \"5s\"\ndialect", 1);
    gateway.write_config(&text);
    gateway.hang_up();
}

#[tokio::test]
async fn a_bridge_that_changes_together_with_its_upstream_goes_on_where_it_was() {
    let (nats, client) = orders().await;
    make(&client, "COPIES", json!({})).await;
    let row =
        |more: &str| bridge("bus:stream/ORDERS", &format!("bus:stream/COPIES/copies.x{more}"), "");
    let gateway = taking(&toml(&nats, &row("")), 1).await;
    store(&client, "ORDERS", "orders.created", 0..100).await;
    until("they are copied", async || count(&client, "COPIES").await == 100).await;
    until("and acked", async || {
        let name = consumers(&client, "ORDERS").await.pop().expect("a consumer");
        let info = super::api(&client, &format!("CONSUMER.INFO.ORDERS.{name}"), json!(null)).await;
        info["num_ack_pending"] == 0
    })
    .await;
    reload(&gateway, &nats, &row("\", \"bus:stream/COPIES/copies.y"));
    listened(&gateway, 2).await;
    store(&client, "ORDERS", "orders.created", 100..110).await;
    until("the new ones are copied", async || count(&client, "COPIES").await >= 120).await;
    gateway.wait_for_log(0, "deleted the consumer of a bridge").await;
    assert_eq!(count(&client, "COPIES").await, 120, "none is carried again");
    assert_eq!(consumers(&client, "ORDERS").await.len(), 1);
}

#[tokio::test]
async fn a_work_queue_goes_over_to_the_bridge_that_replaces_another_one() {
    let (nats, client) = orders().await;
    make(&client, "JOBS", json!({"retention": "workqueue"})).await;
    make(&client, "COPIES", json!({})).await;
    let row = |to: &str| bridge("bus:stream/JOBS", &format!("bus:stream/COPIES/copies.{to}"), "");
    let gateway = taking(&toml(&nats, &row("x")), 1).await;
    store(&client, "JOBS", "jobs.a", 0..0).await;
    client.publish("jobs.a", "{\"n\":1}".into()).await.expect("published");
    client.flush().await.expect("flushed");
    until("it is copied", async || count(&client, "COPIES").await == 1).await;
    reload(&gateway, &nats, &row("y"));
    gateway.wait_for_log(0, "reloaded: the new routing table is in force").await;
    client.publish("jobs.a", "{\"n\":2}".into()).await.expect("published");
    client.flush().await.expect("flushed");
    eventually("the next one goes by the new bridge", async || {
        (count(&client, "COPIES").await >= 2).then_some(())
    })
    .await;
    assert_eq!(consumers(&client, "JOBS").await.len(), 1);
}
