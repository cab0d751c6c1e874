//! `GET /events`: what a browser's EventSource is sent.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;

use super::{Listener, shop, trigger};
use crate::harness::Gateway;
use crate::harness::http::Connection;
use crate::hub::HUB;
use crate::readers::http2;

/// Topics over the hub's hooks.
const TOPICS: &str = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\nkeep = 3\n";

#[tokio::test]
async fn a_hook_is_heard_by_all_who_listen_with_ids_that_count() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut one = Listener::listen(&gateway, "?topic=shop.sold").await;
    let mut all = Listener::listen(&gateway, "?topic=shop.%2A").await;
    for field in ["content-type: text/event-stream", "x-accel-buffering: no", "no-store"] {
        assert!(one.head.contains(field), "{}", one.head);
    }
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "sse")], 2.0).await;
    for number in [1, 2] {
        trigger(&mut shop, "sold", json!({"n": number})).await;
        trigger(&mut shop, "opened", json!({})).await;
    }
    let (first, second) = (one.event().await, one.event().await);
    assert_eq!((&first.data["topic"], &first.data["data"]["n"]), (&json!("shop.sold"), &json!(1)));
    assert_eq!(first.id, first.data["id"].to_string());
    assert_eq!(second.data["id"].as_u64(), first.data["id"].as_u64().map(|id| id + 1));
    assert!(first.data["time"].as_str().is_some_and(|time| time.ends_with('Z')));
    let mut topics = Vec::new();
    for _ in 0..4 {
        topics.push(all.event().await.data["topic"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(topics, ["shop.sold", "shop.opened", "shop.sold", "shop.opened"]);
    drop((one, all));
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "sse")], 0.0).await;
    let bridge = [("bridge", "hub:shop.*"), ("outcome", "delivered")];
    gateway.wait_for_metric("genkan_events_total", &bridge, 4.0).await;
}

#[tokio::test]
async fn who_comes_back_hears_what_it_missed_or_that_it_is_gone() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut first = Listener::listen(&gateway, "?topic=shop.sold").await;
    for number in 1..=5 {
        trigger(&mut shop, "sold", json!({"n": number})).await;
    }
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(first.event().await.id);
    }
    let header = |id: &str| format!("Last-Event-ID: {id}\r\n");
    let mut back = Listener::open(&gateway, "?topic=shop.sold", &header(&ids[3])).await;
    back.greeted().await;
    assert_eq!(back.event().await.data["data"]["n"], 5);
    let mut late = Listener::open(&gateway, "?topic=shop.sold", &header(&ids[0])).await;
    late.greeted().await;
    let gap = late.next().await.expect("a gap");
    assert_eq!((&*gap.kind, gap.data), ("gap", json!({"topic": "shop.sold", "missed": 1})));
    assert_eq!(late.event().await.data["data"]["n"], 3);
    let old = format!("?topic=shop.sold&last_event_id={}", 17);
    let mut year_ago = Listener::open(&gateway, &old, "").await;
    year_ago.greeted().await;
    let gap = year_ago.next().await.expect("a gap");
    assert_eq!((&*gap.kind, &gap.data["missed"]), ("gap", &json!(null)));
}

#[tokio::test]
async fn who_comes_from_another_gateway_hears_of_a_gap_and_what_is_kept() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut first = Listener::listen(&gateway, "?topic=shop.sold").await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    let id: u64 = first.event().await.id.parse().expect("a number");
    let later = format!("Last-Event-ID: {}\r\n", id + 1_000_000);
    for query in ["?topic=shop.sold", "?topic=shop.*"] {
        let mut back = Listener::open(&gateway, query, &later).await;
        back.greeted().await;
        let gap = back.next().await.expect("a gap");
        assert_eq!((&*gap.kind, &gap.data["missed"]), ("gap", &json!(null)), "{query}");
        assert_eq!(back.event().await.data["data"]["n"], 1, "{query}");
    }
}

/// Real libraries make an event of each empty line: `httpx-sse`, `sseclient`, `@microsoft/fetch-event-source`.
#[tokio::test]
async fn an_empty_line_is_the_end_of_an_event_alone() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut stream = Listener::listen(&gateway, "?topic=shop.sold").await;
    assert!(stream.head.contains("text/event-stream; charset=utf-8\n"), "{}", stream.head);
    trigger(&mut shop, "sold", json!({})).await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(stream.line().await.expect("a line"));
    }
    let names = begun.iter().map(|line| line.split(':').next());
    assert_eq!(names.collect::<Vec<_>>(), [Some("id"), Some("data"), Some("")], "{begun:?}");
    // From now on there is a heartbeat every second.
    stream.says_no_more().await;
    for _ in 0..3 {
        assert_eq!(stream.line().await.as_deref(), Some(":"));
    }
}

#[tokio::test]
async fn who_says_no_more_and_reads_hears_what_comes() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let left = Listener::listen(&gateway, "?topic=shop.sold").await;
    let mut stream = Listener::listen(&gateway, "?topic=shop.sold").await;
    stream.says_no_more().await;
    drop(left);
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "sse")], 1.0).await;
    let mut shop = shop(&gateway).await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    assert_eq!(stream.event().await.data["data"]["n"], 1);
}

#[tokio::test]
async fn what_cannot_be_heard_is_refused() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    for (query, status, kind) in [
        ("?topic=orders.created", 403, "access_denied"),
        ("?topic=shop.sold&topic=other", 403, "access_denied"),
        ("", 400, "invalid_request"),
        ("?topics=shop.sold", 400, "invalid_request"),
        ("?topic=", 422, "invalid_params"),
    ] {
        let mut connection = Connection::open(gateway.url().trim_start_matches("http://")).await;
        connection.request("GET", &format!("/events{query}"), &[], b"").await;
        let answer = connection.receive().await.expect("an answer");
        assert_eq!((answer.status, &answer.json()["kind"]), (status, &json!(kind)), "{query}");
    }
    let many: String = (0..1_001).map(|number| format!("&topic=shop.{number}")).collect();
    let head = Listener::open(&gateway, &format!("?{}", &many[1..]), "").await.head;
    assert!(head.contains(" 422 "), "{head}");
}

#[tokio::test]
async fn a_stream_ends_when_the_gateway_drains_and_hooks_go_on_over_a_reload() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut listener = Listener::listen(&gateway, "?topic=shop.sold").await;
    gateway.write_config(&format!(
        "{HUB}{TOPICS}[[topics]]\nmatch = \"new.*\"\nfrom = \"hub:shop.*\"\n"
    ));
    gateway.hang_up();
    gateway.wait_for_log(0, "reloaded: the new routing table is in force").await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    assert_eq!(listener.event().await.data["data"], json!({"n": 1}));
    // The other row has the same source, and what it brings is not that row's twice.
    gateway.terminate();
    assert_eq!(listener.next().await, None, "the stream has ended");
    assert_eq!(gateway.exit_status().await, 0);
}

/// Hears over one version of HTTP what another one's reader hears, to the byte.
#[tokio::test]
async fn every_version_of_http_is_told_the_same() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let heard = async |version: &str| {
        let arguments = ["-sN", "--max-time", "3", version];
        let url =
            format!("{}/events?topic=shop.sold&topic=shop.opened&last_event_id=1", gateway.url());
        let output = Command::new("curl").args(arguments).arg(url).output().await.expect("curl");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    trigger(&mut shop, "sold", json!({"text": "ü".repeat(40_000)})).await;
    trigger(&mut shop, "opened", json!({})).await;
    let (first, second, third) =
        tokio::join!(heard("--http1.0"), heard("--http1.1"), heard("--http2-prior-knowledge"));
    assert!(first.contains("shop.opened") && first.len() > 80_000, "{first}");
    assert!(first == second && first == third, "{first}\n{second}\n{third}");
}

/// A call behind a request for events, which has these header lines: the first empty line ends the one request, the
/// other one's last is its body's.
fn with_a_call_behind(headers: &str) -> String {
    let body = r#"{"jsonrpc":"2.0","method":"shop.x","id":7}"#;
    let length = body.len();
    format!(
        "{headers}\r\nPOST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Requests that a client has sent ahead of the stream's end are answered behind it, over the same connection.
#[tokio::test]
async fn what_was_asked_meanwhile_is_answered_behind_the_end() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let next = with_a_call_behind("Accept: */*\r\n");
    let mut listener = Listener::open(&gateway, "?topic=shop.sold", &next).await;
    listener.greeted().await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    assert_eq!(listener.event().await.data["data"], json!({"n": 1}));
    gateway.write_config(&format!("{HUB}[[topics]]\nmatch = \"other.*\"\nfrom = \"hub:shop.*\"\n"));
    gateway.hang_up();
    let ended = listener.next().await.expect("told of the end");
    assert_eq!((&*ended.kind, &ended.data["topics"]), ("ended", &json!(["shop.sold"])));
    assert_eq!(listener.next().await, None, "the stream has ended");
    assert_eq!(listener.raw_line().await.as_deref(), Some("HTTP/1.1 200 OK"));
    while listener.raw_line().await.is_some_and(|line| !line.is_empty()) {}
    let mut answer = [0; 20];
    listener.read(&mut answer).await;
    assert!(answer.starts_with(br#"{"jsonrpc":"2.0""#), "{answer:?}");
}

/// nginx says so to what it passes requests to, unless it is told otherwise (RFC 9112, section 9.6).
#[tokio::test]
async fn nothing_is_read_behind_a_stream_that_was_to_be_the_connections_last() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let next = with_a_call_behind("Connection: close\r\n");
    let mut listener = Listener::open(&gateway, "?topic=shop.sold", &next).await;
    assert!(listener.head.contains("connection: close"), "{}", listener.head);
    listener.greeted().await;
    gateway.write_config(HUB);
    gateway.hang_up();
    assert_eq!(&*listener.next().await.expect("told of the end").kind, "ended");
    assert_eq!(listener.next().await, None, "the stream has ended");
    assert_eq!(listener.raw_line().await, None, "and so has the connection");
}

/// Who hears nothing because nothing happens has nothing to take.
#[tokio::test]
async fn a_stream_over_http2_on_which_nothing_happens_is_not_cut() {
    let limits = "[http]\nwrite_timeout = \"300ms\"\n";
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}{limits}")).await;
    let mut shop = shop(&gateway).await;
    let (mut sender, ended) = http2(&gateway).await;
    let request = http::Request::get(format!("{}/events?topic=shop.sold", gateway.url()));
    let response = sender.send_request(request.body(Full::<Bytes>::default()).expect("a request"));
    let mut body = response.await.expect("a stream").into_body();
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "sse")], 1.0).await;
    sleep(Duration::from_millis(1_500)).await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    let mut heard = String::new();
    while !heard.contains("shop.sold") {
        let frame = body.frame().await.expect("the stream goes on").expect("a frame");
        heard += std::str::from_utf8(frame.data_ref().expect("text")).expect("UTF-8");
    }
    drop((body, sender));
    ended.await.expect("no panic");
}
