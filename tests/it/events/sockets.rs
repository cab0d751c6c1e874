//! `genkan.subscribe` on a WebSocket.

use serde_json::{Value, json};

use super::{Listener, shop, trigger};
use crate::harness::Gateway;
use crate::harness::websocket::WebSocket;
use crate::hub::HUB;

const TOPICS: &str = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\nkeep = 3\n";

async fn open(gateway: &Gateway) -> WebSocket {
    WebSocket::open(gateway.url().trim_start_matches("http://")).await
}

async fn ask(socket: &mut WebSocket, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    socket.ask(request.to_string()).await
}

#[tokio::test]
async fn events_are_pushed_among_the_answers_until_they_are_no_longer_wanted() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut socket = open(&gateway).await;
    let told = ask(&mut socket, "genkan.subscribe", json!({"topics": ["shop.sold"]})).await;
    assert_eq!(told, json!({"jsonrpc": "2.0", "id": 1, "result": {"topics": ["shop.sold"]}}));
    let told = ask(&mut socket, "genkan.subscribe", json!(["shop.o*", "shop.sold"])).await;
    assert_eq!(told["result"]["topics"], json!(["shop.sold", "shop.o*"]));
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "websocket")], 1.0).await;
    for (hook, number) in [("sold", 1), ("opened", 2), ("sold", 3), ("closed", 4)] {
        trigger(&mut shop, hook, json!({"n": number})).await;
    }
    let mut ids = Vec::new();
    for (topic, number) in [("shop.sold", 1), ("shop.opened", 2), ("shop.sold", 3)] {
        let event = socket.json().await;
        assert_eq!((&event["method"], &event["id"]), (&json!("event"), &json!(null)), "{event}");
        let params = &event["params"];
        assert_eq!((&params["topic"], &params["data"]), (&json!(topic), &json!({"n": number})));
        ids.push(params["id"].as_u64().expect("an id"));
    }
    assert_eq!(ids[2], ids[0] + 1);
    let told = ask(&mut socket, "genkan.unsubscribe", json!(["shop.sold", "shop.o*"])).await;
    assert_eq!(told["result"]["topics"], json!([]));
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "websocket")], 0.0).await;
    trigger(&mut shop, "sold", json!({"n": 5})).await;
    // What was missed in between is to be had by its place.
    let params = json!({"topics": ["shop.sold"], "after": {"shop.sold": ids[0]}});
    ask(&mut socket, "genkan.subscribe", params).await;
    assert_eq!(socket.json().await["params"]["data"]["n"], 3);
    assert_eq!(socket.json().await["params"]["data"]["n"], 5);
}

#[tokio::test]
async fn one_writing_of_an_event_is_for_sockets_and_streams_alike() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut stream = Listener::listen(&gateway, "?topic=shop.sold").await;
    let (mut one, mut other) = (open(&gateway).await, open(&gateway).await);
    for socket in [&mut one, &mut other] {
        ask(socket, "genkan.subscribe", json!({"topics": ["shop.*"]})).await;
    }
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    let told = stream.event().await.data;
    assert_eq!(one.json().await["params"], told);
    assert_eq!(other.json().await["params"], told);
}

#[tokio::test]
async fn what_cannot_be_heard_is_refused_and_the_socket_stays() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut socket = open(&gateway).await;
    for (params, code) in [
        (json!({"topics": ["orders.created"]}), -32001),
        (json!({"topics": []}), -32602),
        (json!({"topic": "shop.sold"}), -32602),
        (json!([7]), -32602),
    ] {
        let told = ask(&mut socket, "genkan.subscribe", params.clone()).await;
        assert_eq!(told["error"]["code"], code, "{params}: {told}");
    }
    for part in 0..11 {
        let topics: Vec<_> = (0..100).map(|n| format!("shop.{}", part * 100 + n)).collect();
        let told = ask(&mut socket, "genkan.subscribe", json!({ "topics": topics })).await;
        assert_eq!(told["error"].is_null(), part < 10, "{part}: a socket listens to 1,000 at most");
    }
    // Over HTTP there is nowhere to push to.
    let fault = gateway.fault("genkan.subscribe", json!({"topics": ["shop.sold"]})).await;
    assert_eq!(fault.data["kind"], "invalid_request");
}

#[tokio::test]
async fn a_notification_subscribes_too_and_is_not_answered() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut socket = open(&gateway).await;
    let subscribe =
        json!({"jsonrpc": "2.0", "method": "genkan.subscribe", "params": ["shop.sold"]});
    let nothing =
        json!({"jsonrpc": "2.0", "id": 7, "method": "genkan.unsubscribe", "params": ["x"]});
    let told = socket.ask(json!([subscribe, nothing]).to_string()).await;
    assert_eq!(told, json!([{"jsonrpc": "2.0", "id": 7, "result": {"topics": ["shop.sold"]}}]));
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    assert_eq!(socket.json().await["params"]["data"]["n"], 1);
    let unsubscribe =
        json!({"jsonrpc": "2.0", "method": "genkan.unsubscribe", "params": ["shop.sold"]});
    socket.say(unsubscribe.to_string()).await;
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "websocket")], 0.0).await;
}

#[tokio::test]
async fn all_that_a_socket_missed_comes_however_much_it_is() {
    const MISSED: u64 = 200;
    let topics = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\n";
    let gateway = Gateway::start(&format!("{HUB}{topics}")).await;
    let mut shop = shop(&gateway).await;
    let mut first = open(&gateway).await;
    ask(&mut first, "genkan.subscribe", json!(["shop.sold"])).await;
    let large = "x".repeat(1_024);
    for number in 0..=MISSED {
        trigger(&mut shop, "sold", json!({"n": number, "text": large})).await;
    }
    let begin = first.json().await["params"]["id"].as_u64().expect("an id");
    for number in 1..=MISSED {
        assert_eq!(first.json().await["params"]["data"]["n"], number);
    }
    let mut socket = open(&gateway).await;
    let params = json!({"topics": ["shop.sold"], "after": begin});
    ask(&mut socket, "genkan.subscribe", params).await;
    for number in 1..=MISSED {
        assert_eq!(socket.json().await["params"]["data"]["n"], number);
    }
}

#[tokio::test]
async fn who_reads_late_misses_nothing_that_is_kept() {
    const EVENTS: u64 = 300;
    let topics = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\nslow = \"disconnect\"\n";
    let gateway = Gateway::start(&format!("{HUB}{topics}")).await;
    let mut shop = shop(&gateway).await;
    let address = gateway.url();
    let mut socket = WebSocket::open_small(address.trim_start_matches("http://")).await;
    ask(&mut socket, "genkan.subscribe", json!(["shop.sold"])).await;
    let mut quick = Listener::listen(&gateway, "?topic=shop.sold").await;
    let large = "x".repeat(32 << 10);
    for number in 0..EVENTS {
        trigger(&mut shop, "sold", json!({"n": number, "text": large})).await;
        assert_eq!(quick.event().await.data["data"]["n"], number, "nobody is held up");
    }
    for number in 0..EVENTS {
        let told = socket.json().await;
        assert_eq!(told["params"]["data"]["n"], number);
    }
}

#[tokio::test]
async fn a_page_whose_origin_is_taken_out_hears_no_more() {
    let cors = |origin: &str| format!("{HUB}{TOPICS}[http.cors]\norigins = [\"{origin}\"]\n");
    let (old, new) = ("https://old.example", "https://new.example");
    let gateway = Gateway::start(&cors(old)).await;
    let mut shop = shop(&gateway).await;
    let address = gateway.url();
    let address = address.trim_start_matches("http://");
    let mut socket = WebSocket::open_with(address, "/api", &[("Origin", old)]).await;
    ask(&mut socket, "genkan.subscribe", json!({"topics": ["shop.sold"]})).await;
    let mut stream =
        Listener::open(&gateway, "?topic=shop.sold", &format!("Origin: {old}\r\n")).await;
    stream.greeted().await;
    // One that is no page's, and one whose path ends as those of calls may.
    let mut program = Listener::listen(&gateway, "/?topic=shop.sold").await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    assert_eq!(socket.json().await["params"]["data"]["n"], 1);
    assert_eq!(stream.event().await.data["data"]["n"], 1);
    gateway.write_config(&cors(new));
    gateway.hang_up();
    let (code, reason) = socket.closed().await;
    assert!(code == 1008 && reason.contains(old), "{code} {reason}");
    let ended = stream.next().await.expect("it is told");
    assert_eq!(ended.kind, "ended");
    let reason = ended.data["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(old), "{reason}");
    assert_eq!(stream.next().await, None);
    trigger(&mut shop, "sold", json!({"n": 2})).await;
    for number in 1..=2 {
        assert_eq!(program.event().await.data["data"]["n"], number);
    }
}
