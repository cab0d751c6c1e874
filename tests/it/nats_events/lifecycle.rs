//! Servers, connections and bridges that come and go.

use serde_json::json;

use super::{carries, config, delivered, gateway, json, next};
use crate::events::Listener;
use crate::harness::{Nats, eventually};

const TOPIC: &str = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"bus:shop.*\"\n";

#[tokio::test]
async fn who_listens_is_told_of_what_a_lost_connection_may_have_cost() {
    let nats = Nats::start();
    let gateway = gateway(&nats, TOPIC).await;
    let client = nats.client().await;
    carries(&gateway, &client, "shop.probe", "bus:shop.*").await;
    let mut listener = Listener::listen(&gateway, "?topic=shop.sold").await;
    let gap = [("bridge", "bus:shop.*"), ("outcome", "gap")];
    assert_eq!(gateway.metric("genkan_events_total", &gap).await, 0.0);
    nats.kill();
    nats.restart();
    gateway.wait_for_metric("genkan_events_total", &gap, 1.0).await;
    let heard = listener.next().await.expect("a gap");
    assert_eq!((heard.kind.as_str(), &heard.data["missed"]), ("gap", &json!(null)));
    // It was told when the subscription was there again.
    let client = nats.client().await;
    client.publish("shop.sold", "7".into()).await.expect("published");
    assert_eq!(listener.event().await.data["data"], 7);
    let line = gateway.wait_for_log(0, "events may have been missed").await;
    assert!(line["reason"].as_str().is_some_and(|it| it.contains("lost")), "{line}");
}

#[tokio::test]
async fn bridges_come_and_go_by_a_reload() {
    let nats = Nats::start();
    let bridge =
        |from: &str, to: &str| format!("[[bridges]]\nfrom = \"{from}\"\nto = [\"{to}\"]\n");
    let stays = bridge("bus:stays", "bus:out.stays");
    let goes = bridge("bus:goes", "bus:out.goes");
    let gateway = gateway(&nats, &format!("{stays}{goes}")).await;
    let client = nats.client().await;
    carries(&gateway, &client, "stays", "bus:stays").await;
    carries(&gateway, &client, "goes", "bus:goes").await;
    let mut out = client.subscribe("out.>").await.expect("subscribed");
    gateway
        .write_config(&config(&nats, &format!("{stays}{}", bridge("bus:comes", "bus:out.comes"))));
    gateway.hang_up();
    gateway.wait_for_log(0, "reloaded: the new routing table is in force").await;
    carries(&gateway, &client, "comes", "bus:comes").await;
    for (subject, body) in [("goes", "1"), ("stays", "2"), ("comes", "3")] {
        client.publish(subject, body.into()).await.expect("published");
        client.flush().await.expect("flushed");
    }
    let mut heard = [json(&next(&mut out).await), json(&next(&mut out).await)];
    heard.sort_by_key(ToString::to_string);
    assert_eq!(heard, [json!(2), json!(3)]);
    assert_eq!(gateway.metric("genkan_events_total", &[("outcome", "gap")]).await, 0.0);
}

#[tokio::test]
async fn who_listens_is_told_of_what_new_settings_of_the_upstream_may_have_cost() {
    let nats = Nats::start();
    let gateway = gateway(&nats, TOPIC).await;
    let client = nats.client().await;
    carries(&gateway, &client, "shop.probe", "bus:shop.*").await;
    let mut listener = Listener::listen(&gateway, "?topic=shop.sold").await;
    let toml = config(&nats, TOPIC);
    gateway
        .write_config(&toml.replace("[upstreams.bus]\n", "[upstreams.bus]\nmax_reply = \"1MB\"\n"));
    gateway.hang_up();
    let heard = listener.next().await.expect("a gap");
    assert_eq!((heard.kind.as_str(), &heard.data["missed"]), ("gap", &json!(null)));
    // It was told when the new connection had subscribed.
    client.publish("shop.sold", "7".into()).await.expect("published");
    assert_eq!(listener.event().await.data["data"], 7);
}

#[tokio::test]
async fn whoever_listens_is_told_where_a_new_row_takes_its_topic() {
    let nats = Nats::start();
    let gateway = gateway(&nats, TOPIC).await;
    let client = nats.client().await;
    carries(&gateway, &client, "shop.probe", "bus:shop.*").await;
    let mut sold = Listener::listen(&gateway, "?topic=shop.sold").await;
    let mut other = Listener::listen(&gateway, "?topic=shop.other").await;
    let front = "[[topics]]\nmatch = \"shop.s*\"\nfrom = \"bus:shop.*\"\n";
    gateway.write_config(&config(&nats, &format!("{front}{TOPIC}")));
    gateway.hang_up();
    let heard = sold.next().await.expect("a gap");
    assert_eq!((heard.kind.as_str(), &heard.data["missed"]), ("gap", &json!(null)));
    for subject in ["shop.sold", "shop.other", "shop.sold"] {
        client.publish(subject, "7".into()).await.expect("published");
    }
    assert_eq!(other.event().await.data["data"], 7, "no gap, since its row has stayed");
    let (first, second) = (sold.event().await.data, sold.event().await.data);
    assert_eq!(second["id"].as_u64(), first["id"].as_u64().map(|id| id + 1));
    client.publish("shop.sold", "8".into()).await.expect("published");
    assert_eq!(sold.event().await.data["data"], 8, "each once");
}

#[tokio::test]
async fn two_gateways_share_a_bridge_and_each_has_its_topics() {
    let nats = Nats::start();
    let rows = format!("[[bridges]]\nfrom = \"bus:in\"\nto = [\"bus:out\"]\n{TOPIC}");
    let (one, other) = (gateway(&nats, &rows).await, gateway(&nats, &rows).await);
    let client = nats.client().await;
    let mut listeners = Vec::new();
    for gateway in [&one, &other] {
        carries(gateway, &client, "shop.probe", "bus:shop.*").await;
        // A gateway's subscriptions are made together: the one to `in` is there too.
        listeners.push(Listener::listen(gateway, "?topic=shop.sold").await);
    }
    let mut out = client.subscribe("out").await.expect("subscribed");
    client.flush().await.expect("flushed");
    for number in 0..100 {
        client.publish("in", number.to_string().into()).await.expect("published");
    }
    client.publish("shop.sold", "1".into()).await.expect("published");
    let mut heard = Vec::new();
    for _ in 0..100 {
        heard.push(json(&next(&mut out).await).as_u64().expect("a number"));
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..100).collect::<Vec<_>>(), "each once");
    for listener in &mut listeners {
        assert_eq!(listener.event().await.data["data"], 1);
    }
    let both = delivered(&one, "bus:in").await + delivered(&other, "bus:in").await;
    assert_eq!(both, 100.0);
}

#[tokio::test]
async fn a_server_that_says_goodbye_costs_no_event() {
    let grace = "lame_duck_grace_period: \"2s\"\nlame_duck_duration: \"30s\"";
    let (leaving, staying) = Nats::cluster(grace);
    let servers = format!("servers = [\"{}\", \"{}\"]", leaving.url(), staying.url());
    let toml = config(&leaving, "[[bridges]]\nfrom = \"bus:in\"\nto = [\"bus:out\"]\n");
    let line = toml.lines().find(|line| line.starts_with("servers")).expect("its servers");
    let gateway = crate::harness::Gateway::ready(&toml.replace(line, &servers)).await;
    staying.restart();
    let client = staying.client().await;
    carries(&gateway, &client, "in", "bus:in").await;
    let mut out = client.subscribe("out").await.expect("subscribed");
    // Events that have gone round show that both servers know of the subscription.
    eventually("the servers know of it", async || {
        client.publish("in", "\"probe\"".into()).await.expect("published");
        let mut other = client.subscribe("out").await.expect("subscribed");
        let heard = tokio::time::timeout(std::time::Duration::from_millis(100), async {
            client.publish("in", "\"probe\"".into()).await.expect("published");
            futures_util::StreamExt::next(&mut other).await
        });
        heard.await.is_ok().then_some(())
    })
    .await;
    leaving.say_goodbye();
    let mut sent = 0_u64;
    while leaving.runs() {
        client.publish("in", sent.to_string().into()).await.expect("published");
        client.flush().await.expect("flushed");
        sent += 1;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut heard: Vec<u64> = Vec::new();
    while heard.len() < usize::try_from(sent).expect("few") {
        heard.push(json(&next(&mut out).await).as_u64().expect("a number"));
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..sent).collect::<Vec<_>>());
    assert_eq!(gateway.metric("genkan_events_total", &[("outcome", "gap")]).await, 0.0);
}

#[tokio::test]
async fn what_was_taken_is_carried_before_the_gateway_ends() {
    let nats = Nats::start();
    let gateway = gateway(&nats, "[[bridges]]\nfrom = \"bus:in\"\nto = [\"bus:out\"]\n").await;
    let client = nats.client().await;
    let before = carries(&gateway, &client, "in", "bus:in").await;
    let mut out = client.subscribe("out").await.expect("subscribed");
    client.flush().await.expect("flushed");
    for number in 0..200 {
        client.publish("in", number.to_string().into()).await.expect("published");
    }
    client.flush().await.expect("flushed");
    eventually("some have come", async || {
        (delivered(&gateway, "bus:in").await > before).then_some(())
    })
    .await;
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    for number in 0..200 {
        assert_eq!(json(&next(&mut out).await), json!(number), "in their order");
    }
}
