//! What cannot be an event, and places that are not as they should be: each ends in a clear reason, and
//! nobody else's events stop.

use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use serde_json::json;

use super::{Peer, bridge, listened};
use crate::harness::{Gateway, RabbitMq, eventually};

const DEAD: &str = "dead_letter = \"rabbit:queue/dead\"";

#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_with_its_reason_and_the_next_one_arrives() {
    let vhost = RabbitMq::shared().vhost();
    let row = bridge("rabbit:orders.created", "rabbit:queue/copies", DEAD);
    let config = format!("{}max_reply = \"1MiB\"\n{row}", vhost.upstream("rabbit"));
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    let mut dead = peer.consume("dead", "", "").await;
    let deep = "[".repeat(200) + &"]".repeat(200);
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let long = "x".repeat(1 << 19);
    for (body, reason, held) in [
        (&b"{not json"[..], "not JSON", json!(["{not json", "text"])),
        (b"\x00\xff\xfe", "not valid UTF-8", json!(["AP/+", "base64"])),
        (b"\"M\xfcller\"", "not valid UTF-8", json!(["Ik38bGxlciI=", "base64"])),
        (b"a\0", "not JSON", json!(["YQA=", "base64"])),
        (b"", "not JSON", json!(["", "text"])),
        (long.as_bytes(), "not JSON", json!([long, "text"])),
        (deep.as_bytes(), "nested too deep", json!([deep, "text"])),
        (large.as_bytes(), "max_reply", json!([null, null])),
    ] {
        peer.publish("orders.events", "created", body).await;
        let letter = peer.next(&mut dead).await.body;
        let told = letter["reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{letter}");
        assert_eq!(letter["topic"], "orders.created");
        assert!(json!([letter["data"], letter["encoding"]]) == held, "{reason}");
    }
    let packed = FieldTable::from(std::collections::BTreeMap::from([(
        "compression".into(),
        AMQPValue::LongString("gzip".into()),
    )]));
    let properties = BasicProperties::default().with_headers(packed);
    peer.publish_with("orders.events", "created", b"{}", properties).await;
    let letter = peer.next(&mut dead).await.body;
    assert!(letter["reason"].as_str().unwrap_or_default().contains("neither gzip"), "{letter}");
    assert_eq!((&letter["data"], &letter["encoding"]), (&json!("{}"), &json!("text")));
    // Without its headers it would have nobody's context, and go round in circles for ever.
    let permissions = FieldTable::from(std::collections::BTreeMap::from([(
        "nameko.permissions".into(),
        AMQPValue::LongString("x".repeat(17 << 10).into()),
    )]));
    let properties = BasicProperties::default().with_headers(permissions);
    peer.publish_with("orders.events", "created", b"{}", properties).await;
    let letter = peer.next(&mut dead).await.body;
    assert!(letter["reason"].as_str().unwrap_or_default().contains("`frame_max`"), "{letter}");
    assert_eq!(letter["data"], "{}");
    peer.publish("orders.events", "created", b" {\"a\": 1, \"a\": 2} ").await;
    let mut copies = peer.consume("copies", "", "").await;
    let copy = peer.next(&mut copies).await;
    assert_eq!(copy.body, json!({"a": 2}));
}

#[tokio::test]
async fn ten_mebibytes_pass_and_fifteen_kilobytes_of_headers() {
    let vhost = RabbitMq::shared().vhost();
    let row = bridge("rabbit:orders.created", "rabbit:queue/copies", DEAD);
    let gateway = Gateway::start(&format!("{}{row}", vhost.upstream("rabbit"))).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    let mut copies = peer.consume("copies", "", "").await;
    let large = format!("\"{}\"", "x".repeat(10 << 20));
    let value = "v".repeat(1_500);
    let headers: std::collections::BTreeMap<_, _> = (0..10)
        .map(|n| (format!("nameko.k{n}").into(), AMQPValue::LongString(value.as_str().into())))
        .collect();
    let properties = BasicProperties::default()
        .with_headers(FieldTable::from(headers))
        .with_message_id("mine".into())
        .with_timestamp(1_700_000_000);
    // More than there is room for at once.
    for _ in 0..6 {
        let properties = properties.clone();
        peer.publish_with("orders.events", "created", large.as_bytes(), properties).await;
    }
    for _ in 0..6 {
        let copy = peer.next(&mut copies).await;
        assert!(copy.body.as_str().is_some_and(|text| text.len() == 10 << 20));
        let headers = copy.properties.headers().as_ref().expect("headers").inner();
        assert_eq!(headers["nameko.k9"], AMQPValue::LongString(value.as_str().into()));
        assert_eq!(
            (copy.id().as_str(), *copy.properties.timestamp()),
            ("mine", Some(1_700_000_000))
        );
    }
}

#[tokio::test]
async fn what_the_broker_refuses_is_a_dead_letter_and_the_others_arrive() {
    let (here, small) =
        (RabbitMq::shared().vhost(), RabbitMq::configured("max_message_size = 5000"));
    let row = bridge("rabbit:orders.*", "small:queue/copies", DEAD);
    let config = format!(
        "{}[upstreams.small]\nprotocol = \"nameko\"\nurl = \"{}\"\n{row}",
        here.upstream("rabbit"),
        small.url()
    );
    let gateway = Gateway::start(&config).await;
    listened(&gateway, 1).await;
    let (peer, reader) = (Peer::connect(&here.url()).await, Peer::connect(&small.url()).await);
    let (mut dead, mut copies) =
        (peer.consume("dead", "", "").await, reader.consume("copies", "", "").await);
    for number in 0..40 {
        let size = if number % 20 == 7 { 9_000 } else { 10 };
        let body = json!({"n": number, "x": "x".repeat(size)}).to_string();
        peer.publish("orders.events", "created", body.as_bytes()).await;
    }
    for number in [7, 27] {
        let letter = peer.next(&mut dead).await.body;
        assert_eq!(letter["data"]["n"], number);
        let reason = letter["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("takes 5000 at most"), "{letter}");
    }
    let mut numbers = Vec::new();
    while numbers.len() < 38 {
        let number = reader.next(&mut copies).await.body["n"].as_u64().expect("a number");
        // One that the broker had when it closed the channel may come twice.
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    let expected: Vec<u64> = (0..40).filter(|number| number % 20 != 7).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn a_place_that_is_denied_is_a_dead_letter_with_the_mend() {
    let vhost = RabbitMq::shared().vhost();
    let limited = json!({"configure": ".*", "write": "^(?!copies).*", "read": ".*"});
    RabbitMq::shared().put(&format!("permissions/{}/gateway", vhost.name()), &limited);
    let row = bridge("rabbit:orders.created", "rabbit:copies.created", DEAD);
    let gateway = Gateway::start(&format!("{}{row}", vhost.upstream("rabbit"))).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url().replace("gateway:kagi-wa-himitsu", "guest:guest")).await;
    let mut dead = peer.consume("dead", "", "").await;
    for number in 0..5 {
        let body = json!({"n": number}).to_string();
        peer.publish("orders.events", "created", body.as_bytes()).await;
    }
    for number in 0..5 {
        let letter = peer.next(&mut dead).await.body;
        assert_eq!(letter["data"]["n"], number);
        let reason = letter["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("copies.events") && reason.contains("set_permissions"), "{letter}");
    }
}

#[tokio::test]
async fn an_exchange_of_another_type_is_told_and_stops_nobody_else() {
    let vhost = RabbitMq::shared().vhost();
    let peer = Peer::connect(&vhost.url()).await;
    peer.exchange("wrong.events", ExchangeKind::Fanout).await;
    let rows = [
        bridge("rabbit:wrong.created", "rabbit:queue/copies", ""),
        bridge("rabbit:orders.created", "rabbit:queue/copies", ""),
        bridge("rabbit:orders.sold", "rabbit:wrong.sold", &format!("{DEAD}\nretries = 1")),
    ];
    let gateway = Gateway::start(&format!("{}{}", vhost.upstream("rabbit"), rows.concat())).await;
    listened(&gateway, 2).await;
    let line = gateway.wait_for_log(0, "events cannot be taken").await;
    assert_eq!(line["address"], "wrong.created", "{line}");
    assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("topic exchange")), "{line}");
    let (mut copies, mut dead) =
        (peer.consume("copies", "", "").await, peer.consume("dead", "", "").await);
    peer.publish("orders.events", "sold", b"1").await;
    let letter = peer.next(&mut dead).await.body;
    assert!(letter["reason"].as_str().is_some_and(|it| it.contains("another type")), "{letter}");
    peer.publish("orders.events", "created", b"2").await;
    assert_eq!(peer.next(&mut copies).await.body, 2);
    // Mended, it is taken without a reload.
    RabbitMq::shared().delete(&format!("exchanges/{}/wrong.events", vhost.name()));
    eventually("the other bridge's events arrive", async || {
        peer.exchange("wrong.events", ExchangeKind::Topic).await;
        (gateway.logged("taking events").len() >= 3).then_some(())
    })
    .await;
    peer.publish("wrong.events", "created", b"3").await;
    assert_eq!(peer.next(&mut copies).await.body, 3);
}
