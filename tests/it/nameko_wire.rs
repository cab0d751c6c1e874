//! What leaves for a Nameko service, byte by byte, and what odd replies come to. The service is
//! the tests' own, so that it can see and say what no real one would.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::responder::connect;
use crate::harness::{Answer, Gateway, NamekoResponder, RabbitMq, Seen, as_fault, eventually};

const OK: &str = r#"{"result": "ok", "error": null}"#;

async fn service(
    answer: impl Fn(&Seen) -> Vec<Answer> + Send + Sync + 'static,
) -> (Gateway, NamekoResponder) {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    (Gateway::ready(&vhost.config()).await, service)
}

#[tokio::test]
async fn a_call_is_sent_as_namekos_own_clients_send_it() {
    let (gateway, service) = service(|_| Answer::new(OK)).await;
    let headers = [
        ("Accept-Language", "de-AT"),
        ("User-Agent", "till/7"),
        ("X-Request-Timeout", "4s"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let body = r#"{"jsonrpc":"2.0","method":"orders.create","params":[1.10,"\u00e9"],"id":1}"#;
    gateway.post("/api", &headers, body).await;
    let seen = service.requests.last();
    assert_eq!(seen.method, "create");
    assert_eq!(seen.body, r#"{"args":[1.10,"\u00e9"],"kwargs":{}}"#);
    assert_eq!(seen.content_type.as_deref(), Some("application/json"), "else the service dies");
    assert_eq!(seen.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(seen.delivery_mode, Some(1), "calls are transient");
    let id = seen.correlation_id.expect("one");
    let form: String = id.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
    assert_eq!(form, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "{id}");
    assert!(id[14..].starts_with('4') && id[19..].starts_with(['8', '9', 'a', 'b']), "{id}");
    assert!(seen.headers["nameko.call_id_stack"].ends_with(&format!(".{id}]")), "{id}");
    let reply_to = seen.reply_to.expect("one");
    assert!(!reply_to.contains(['.', '*', '#']), "{reply_to}");
    let expiration: u64 = seen.expiration.as_deref().expect("one").parse().expect("milliseconds");
    assert!((1_000..=4_000).contains(&expiration), "{expiration}");
    assert_eq!(seen.headers["nameko.language"], "de-AT");
    assert_eq!(seen.headers["nameko.user_agent"], "till/7");
    let stack = &seen.headers["nameko.call_id_stack"];
    assert!(stack.starts_with('[') && stack.ends_with(']'), "an array: {stack}");
    let deadline = seen.headers.iter().find(|(name, _)| name.contains("deadline"));
    let deadline: u128 = deadline.expect("a deadline").1.parse().expect("milliseconds");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    assert!(deadline.abs_diff(now.as_millis()) < 5_000, "{deadline}");
    let trace = seen.headers.get("traceparent").expect("a trace");
    assert_eq!(&trace[3..35], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn the_three_forms_of_params() {
    let (gateway, service) = service(|_| Answer::new(OK)).await;
    for (params, body) in [
        ("\"params\":[1, 2],", r#"{"args":[1, 2],"kwargs":{}}"#),
        ("\"params\":{\"b\": 1,\"a\":2},", r#"{"args":[],"kwargs":{"b": 1,"a":2}}"#),
        ("\"params\":[],", r#"{"args":[],"kwargs":{}}"#),
        ("", r#"{"args":[],"kwargs":{}}"#),
        ("\"params\":[null],", r#"{"args":[null],"kwargs":{}}"#),
    ] {
        gateway.api(format!(r#"{{"jsonrpc":"2.0",{params}"method":"orders.x","id":1}}"#)).await;
        assert_eq!(service.requests.last().body, body);
    }
}

#[tokio::test]
async fn a_notification_is_persistent_and_says_where_to_reply() {
    let (gateway, service) = service(|_| Answer::new(OK)).await;
    gateway.notify("orders.note", json!([1])).await;
    eventually("it came", async || (service.requests.count() == 1).then_some(())).await;
    let seen = service.requests.last();
    assert_eq!(seen.delivery_mode, Some(2));
    assert_eq!(seen.content_type.as_deref(), Some("application/json"));
    assert!(seen.reply_to.is_some(), "without one the service dies");
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
}

#[tokio::test]
async fn routes_rename_and_the_exchange_can_be_another() {
    let vhost = RabbitMq::shared().vhost();
    let service = NamekoResponder::serve(&vhost.url(), "orders_service", |_| Answer::new(OK)).await;
    let toml = format!(
        "{}\n[[routes]]\nmatch = \"orders.new\"\nupstream = \"rabbit\"\nservice = \"orders_service\"\n\
         method = \"create\"\n[[routes]]\nmatch = \"orders.*\"\nupstream = \"rabbit\"\n\
         service = \"orders_service\"\n",
        vhost.upstream("rabbit")
    );
    let gateway = Gateway::ready(&toml).await;
    gateway.result("orders.new", json!([])).await;
    assert_eq!(service.requests.last().method, "create");
    gateway.result("orders.list", json!([])).await;
    assert_eq!(service.requests.last().method, "list");
    let other =
        toml.replace("protocol = \"nameko\"", "protocol = \"nameko\"\nexchange = \"other\"");
    let fault = Gateway::ready(&other).await.fault("orders.list", json!([])).await;
    fault.is("unknown_service", "not_sent");
}

#[tokio::test]
async fn tagged_values_in_params_are_refused_before_they_are_sent() {
    let (gateway, service) = service(|_| Answer::new(OK)).await;
    for params in [
        json!([{"__type__": "uuid", "__value__": "x"}]),
        json!({"deep": [{"er": {"__value__": 1, "__type__": "bytes"}}]}),
    ] {
        let fault = gateway.fault("orders.x", params).await;
        assert_eq!(fault.is("invalid_params", "not_sent").code, -32602);
        assert!(fault.message.contains("__type__"), "{}", fault.message);
    }
    let escaped = r#"{"jsonrpc":"2.0","method":"orders.x","params":[{"\u005f_type__":"uuid","__value__":1}],"id":1}"#;
    as_fault(&gateway.api(escaped).await).is("invalid_params", "not_sent");
    assert_eq!(service.requests.count(), 0);
    for harmless in
        [json!([{"__type__": "x"}]), json!([{"__type__": 1, "__value__": 2, "more": 3}])]
    {
        gateway.result("orders.x", harmless).await;
    }
    assert!(gateway.metric("genkan_refused_total", &[("upstream", "rabbit")]).await >= 3.0);
}

#[tokio::test]
async fn names_that_would_reach_somebody_else_are_refused() {
    let (gateway, service) = service(|_| Answer::new(OK)).await;
    for name in ["orders.*", "orders.#", "#.x", "*.create", "or ders.x", "orders.cre ate", "a..x"] {
        let fault = gateway.fault(name, json!([])).await;
        assert_eq!(fault.data["outcome"], "not_sent", "{name}: {fault:?}");
    }
    let long = format!("orders.{}", "x".repeat(300));
    assert_eq!(gateway.fault(&long, json!([])).await.data["outcome"], "not_sent");
    assert_eq!(service.requests.count(), 0);
}

#[tokio::test]
async fn replies_read_leniently() {
    let cases = [
        (r#"{"result": 1}"#, "1"),
        (r#"{"result": {"b": 1, "a": 2}, "error": null, "extra": [1]}"#, r#"{"b": 1, "a": 2}"#),
        (r#"{"error": null, "result": null}"#, "null"),
        (" {\"result\" : \"x\"\n} ", "\"x\""),
        (r#"{"\ud800": 1, "result": 7, "error": null}"#, "7"),
        (r#"{"result": NaN, "error": null}"#, "null"),
        (r#"{"result": [Infinity, -Infinity, "NaN"], "error": null}"#, r#"[null, null, "NaN"]"#),
    ];
    for (reply, result) in cases {
        let (gateway, _service) = service(move |_| Answer::new(reply)).await;
        assert_eq!(gateway.raw("orders.x", "[]").await, result, "{reply}");
    }
}

#[tokio::test]
async fn replies_that_are_no_replies_end_the_call_with_a_fault() {
    let replies: [&[u8]; 9] = [
        b"",
        b"not JSON",
        b"{",
        b"[1]",
        b"7",
        b"null",
        b"{}",
        b"{\"result\": \"\xff\"}",
        b"{\"result\": 1,}",
    ];
    for reply in replies {
        let (gateway, _service) = service(move |_| Answer::new(reply)).await;
        let fault = gateway.fault("orders.x", json!([])).await;
        assert_eq!(fault.is("internal", "executed").code, -32050, "{reply:?}");
        assert_eq!(gateway.fault("orders.y", json!([])).await.code, -32050, "and lives on");
    }
}

#[tokio::test]
async fn replies_are_read_whatever_content_type_they_name() {
    for content_type in ["application/json; charset=utf-8", "text/plain", "application/data"] {
        let (gateway, _service) = service(move |_| {
            let mut answers = Answer::new(r#"{"result": "é", "error": null}"#);
            answers[0].content_type = Some(content_type.to_owned());
            answers
        })
        .await;
        assert_eq!(gateway.result("orders.x", json!([])).await, "é", "{content_type}");
    }
    for (content_type, body) in [
        ("application/x-python-serialize", &b"\x80\x04\x95\x0e\0\0\0\0\0\0\0}\x94."[..]),
        ("application/x-msgpack", b"\x82\xa6result\x07\xa5error\xc0"),
        ("application/x-yaml", b"result: 7\nerror: null\n"),
    ] {
        let (gateway, _service) = service(move |_| {
            let mut answers = Answer::new(body);
            answers[0].content_type = Some(content_type.to_owned());
            answers
        })
        .await;
        let fault = gateway.fault("orders.x", json!([])).await;
        fault.is("internal", "executed");
        assert!(fault.message.contains(content_type), "{}", fault.message);
    }
}

#[tokio::test]
async fn compressed_replies_are_unpacked_within_a_limit() {
    let zlib = |plain: &[u8]| {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(plain).unwrap();
        packed.finish().unwrap()
    };
    let sized = |size: usize| zlib(format!(r#"{{"result": "{}"}}"#, "x".repeat(size)).as_bytes());
    let packed = |method: &'static str, body: Vec<u8>| {
        service(move |_| {
            let mut answers = Answer::new(body.clone());
            answers[0].headers.push(("compression".to_owned(), method.to_owned()));
            answers
        })
    };
    for method in ["application/x-gzip", "application/zlib"] {
        let (gateway, _service) = packed(method, sized(3_000_000)).await;
        let result = gateway.result("orders.x", json!([])).await;
        assert_eq!(result.as_str().map(str::len), Some(3_000_000), "{method}");
    }
    let (gateway, _service) = packed("application/zlib", sized(17 << 20)).await;
    let fault = gateway.fault("orders.x", json!([])).await;
    fault.is("too_large", "executed");
    assert!(fault.message.contains("16MiB"), "{}", fault.message);
    for (body, says) in [
        (br#"{"result": 1}"#.to_vec(), "neither gzip nor zlib"),
        (sized(1_000)[..20].to_vec(), "neither gzip nor zlib"),
    ] {
        let (gateway, _service) = packed("application/x-gzip", body).await;
        let fault = gateway.fault("orders.x", json!([])).await;
        fault.is("internal", "executed");
        assert!(fault.message.contains(says), "{}", fault.message);
    }
}

#[tokio::test]
async fn errors_of_every_shape() {
    let cases = [
        (r#""just text""#, "just text", Value::Null, json!("just text")),
        (r#"{"exc_type": "X", "value": "v"}"#, "v", json!("X"), json!("v")),
        (r#"{"exc_type": "X"}"#, "X", json!("X"), Value::Null),
        (r#"{"exc_type": "X", "value": {"k": 1}}"#, "X", json!("X"), json!({"k": 1})),
        (
            r#"{"exc_type": 7, "exc_path": [], "exc_args": 1, "value": 2}"#,
            "2",
            Value::Null,
            json!(2),
        ),
        ("[1, 2]", "1", Value::Null, json!([1, 2])),
    ];
    for (error, said, class, info) in cases {
        let reply = format!("{{\"result\": 5, \"error\": {error}}}");
        let (gateway, _service) = service(move |_| Answer::new(reply.clone())).await;
        let fault = gateway.fault("orders.x", json!([])).await;
        fault.is("application", "executed");
        assert!(fault.message.contains(said), "{error}: {fault:?}");
        assert_eq!((&fault.data["class"], &fault.data["info"]), (&class, &info), "{error}");
    }
}

#[tokio::test]
async fn replies_that_are_not_for_a_call_touch_no_other() {
    let (gateway, service) = service(|seen| match seen.method.as_str() {
        "twice" => [Answer::new(OK), Answer::new(r#"{"result": "second"}"#)].concat(),
        "wrong" => {
            let mut answers = Answer::new(r#"{"result": "wrong"}"#);
            answers[0].correlation_id = Some("somebody-else".to_owned());
            answers
        }
        "slow" => Answer::after(r#"{"result": "slow"}"#, Duration::from_millis(300)),
        _ => Answer::new(OK),
    })
    .await;
    assert_eq!(gateway.result("orders.twice", json!([])).await, "ok");
    for _ in 0..20 {
        assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    }
    gateway.wait_for_metric("genkan_late_replies_total", &[("upstream", "rabbit")], 1.0).await;
    let wrong = r#"{"jsonrpc":"2.0","method":"orders.wrong","id":1}"#;
    let (wrong, slow) = tokio::join!(
        gateway.post("/api", &[("X-Request-Timeout", "200ms")], wrong),
        gateway.result("orders.slow", json!([]))
    );
    as_fault(&wrong.json()).is("timeout", "unknown");
    assert_eq!(slow, "slow");
    let seen = service.requests.last();
    for body in ["garbage", "", OK] {
        service.say(&seen, Answer { body: body.into(), ..Answer::default() }).await;
    }
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
}

#[tokio::test]
async fn a_thousand_calls_at_once_half_of_them_unroutable_and_none_confused() {
    let (gateway, service) = service(|seen| {
        let args: Value = serde_json::from_str(&seen.body).expect("JSON");
        Answer::new(format!("{{\"result\": {}, \"error\": null}}", args["args"][0]))
    })
    .await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(gateway.connect().await);
    }
    let work = connections.into_iter().enumerate().map(|(client, mut connection)| async move {
        let calls: Vec<_> = (0..50)
            .map(|call| {
                let id = client * 50 + call;
                let name = if id % 2 == 0 { "orders" } else { "nobody" };
                format!(r#"{{"jsonrpc":"2.0","method":"{name}.x","params":[{id}],"id":{id}}}"#)
            })
            .collect();
        connection.request("POST", "/api", &[], format!("[{}]", calls.join(",")).as_bytes()).await;
        connection.receive().await.expect("an answer").json()
    });
    let answers = futures_util::future::join_all(work).await;
    let answers: Vec<&Value> =
        answers.iter().flat_map(|batch| batch.as_array().expect("a batch")).collect();
    assert_eq!(answers.len(), 1_000);
    for answer in answers {
        let id = answer["id"].as_u64().expect("an id");
        if id % 2 == 0 {
            assert_eq!(answer["result"], id, "{answer}");
        } else {
            as_fault(answer).is("unknown_service", "not_sent");
        }
    }
    assert_eq!(service.requests.count(), 500);
}

#[tokio::test]
async fn a_queue_without_a_consumer_is_told_apart_from_a_slow_service() {
    let vhost = RabbitMq::shared().vhost();
    let connection = connect(&vhost.url()).await;
    let channel = connection.create_channel().await.expect("a channel");
    crate::harness::responder::declare_service(&channel, "asleep").await;
    let slow = NamekoResponder::serve(&vhost.url(), "slow", |_| {
        Answer::after(OK, Duration::from_millis(1_500))
    })
    .await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let fault = gateway.fault("asleep.x", json!([])).await;
    assert_eq!(fault.is("unavailable", "not_sent").code, -32004);
    assert!(fault.message.contains("asleep"), "{}", fault.message);
    let state = crate::harness::responder::queue_state(&vhost.url(), "rpc-asleep").await;
    assert_eq!(state, Some((0, 0)), "nothing waits there to be executed later");
    assert_eq!(gateway.result("slow.x", json!([])).await, "ok");
    assert_eq!(slow.requests.count(), 1);
    // A notification waits for its service, however long.
    gateway.notify("asleep.note", json!([1])).await;
    eventually("it waits in the queue", async || {
        let state = crate::harness::responder::queue_state(&vhost.url(), "rpc-asleep").await;
        (state == Some((0, 1))).then_some(())
    })
    .await;
}

/// A call that was sent before the probe saw that its service had stopped. It may be in the queue,
/// or in the hands of a worker that is about to reply: nobody can tell, so it keeps its deadline.
#[tokio::test]
async fn a_call_to_a_service_that_restarts_is_answered_and_no_late_one_is_executed() {
    let vhost = RabbitMq::shared().vhost();
    let url = vhost.url();
    let start = || NamekoResponder::serve(&url, "orders", |_| Answer::new(OK));
    let queue = async |state: (u32, u32)| {
        eventually(&format!("the queue is {state:?}"), async || {
            let found = crate::harness::responder::queue_state(&url, "rpc-orders").await;
            (found == Some(state)).then_some(())
        })
        .await;
    };
    let toml = vhost.config().replace("[[routes]]", "probe_interval = \"30s\"\n[[routes]]");
    let service = start().await;
    let gateway = Gateway::ready(&toml).await;
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    service.stop().await;
    queue((0, 0)).await;
    let restart = async {
        queue((0, 1)).await;
        start().await
    };
    let (answer, service) = tokio::join!(gateway.result("orders.x", json!([])), restart);
    assert_eq!(answer, "ok");
    service.stop().await;
    queue((0, 0)).await;
    let call = r#"{"jsonrpc":"2.0","method":"orders.late","params":[],"id":1}"#;
    let answer = gateway.post("/api", &[("X-Request-Timeout", "500ms")], call).await;
    as_fault(&answer.json()).is("timeout", "unknown");
    let service = start().await;
    assert_eq!(gateway.result("orders.x", json!([])).await, "ok");
    assert_eq!(service.requests.last().method, "x");
    assert_eq!(service.requests.count(), 1, "the late call had expired");
}

#[tokio::test]
async fn a_service_that_was_missing_once_is_watched_like_any_other() {
    let vhost = RabbitMq::shared().vhost();
    let gateway = Gateway::ready(&vhost.config()).await;
    gateway.fault("orders.x", json!([])).await.is("unknown_service", "not_sent");
    let connection = connect(&vhost.url()).await;
    let channel = connection.create_channel().await.expect("a channel");
    crate::harness::responder::declare_service(&channel, "orders").await;
    let call = r#"{"jsonrpc":"2.0","method":"orders.x","id":1}"#;
    let within = [("X-Request-Timeout", "500ms")];
    // It is taken, and that tells that the queue is there.
    as_fault(&gateway.post("/api", &within, call).await.json()).is("timeout", "unknown");
    let fault = as_fault(&gateway.post("/api", &within, call).await.json());
    fault.is("unavailable", "not_sent");
    let service = NamekoResponder::serve(&vhost.url(), "orders", |_| Answer::new(OK)).await;
    eventually("it is served", async || {
        let answer = gateway.post("/api", &within, call).await.json();
        (answer["result"] == "ok").then_some(())
    })
    .await;
    let answered = service.requests.count();
    service.stop().await;
    eventually("it is noticed", async || {
        let fault = as_fault(&gateway.post("/api", &within, call).await.json());
        (fault.data["kind"] == "unavailable").then_some(())
    })
    .await;
    assert!(answered >= 1);
}

#[tokio::test]
async fn the_gateway_declares_no_services_queue_and_leaves_none_behind() {
    let vhost = RabbitMq::shared().vhost();
    let gateway = Gateway::ready(&vhost.config()).await;
    gateway.fault("nobody.x", json!([])).await;
    let queues = format!("queues/{}", vhost.name());
    let names = || -> Vec<String> {
        let queues = RabbitMq::shared().get(&queues);
        let queues = queues.as_array().cloned().unwrap_or_default();
        queues.iter().map(|queue| queue["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert!(names().iter().all(|name| !name.starts_with("rpc-")), "{:?}", names());
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    eventually("its reply queue is gone", async || names().is_empty().then_some(())).await;
}
