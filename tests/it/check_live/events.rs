//! Bridges and topics: what would keep events from coming and going.

use serde_json::{Value, json};

use super::{check, stream, tells};
use crate::harness::{Nats, RabbitMq};

#[tokio::test]
async fn exchanges_that_events_cannot_go_through() {
    let rabbit = RabbitMq::shared();
    let vhost = rabbit.vhost();
    let name = vhost.name();
    for (exchange, kind, durable) in [
        ("orders.events", "fanout", true),
        ("stock.events", "topic", true),
        ("gemstone.broadcast.price", "fanout", true),
        ("gemstone.broadcast.stock", "fanout", false),
    ] {
        let made = json!({"type": kind, "durable": durable});
        rabbit.put(&format!("exchanges/{name}/{exchange}"), &made);
    }
    let toml = format!(
        "{}\n{}",
        vhost.upstream("rabbit"),
        r#"
        [[bridges]]
        from = "rabbit:stock.*"
        to = ["rabbit:gemstone/stock", "rabbit:copies.$1", "rabbit:$1.copied"]
        dead_letter = "rabbit:queue/letters"

        [[bridges]]
        from = "rabbit:orders.created"
        to = ["web:orders.created"]

        [[bridges]]
        from = "rabbit:stock.sold"
        to = ["rabbit:orders.sold", "rabbit:gemstone/price"]

        [[bridges]]
        from = "rabbit:nobodys.*"
        to = ["web:orders.$1"]

        [[topics]]
        match = "orders.*"

        [[topics]]
        match = "price"
        from = "rabbit:gemstone/price"
        "#
    );
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    let nameko = "`orders.events` is of another type";
    let gemstone = "`gemstone.broadcast.price` is of another type";
    for (about, words) in [
        ("[[bridges]] #2 \"rabbit:orders.created\": its exchange", nameko),
        ("[[bridges]] #3 \"rabbit:stock.sold\": `rabbit:orders.sold`", nameko),
        ("[[bridges]] #3 \"rabbit:stock.sold\": `rabbit:gemstone/price`", gemstone),
        ("[[topics]] #2 \"price\": `rabbit:gemstone/price`", gemstone),
    ] {
        tells(&problems, "error", &[about, words, "delete it"]);
    }
    let nobodys = ["[[bridges]] #4 \"rabbit:nobodys.*\"", "no exchange `nobodys.events` yet"];
    tells(&problems, "warning", &nobodys);
    assert_eq!(problems.len(), 6, "and that there is no `nameko-rpc`: {problems:#?}");
    let line = toml.lines().position(|line| line.contains("orders.created")).expect("it is there");
    let its = problems.iter().find(|it| it["message"].as_str().unwrap().contains("#2 \"rabbit"));
    assert_eq!(its.expect("told")["line"], line, "its row's: {problems:#?}");
    // It has made nothing, and changed nothing.
    assert!(rabbit.get(&format!("queues/{name}/letters")).is_null());
    for exchange in ["copies.events", "nobodys.events"] {
        assert!(rabbit.get(&format!("exchanges/{name}/{exchange}")).is_null(), "{exchange}");
    }
    assert_eq!(rabbit.get(&format!("exchanges/{name}/orders.events"))["type"], "fanout");
}

#[tokio::test]
async fn a_queue_for_dead_letters_that_somebody_has_for_himself() {
    let vhost = RabbitMq::shared().vhost();
    let other = lapin::Connection::connect(&vhost.url(), Default::default()).await.expect("up");
    let channel = other.create_channel().await.expect("a channel");
    let alone = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare("taken".into(), alone, Default::default()).await.expect("declared");
    let toml = format!(
        "{}\n[[bridges]]\nfrom = \"rabbit:a.b\"\nto = [\"web:x\"]\ndead_letter = \"rabbit:queue/taken\"\n\
         [[topics]]\nmatch = \"x\"\n",
        vhost.upstream("rabbit")
    );
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    let words = ["[[bridges]] #1 \"rabbit:a.b\": `rabbit:queue/taken`", "for itself alone"];
    tells(&problems, "error", &words);
}

/// Streams with subjects by their names, and what fills some.
async fn streams_of_all_kinds(client: &async_nats::Client) {
    for (name, more) in [
        ("ORDERS", json!({})),
        ("FULL", json!({"max_msgs": 1, "discard": "new"})),
        ("BRIM", json!({"max_msgs": 1, "discard": "new", "max_age": 3_600_000_000_000_u64})),
        ("ROLL", json!({"max_msgs": 1, "discard": "old"})),
        ("HEAVY", json!({"max_bytes": 1_000, "discard": "new"})),
        ("MUTE", json!({"no_ack": true})),
    ] {
        let subjects = json!([format!("{}.>", name.to_lowercase())]);
        let mut config = json!({"name": name, "subjects": subjects, "storage": "memory",
            "retention": "limits", "num_replicas": 1});
        let more = more.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(more);
        stream(client, config).await;
    }
    stream(
        client,
        json!({"name": "COPY", "mirror": {"name": "ORDERS"}, "storage": "memory",
            "retention": "limits", "num_replicas": 1}),
    )
    .await;
    for (subject, size) in
        [("full.a", 1), ("brim.a", 1), ("roll.a", 1), ("heavy.a", 350), ("heavy.a", 350)]
    {
        let stored = client.request(subject.to_owned(), vec![b' '; size].into()).await;
        assert!(stored.is_ok_and(|it| it.payload.starts_with(b"{\"stream\"")), "{subject}");
    }
}

#[tokio::test]
async fn streams_that_events_cannot_come_from_or_go_to() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    streams_of_all_kinds(&client).await;
    let toml = format!(
        "{}\n{}",
        nats.upstream("bus", "plain"),
        r#"
        [[bridges]]
        from = "bus:stream/ORDERS/orders.*"
        to = ["bus:stream/ROLL/roll.$1", "bus:plain.$1", "web:x"]
        dead_letter = "bus:stream/NOWHERE/dead"

        [[bridges]]
        from = "bus:stream/GONE"
        to = ["web:x"]

        [[bridges]]
        from = "bus:stream/ORDERS"
        to = ["bus:stream/ROLL/stock.sold"]

        [[bridges]]
        from = "bus:a.*"
        to = ["bus:stream/FULL/full.$1", "bus:stream/BRIM/brim.b", "bus:stream/HEAVY/heavy.b",
              "bus:stream/MUTE/mute.b", "bus:stream/COPY/orders.$1", "bus:stream/ORDERS/$1"]

        [[topics]]
        match = "x"

        [[topics]]
        match = "stock.*"
        from = "bus:stream/ORDERS/stock.*"

        [[topics]]
        match = "copied.*"
        from = "bus:stream/COPY/orders.*"
        "#
    );
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    let sold = "[[bridges]] #4 \"bus:a.*\": ";
    for (severity, about, words) in [
        (
            "error",
            "[[bridges]] #1 \"bus:stream/ORDERS/orders.*\": `bus:stream/NOWHERE/dead`",
            "no stream `NOWHERE`",
        ),
        ("error", "[[bridges]] #2 \"bus:stream/GONE\": ", "no stream `GONE`: make it"),
        (
            "error",
            "[[bridges]] #3 \"bus:stream/ORDERS\": `bus:stream/ROLL/stock.sold`",
            "does not take `stock.sold`, only `roll.>`",
        ),
        ("error", &format!("{sold}`bus:stream/FULL/full.$1`"), "full: it has 1 message"),
        ("warning", &format!("{sold}`bus:stream/BRIM/brim.b`"), "full: it has 1 message"),
        ("error", &format!("{sold}`bus:stream/HEAVY/heavy.b`"), "full: it has"),
        ("error", &format!("{sold}`bus:stream/MUTE/mute.b`"), "`no_ack`"),
        ("error", &format!("{sold}`bus:stream/COPY/orders.$1`"), "mirror"),
        (
            "error",
            "[[topics]] #2 \"stock.*\": `bus:stream/ORDERS/stock.*`",
            "nothing under `stock.*`",
        ),
    ] {
        tells(&problems, severity, &[about, words]);
    }
    assert_eq!(problems.len(), 9, "{problems:#?}");
    // It has made no consumer.
    let info = client.request("$JS.API.STREAM.INFO.ORDERS", "".into()).await.expect("an answer");
    let info: Value = serde_json::from_slice(&info.payload).expect("JSON");
    assert_eq!(info["state"]["consumer_count"], 0, "{info}");
}

#[tokio::test]
async fn a_nats_without_streams() {
    let nats = Nats::start();
    let toml = format!(
        "{}\n[[bridges]]\nfrom = \"bus:stream/ORDERS\"\nto = [\"web:x\"]\n[[topics]]\nmatch = \"x\"\n",
        nats.upstream("bus", "plain")
    );
    let (status, problems) = check(&toml).await;
    assert_eq!((status, problems.len()), (1, 1), "{problems:#?}");
    tells(&problems, "error", &["[[bridges]] #1 \"bus:stream/ORDERS\"", "no JetStream", "(-js)"]);
}

#[tokio::test]
async fn what_a_stream_keeps_of_what_another_row_takes_comes_twice() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    let config = json!({"name": "ORDERS", "subjects": ["orders.>"], "storage": "memory",
        "retention": "limits", "num_replicas": 1});
    stream(&client, config).await;
    let toml = format!(
        "{}\n{}",
        nats.upstream("bus", "plain"),
        r#"
        [[bridges]]
        from = "bus:orders.*"
        to = ["web:seen.$1"]

        [[bridges]]
        from = "bus:stream/ORDERS/orders.*"
        to = ["web:seen.$1"]

        [[bridges]]
        from = "bus:stream/ORDERS"
        to = ["web:all"]

        [[bridges]]
        from = "bus:orders.sold"
        to = ["web:all", "web:orders.sold"]

        [[bridges]]
        from = "bus:stock.sold"
        to = ["web:all"]

        [[topics]]
        match = "orders.*"
        from = "bus:stream/ORDERS"

        [[topics]]
        match = "*"
        "#
    );
    let (status, problems) = check(&toml).await;
    for rows in [
        "[[bridges]] #2 and #1 bring some events to `web:seen.$1` twice: what comes from `bus:orders.*` is kept",
        "[[bridges]] #3 and #4 bring some events to `web:all` twice",
        "[[bridges]] #4 and [[topics]] #1 bring some events to `web:orders.sold` twice",
    ] {
        tells(&problems, "warning", &[rows]);
    }
    assert_eq!((status, problems.len()), (0, 3), "{problems:#?}");
}
