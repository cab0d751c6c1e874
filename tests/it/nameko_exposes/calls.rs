//! Calls that work, by real clients.

use serde_json::{Value, json};

use super::{World, exposed, raised, results, row};
use crate::harness::clients::nameko;
use crate::harness::responder::queue_state;
use crate::harness::{
    Answer, Desk, Gateway, Mailer, NamekoVersion, Nats, NatsResponder, RabbitMq, until,
};
use crate::hub::{HUB, Peer};

#[tokio::test]
async fn both_generations_clients_call_a_javascript_service() {
    let world = World::exposing("picom", &["mailer"]).await;
    let _mailer = Mailer::start(&world.nats, "mailer");
    for version in NamekoVersion::ALL {
        let outcomes = nameko(
            version,
            &world.vhost.url(),
            &[
                ("mailer", "send", json!([]), json!({"to": "a@b"})),
                ("mailer", "add", json!([2, 3]), json!({})),
                ("mailer", "echo", json!([{"deep": ["é", 2.5, null]}]), json!({})),
                ("mailer", "seven", json!([]), json!({})),
                ("mailer", "nothing", json!([]), json!({})),
                ("mailer", "echo", json!(["x".repeat(200 << 10)]), json!({})),
            ],
        )
        .await;
        let expected = [
            json!({"sent": true, "to": "a@b"}),
            json!(5),
            json!({"deep": ["é", 2.5, null]}),
            json!(7),
            Value::Null,
            json!("x".repeat(200 << 10)),
        ];
        assert_eq!(results(&outcomes), expected, "{version:?}");
    }
    let labels = [("ingress", "nameko"), ("outcome", "ok"), ("upstream", "bus")];
    assert_eq!(world.gateway.metric("genkan_calls_total", &labels).await, 12.0);
    let state = queue_state(&world.vhost.url(), "rpc-mailer").await;
    assert_eq!(state, Some((1, 0)), "all of it is acked");
}

#[tokio::test]
async fn numbers_come_through_to_the_digit() {
    let world = World::exposing("plain", &["sums"]).await;
    let client = world.nats.client().await;
    let sums = NatsResponder::serve(client, "sums", |seen| Answer::new(seen.body.clone())).await;
    for version in NamekoVersion::ALL {
        let number: Value = json!({"n": 9_007_199_254_740_993_i64});
        let calls = [("sums", "echo", json!([]), number.clone())];
        let outcomes = nameko(version, &world.vhost.url(), &calls).await;
        assert_eq!(results(&outcomes), [number], "{version:?}");
    }
    assert_eq!(sums.requests.last().body, r#"{"n": 9007199254740993}"#);
}

#[tokio::test]
async fn args_and_kwargs_together_need_names() {
    let more = "[[routes]]\nmatch = \"sums.named\"\nupstream = \"bus\"\nparams = [\"a\", \"b\"]\n";
    let rows = format!("{}{more}", row("sums", ""));
    let world = World::with("plain", &["sums"], &rows).await;
    let client = world.nats.client().await;
    let sums = NatsResponder::serve(client, "sums", |_| Answer::new("1")).await;
    let both = (json!([1]), json!({"b": 2}));
    let calls = [
        ("sums", "named", both.0.clone(), both.1.clone()),
        ("sums", "nameless", both.0, both.1),
        ("sums", "named", json!([1]), json!({"a": 2})),
    ];
    let outcomes = nameko(NamekoVersion::Three, &world.vhost.url(), &calls).await;
    assert_eq!(outcomes[0]["result"], 1);
    assert_eq!(sums.requests.last().body, r#"{"a":1,"b": 2}"#);
    for outcome in &outcomes[1..] {
        assert_eq!(raised(outcome)["raised"], "nameko.exceptions.IncorrectSignature");
    }
    assert_eq!(sums.requests.count(), 1);
}

#[tokio::test]
async fn a_nameko_service_reaches_javascript_and_the_hub_by_its_dependencies() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let _mailer = Mailer::start(&nats, "mailer");
    let (rabbit, bus) = (vhost.upstream("rabbit"), nats.upstream("bus", "picom"));
    let rows = format!("{}{}", row("mailer", ""), row("lamp", ""));
    let route = "[[routes]]\nmatch = \"mailer.*\"\nupstream = \"bus\"\n\
                 [[routes]]\nmatch = \"desk.*\"\nupstream = \"rabbit\"\n";
    let gateway = Gateway::ready(&format!("{rabbit}{bus}{rows}{route}{HUB}")).await;
    let mut lamp = Peer::module(&gateway, "lamp", &["turn"]).await;
    for service in ["mailer", "lamp"] {
        exposed(&gateway, service, 1).await;
    }
    for version in NamekoVersion::ALL {
        let _desk = Desk::start(version, &vhost.url(), "mailer lamp");
        // In by HTTP, to Python, out to JavaScript: twice through Genkan.
        // That the one before has gone is remembered for a moment.
        until("the desk is found", async || {
            let answer = gateway.rpc("desk.ask", json!(["mailer", "add", 20, 22])).await;
            assert!(answer["result"].is_null() || answer["result"] == 42, "{version:?}: {answer}");
            answer["result"] == 42
        })
        .await;
        let url = vhost.url();
        let calls = [("desk", "ask", json!(["lamp", "turn"]), json!({"on": true}))];
        let turned = async {
            let call = lamp.receive().await;
            assert_eq!(
                (&call["function"], &call["arguments"]),
                (&json!("turn"), &json!({"on": true}))
            );
            lamp.answer(&call, json!({"lit": true})).await;
        };
        let (outcomes, ()) = tokio::join!(nameko(version, &url, &calls), turned);
        assert_eq!(results(&outcomes), [json!({"lit": true})], "{version:?}");
    }
}

#[tokio::test]
async fn a_service_by_another_name_and_some_of_its_methods() {
    let rows = row("mailer", "as = \"post\"\nmethods = [\"add\"]\nprefetch = 3");
    let world = World::with("picom", &["mailer"], &rows).await;
    let _mailer = Mailer::start(&world.nats, "mailer");
    let calls = [
        ("post", "add", json!([1, 1]), json!({})),
        ("post", "seven", json!([]), json!({})),
        ("mailer", "add", json!([1, 1]), json!({})),
    ];
    for version in NamekoVersion::ALL {
        let outcomes = nameko(version, &world.vhost.url(), &calls).await;
        assert_eq!(outcomes[0]["result"], 2, "{version:?}");
        assert_eq!(raised(&outcomes[1])["raised"], "nameko.exceptions.MethodNotFound");
        assert_eq!(raised(&outcomes[1])["args"], json!(["seven"]));
        assert_eq!(raised(&outcomes[2])["raised"], "nameko.exceptions.UnknownService");
    }
    let queue = format!("queues/{}/rpc-post", world.vhost.name());
    let queue = RabbitMq::shared().get(&queue);
    assert_eq!((&queue["durable"], &queue["auto_delete"]), (&json!(true), &json!(false)));
    assert_eq!((&queue["exclusive"], &queue["arguments"]), (&json!(false), &json!({})));
    let bindings = format!("queues/{}/rpc-post/bindings", world.vhost.name());
    let bindings = RabbitMq::shared().get(&bindings);
    let bound: Vec<_> = bindings.as_array().expect("a list").iter().collect();
    let bound = bound.iter().find(|binding| binding["source"] == "nameko-rpc").expect("bound");
    assert_eq!(bound["routing_key"], "post.*");
}
