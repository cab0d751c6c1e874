//! Messages that no library would send: each gets a clear fault where somebody waits, and costs nobody
//! else anything.

use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{World, as_json, ask_with, echo, header, row};
use crate::harness::eventually;
use crate::harness::websocket::WebSocket;

#[tokio::test]
async fn what_is_no_message_is_answered() {
    let rows = [row("desk", "picom", ""), row("desk", "plain", "as = \"bare\"")].concat();
    let world = World::with(&rows, echo).await;
    let deep = "[".repeat(100_000);
    for body in ["null", "0", "false", "\"\"", "{", "{\"a\":1}x", "\u{0}", "'a'", &deep] {
        let reply = world.ask("desk.x", body).await;
        assert_eq!(as_json(&reply)["error"], "Bad JSON request", "{body:.20}");
    }
    for (body, fault) in [
        ("{", "parse_error not_sent"),
        ("1 2", "parse_error not_sent"),
        (&deep, "invalid_request not_sent"),
    ] {
        let reply = world.ask("bare.x", body).await;
        assert_eq!(header(&reply, "Genkan-Fault"), fault, "{body:.20}");
    }
    assert_eq!(world.desk.requests.count(), 0, "none of it has run");
    let latin = bytes::Bytes::from_static(b"\"ung\xfcltig\"");
    let reply = world.client.request("desk.x", latin).await.expect("an answer");
    assert_eq!(as_json(&reply)["error"], "Bad JSON request");
    // Python's numbers are mended, and told.
    assert!(as_json(&world.ask("bare.x", "[NaN]").await).get("args").is_some());
    assert_eq!(world.desk.requests.last().body, r#"{"args":[null],"kwargs":{}}"#);
    assert_eq!(world.gateway.metric("genkan_repaired_replies_total", &[]).await, 1.0);
}

#[tokio::test]
async fn subjects_that_name_no_method() {
    let rows = [row("desk", "picom", ""), row("desk", "plain", "as = \"bare\"\nmethods = [\"x\"]")];
    let world = World::with(&rows.concat(), echo).await;
    let reply = world.ask("bare.constructor", "").await;
    assert_eq!(header(&reply, "Genkan-Fault"), "unknown_method not_sent");
    // One that a service would die of is a name like any other here.
    let reply = world.ask("desk.constructor", "").await;
    assert!(as_json(&reply).get("payload").is_some());
}

/// Whoever says what is left of its time means it: nothing is done for nobody.
#[tokio::test]
async fn a_time_limit_that_is_none_is_refused_by_every_way_in() {
    let names = [("pic", "picom"), ("plain", "plain"), ("tiny", "micro"), ("nested", "nest")];
    let rows = names.map(|(name, dialect)| {
        let methods = if ["micro", "nest"].contains(&dialect) { "\nmethods = [\"x\"]" } else { "" };
        row("desk", dialect, &format!("as = \"{name}\"{methods}"))
    });
    let world = World::with(&rows.concat(), echo).await;
    for limit in ["0ms", "-5ms", "0", "1", "abc", " "] {
        let headers = [("X-Request-Timeout", limit)];
        for (name, _) in names {
            let reply = ask_with(&world.client, &format!("{name}.x"), "{}", &headers).await;
            let told = header(&reply, "Genkan-Fault");
            assert_eq!(told, "invalid_request not_sent", "{name} {limit:?}");
        }
        let response = world.gateway.post("/call/desk/x", &headers, "{}").await;
        assert_eq!(response.status, 400, "{limit:?}: {}", response.text());
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"desk.x"}"#;
        let response = world.gateway.post("/api", &headers, call).await;
        assert_eq!(response.json()["error"]["code"], -32600, "{limit:?}");
        let socket = WebSocket::upgrade(world.gateway.connect().await, "/api", &headers).await;
        assert_eq!(socket.err().map(|response| response.status), Some(400), "{limit:?}");
    }
    assert_eq!(world.desk.requests.count(), 0, "none of it has run");
    for (name, _) in names {
        let headers = [("X-Request-Timeout", " 20s ")];
        let reply = ask_with(&world.client, &format!("{name}.x"), "{}", &headers).await;
        assert_eq!(header(&reply, "Genkan-Fault"), "", "{name}");
    }
}

#[tokio::test]
async fn bytes_that_no_library_writes() {
    let world = World::exposing("plain", "", echo).await;
    let stream = TcpStream::connect(world.nats.address()).await.expect("the server accepts");
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let connect = br#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"protocol":1}"#;
    writer.write_all(&[connect, &b"\r\nSUB own.> 1\r\n"[..]].concat()).await.expect("written");
    let block = b"NATS/1.0\r\nAccept-Language: \xfcber\r\nno colon\r\nGenkan-Hops: many\r\n\
        traceparent: 00-no\r\nX-Request-Id: a\x01b\r\n\r\n";
    let size = block.len();
    let mut message = format!("HPUB desk.x own.1 {size} {}\r\n", size + 2).into_bytes();
    message.extend_from_slice(block);
    message.extend_from_slice(b"{}\r\n");
    writer.write_all(&message).await.expect("written");
    let answered = loop {
        let line = lines.next_line().await.expect("bytes").expect("a line");
        if line.starts_with("HMSG own.1") {
            break line;
        }
    };
    assert!(answered.contains("own.1"));
    let headers = world.desk.requests.last().headers;
    assert_eq!(headers.get("nameko.language").map(String::as_str), Some("über"), "{headers:?}");
    assert_eq!(headers.get("nameko.request_id"), None);
    assert_eq!(headers.get("nameko.genkan_hops").map(String::as_str), Some("1"));
    // A subject to answer to that is longer than any inbox, and whatever follows it.
    let long = format!("PUB desk.x own.{} 0\r\n\r\n", "x".repeat(3000));
    writer.write_all(long.as_bytes()).await.expect("written");
    writer
        .write_all(b"PUB desk.\xff\xfe own.2 0\r\n\r\nPUB desk.x own.3 0\r\n\r\n")
        .await
        .expect("written");
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let line = lines.next_line().await.expect("bytes").expect("a line");
        answered.extend(
            line.strip_prefix("HMSG ").map(|line| line.split(' ').next().unwrap().to_owned()),
        );
    }
    answered.sort();
    assert_eq!(answered, ["own.2", "own.3"]);
    let refused = [("ingress", "nats"), ("outcome", "invalid_request")];
    assert_eq!(world.gateway.metric("genkan_calls_total", &refused).await, 1.0);
    assert_eq!(world.desk.requests.count(), 2);
    let reconnects = [("upstream", "bus")];
    assert_eq!(world.gateway.metric("genkan_upstream_reconnects_total", &reconnects).await, 0.0);
}

/// Whoever may publish would have Genkan write where it may and they may not.
#[tokio::test]
async fn an_answer_is_no_order_to_the_server() {
    let world = World::exposing("plain", "", echo).await;
    let mut orders = world.client.subscribe("$KV.>").await.expect("subscribed");
    let mut own = world.client.subscribe("own").await.expect("subscribed");
    for reply in ["$KV.bucket.key", "$JS.API.STREAM.PURGE.orders", "own"] {
        let asked = world.client.publish_with_reply("desk.x", reply, "{}".into()).await;
        asked.expect("published");
    }
    own.next().await.expect("an answer");
    assert!(orders.next().now_or_never().is_none(), "it has been written");
    assert_eq!(world.desk.requests.count(), 1, "what is refused has not run");
}

#[tokio::test]
async fn an_inbox_that_is_gone_costs_nobody_anything() {
    let world = World::exposing("picom", "", echo).await;
    for _ in 0..3 {
        let reply = "gone.inbox".to_owned();
        world.client.publish_with_reply("desk.x", reply, "".into()).await.expect("sent");
    }
    eventually("they have run", async || (world.desk.requests.count() == 3).then_some(())).await;
    assert!(world.json("desk.x", "").await.get("payload").is_some());
}
