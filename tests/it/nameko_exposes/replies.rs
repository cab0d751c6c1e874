//! Where replies go, and those that cannot.

use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use serde_json::json;

use super::caller::{Caller, NONE};
use super::{World, exposed, row};
use crate::harness::responder::connect;
use crate::harness::{Answer, Gateway, Nats, NatsResponder, RabbitMq};

#[tokio::test]
async fn a_reply_goes_by_the_exchange_that_its_request_came_by() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let upstream =
        |name: &str, exchange: &str| format!("{}exchange = \"{exchange}\"\n", vhost.upstream(name));
    let toml = format!(
        "{}{}{}[[expose]]\nservice = \"exm\"\non = [\"ra\", \"rb\"]\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"bus\"\n",
        upstream("ra", "rpc-a"),
        upstream("rb", "rpc-b"),
        nats.upstream("bus", "plain")
    );
    let gateway = Gateway::ready(&toml).await;
    exposed(&gateway, "exm", 2).await;
    let _exm = NatsResponder::serve(nats.client().await, "exm", |_| Answer::new("1")).await;
    for exchange in ["rpc-a", "rpc-b"] {
        let mut caller = Caller::on(&vhost.url(), exchange, &format!("own-{exchange}")).await;
        for id in 0..20 {
            let reply = caller.call("exm.x", caller.properties(&id.to_string()), NONE).await;
            assert_eq!((reply.id(), &reply.body["result"]), (Some(&*id.to_string()), &json!(1)));
        }
    }
}

#[tokio::test]
async fn a_request_that_came_by_no_exchange_is_answered_where_nameko_would() {
    let world = World::exposing("plain", &["echo"]).await;
    let client = world.nats.client().await;
    let _echo = NatsResponder::serve(client, "echo", |_| Answer::new("1")).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    caller.send_by("", "rpc-echo", caller.properties("7"), NONE).await;
    let reply = caller.reply().await;
    assert_eq!((reply.id(), &reply.body["result"]), (Some("7"), &json!(1)));
}

#[tokio::test]
async fn replies_that_may_not_leave_are_summed_up_and_not_written() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let gateway = Gateway::ready(&super::config(&vhost, &nats, "plain", &row("echo", ""))).await;
    exposed(&gateway, "echo", 1).await;
    let _echo = NatsResponder::serve(nats.client().await, "echo", |_| Answer::new("1")).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    let topics = format!("topic-permissions/{}/gateway", vhost.name());
    let some = json!({"exchange": "nameko-rpc", "write": "^(own|echo\\..*)$", "read": ".*"});
    RabbitMq::shared().put(&topics, &some);
    for id in 0..40 {
        let to = format!("evil.{id}");
        let properties = caller.properties(&to).with_reply_to(to.as_str().into());
        caller.send("echo.x", properties, NONE).await;
    }
    gateway.wait_for_metric("genkan_unsent_replies_total", &[("upstream", "rabbit")], 40.0).await;
    // Nobody else's is lost.
    assert_eq!(caller.call("echo.x", caller.properties("7"), NONE).await.body["result"], 1);
    let told = gateway.logged("a reply could not be sent to its caller");
    assert_eq!(told.len(), 5, "{told:?}");
    for line in &told {
        let text = line.to_string();
        assert_eq!((&line["service"], &line["upstream"]), (&json!("echo"), &json!("rabbit")));
        assert!(line["reply_to"].as_str().is_some_and(|key| key.starts_with("evil.")), "{text}");
        assert!(line["trace_id"].as_str().is_some_and(|id| id.len() == 32), "{text}");
        assert!(line["reason"].as_str().is_some_and(|it| it.contains("permit")), "{text}");
        assert!(line["mend"].as_str().is_some_and(|it| it.contains("permissions")), "{text}");
        assert!(!text.contains("NoWay"), "{text}");
    }
    let sum = gateway.wait_for_log(0, "more replies could not be sent to their callers").await;
    assert_eq!(sum["more"], 35, "{sum}");
}

#[tokio::test]
async fn a_queue_that_takes_no_more_replies_is_told_as_that() {
    let world = World::exposing("plain", &["echo"]).await;
    let client = world.nats.client().await;
    let _echo = NatsResponder::serve(client, "echo", |_| Answer::new("1")).await;
    let caller = Caller::connect(&world.vhost.url(), "own").await;
    let full =
        json!({"durable": true, "arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}});
    RabbitMq::shared().put(&format!("queues/{}/full", world.vhost.name()), &full);
    let channel = connect(&world.vhost.url()).await.create_channel().await.expect("a channel");
    let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.queue_bind("full".into(), "nameko-rpc".into(), "full".into(), bind, none);
    bound.await.expect("a binding");
    for id in ["1", "2"] {
        let properties = caller.properties(id).with_reply_to("full".into());
        caller.send("echo.x", properties, NONE).await;
    }
    let told = world.gateway.wait_for_log(0, "a reply could not be sent to its caller").await;
    assert!(told["reason"].as_str().is_some_and(|it| it.contains("reply queue")), "{told}");
    let mend = told["mend"].as_str().expect("a mend");
    assert!(mend.contains("max-length") && !mend.contains("permission"), "{told}");
}
