//! Services are exposed only while somebody behind them can be called: whoever would refuse calls must
//! not take them away from others.

use serde_json::{Value, json};

use crate::harness::rabbit::Vhost;
use crate::harness::responder::queue_state;
use crate::harness::{
    Answer, Gateway, Nats, NatsResponder, RabbitMq, Say, Seen, Web, eventually, until,
};
use crate::hub::{HUB, Peer};
use crate::nameko_exposes::caller::{Caller, NONE};

fn expose(service: &str, on: &str, keys: &str) -> String {
    format!("[[expose]]\nservice = \"{service}\"\non = [\"{on}\"]\n{keys}\n")
}

fn route(pattern: &str, upstream: &str) -> String {
    format!("[[routes]]\nmatch = \"{pattern}\"\nupstream = \"{upstream}\"\n")
}

fn echo(seen: &Seen) -> Vec<Answer> {
    Answer::new(format!("\"{}\"", seen.method))
}

/// The result of a call on NATS, where somebody takes it.
async fn ask(nats: &Nats, subject: &str) -> Option<Value> {
    let client = nats.client().await;
    let reply = client.request(subject.to_owned(), "".into()).await.ok()?;
    assert!(reply.headers.is_none_or(|it| it.get("Genkan-Fault").is_none()), "{subject}");
    Some(serde_json::from_slice(&reply.payload).expect("JSON"))
}

async fn is_taken(nats: &Nats, subject: &str) {
    eventually(&format!("{subject} is taken"), async || ask(nats, subject).await).await;
}

async fn is_left(nats: &Nats, subject: &str) {
    let client = nats.client().await;
    until(&format!("{subject} is left"), async || {
        client.request(subject.to_owned(), "".into()).await.is_err()
    })
    .await;
}

/// How many consume the queue of a service.
async fn consumers(vhost: &Vhost<'_>, service: &str) -> u32 {
    queue_state(&vhost.url(), &format!("rpc-{service}")).await.map_or(0, |(consumers, _)| consumers)
}

#[tokio::test]
async fn whoever_cannot_reach_the_service_takes_no_calls_from_others() {
    let (vhost, near, far) = (RabbitMq::shared().vhost(), Nats::start(), Nats::start());
    let _near = NatsResponder::serve(near.client().await, "echo", echo).await;
    let _far = NatsResponder::serve(far.client().await, "echo", echo).await;
    let text = |bus: &Nats| {
        let rows = expose("echo", "rabbit", "") + &route("echo.*", "bus");
        format!("{}{}{rows}", vhost.upstream("rabbit"), bus.upstream("bus", "plain"))
    };
    let well = Gateway::ready(&text(&near)).await;
    let ill = Gateway::ready(&text(&far)).await;
    until("both take calls", async || consumers(&vhost, "echo").await == 2).await;
    far.kill();
    until("one has left", async || consumers(&vhost, "echo").await == 1).await;
    let mut caller = Caller::connect(&vhost.url(), "own").await;
    for id in 0..50 {
        let reply = caller.call("echo.x", caller.properties(&id.to_string()), NONE).await;
        assert_eq!(reply.body["result"], "x", "{reply:?}");
    }
    assert_eq!(
        ill.logged("a service is not exposed now: nothing behind it can be called").len(),
        1
    );
    assert!(
        well.logged("a service is not exposed now: nothing behind it can be called").is_empty()
    );
    far.restart();
    until("it is back by itself", async || consumers(&vhost, "echo").await == 2).await;
}

#[tokio::test]
async fn a_start_takes_no_calls_before_they_can_be_carried_out() {
    let (front, back) = (Nats::start(), Nats::down());
    let rows = expose("echo", "front", "") + &route("echo.*", "back");
    let text =
        format!("{}{}{rows}", front.upstream("front", "plain"), back.upstream("back", "plain"));
    let gateway = Gateway::start(&text).await;
    gateway.wait_for_metric("genkan_upstream_up", &[("upstream", "front")], 1.0).await;
    is_left(&front, "echo.x").await;
    assert!(gateway.logged("exposed: its calls are taken").is_empty());
    back.restart();
    let _echo = NatsResponder::serve(back.client().await, "echo", echo).await;
    is_taken(&front, "echo.x").await;
    let calls = [("ingress", "nats"), ("outcome", "unavailable")];
    assert_eq!(gateway.metric("genkan_calls_total", &calls).await, 0.0);
    back.kill();
    is_left(&front, "echo.x").await;
}

#[tokio::test]
async fn a_service_of_several_upstreams_stays_while_one_is_up() {
    let (front, one, other) = (Nats::start(), Nats::start(), Nats::start());
    let _one = NatsResponder::serve(one.client().await, "echo", echo).await;
    let _other = NatsResponder::serve(other.client().await, "echo", echo).await;
    let rows = expose("echo", "front", "") + &route("echo.x", "one") + &route("echo.*", "other");
    let text = format!(
        "{}{}{}{rows}",
        front.upstream("front", "plain"),
        one.upstream("one", "plain"),
        other.upstream("other", "plain")
    );
    let gateway = Gateway::ready(&text).await;
    is_taken(&front, "echo.x").await;
    one.kill();
    assert!(gateway.wait_until_not_ready().await.contains("one"));
    assert_eq!(ask(&front, "echo.y").await, Some(json!("y")));
    let reply = front.client().await.request("echo.x", "".into()).await.expect("an answer");
    let headers = reply.headers.expect("it is a fault");
    assert_eq!(headers.get("Genkan-Fault").expect("which").as_str(), "unavailable not_sent");
    other.kill();
    is_left(&front, "echo.y").await;
}

#[tokio::test]
async fn a_module_that_is_away_is_not_exposed() {
    let front = Nats::start();
    let text = format!("{}{HUB}{}", front.upstream("front", "plain"), expose("door", "front", ""));
    let gateway = Gateway::ready(&text).await;
    is_left(&front, "door.open").await;
    let mut door = Peer::module(&gateway, "door", &["open"]).await;
    let (client, front) = (front.client().await, &front);
    let asked = async {
        eventually("it is taken", async || client.request("door.open", "".into()).await.ok()).await
    };
    let answered = async {
        let call = door.receive().await;
        door.answer(&call, json!(7)).await;
        door
    };
    let (reply, door) = tokio::join!(asked, answered);
    assert_eq!(&reply.payload[..], b"7");
    drop(door);
    is_left(front, "door.open").await;
}

#[tokio::test]
async fn a_json_rpc_service_whose_instances_are_out_is_not_exposed() {
    let front = Nats::start();
    let web = Web::serve(|asked| asked.result("1")).await;
    let address = web.address().to_owned();
    let text = format!(
        "{}[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n{}{}",
        front.upstream("front", "plain"),
        web.url,
        expose("web", "front", ""),
        route("web.*", "web")
    );
    let _gateway = Gateway::ready(&text).await;
    is_taken(&front, "web.x").await;
    drop(web);
    is_left(&front, "web.x").await;
    let _web =
        Web::at(&address, |asked: &crate::harness::Asked| -> Say { asked.result("2") }).await;
    is_taken(&front, "web.x").await;
}
