//! Requests that a real service would die of or never answer (WIRE 1.4), and those of other clients:
//! each is answered where there is somebody to answer, and nobody else's call is touched.

use std::io::Write;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::caller::{Caller, NONE};
use super::{World, row};
use crate::harness::raw_amqp::{RawPublisher, long, short};
use crate::harness::responder::queue_state;
use crate::harness::{Answer, NatsResponder, eventually};

/// A service that says what it was sent.
async fn echo(world: &World) -> NatsResponder {
    let client = world.nats.client().await;
    NatsResponder::serve(client, "echo", |seen| {
        Answer::new(if seen.body.is_empty() { "\"nothing\"".to_owned() } else { seen.body.clone() })
    })
    .await
}

/// Waits until the queue is empty and nothing is unacked: the messages have not been put back.
async fn is_settled(world: &World) {
    let queue = format!("queues/{}/rpc-echo", world.vhost.name());
    eventually("all requests are acked", async || {
        let queue = crate::harness::RabbitMq::shared().get(&queue);
        let left = queue["messages"].as_u64()?;
        let state = queue_state(&world.vhost.url(), "rpc-echo").await;
        (left == 0 && state == Some((1, 0))).then_some(())
    })
    .await;
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn packed(properties: BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), AMQPValue::LongString("application/x-gzip".into()));
    properties.with_headers(headers)
}

#[tokio::test]
async fn what_can_be_read_is_read() {
    let world = World::exposing("plain", &["echo"]).await;
    let _echo = echo(&world).await;
    let mut caller = Caller::connect(&world.vhost.url(), "rpc-node-response-1").await;
    let body = r#"{"args":[3],"kwargs":{}}"#;
    let mut string_stack = FieldTable::default();
    let stack = AMQPValue::LongString("standalone_rpc_proxy.call.bar".into());
    string_stack.insert("nameko.call_id_stack".into(), stack);
    let full = caller.properties("7");
    let no_type = BasicProperties::default()
        .with_reply_to(caller.key.as_str().into())
        .with_correlation_id("7".into());
    let cases = [
        ("node-nameko-client's", full.clone().with_headers(string_stack)),
        ("no content type", no_type),
        ("charset", full.clone().with_content_type("application/json; charset=utf-8".into())),
        ("text", full.clone().with_content_type("text/plain".into())),
        ("persistent", full.clone().with_delivery_mode(2).with_content_encoding("utf-8".into())),
    ];
    for (what, properties) in cases {
        let reply = caller.call("echo.x", properties, body).await;
        assert_eq!(reply.body, json!({"result": 3, "error": null}), "{what}");
        assert_eq!(reply.id(), Some("7"), "{what}");
        let kind = reply.properties.content_type().as_ref().map(ToString::to_string);
        assert_eq!(kind.as_deref(), Some("application/json"), "{what}");
    }
    let nameless = BasicProperties::default().with_reply_to(caller.key.as_str().into());
    let reply = caller.call("echo.x", nameless, body).await;
    assert_eq!((&reply.body["result"], reply.id()), (&json!(3), None));
    let more = r#"{"args":[{"a":1}],"kwargs":{},"more":[{"args":2}]}"#;
    assert_eq!(caller.call("echo.x", full.clone(), more).await.body["result"], json!({"a": 1}));
    caller.send("echo.x", packed(full.clone()), zlib(body.as_bytes())).await;
    assert_eq!(caller.reply().await.body["result"], 3);
    let nan = r#"{"args":[[NaN, "NaN", -Infinity]],"kwargs":{}}"#;
    let reply = caller.call("echo.x", full.clone(), nan).await;
    assert_eq!(reply.body["result"], json!([null, "NaN", null]));
    let date = r#"{"args":[["a",{"__type__":"date","__value__":"2024-02-29"}]],"kwargs":{}}"#;
    let reply = caller.call("echo.x", full, date).await;
    assert_eq!(reply.body["result"], json!(["a", "2024-02-29"]));
    is_settled(&world).await;
}

#[tokio::test]
async fn what_cannot_be_is_answered_with_what_is_wrong() {
    let rows = row("echo", "");
    let world = World::with("plain", &["echo"], &rows).await;
    let echo = echo(&world).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    let deep = format!(r#"{{"args":[{}{}],"kwargs":{{}}}}"#, "[".repeat(200), "]".repeat(200));
    let large = format!(r#"{{"args":["{}"],"kwargs":{{}}}}"#, "x".repeat(2 << 20));
    let malformed = "nameko.exceptions.MalformedRequest";
    let incorrect = "nameko.exceptions.IncorrectSignature";
    let cases: [(&[u8], &str); 12] = [
        (b"", malformed),
        (b"oops", malformed),
        (b"{\"args\":[],\"kwargs\":{}", malformed),
        (b"{\"args\":[\"\xe9\"],\"kwargs\":{}}", malformed),
        (b"[]", malformed),
        (b"{}", malformed),
        (b"{\"args\":[]}", malformed),
        (b"{\"args\":[],\"kwargs\":null}", incorrect),
        (b"{\"args\":[],\"kwargs\":[1]}", incorrect),
        (b"{\"args\":{\"a\":1},\"kwargs\":{}}", incorrect),
        (deep.as_bytes(), malformed),
        (large.as_bytes(), "genkan.TooLarge"),
    ];
    for (body, path) in &cases {
        caller.send("echo.x", caller.properties("7"), body).await;
        let reply = caller.reply().await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
        assert_eq!((reply.exc_path(), reply.id()), (*path, Some("7")), "{shown}");
        let error = &reply.body["error"];
        assert_eq!(error["exc_args"], json!([error["value"]]), "{shown}");
        assert_eq!(error["data"]["outcome"], "not_sent", "{shown}");
    }
    let bomb = zlib(&vec![b' '; 64 << 20]);
    caller.send("echo.x", packed(caller.properties("7")), bomb).await;
    assert_eq!(caller.reply().await.exc_path(), "genkan.TooLarge");
    caller.send("echo.x", packed(caller.properties("7")), b"not packed").await;
    assert_eq!(caller.reply().await.exc_path(), malformed);
    assert_eq!(echo.requests.count(), 0, "none of them has run");
    assert_eq!(caller.call("echo.x", caller.properties("8"), NONE).await.id(), Some("8"));
    is_settled(&world).await;
    // At the row of what they called, the one that ran too.
    let labels = [("ingress", "nameko"), ("route", "*"), ("upstream", "bus")];
    assert_eq!(world.gateway.metric("genkan_calls_total", &labels).await, 15.0);
    assert!(!world.gateway.logged("call failed").is_empty());
}

#[tokio::test]
async fn who_cannot_be_answered_harms_nobody() {
    let world = World::exposing("plain", &["echo"]).await;
    let echo = echo(&world).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    // Nobody to answer: a notification, whatever it is.
    let silent = BasicProperties::default().with_content_type("application/json".into());
    caller.send("echo.note", silent.clone(), NONE).await;
    caller.send("echo.note", silent, "oops").await;
    caller.send("echo.note", BasicProperties::default(), "oops").await;
    // A reply queue that is gone.
    let gone = caller.properties("7").with_reply_to("gone".into());
    caller.send("echo.gone", gone, NONE).await;
    let reply = caller.call("echo.x", caller.properties("8"), NONE).await;
    assert_eq!(reply.body["result"], "nothing");
    eventually("each has run", async || (echo.requests.count() == 3).then_some(())).await;
    let seen = echo.requests.all();
    let note = seen.iter().find(|seen| seen.method == "note").expect("it came");
    assert_eq!(note.reply_to, None, "nobody waits for it");
    is_settled(&world).await;
    assert!(world.gateway.runs());
    assert_eq!(world.gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}

#[tokio::test]
async fn direct_replies_arrive() {
    let world = World::exposing("plain", &["echo"]).await;
    let _echo = echo(&world).await;
    let mut caller = Caller::direct(&world.vhost.url()).await;
    let reply = caller.call("echo.x", caller.properties("7"), r#"{"args":[5],"kwargs":{}}"#).await;
    assert_eq!((&reply.body["result"], reply.id()), (&json!(5), Some("7")));
    let reply = caller.call("echo.x", caller.properties("8"), "oops").await;
    assert_eq!(reply.exc_path(), "nameko.exceptions.MalformedRequest");
    is_settled(&world).await;
}

#[tokio::test]
async fn properties_that_client_libraries_do_not_survive_cost_nobody_a_call() {
    let world = World::exposing("plain", &["echo"]).await;
    let _echo = echo(&world).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    let mut raw = RawPublisher::connect(&world.vhost.url()).await;
    let nested =
        (0..18_000).fold(Vec::new(), |inside, _| [&b"\x01kF"[..], &long(&inside)].concat());
    let (id, to) = (short(b"7"), short(b"own"));
    // Content type, headers, correlation id, reply to.
    let with_headers = |table: &[u8]| {
        [&[0xa6, 0][..], &short(b"application/json"), &long(table), &id, &to].concat()
    };
    let oddities = [
        ("a header's key", with_headers(b"\x02\xff\xfet\x01")),
        ("deep nesting", with_headers(&nested)),
        ("a content type", [&[0x86, 0][..], &short(b"\xff\xfe"), &id, &to].concat()),
    ];
    for (what, properties) in oddities {
        raw.request("echo.x", &properties, br#"{"args":[5],"kwargs":{}}"#).await;
        let reply = caller.reply().await;
        assert_eq!((&reply.body["result"], reply.id()), (&json!(5), Some("7")), "{what}");
    }
    is_settled(&world).await;
    assert_eq!(world.gateway.logged("exposed: its calls are taken").len(), 1);
}

/// RabbitMQ hands over longer headers than were agreed upon. Without them a call would run as nobody's, with no deadline,
/// and again by the same key.
#[tokio::test]
async fn a_request_whose_context_no_frame_takes_is_refused_and_not_run_without_it() {
    let world = World::exposing("plain", &["echo"]).await;
    let _echo = echo(&world).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    let with = |id: &str, kilobytes: usize| {
        let mut headers = FieldTable::default();
        let text = AMQPValue::LongString("x".repeat(kilobytes << 10).into());
        headers.insert("nameko.permissions".into(), text);
        caller.properties(id).with_headers(headers)
    };
    let (small, large) = (with("7", 15), with("8", 17));
    let reply = caller.call("echo.x", small, r#"{"args":[5],"kwargs":{}}"#).await;
    assert_eq!((&reply.body["result"], reply.id()), (&json!(5), Some("7")));
    let reply = caller.call("echo.x", large, r#"{"args":[5],"kwargs":{}}"#).await;
    assert_eq!((&reply.body["result"], reply.id()), (&Value::Null, Some("8")), "{}", reply.body);
    let said = reply.body["error"]["value"].as_str().unwrap_or_default();
    assert!(said.contains("`frame_max`") && said.contains("16384 are taken"), "{said}");
    is_settled(&world).await;
}

#[tokio::test]
async fn a_result_that_nameko_would_read_as_something_else_is_told() {
    let world = World::exposing("plain", &["odd"]).await;
    let client = world.nats.client().await;
    let tagged = r#"[{"__type__":"mine","__value__":1}]"#;
    let _odd = NatsResponder::serve(client, "odd", move |_| Answer::new(tagged)).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    let reply = caller.call("odd.x", caller.properties("7"), NONE).await;
    assert_eq!(reply.exc_path(), "genkan.Internal");
    assert_eq!(reply.body["error"]["data"]["outcome"], "executed");
    let value = reply.body["error"]["value"].as_str().unwrap_or_default();
    assert!(value.contains("`__type__`"), "{value}");
    assert_eq!(reply.body["result"], Value::Null);
}

#[tokio::test]
async fn what_is_refused_early_is_named_in_the_log() {
    let world = World::with("plain", &["echo"], &row("echo", "as = \"other\"")).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    let reply = caller.call("other.create", caller.properties("1"), "{").await;
    assert_eq!(reply.exc_path(), "nameko.exceptions.MalformedRequest");
    let line = world.gateway.wait_for_log(0, "call failed").await;
    assert_eq!((&line["call"], &line["kind"]), (&json!("echo.create"), &json!("parse_error")));
}
