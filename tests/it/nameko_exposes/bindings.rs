//! Bindings that somebody takes away while Genkan runs, and nobody tells of: calls find their way again.

use serde_json::json;

use super::caller::{Caller, NONE};
use super::{World, exposed, row};
use crate::harness::rabbit::Vhost;
use crate::harness::responder::{connect, declare_service};
use crate::harness::{Answer, NamekoResponder, NatsResponder, RabbitMq, eventually};

/// The bindings of the calls' exchange to queues whose names begin so: their paths in the management API.
fn bindings(vhost: &Vhost<'_>, queue: &str) -> Vec<String> {
    let source = format!("exchanges/{}/nameko-rpc/bindings/source", vhost.name());
    let listed = RabbitMq::shared().get(&source);
    let listed = listed.as_array().into_iter().flatten();
    let path = |it: &serde_json::Value| {
        let (name, key) = (it["destination"].as_str()?, it["properties_key"].as_str()?);
        let key = key.replace('*', "%2A");
        let path = format!("bindings/{}/e/nameko-rpc/q/{name}/{key}", vhost.name());
        name.starts_with(queue).then_some(path)
    };
    listed.filter_map(path).collect()
}

async fn is_bound(vhost: &Vhost<'_>, queue: &str) {
    eventually(&format!("{queue}… is bound"), async || {
        (!bindings(vhost, queue).is_empty()).then_some(())
    })
    .await;
}

/// One whose gateway exposes `echo` of NATS, and calls `shop`, a service of RabbitMQ's.
async fn world() -> (World, NatsResponder, NamekoResponder) {
    let shop = "[[routes]]\nmatch = \"shop.*\"\nupstream = \"rabbit\"\n";
    let world = World::with("plain", &["echo"], &format!("{}{shop}", row("echo", ""))).await;
    let echo = NatsResponder::serve(world.nats.client().await, "echo", |_| Answer::new("1")).await;
    let answer = |_: &_| Answer::new(r#"{"result": 7, "error": null}"#);
    let shop = NamekoResponder::serve(&world.vhost.url(), "shop", answer).await;
    (world, echo, shop)
}

#[tokio::test]
async fn an_exposed_service_is_bound_again() {
    let (world, _echo, _shop) = world().await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    assert_eq!(caller.call("echo.x", caller.properties("1"), NONE).await.body["result"], 1);
    for binding in bindings(&world.vhost, "rpc-echo") {
        RabbitMq::shared().delete(&binding);
    }
    is_bound(&world.vhost, "rpc-echo").await;
    assert_eq!(caller.call("echo.x", caller.properties("2"), NONE).await.body["result"], 1);
    let told = world.gateway.logged("exposed: its calls are taken");
    assert_eq!(told.len(), 1, "nothing else has changed");
}

#[tokio::test]
async fn all_is_bound_again_to_an_exchange_that_was_deleted_and_declared_again() {
    let (world, _echo, _shop) = world().await;
    RabbitMq::shared().delete(&format!("exchanges/{}/nameko-rpc", world.vhost.name()));
    // As a service does that starts.
    let channel = connect(&world.vhost.url()).await.create_channel().await.expect("a channel");
    declare_service(&channel, "shop").await;
    for queue in ["rpc.reply-genkan", "rpc-echo"] {
        is_bound(&world.vhost, queue).await;
    }
    world.gateway.wait_until_ready().await;
    assert_eq!(world.gateway.result("shop.x", json!([])).await, 7);
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    assert_eq!(caller.call("echo.x", caller.properties("1"), NONE).await.body["result"], 1);
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_made_again() {
    let (world, _echo, _shop) = world().await;
    RabbitMq::shared().delete(&format!("queues/{}/rpc-echo", world.vhost.name()));
    exposed(&world.gateway, "echo", 2).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    assert_eq!(caller.call("echo.x", caller.properties("1"), NONE).await.body["result"], 1);
}
