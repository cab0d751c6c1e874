//! Services that come and go, and servers that do: no call is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{World, as_json, ask, config, echo, exposed, header, row};
use crate::harness::proxy::Weather;
use crate::harness::{Gateway, NamekoResponder, Nats, Proxy, RabbitMq, eventually};

/// Whoever calls without a pause, until it is told to stop: how many answers there were.
struct Callers {
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Callers {
    fn start(client: &async_nats::Client, subject: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let one = || {
            let (client, over, subject) = (client.clone(), Arc::clone(&over), subject.to_owned());
            tokio::spawn(async move {
                let mut answers = 0;
                while !over.load(Ordering::SeqCst) {
                    let reply = ask(&client, &subject, "").await;
                    assert_eq!(header(&reply, "Genkan-Fault"), "", "{}", as_json(&reply));
                    answers += 1;
                }
                answers
            })
        };
        let tasks = (0..8).map(|_| one()).collect();
        Self { over, tasks }
    }

    async fn stop(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        let mut answers = 0;
        for task in self.tasks {
            answers += task.await.expect("every call has its answer");
        }
        answers
    }
}

#[tokio::test]
async fn a_reload_adds_and_removes_services_without_dropping_a_call() {
    let world = World::exposing("plain", "", echo).await;
    let client = world.client.clone();
    let held = tokio::spawn(async move { as_json(&ask(&client, "desk.later", "").await) });
    eventually("it runs", async || (world.desk.requests.count() == 1).then_some(())).await;
    let text = |rows: &str| config(&world.nats, &world.vhost, rows);
    world.gateway.write_config(&text(&row("desk", "plain", "as = \"other\"")));
    world.gateway.hang_up();
    exposed(&world.gateway, "other", 1).await;
    assert_eq!(held.await.expect("an answer"), json!("kept"));
    let gone = world.client.request("desk.x", "".into()).await.expect_err("nobody is there");
    assert!(gone.to_string().contains("no responders"), "{gone}");
    assert!(world.json("other.x", "").await.get("args").is_some());
    // Its methods change while it is called.
    let callers = Callers::start(&world.client, "other.x");
    for methods in ["methods = [\"x\"]", "methods = [\"x\", \"y\"]", ""] {
        let keys = format!("as = \"other\"\n{methods}");
        let seen = world.gateway.logged("reloaded: the new routing table is in force").len();
        world.gateway.write_config(&text(&row("desk", "plain", &keys)));
        world.gateway.hang_up();
        exposed(&world.gateway, "other", seen + 1).await;
    }
    assert!(callers.stop().await > 0);
}

#[tokio::test]
async fn a_changed_upstream_takes_over_without_dropping_a_call() {
    let world = World::exposing("picom", "", echo).await;
    let text = config(&world.nats, &world.vhost, &row("desk", "picom", ""));
    let callers = Callers::start(&world.client, "desk.x");
    for (times, prefetch) in [(2, 500), (3, 600), (4, 700)] {
        let changed = text.replacen("dialect", &format!("prefetch = {prefetch}\ndialect"), 1);
        world.gateway.write_config(&changed);
        world.gateway.hang_up();
        exposed(&world.gateway, "desk", times).await;
    }
    // The old ones leave, and their connections go.
    eventually("one connection is left", async || {
        let ended = world.gateway.logged("retiring: its last calls get their answers").len();
        (ended == 3).then_some(())
    })
    .await;
    assert!(callers.stop().await > 0);
}

#[tokio::test]
async fn sigterm_answers_what_was_taken() {
    for dialect in ["picom", "plain", "micro"] {
        let world = World::exposing(dialect, "methods = [\"later\"]", echo).await;
        let calls = (0..20).map(|_| {
            let client = world.client.clone();
            tokio::spawn(async move { as_json(&ask(&client, "desk.later", "").await) })
        });
        let calls: Vec<_> = calls.collect();
        eventually("they run", async || (world.desk.requests.count() == 20).then_some(())).await;
        world.gateway.terminate();
        let expected = if dialect == "picom" { json!({"payload": "kept"}) } else { json!("kept") };
        for call in calls {
            assert_eq!(call.await.expect("an answer"), expected, "{dialect}");
        }
        assert_eq!(world.gateway.exit_status().await, 0);
    }
}

#[tokio::test]
async fn one_of_two_gateways_ends_and_no_call_is_lost() {
    let (nats, vhost) = (Nats::start(), RabbitMq::shared().vhost());
    let _desk = NamekoResponder::serve(&vhost.url(), "desk", echo).await;
    let toml = config(&nats, &vhost, &row("desk", "plain", ""));
    let gateways = [Gateway::ready(&toml).await, Gateway::ready(&toml).await];
    for gateway in &gateways {
        exposed(gateway, "desk", 1).await;
    }
    let callers = Callers::start(&nats.client().await, "desk.x");
    gateways[0].terminate();
    assert_eq!(gateways[0].exit_status().await, 0);
    assert!(callers.stop().await > 0);
}

/// A service over HTTP that has to do with none of the calls.
const UNRELATED: &str = "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"http://127.0.0.1:9/api\"\n\
                         [[routes]]\nmatch = \"web.*\"\nupstream = \"web\"\n";

#[tokio::test]
async fn services_are_left_at_once_whatever_else_is_called() {
    let (nats, vhost) = (Nats::start(), RabbitMq::shared().vhost());
    let desk = NamekoResponder::serve(&vhost.url(), "desk", echo).await;
    let toml = config(&nats, &vhost, &format!("{}{UNRELATED}", row("desk", "plain", "")));
    // Long enough for half of it to be told from at once.
    let toml = format!("drain_timeout = \"600s\"\ntimeout = \"600s\"\n{toml}");
    let gateway = Gateway::start(&toml).await;
    exposed(&gateway, "desk", 1).await;
    let client = nats.client().await;
    let asking = client.clone();
    let held = tokio::spawn(async move { as_json(&ask(&asking, "desk.never", "").await) });
    eventually("it runs", async || (desk.requests.count() == 1).then_some(())).await;
    gateway.terminate();
    eventually("it is left", async || {
        client.request("desk.x", "".into()).await.is_err().then_some(())
    })
    .await;
    let answer = super::replies("\"late\"").remove(0);
    desk.say(&desk.requests.all()[0], answer).await;
    assert_eq!(held.await.expect("its answer"), json!("late"));
    assert_eq!(gateway.exit_status().await, 0);
}

#[tokio::test]
async fn services_are_back_when_their_server_is() {
    let world = World::exposing("plain", "", echo).await;
    world.nats.kill();
    world.gateway.wait_for_log(0, "the connection to NATS was lost").await;
    world.nats.restart();
    exposed(&world.gateway, "desk", 2).await;
    let client = world.nats.client().await;
    assert!(as_json(&ask(&client, "desk.x", "").await).get("args").is_some());
}

/// A server that goes has a second for its calls, and the rest for its connections.
const GRACE: &str = "lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"";

#[tokio::test]
async fn a_server_that_says_goodbye_costs_no_call() {
    let (leaving, staying) = Nats::cluster(GRACE);
    let vhost = RabbitMq::shared().vhost();
    let desk = NamekoResponder::serve(&vhost.url(), "desk", echo).await;
    let toml = config(&leaving, &vhost, &row("desk", "plain", ""));
    let both = format!("servers = [\"{}\", \"{}\"]", leaving.url(), staying.url());
    let line = toml.lines().find(|line| line.starts_with("servers")).expect("its servers");
    let gateway = Gateway::ready(&toml.replace(line, &both)).await;
    exposed(&gateway, "desk", 1).await;
    // The gateway can only be on the one that runs; the callers are on the one that stays.
    staying.restart();
    let client = staying.client().await;
    eventually("the servers know of each other", async || {
        client.request("desk.x", "".into()).await.ok()
    })
    .await;
    let callers = Callers::start(&client, "desk.x");
    let before = desk.requests.count();
    let slow = client.clone();
    let slow = tokio::spawn(async move { as_json(&ask(&slow, "desk.later", "").await) });
    eventually("they run", async || (desk.requests.count() > before + 20).then_some(())).await;
    leaving.say_goodbye();
    exposed(&gateway, "desk", 2).await;
    eventually("it is gone", async || (!leaving.runs()).then_some(())).await;
    assert_eq!(slow.await.expect("its answer"), json!("kept"));
    assert!(callers.stop().await > 0);
    assert_eq!(gateway.metric("genkan_unsent_replies_total", &[]).await, 0.0);
}

/// A call that runs, and whose gateway is connected by way of a proxy.
struct Held {
    _nats: Nats,
    proxy: Proxy,
    desk: NamekoResponder,
    gateway: Gateway,
    answer: JoinHandle<Value>,
}

impl Held {
    async fn call() -> Self {
        let nats = Nats::start();
        let proxy = Proxy::to(nats.address()).await;
        let vhost = RabbitMq::shared().vhost();
        let desk = NamekoResponder::serve(&vhost.url(), "desk", |_| Vec::new()).await;
        let toml = config(&nats, &vhost, &row("desk", "plain", ""));
        let gateway = Gateway::ready(&toml.replace(&nats.address(), proxy.address())).await;
        exposed(&gateway, "desk", 1).await;
        let client = nats.client().await;
        let answer = tokio::spawn(async move { as_json(&ask(&client, "desk.x", "").await) });
        eventually("it runs", async || (desk.requests.count() == 1).then_some(())).await;
        Self { _nats: nats, proxy, desk, gateway, answer }
    }

    async fn say(&self) {
        let answer = super::replies("\"late\"").remove(0);
        self.desk.say(&self.desk.requests.last(), answer).await;
    }

    async fn ends_well(self) {
        assert_eq!(self.answer.await.expect("its answer"), json!("late"));
        assert_eq!(self.gateway.metric("genkan_unsent_replies_total", &[]).await, 0.0);
    }
}

/// A call that was taken over a connection that has gone meanwhile is answered over the next one.
#[tokio::test]
async fn an_answer_outlives_its_connection() {
    let held = Held::call().await;
    held.proxy.hang_up();
    exposed(&held.gateway, "desk", 2).await;
    held.say().await;
    held.ends_well().await;
}

/// One that comes while there is no connection waits for the next.
#[tokio::test]
async fn an_answer_waits_for_a_connection() {
    let held = Held::call().await;
    held.proxy.set(Weather { refuses: true, ..Weather::default() });
    held.proxy.hang_up();
    held.gateway.wait_until_not_ready().await;
    held.say().await;
    // It has come to the gateway by then.
    let calls = [("upstream", "rabbit"), ("outcome", "ok")];
    held.gateway.wait_for_metric("genkan_calls_total", &calls, 1.0).await;
    held.proxy.set(Weather::default());
    held.ends_well().await;
}

#[tokio::test]
async fn who_answers_a_call_while_the_gateway_drains_can_call_what_is_exposed() {
    let rows = "[[routes]]\nmatch = \"front.*\"\nupstream = \"bus\"\ntimeout = \"20s\"\n";
    for more in ["", "[upstreams.web]\nprotocol = \"jsonrpc\"\nregistry = \"w.*\"\n"] {
        answers_while_it_drains(&format!("{rows}{more}")).await;
    }
}

async fn answers_while_it_drains(rows: &str) {
    let world = World::with(&format!("{}{rows}", row("desk", "plain", "")), echo).await;
    let mut front = world.client.subscribe("front.x").await.expect("subscribed");
    world.client.flush().await.expect("the server has it");
    let mut waiting = world.gateway.connect().await;
    waiting.request("POST", "/call/front/x", &[], b"{}").await;
    let asked = front.next().await.expect("a request");
    world.gateway.terminate();
    world.gateway.wait_for_log(0, "draining").await;
    let nested = world.json("desk.x", r#"{"n":1}"#).await;
    assert_eq!(nested, json!({"args": [], "kwargs": {"n": 1}}));
    let reply = asked.reply.expect("it waits");
    world.client.publish(reply, r#"{"payload":"served"}"#.into()).await.expect("sent");
    let answer = waiting.receive().await.expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "\"served\""));
    assert_eq!(world.gateway.exit_status().await, 0);
}
