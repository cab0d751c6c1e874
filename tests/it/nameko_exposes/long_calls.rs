//! Calls that run longer than RabbitMQ waits for their acks.

use super::caller::{Caller, NONE};
use super::{config, exposed, row};
use crate::harness::{Answer, Gateway, Nats, NatsResponder, RabbitMq, eventually};

#[tokio::test]
async fn a_call_that_outlasts_consumer_timeout_is_answered_all_the_same() {
    let (node, nats) = (RabbitMq::configured("consumer_timeout = 1000"), Nats::start());
    // How often it looks: once a minute, if nobody says anything.
    node.control(&["eval", "application:set_env(rabbit, channel_tick_interval, 300)."]);
    let vhost = node.vhost();
    let gateway = Gateway::ready(&config(&vhost, &nats, "plain", &row("echo", ""))).await;
    exposed(&gateway, "echo", 1).await;
    let echo = NatsResponder::serve(nats.client().await, "echo", |seen| match &*seen.method {
        "long" => Vec::new(),
        _ => Answer::new("1"),
    })
    .await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    caller.send("echo.long", caller.properties("1"), NONE).await;
    let told = gateway.wait_for_log(0, "a service cannot be exposed, trying again").await;
    assert!(told["reason"].as_str().is_some_and(|it| it.contains("consumer_timeout")), "{told}");
    assert!(told["mend"].as_str().is_some_and(|it| it.contains("rabbitmq.conf")), "{told}");
    exposed(&gateway, "echo", 2).await;
    // Behind the copy of the first, which RabbitMQ has delivered again.
    let reply = caller.call("echo.x", caller.properties("2"), NONE).await;
    assert_eq!((reply.id(), &reply.body["result"]), (Some("2"), &serde_json::json!(1)));
    assert_eq!(echo.requests.count(), 2, "it has not run twice");
    let long = echo.requests.all().into_iter().find(|seen| seen.method == "long").expect("it runs");
    echo.say(&long, Answer::new("\"kept\"").remove(0)).await;
    let reply = caller.reply().await;
    assert_eq!((reply.id(), &reply.body["result"]), (Some("1"), &serde_json::json!("kept")));
    eventually("it is acked", async || {
        let queue = node.get(&format!("queues/{}/rpc-echo", vhost.name()));
        (queue["messages"] == 0 && queue["messages_unacknowledged"] == 0).then_some(())
    })
    .await;
    let upstream = [("upstream", "rabbit")];
    assert_eq!(gateway.metric("genkan_unsent_replies_total", &upstream).await, 0.0);
}
