//! Services that come and go, and brokers that do: no call is dropped in silence, and none runs twice
//! that may not.

use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicNackOptions};
use serde_json::{Value, json};

use super::caller::{Caller, NONE};
use super::{World, config, exposed, results, row};
use crate::harness::clients::nameko;
use crate::harness::proxy::{Proxy, Way, Weather};
use crate::harness::rabbit::Vhost;
use crate::harness::responder::{connect, declare_service, queue_state};
use crate::harness::{
    Answer, Gateway, NamekoResponder, NamekoVersion, Nats, NatsResponder, RabbitMq, Rotating, Seen,
    Shop, eventually,
};

/// Answers `later` when it is told to, and everything else at once.
fn answer(seen: &Seen) -> Vec<Answer> {
    match &seen.method[..] {
        "never" => Vec::new(),
        "later" => Answer::after("\"kept\"", Duration::from_millis(700)),
        _ => Answer::new("1"),
    }
}

async fn echo(nats: &Nats) -> NatsResponder {
    NatsResponder::serve(nats.client().await, "echo", answer).await
}

async fn is_left(vhost: &Vhost<'_>, messages: u32) {
    eventually("the queue is left", async || {
        let state = queue_state(&vhost.url(), "rpc-echo").await;
        (state == Some((0, messages))).then_some(())
    })
    .await;
}

/// Its callers learn at once that nobody serves it.
async fn is_deleted(vhost: &Vhost<'_>, queue: &str) {
    eventually("the queue is deleted", async || {
        queue_state(&vhost.url(), queue).await.is_none().then_some(())
    })
    .await;
}

/// Closes a connection of the gateway's, as an operator does.
async fn close(node: &RabbitMq, vhost: &Vhost<'_>, name: &str) {
    eventually(&format!("the connection `{name}` is listed"), async || {
        let listed = node.get(&format!("vhosts/{}/connections", vhost.name()));
        let mut listed = listed.as_array()?.iter();
        let found = listed.find(|it| it["client_properties"]["connection_name"] == name)?;
        let name = found["name"].as_str()?.replace(' ', "%20").replace('>', "%3E");
        node.delete(&format!("connections/{name}"));
        Some(())
    })
    .await;
}

#[tokio::test]
async fn what_may_have_run_runs_again_only_where_its_row_says_so() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let echo = echo(&nats).await;
    let connection = connect(&vhost.url()).await;
    let channel = connection.create_channel().await.expect("a channel");
    declare_service(&channel, "echo").await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    for method in ["once", "twice"] {
        caller.send(&format!("echo.{method}"), caller.properties(method), NONE).await;
        let queue = "rpc-echo";
        eventually("the message is there", async || {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await;
            let got = got.expect("a queue")?;
            let back = BasicNackOptions { requeue: true, ..Default::default() };
            got.delivery.acker.nack(back).await.expect("it goes back");
            Some(())
        })
        .await;
    }
    let route = "[[routes]]\nmatch = \"echo.twice\"\nupstream = \"bus\"\nidempotent = true\n";
    let rows = format!("{}{route}", row("echo", ""));
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &rows)).await;
    exposed(&gateway, "echo", 1).await;
    for _ in 0..2 {
        let reply = caller.reply().await;
        if reply.id() == Some("twice") {
            assert_eq!(reply.body["result"], 1);
        } else {
            assert_eq!(reply.exc_path(), "genkan.Unavailable");
            assert_eq!(reply.body["error"]["data"]["outcome"], "unknown");
            assert_eq!(reply.body["error"]["data"]["retryable"], false);
        }
    }
    let ran: Vec<_> = echo.requests.all().into_iter().map(|seen| seen.method).collect();
    assert_eq!(ran, ["twice"]);
}

#[tokio::test]
async fn a_real_instance_and_genkan_serve_one_name_side_by_side() {
    for version in NamekoVersion::ALL {
        let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
        let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &row("shop", ""))).await;
        exposed(&gateway, "shop", 1).await;
        let shop = Shop::start(version, &vhost.url(), "shop");
        let moved =
            NatsResponder::serve(nats.client().await, "shop", |_| Answer::new("\"new\"")).await;
        let calls: Vec<_> = (0..20).map(|_| ("shop", "get_data", json!([]), json!({}))).collect();
        let outcomes = results(&nameko(version, &vhost.url(), &calls).await);
        let new = outcomes.iter().filter(|result| **result == "new").count();
        let old = outcomes.iter().filter(|result| **result == json!(["hello", 5])).count();
        assert_eq!((new + old, new), (20, moved.requests.count()), "{version:?}");
        assert!(new > 0 && old > 0, "{version:?}: {new} and {old}");
        shop.stop();
        let outcomes = results(&nameko(version, &vhost.url(), &calls[..3]).await);
        assert_eq!(outcomes, ["new", "new", "new"], "{version:?}");
    }
}

#[tokio::test]
async fn a_reload_adds_and_removes_services_without_dropping_a_call() {
    let world = World::exposing("plain", &["echo"]).await;
    let echo = echo(&world.nats).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    caller.send("echo.later", caller.properties("1"), NONE).await;
    eventually("it runs", async || (echo.requests.count() == 1).then_some(())).await;
    let text = |rows: &str| config(&world.vhost, &world.nats, "plain", rows);
    world.gateway.write_config(&text(&row("other", "")));
    world.gateway.hang_up();
    exposed(&world.gateway, "other", 1).await;
    let reply = caller.reply().await;
    assert_eq!((&reply.body["result"], reply.id()), (&json!("kept"), Some("1")));
    is_deleted(&world.vhost, "rpc-echo").await;
    let both = format!("{}{}", row("echo", ""), row("other", ""));
    world.gateway.write_config(&text(&both));
    world.gateway.hang_up();
    exposed(&world.gateway, "echo", 2).await;
    let reply = caller.call("echo.x", caller.properties("2"), NONE).await;
    assert_eq!((&reply.body["result"], reply.id()), (&json!(1), Some("2")));
    // With none left, the connections are too.
    world.gateway.write_config(&text(""));
    world.gateway.hang_up();
    is_deleted(&world.vhost, "rpc-echo").await;
    let others = world.gateway.logged("exposed: its calls are taken");
    let others = others.iter().filter(|line| line["service"] == "other").count();
    assert_eq!(others, 1, "a service that stays is not interrupted");
    let rabbit = RabbitMq::shared();
    eventually("the connections are closed", async || {
        let listed = rabbit.get(&format!("vhosts/{}/connections", world.vhost.name()));
        let mut listed = listed.as_array()?.iter();
        let serves = |it: &Value| it["client_properties"]["connection_name"] == "genkan serve";
        (!listed.any(serves)).then_some(())
    })
    .await;
    world.gateway.write_config(&text(&row("echo", "")));
    world.gateway.hang_up();
    exposed(&world.gateway, "echo", 3).await;
    assert_eq!(caller.call("echo.x", caller.properties("3"), NONE).await.id(), Some("3"));
}

#[tokio::test]
async fn a_service_that_is_exposed_no_more_leaves_its_queue_to_others() {
    let rows = format!("{}{}", row("echo", "prefetch = 1"), row("shared", ""));
    let world = World::with("plain", &["echo", "shared"], &rows).await;
    let echo = echo(&world.nats).await;
    let answer = |_: &Seen| Answer::new(r#"{"result": "theirs", "error": null}"#);
    let _theirs = NamekoResponder::serve(&world.vhost.url(), "shared", answer).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    for id in ["1", "2"] {
        caller.send("echo.later", caller.properties(id), NONE).await;
    }
    eventually("one runs", async || (echo.requests.count() == 1).then_some(())).await;
    world.gateway.write_config(&config(&world.vhost, &world.nats, "plain", ""));
    world.gateway.hang_up();
    assert_eq!(caller.reply().await.body["result"], "kept");
    // Nobody's call is thrown away: who must act is told.
    let told = world.gateway.wait_for_log(0, "not exposed any more, and its queue is left").await;
    assert_eq!((&told["queue"], &told["level"]), (&json!("rpc-echo"), &json!("WARN")), "{told}");
    assert!(told["reason"].as_str().is_some_and(|it| it.contains("1 calls wait")), "{told}");
    assert!(told["mend"].as_str().is_some_and(|it| it.contains("delete_queue")), "{told}");
    is_left(&world.vhost, 1).await;
    world.gateway.wait_for_log(0, "not exposed any more: others serve it").await;
    for id in ["3", "4"] {
        let reply = caller.call("shared.x", caller.properties(id), NONE).await;
        assert_eq!(reply.body["result"], "theirs");
    }
}

#[tokio::test]
async fn a_changed_upstream_takes_over_without_dropping_a_call() {
    let world = World::exposing("plain", &["echo"]).await;
    let echo = echo(&world.nats).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    caller.send("echo.later", caller.properties("1"), NONE).await;
    eventually("it runs", async || (echo.requests.count() == 1).then_some(())).await;
    let text = config(&world.vhost, &world.nats, "plain", &row("echo", ""));
    let changed = text.replacen("protocol = \"nameko\"", "protocol = \"nameko\"\nprefetch = 7", 1);
    world.gateway.write_config(&changed);
    world.gateway.hang_up();
    exposed(&world.gateway, "echo", 2).await;
    assert_eq!(caller.reply().await.body["result"], "kept");
    assert_eq!(caller.call("echo.x", caller.properties("2"), NONE).await.body["result"], 1);
    eventually("the old one is left", async || {
        let state = queue_state(&world.vhost.url(), "rpc-echo").await;
        (state == Some((1, 0))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn sigterm_answers_what_was_taken_and_leaves_the_rest_to_others() {
    let world = World::with("plain", &["echo"], &row("echo", "prefetch = 3")).await;
    let echo = echo(&world.nats).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    for id in 0..5 {
        caller.send("echo.later", caller.properties(&id.to_string()), NONE).await;
    }
    eventually("three run", async || (echo.requests.count() == 3).then_some(())).await;
    world.gateway.terminate();
    for _ in 0..3 {
        assert_eq!(caller.reply().await.body["result"], "kept");
    }
    assert_eq!(world.gateway.exit_status().await, 0);
    assert_eq!(echo.requests.count(), 3);
    is_left(&world.vhost, 2).await;
    let channel = connect(&world.vhost.url()).await.create_channel().await.expect("a channel");
    let got = channel.basic_get("rpc-echo".into(), BasicGetOptions { no_ack: true }).await;
    let left = got.expect("a queue").expect("a message");
    assert!(!left.delivery.redelivered, "nobody has touched it");
}

#[tokio::test]
async fn when_its_connection_goes_what_was_taken_is_still_answered() {
    let world = World::exposing("plain", &["echo"]).await;
    let echo = echo(&world.nats).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    caller.send("echo.never", caller.properties("1"), NONE).await;
    eventually("it runs", async || (echo.requests.count() == 1).then_some(())).await;
    close(RabbitMq::shared(), &world.vhost, "genkan serve").await;
    exposed(&world.gateway, "echo", 2).await;
    let reply = caller.call("echo.x", caller.properties("2"), NONE).await;
    assert_eq!((reply.id(), &reply.body["result"]), (Some("2"), &json!(1)));
    echo.say(&echo.requests.all()[0], Answer::new("\"kept\"").remove(0)).await;
    let reply = caller.reply().await;
    assert_eq!((reply.id(), &reply.body["result"]), (Some("1"), &json!("kept")));
    assert_eq!(echo.requests.count(), 2, "it has not run twice");
    let upstream = [("upstream", "rabbit")];
    assert_eq!(world.gateway.metric("genkan_unsent_replies_total", &upstream).await, 0.0);
    // The upstream's own calls go over other connections.
    assert_eq!(world.gateway.metric("genkan_upstream_reconnects_total", &upstream).await, 0.0);
}

/// Nobody knows whether the broker has it, and it is there for the request that the broker delivers again.
#[tokio::test]
async fn an_answer_that_was_on_its_way_when_the_connection_went_is_sent_again() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let proxy = Proxy::to(format!("127.0.0.1:{}", vhost.port())).await;
    let config = config(&vhost, &nats, "plain", &row("echo", ""));
    let config =
        config.replace("protocol = \"nameko\"", "heartbeat = \"5m\"\nprotocol = \"nameko\"");
    let config = config.replace(&format!("127.0.0.1:{}", vhost.port()), proxy.address());
    let gateway = Gateway::ready(&config).await;
    exposed(&gateway, "echo", 1).await;
    let echo = echo(&nats).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    caller.send("echo.never", caller.properties("1"), NONE).await;
    eventually("it runs", async || (echo.requests.count() == 1).then_some(())).await;
    proxy.set(Weather { out: Way::Silent, ..Weather::default() });
    echo.say(&echo.requests.all()[0], Answer::new("\"kept\"").remove(0)).await;
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "ok")], 1.0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.hang_up();
    proxy.set(Weather::default());
    let reply = caller.reply().await;
    assert_eq!((reply.id(), &reply.body["result"]), (Some("1"), &json!("kept")), "{reply:?}");
    assert_eq!(echo.requests.count(), 1, "it has not run twice");
}

#[tokio::test]
async fn when_the_connection_of_replies_goes_they_leave_by_another() {
    let world = World::exposing("plain", &["echo"]).await;
    let _echo = echo(&world.nats).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    assert_eq!(caller.call("echo.x", caller.properties("1"), NONE).await.body["result"], 1);
    close(RabbitMq::shared(), &world.vhost, "genkan reply").await;
    for id in 0..20 {
        let id = id.to_string();
        caller.send("echo.x", caller.properties(&id), NONE).await;
        let reply = caller.reply().await;
        let known = reply.body["result"] == 1 || reply.exc_path() == "genkan.Unavailable";
        assert!(known, "{reply:?}");
        assert_eq!(reply.id(), Some(&id[..]));
    }
    assert_eq!(caller.call("echo.x", caller.properties("2"), NONE).await.body["result"], 1);
}

/// The upstream's own connections live on, as whom they were opened.
#[tokio::test]
async fn connections_that_go_behind_a_rotated_secret_come_back_with_the_new_one() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let user = Rotating::new(&vhost, "take-1");
    let config = config(&vhost, &nats, "plain", &row("echo", ""));
    let gateway = Gateway::ready(&user.config(&config)).await;
    exposed(&gateway, "echo", 1).await;
    let _echo = echo(&nats).await;
    user.write("take-2");
    user.set("take-2");
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    for name in ["genkan serve", "genkan reply"] {
        close(RabbitMq::shared(), &vhost, name).await;
        let served = async {
            loop {
                let reply = caller.call("echo.x", caller.properties(name), NONE).await;
                if reply.body["error"]["exc_path"] != "genkan.Unavailable" {
                    break reply.body["result"].clone();
                }
            }
        };
        assert_eq!(served.await, 1, "{name}");
    }
    assert_eq!(
        gateway.metric("genkan_upstream_reconnects_total", &[("upstream", "rabbit")]).await,
        0.0
    );
}

#[tokio::test]
async fn services_are_back_when_their_broker_is() {
    let (node, nats) = (RabbitMq::private(), Nats::start());
    let vhost = node.vhost();
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &row("echo", ""))).await;
    exposed(&gateway, "echo", 1).await;
    let _echo = echo(&nats).await;
    node.stop();
    assert!(gateway.wait_until_not_ready().await.contains("rabbit"));
    node.start();
    exposed(&gateway, "echo", 2).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    assert_eq!(caller.call("echo.x", caller.properties("1"), NONE).await.body["result"], 1);
}

#[tokio::test]
async fn an_alarm_holds_replies_back_and_loses_none() {
    let (node, nats) = (RabbitMq::private(), Nats::start());
    let vhost = node.vhost();
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &row("echo", ""))).await;
    exposed(&gateway, "echo", 1).await;
    let echo = NatsResponder::serve(nats.client().await, "echo", |_| Vec::new()).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    caller.send("echo.x", caller.properties("1"), NONE).await;
    eventually("it runs", async || (echo.requests.count() == 1).then_some(())).await;
    node.control(&["set_vm_memory_high_watermark", "0"]);
    echo.say(&echo.requests.last(), Answer::new("1").remove(0)).await;
    let calls = [("ingress", "nameko"), ("outcome", "ok")];
    gateway.wait_for_metric("genkan_calls_total", &calls, 1.0).await;
    assert!(caller.reply_within(Duration::from_millis(300)).await.is_none(), "it is held back");
    node.control(&["set_vm_memory_high_watermark", "0.4"]);
    assert_eq!(caller.reply().await.body["result"], 1);
}

#[tokio::test]
async fn a_slow_service_keeps_nobody_else_waiting() {
    let rows = format!("{}{}", row("echo", "prefetch = 2"), row("fast", ""));
    let world = World::with("plain", &["echo", "fast"], &rows).await;
    let echo = echo(&world.nats).await;
    let _fast = NatsResponder::serve(world.nats.client().await, "fast", answer).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    for id in 0..10 {
        caller.send("echo.never", caller.properties(&format!("slow {id}")), NONE).await;
    }
    eventually("two run", async || (echo.requests.count() == 2).then_some(())).await;
    for id in 0..10 {
        let id = id.to_string();
        let reply = caller.call("fast.x", caller.properties(&id), NONE).await;
        assert_eq!((&reply.body["result"], reply.id()), (&json!(1), Some(&id[..])));
    }
    assert_eq!(echo.requests.count(), 2, "no more are taken than it says");
}

#[tokio::test]
async fn what_requests_hold_counts() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let text = config(&vhost, &nats, "plain", &row("echo", ""));
    let route = "[[routes]]\nmatch = \"*\"\n";
    let text = text.replace(route, &format!("{route}timeout = \"2s\"\n"));
    let gateway = Gateway::ready(&format!("max_memory = \"4MiB\"\n{text}")).await;
    exposed(&gateway, "echo", 1).await;
    let echo = echo(&nats).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    let large = format!(r#"{{"args":["{}"],"kwargs":{{}}}}"#, "x".repeat(900 << 10));
    caller.send("echo.never", caller.properties("held"), &large).await;
    eventually("it runs", async || (echo.requests.count() == 1).then_some(())).await;
    let reply = caller.call("echo.x", caller.properties("refused"), &large).await;
    assert_eq!((reply.exc_path(), reply.id()), ("genkan.Overloaded", Some("refused")));
    assert_eq!(reply.body["error"]["data"]["retryable"], true);
    let reply = caller.reply().await;
    assert_eq!((reply.exc_path(), reply.id()), ("nameko.exceptions.RpcTimeout", Some("held")));
    let reply = caller.call("echo.x", caller.properties("again"), &large).await;
    assert_eq!(reply.body["result"], 1, "there is room again");
}
