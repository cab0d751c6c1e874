//! Calls that work, by real clients.

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{World, as_json, ask, config, echo, exposed, replies, row};
use crate::harness::clients::node;
use crate::harness::process::Folder;
use crate::harness::{Gateway, NamekoVersion, Nats, RabbitMq, Shop, eventually};
use crate::hub::{HUB, Peer};

/// Calls as Picom's client makes them.
pub async fn picom(nats: &Nats, calls: Value) -> Vec<Value> {
    let folder = Folder::new();
    let file = folder.write("calls.json", &calls.to_string());
    let arguments = [nats.url(), file.to_str().expect("UTF-8").to_owned()];
    let output = node("picom_calls.js", &arguments.each_ref().map(String::as_str)).await;
    output.as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_javascript_client_calls_a_python_service() {
    for version in NamekoVersion::ALL {
        let shop = Shop::shared(version);
        let nats = Nats::start();
        let expose = "[[expose]]\nservice = \"shop\"\non = [\"bus\"]\n";
        let toml = format!("{}{}{expose}", nats.upstream("bus", "picom"), shop.config());
        let gateway = Gateway::ready(&toml).await;
        exposed(&gateway, "shop", 1).await;
        let text = "é".repeat(100 << 10);
        let calls = json!([
            ["shop.get_data"],
            ["shop.add", {"a": 2, "b": 3}],
            ["shop.echo", [1, "é", null]],
            ["shop.echo", text],
            ["!shop.note", {"token": "published"}],
            ["shop.fail"],
            ["shop.nope"],
        ]);
        let outcomes = picom(&nats, calls).await;
        let expected = [
            json!({"payload": ["hello", 5]}),
            json!({"payload": 5}),
            json!({"payload": {"args":[[1, "é", null]],"kwargs":{}}}),
            json!({"payload": {"args":[text],"kwargs":{}}}),
            json!({"published": true}),
            json!({"error": "ValueError: bad 1", "is_text": true}),
            json!({"error": "Method not found \"nope\"", "is_text": true}),
        ];
        assert_eq!(outcomes, expected, "{version:?}");
        let calls = json!([["shop.ran", "published"]]);
        eventually("what was published has run", async || {
            (picom(&nats, calls.clone()).await[0]["payload"] == json!([[]])).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn params_come_in_as_they_are_meant() {
    let rows = [row("desk", "picom", ""), row("desk", "plain", "as = \"bare\"")].concat();
    let world = World::with(&rows, echo).await;
    for (body, picom, plain) in [
        ("", r#"{"args":[],"kwargs":{}}"#, r#"{"args":[],"kwargs":{}}"#),
        (
            r#"{"n": 9007199254740993, "b": 1.10}"#,
            r#"{"args":[],"kwargs":{"n": 9007199254740993, "b": 1.10}}"#,
            r#"{"args":[],"kwargs":{"n": 9007199254740993, "b": 1.10}}"#,
        ),
        ("[2, 3]", r#"{"args":[[2, 3]],"kwargs":{}}"#, r#"{"args":[2, 3],"kwargs":{}}"#),
        ("\"x\"", r#"{"args":["x"],"kwargs":{}}"#, r#"{"args":["x"],"kwargs":{}}"#),
        (
            "1180591620717411303424",
            r#"{"args":[1180591620717411303424],"kwargs":{}}"#,
            r#"{"args":[1180591620717411303424],"kwargs":{}}"#,
        ),
    ] {
        let reply = world.ask("desk.x", body).await;
        let text = String::from_utf8_lossy(&reply.payload).into_owned();
        assert_eq!(text, format!("{{\"payload\":{picom}}}"), "{body}");
        let reply = world.ask("bare.x", body).await;
        assert_eq!(String::from_utf8_lossy(&reply.payload), plain, "{body}");
    }
    // Picom's method is what stands behind the last dot.
    assert!(world.json("desk.a.b.m", "").await.get("payload").is_some());
    assert_eq!(world.desk.requests.last().method, "m");
    let labels = [("ingress", "nats"), ("outcome", "ok"), ("upstream", "rabbit")];
    assert_eq!(world.gateway.metric("genkan_calls_total", &labels).await, 11.0);
}

#[tokio::test]
async fn results_of_every_sort_come_back() {
    let rows = [row("desk", "picom", ""), row("desk", "plain", "as = \"bare\"")].concat();
    let world = World::with(&rows, |seen| {
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        replies(body["args"][0].as_str().expect("a text"))
    })
    .await;
    for result in
        ["null", "0", "false", "\"\"", "[]", "{}", "[1e400, 1.10]", "[1180591620717411303424]"]
    {
        let asked = Value::from(result).to_string();
        let reply = world.ask("desk.x", &asked).await;
        let text = String::from_utf8_lossy(&reply.payload).into_owned();
        assert_eq!(text, format!("{{\"payload\":{result}}}"));
        let reply = world.ask("bare.x", &asked).await;
        assert_eq!(String::from_utf8_lossy(&reply.payload), result);
    }
}

#[tokio::test]
async fn who_asks_for_no_answer_gets_none() {
    let world = World::exposing("picom", "", echo).await;
    let mut others = world.client.subscribe(">").await.expect("a subscription");
    world.client.publish("desk.note", "{\"a\":1}".into()).await.expect("sent");
    world.client.publish("desk.note", "broken".into()).await.expect("sent");
    eventually("it has run", async || (world.desk.requests.count() == 1).then_some(())).await;
    assert_eq!(world.desk.requests.last().body, r#"{"args":[],"kwargs":{"a":1}}"#);
    // What is asked for comes after all that was not.
    assert!(world.json("desk.x", "").await.get("payload").is_some());
    let mut seen = Vec::new();
    while let Some(message) = others.next().await {
        let subject = message.subject.to_string();
        let is_answer = subject.starts_with("_INBOX");
        seen.push(subject);
        if is_answer {
            break;
        }
    }
    assert_eq!(seen[..3], ["desk.note", "desk.note", "desk.x"]);
    assert_eq!(seen.len(), 4, "one answer: {seen:?}");
    let refused = [("ingress", "nats"), ("outcome", "parse_error")];
    assert_eq!(world.gateway.metric("genkan_calls_total", &refused).await, 1.0);
}

#[tokio::test]
async fn a_module_of_the_hub_is_called_in_every_dialect() {
    let nats = Nats::start();
    let rows = [
        row("lamp", "picom", ""),
        row("lamp", "plain", "as = \"bulb\""),
        row("lamp", "micro", "as = \"light\"\nmethods = [\"turn\"]"),
    ]
    .concat();
    let gateway = Gateway::ready(&format!("{}{rows}{HUB}", nats.upstream("bus", "picom"))).await;
    let mut lamp = Peer::module(&gateway, "lamp", &["turn"]).await;
    let client = nats.client().await;
    for (name, expected) in [
        ("lamp", json!({"payload": {"lit": true}})),
        ("bulb", json!({"lit": true})),
        ("light", json!({"lit": true})),
    ] {
        exposed(&gateway, name, 1).await;
        let turned = async {
            let call = lamp.receive().await;
            assert_eq!(
                (&call["function"], &call["arguments"]),
                (&json!("turn"), &json!({"on": true}))
            );
            lamp.answer(&call, json!({"lit": true})).await;
        };
        let subject = format!("{name}.turn");
        let (answer, ()) = tokio::join!(ask(&client, &subject, r#"{"on": true}"#), turned);
        assert_eq!(as_json(&answer), expected);
    }
}

#[tokio::test]
async fn a_real_picom_service_and_genkan_serve_one_name_side_by_side() {
    let world = World::with(&row("desk", "picom", ""), echo).await;
    let service = crate::harness::Mailer::start(&world.nats, "desk");
    let calls = Value::from((0..40).map(|_| json!(["desk.seven"])).collect::<Vec<_>>());
    let outcomes = picom(&world.nats, calls).await;
    let real = outcomes.iter().filter(|outcome| outcome["payload"] == 7).count();
    let ours = world.desk.requests.count();
    assert_eq!((real + ours, outcomes.len()), (40, 40), "{outcomes:?}");
    assert!(real > 0 && ours > 0, "{real} and {ours}");
    assert!(service.lives());
}

#[tokio::test]
async fn some_methods_by_another_name() {
    let rows = row("desk", "picom", "as = \"post\"\nmethods = [\"send\"]");
    let world = World::with(&rows, echo).await;
    let outcomes = picom(&world.nats, json!([["post.send"], ["post.other"]])).await;
    assert!(outcomes[0].get("payload").is_some(), "{outcomes:?}");
    assert_eq!(outcomes[1]["error"], "Method not found \"other\"");
    assert_eq!(world.desk.requests.count(), 1);
}

#[tokio::test]
async fn a_name_that_is_part_of_another_ones_takes_its_own_calls_alone() {
    let rows = [row("desk", "picom", "as = \"eu\""), row("desk", "picom", "as = \"eu.desk\"")];
    let world = World::with(&rows.concat(), echo).await;
    for subject in ["eu.desk.x", "eu.x", "eu.other.x"] {
        world.json(subject, "").await;
    }
    assert_eq!(world.desk.requests.count(), 3);
}

#[tokio::test]
async fn several_gateways_share_the_load() {
    let (nats, vhost) = (Nats::start(), RabbitMq::shared().vhost());
    let _desk = crate::harness::NamekoResponder::serve(&vhost.url(), "desk", echo).await;
    let rows = row("desk", "plain", "");
    let toml = config(&nats, &vhost, &rows);
    let gateways = [Gateway::ready(&toml).await, Gateway::ready(&toml).await];
    for gateway in &gateways {
        exposed(gateway, "desk", 1).await;
    }
    let client = nats.client().await;
    for _ in 0..60 {
        ask(&client, "desk.x", "").await;
    }
    let mut counts = Vec::new();
    for gateway in &gateways {
        counts.push(gateway.metric("genkan_calls_total", &[("ingress", "nats")]).await);
    }
    assert_eq!(counts.iter().sum::<f64>(), 60.0);
    assert!(counts.iter().all(|count| *count > 0.0), "{counts:?}");
}
