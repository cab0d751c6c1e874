//! Peers that speak AMQP 1.0 to the same RabbitMQ (its plugin, and the library rhea): they cost at most
//! the call that they answer or make.

use serde_json::{Value, json};

use crate::harness::clients::node_client;
use crate::harness::rabbit::{PASSWORD, Vhost};
use crate::harness::responder::queue_state;
use crate::harness::{Answer, Gateway, NamekoResponder, NatsResponder, RabbitMq, Seen, eventually};
use crate::nameko_exposes::World;
use crate::nameko_exposes::caller::Caller;

const OK: &str = r#"{"result": "ok", "error": null}"#;

/// Publishes messages; each is taken by the broker.
async fn publish(vhost: &Vhost<'_>, messages: Value) {
    let (port, messages) = (vhost.port().to_string(), messages.to_string());
    let arguments = [&port, vhost.name(), "gateway", PASSWORD, &messages];
    let said = node_client("amqp_1_0.js", &arguments).await;
    let all = said.as_array().unwrap_or_else(|| panic!("the broker refused: {said}"));
    assert!(all.iter().all(|word| word == "accepted"), "{said}");
}

#[tokio::test]
async fn a_reply_costs_at_most_its_own_call() {
    let vhost = RabbitMq::shared().vhost();
    let answer = |seen: &Seen| match &seen.method[..] {
        "odd" | "wait" => Vec::new(),
        _ => Answer::new(OK),
    };
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let waiting = gateway.result("orders.wait", json!([]));
    let others = async {
        eventually("it waits", async || (service.requests.count() == 1).then_some(())).await;
        let first = service.requests.last();
        // Of a body that is not one piece of bytes, RabbitMQ makes AMQP 1.0's own encoding.
        for (kind, ends) in [
            ("data", true),
            ("many properties", true),
            ("large properties", true),
            ("binary ids", true),
            ("value", false),
            ("map", false),
            ("sequence", false),
        ] {
            let so_far = service.requests.count();
            let call = gateway.rpc("orders.odd", json!([]));
            let reply = async {
                let came = || service.requests.count() > so_far;
                eventually("the call", async || came().then_some(())).await;
                let seen = service.requests.last();
                let (key, id) = (seen.reply_to.expect("one"), seen.correlation_id.expect("one"));
                // One that answers nobody goes before.
                let message =
                    |kind: &str| json!({"subject": key, "id": id, "body": OK, "as": kind});
                publish(&vhost, json!([message("binary id"), message(kind)])).await;
            };
            let (answer, ()) = tokio::join!(call, reply);
            if ends {
                assert_eq!(answer["result"], "ok", "{kind}: {answer}");
            } else {
                crate::harness::as_fault(&answer).is("internal", "executed");
            }
            assert_eq!(gateway.result("orders.x", json!([])).await, "ok", "{kind}");
        }
        service.say(&first, Answer::new(OK).remove(0)).await;
    };
    let (result, ()) = tokio::join!(waiting, others);
    assert_eq!(result, "ok");
    assert_eq!(gateway.metric("genkan_late_replies_total", &[]).await, 7.0);
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_request_is_answered_like_any_other() {
    let world = World::exposing("plain", &["echo"]).await;
    let echo = |seen: &Seen| Answer::new(seen.body.clone());
    let _echo = NatsResponder::serve(world.nats.client().await, "echo", echo).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    const MALFORMED: Option<&str> = Some("nameko.exceptions.MalformedRequest");
    for (kind, fault) in [
        ("data", None),
        ("many properties", None),
        // They may be its context.
        ("large properties", Some("genkan.TooLarge")),
        ("binary ids", None),
        ("value", MALFORMED),
        ("map", MALFORMED),
        ("sequence", MALFORMED),
    ] {
        let message = json!({
            "subject": "echo.x",
            "id": "7",
            "reply_to": "own",
            "body": r#"{"args": [5], "kwargs": {}}"#,
            "as": kind,
        });
        publish(&world.vhost, json!([message])).await;
        let reply = caller.reply().await;
        assert_eq!(reply.id(), Some("7"), "{kind}");
        match fault {
            None => assert_eq!(reply.body["result"], 5, "{kind}: {reply:?}"),
            Some(path) => assert_eq!(reply.exc_path(), path, "{kind}"),
        }
    }
    eventually("nothing is left in the queue", async || {
        (queue_state(&world.vhost.url(), "rpc-echo").await == Some((1, 0))).then_some(())
    })
    .await;
    assert_eq!(world.gateway.logged("exposed: its calls are taken").len(), 1);
}
