//! What is wrong on the broker's side is told with the mend, tried again, and is no other's business.

use serde_json::{Value, json};

use super::caller::{Caller, NONE};
use super::{config, exposed, row};
use crate::harness::responder::connect;
use crate::harness::{Answer, Gateway, Nats, NatsResponder, RabbitMq, Seen};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

fn answer(_: &Seen) -> Vec<Answer> {
    Answer::new("1")
}

async fn complaint(gateway: &Gateway) -> Value {
    gateway.wait_for_log(0, "a service cannot be exposed").await
}

#[tokio::test]
async fn a_queue_with_other_properties_is_told_and_used_once_it_is_mended() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let channel = connect(&vhost.url()).await.create_channel().await.expect("a channel");
    let transient = QueueDeclareOptions::default();
    let declared = channel.queue_declare("rpc-odd".into(), transient, FieldTable::default()).await;
    declared.expect("a queue");
    let rows = format!("{}{}", row("odd", ""), row("good", ""));
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &rows)).await;
    let told = complaint(&gateway).await;
    assert_eq!((&told["level"], &told["queue"]), (&json!("ERROR"), &json!("rpc-odd")), "{told}");
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("delete the other")), "{told}");
    // Others are exposed, and the upstream's own calls go on.
    exposed(&gateway, "good", 1).await;
    let client = nats.client().await;
    let _good = NatsResponder::serve(client.clone(), "good", answer).await;
    let _odd = NatsResponder::serve(client, "odd", answer).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    assert_eq!(caller.call("good.x", caller.properties("7"), NONE).await.body["result"], 1);
    let delete = QueueDeleteOptions::default();
    channel.queue_delete("rpc-odd".into(), delete).await.expect("it goes");
    exposed(&gateway, "odd", 1).await;
    assert_eq!(caller.call("odd.x", caller.properties("8"), NONE).await.body["result"], 1);
    let count = gateway.logged("a service cannot be exposed, trying again").len();
    assert_eq!(count, 1, "each reason is said once");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn without_permission_a_queue_that_is_there_is_used() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let permissions = format!("permissions/{}/gateway", vhost.name());
    let some = json!({"configure": "^(nameko-rpc|rpc\\.reply.*)$", "write": "^(nameko-rpc|rpc\\.reply.*)$", "read": ".*"});
    RabbitMq::shared().put(&permissions, &some);
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &row("echo", ""))).await;
    let told = complaint(&gateway).await;
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("set_permissions")), "{told}");
    let guest = vhost
        .url()
        .replace(&format!("gateway:{}", crate::harness::rabbit::PASSWORD), "guest:guest");
    let connection = connect(&guest).await;
    let channel = connection.create_channel().await.expect("a channel");
    crate::harness::responder::declare_service(&channel, "echo").await;
    exposed(&gateway, "echo", 1).await;
    let _echo = NatsResponder::serve(nats.client().await, "echo", answer).await;
    let mut caller = Caller::connect(&guest, "own").await;
    assert_eq!(caller.call("echo.x", caller.properties("7"), NONE).await.body["result"], 1);
}

#[tokio::test]
async fn a_queue_that_is_deleted_comes_back() {
    let world = super::World::exposing("plain", &["echo"]).await;
    let _echo = NatsResponder::serve(world.nats.client().await, "echo", answer).await;
    let channel = connect(&world.vhost.url()).await.create_channel().await.expect("a channel");
    let delete = QueueDeleteOptions::default();
    channel.queue_delete("rpc-echo".into(), delete).await.expect("it goes");
    exposed(&world.gateway, "echo", 2).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    assert_eq!(caller.call("echo.x", caller.properties("7"), NONE).await.body["result"], 1);
}

#[tokio::test]
async fn a_reply_that_the_broker_does_not_take_costs_nobody_else_theirs() {
    let node = RabbitMq::configured("max_message_size = 100000");
    let (vhost, nats) = (node.vhost(), Nats::start());
    let rows = row("echo", "");
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &rows)).await;
    exposed(&gateway, "echo", 1).await;
    let answer = |seen: &Seen| match &seen.method[..] {
        "large" => Answer::new(format!("\"{}\"", "x".repeat(200_000))),
        _ => Answer::new("1"),
    };
    let _echo = NatsResponder::serve(nats.client().await, "echo", answer).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    for round in 0..2 {
        for id in 0..20 {
            let method = if id % 7 == 3 { "echo.large" } else { "echo.x" };
            caller.send(method, caller.properties(&id.to_string()), NONE).await;
        }
        let mut answered = std::collections::BTreeSet::new();
        while answered.len() < 20 {
            let reply = caller.reply().await;
            let id: u32 = reply.id().expect("one").parse().expect("a number");
            if id % 7 == 3 {
                assert_eq!(reply.exc_path(), "genkan.TooLarge", "{round}");
                assert_eq!(reply.body["error"]["data"]["outcome"], "executed");
            } else {
                assert_eq!(reply.body["result"], 1, "{round}");
            }
            answered.insert(id);
        }
    }
    assert_eq!(gateway.logged("exposed: its calls are taken").len(), 1);
}
