//! What is carried, and how it looks where it arrives.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::json;

use super::{carries, config, gateway, header, json, next};
use crate::events::Listener;
use crate::harness::clients::node;
use crate::harness::gateway::genkan;
use crate::harness::process::Folder;
use crate::harness::{Nats, eventually};
use crate::hub::{HUB, Peer};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The next event to a listener that is no probe.
async fn event(listener: &mut Listener) -> serde_json::Value {
    loop {
        let event = listener.event().await.data;
        if event["data"] != "probe" {
            return event;
        }
    }
}

#[tokio::test]
async fn browsers_at_each_of_two_gateways_hear_all_that_the_two_carry_once() {
    let nats = Nats::start();
    let rows = "[[bridges]]\nfrom = \"bus:shop.*\"\nto = [\"web:seen.$1\", \"bus:carried.$1\"]\n\
                [[topics]]\nmatch = \"seen.*\"\n";
    let gateways = [gateway(&nats, rows).await, gateway(&nats, rows).await];
    let client = nats.client().await;
    let mut carried = client.subscribe("carried.eu").await.expect("subscribed");
    client.flush().await.expect("connected");
    for gateway in &gateways {
        let mut probed = Listener::listen(gateway, "?topic=seen.probe").await;
        let probes = async {
            loop {
                client.publish("shop.probe", "1".into()).await.expect("sent");
                // A flood would be a gap.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = probed.event() => {}
            () = probes => {}
        }
    }
    let mut listeners = Vec::new();
    for gateway in &gateways {
        listeners.push(Listener::listen(gateway, "?topic=seen.eu").await);
    }
    for number in 0..20 {
        client.publish("shop.eu", json!({ "n": number }).to_string().into()).await.expect("sent");
    }
    // The two share what they carry, each at its own pace.
    let mut once = Vec::new();
    for number in 0..20 {
        for listener in &mut listeners {
            assert_eq!(event(listener).await["data"]["n"], number);
        }
        once.push(json(&next(&mut carried).await)["n"].as_u64());
    }
    once.sort_unstable();
    assert_eq!(once, (0..20).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn subjects_are_heard_in_browsers_and_by_modules() {
    let nats = Nats::start();
    let rows = format!(
        "{HUB}[[bridges]]\nfrom = \"bus:shop.*.sold\"\nto = [\"web:sold.$1\", \"hub:shop.sold_$1\"]\n\
         dead_letter = \"bus:dead\"\n[[topics]]\nmatch = \"sold.*\"\n"
    );
    let gateway = gateway(&nats, &rows).await;
    let client = nats.client().await;
    let mut module = Peer::connect(&gateway).await;
    module.register("reader", "1.0.0", json!({})).await;
    module.receive().await;
    assert_eq!(module.ask(json!({"type": 5, "hook": "shop.sold_eu"})).await["type"], 6);
    let mut listener = Listener::listen(&gateway, "?topic=sold.eu").await;
    let mut dead = client.subscribe("dead").await.expect("subscribed");
    let labels = [("bridge", "bus:shop.*.sold"), ("outcome", "dead_letter")];
    // A probe is no object, and so nothing for a hook.
    super::until_heard(&client, "shop.xx.sold", async || {
        gateway.metric("genkan_events_total", &labels).await > 0.0
    })
    .await;
    for number in 0..100 {
        let body = format!("{{\"n\":{number},\"price\":1.10}}");
        client.publish("shop.eu.sold", body.into()).await.expect("published");
    }
    for number in 0..100 {
        let heard = event(&mut listener).await;
        assert_eq!((&heard["topic"], &heard["data"]["n"]), (&json!("sold.eu"), &json!(number)));
        let hook = module.receive().await;
        assert_eq!((&hook["hook"], &hook["data"]["n"]), (&json!("shop.sold_eu"), &json!(number)));
    }
    client.publish("shop.eu.sold", "{no json".into()).await.expect("published");
    let letter = loop {
        let letter = json(&next(&mut dead).await);
        if letter["data"] != "probe" {
            break letter;
        }
    };
    assert_eq!((&letter["topic"], &letter["data"]), (&json!("shop.eu.sold"), &json!("{no json")));
    assert!(letter["reason"].as_str().is_some_and(|it| it.contains("not JSON")), "{letter}");
}

#[tokio::test]
async fn hooks_are_published_to_subjects() {
    let nats = Nats::start();
    let rows = format!("{HUB}[[bridges]]\nfrom = \"hub:shop.*\"\nto = [\"bus:hooks.$1\"]\n");
    let gateway = gateway(&nats, &rows).await;
    let client = nats.client().await;
    let mut hooks = client.subscribe("hooks.>").await.expect("subscribed");
    client.flush().await.expect("flushed");
    let mut shop = Peer::connect(&gateway).await;
    shop.register("shop", "1.0.0", json!({})).await;
    shop.receive().await;
    for number in 0..20 {
        let frame = json!({"type": 7, "hook": "sold", "data": {"n": number}});
        assert_eq!(shop.ask(frame).await["type"], 8);
    }
    for number in 0..20 {
        let message = next(&mut hooks).await;
        assert_eq!(
            (message.subject.as_str(), json(&message)),
            ("hooks.sold", json!({"n": number}))
        );
        assert!(header(&message, "traceparent").contains(&header(&message, "Genkan-Event-Id")));
        assert_eq!(header(&message, "Genkan-Hops"), "1");
    }
}

#[tokio::test]
async fn what_travels_with_an_event_goes_on_with_it() {
    let nats = Nats::start();
    let rows = "[[bridges]]\nfrom = \"bus:in.>\"\nto = [\"bus:out.$1\"]\n";
    let gateway = gateway(&nats, rows).await;
    let client = nats.client().await;
    let mut out = client.subscribe("out.>").await.expect("subscribed");
    carries(&gateway, &client, "in.probe", "bus:in.>").await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("traceparent", TRACE),
        ("Nats-Msg-Id", "order-7"),
        ("X-Request-Id", "r-1"),
        ("Authorization", "Bearer geheim"),
        ("Genkan-Hops", "3"),
    ] {
        headers.insert(name, value);
    }
    let published = client.publish_with_headers("in.a.b", headers, " [1.10] ".into()).await;
    published.expect("published");
    client.publish("in.empty", "".into()).await.expect("published");
    let large = format!("\"{}\"", "x".repeat(900 * 1024));
    client.publish("in.large", large.clone().into()).await.expect("published");
    let message = next(&mut out).await;
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("out.a.b", &b"[1.10]"[..]));
    for (name, value) in [
        ("traceparent", TRACE),
        ("Genkan-Event-Id", "order-7"),
        ("X-Request-Id", "r-1"),
        ("Authorization", ""),
        ("Genkan-Hops", "4"),
    ] {
        assert_eq!(header(&message, name), value, "{name}");
    }
    let empty = next(&mut out).await;
    assert_eq!((empty.subject.as_str(), &empty.payload[..]), ("out.empty", &b"null"[..]));
    assert!(next(&mut out).await.payload == large, "a large one comes as it went");
}

#[tokio::test]
async fn a_publisher_in_javascript_is_heard() {
    let nats = Nats::start();
    let rows = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"bus:shop.*\"\n";
    let gateway = gateway(&nats, rows).await;
    let client = nats.client().await;
    let mut listener = Listener::listen(&gateway, "?topic=shop.sold").await;
    carries(&gateway, &client, "shop.probe", "bus:shop.*").await;
    node("nats_publisher.js", &[&nats.url(), "shop.sold", "5"]).await;
    for number in 0..5 {
        let heard = event(&mut listener).await;
        assert_eq!((&heard["topic"], &heard["data"]), (&json!("shop.sold"), &json!({"n": number})));
    }
}

#[tokio::test]
async fn what_nats_does_not_take_is_told_with_the_reason() {
    let nats = Nats::configured(
        "max_payload: 2000\n\
         authorization { users: [{ user: u, password: p, permissions: { publish: { deny: \"no.>\" }, \
         subscribe: { deny: \"closed\" } } }, { user: all, password: p }] }",
    );
    let bridges = "[[bridges]]\nfrom = \"bus:in.>\"\nto = [\"bus:$1\"]\ndead_letter = \"web:dead\"\n\
                   [[topics]]\nmatch = \"dead\"\n[[topics]]\nmatch = \"closed\"\nfrom = \"bus:closed\"\n";
    let login = "user = \"u\"\npassword = \"p\"\n";
    let toml = config(&nats, &format!("{login}{bridges}"));
    let gateway = crate::harness::Gateway::ready(&toml).await;
    let options = async_nats::ConnectOptions::with_user_and_password("all".into(), "p".into());
    let client = options.connect(nats.url()).await.expect("connected");
    carries(&gateway, &client, "in.probe", "bus:in.>").await;
    let mut dead = Listener::listen(&gateway, "?topic=dead").await;
    let almost = format!("\"{}\"", "x".repeat(1_900));
    for (subject, body) in [("in.no.x", "1"), ("in.$SYS.x", "2"), ("in.a", almost.as_str())] {
        client.publish(subject, body.to_owned().into()).await.expect("published");
        client.flush().await.expect("flushed");
    }
    for words in
        ["does not permit Genkan to publish to `no.x`", "belongs to NATS itself", "max_payload"]
    {
        let letter = event(&mut dead).await["data"].clone();
        assert!(
            letter["reason"].as_str().is_some_and(|it| it.contains(words)),
            "{words}: {letter}"
        );
    }
    let line = gateway.wait_for_log(0, "NATS does not permit to take events").await;
    assert_eq!(line["subject"], "closed");
    eventually("its others go on", async || {
        (super::delivered(&gateway, "bus:in.>").await >= 1.0).then_some(())
    })
    .await;
}

#[test]
fn what_is_wrong_with_an_address_is_told_with_its_mend() {
    let folder = Folder::new();
    let file = folder.path().join("genkan.toml");
    for (from, to, expected) in [
        ("bus:orders.cre*", "web:x", "whole words"),
        ("bus:orders.>.x", "web:x", "all that is left"),
        ("bus:or ders", "web:x", "blank"),
        ("bus:$JS.x", "web:x", "belongs to NATS"),
        ("bus:stream/", "web:x", "names no stream"),
        ("bus:stream/A", "bus:stream/A/x", "in a circle"),
        ("bus:x", "bus:stream/A", "names no subject"),
        ("bus:a", "bus:b.*", "write `$1`"),
        ("bus:a.>", "bus:a.b", "in a circle"),
    ] {
        let upstream = "[upstreams.bus]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:1\"]\n";
        let topics = "[[topics]]\nmatch = \"x\"\n";
        let toml = format!("{upstream}[[bridges]]\nfrom = \"{from}\"\nto = [\"{to}\"]\n{topics}");
        std::fs::write(&file, toml).expect("written");
        let output = genkan().args(["check", "--config"]).arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains(expected), "{from} {to}:\n{said}");
    }
}

#[tokio::test]
async fn a_wildcard_brings_no_names_of_natss_own() {
    let nats = Nats::start();
    let rows = "[[topics]]\nmatch = \"*\"\nfrom = \"bus:>\"\n";
    let gateway = gateway(&nats, rows).await;
    let client = nats.client().await;
    carries(&gateway, &client, "shop.probe", "bus:>").await;
    let mut listener = Listener::listen(&gateway, "?topic=*").await;
    for subject in ["_INBOX.a.b", "$SYS.x", "$JS.ACK.x", "shop.sold"] {
        client.publish(subject, "1".into()).await.expect("published");
    }
    client.flush().await.expect("flushed");
    let mut heard = listener.event().await;
    while heard.data["topic"] == "shop.probe" {
        heard = listener.event().await;
    }
    assert_eq!(heard.data["topic"], "shop.sold", "an answer is nobody else's to hear");
}
