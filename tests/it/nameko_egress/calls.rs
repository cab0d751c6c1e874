//! What goes out, what comes back, and that nothing is confused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use genkan::call::Params;
use genkan::fault::{FaultKind, Outcome};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, message::Delivery};

use super::world::{Answer, PATIENCE, Service, World, array, kind_and_outcome, object};
use crate::harness::{RabbitMq, until};

fn args_of(request: &Delivery) -> String {
    let body = String::from_utf8(request.data.clone()).unwrap();
    let args =
        body.strip_prefix(r#"{"args":"#).and_then(|rest| rest.strip_suffix(r#","kwargs":{}}"#));
    args.unwrap_or(&body).to_owned()
}

/// Answers with the arguments it got.
fn echo(request: &Delivery) -> Vec<Answer> {
    Answer::body(format!(r#"{{"result": {}, "error": null}}"#, args_of(request)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_what_nameko_expects_and_its_result_comes_back_untouched() {
    let world = World::new(RabbitMq::shared(), "").await;
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let service = Service::start(&world, move |request| {
        *keep.lock().unwrap() = Some((
            request.properties.clone(),
            request.routing_key.to_string(),
            request.data.clone(),
        ));
        Answer::body(
            br#"{"result": {"n": 1180591620717411303424, "x": 1e400, "n": -0}, "error": null}"#,
        )
    })
    .await;
    let params = object(r#"{"id": 9007199254740993, "s": "\ud800"}"#);
    let reply = world.call(&service.name, "create", params).await.unwrap();
    assert_eq!(reply.payload.as_str(), r#"{"n": 1180591620717411303424, "x": 1e400, "n": -0}"#);

    let (properties, routing_key, body) = seen.lock().unwrap().take().unwrap();
    assert_eq!(routing_key, format!("{}.create", service.name));
    assert_eq!(
        String::from_utf8(body).unwrap(),
        r#"{"args":[],"kwargs":{"id": 9007199254740993, "s": "\ud800"}}"#
    );
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().unwrap().to_string();
    assert_eq!(text(properties.content_type()), "application/json");
    assert_eq!(text(properties.content_encoding()), "utf-8");
    assert_eq!((*properties.delivery_mode(), *properties.priority()), (Some(1), Some(0)));
    assert_eq!(text(properties.reply_to()).len(), 36);
    let left: u64 = text(properties.expiration()).parse().unwrap();
    assert!((1..=PATIENCE.as_millis() as u64).contains(&left), "{left}");
    let headers = properties.headers().as_ref().unwrap().inner();
    assert!(matches!(headers.get("nameko.call_id_stack"), Some(AMQPValue::FieldArray(_))));
    // What Nameko up to 2.8 hands on with its own calls: its amqp cannot write a long again.
    assert!(matches!(headers.get("nameko.deadline"), Some(AMQPValue::Double(_))));
    assert_eq!(headers.get("traceparent"), headers.get("nameko.traceparent"));
    assert_eq!(world.linked.metric("genkan_upstream_up"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_does_not_expire_where_its_service_would_die_of_that() {
    // nameko-amqp-retry publishes a call's properties again, beside an expiration of its own.
    let world = World::new(RabbitMq::shared(), "expiration = false").await;
    let service = Service::start(&world, |request| {
        let expires = request.properties.expiration().is_some();
        let headers = request.properties.headers().as_ref().unwrap().inner();
        let deadline = headers.contains_key("nameko.deadline");
        Answer::body(format!(r#"{{"result": [{expires}, {deadline}], "error": null}}"#))
    })
    .await;
    let reply = world.call(&service.name, "create", array("[]")).await.unwrap();
    assert_eq!(reply.payload.as_str(), "[false, true]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_half_of_them_unroutable_and_none_confused() {
    let world = World::new(RabbitMq::shared(), "").await;
    let service = Service::start(&world, echo).await;
    let calls = (0..1_000).map(|n| {
        let (world, service) = (&world, &service);
        async move {
            let params = array(&format!("[{n}]"));
            if n % 2 == 0 {
                let reply = world.call(&service.name, "echo", params).await.unwrap();
                assert_eq!(reply.payload.as_str(), format!("[{n}]"));
            } else {
                let missing = format!("missing{}", n % 8);
                let fault = world.call(&missing, "echo", params).await.unwrap_err();
                assert_eq!(fault.kind(), FaultKind::UnknownService, "{n}");
                assert_eq!(fault.outcome(), Outcome::NotSent);
                assert!(fault.message().contains(&missing), "{}", fault.message());
            }
        }
    });
    join_all(calls).await;
    assert_eq!(world.linked.metric("genkan_late_replies_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_notifications_half_of_them_unroutable_and_none_confused() {
    let world = World::new(RabbitMq::shared(), "").await;
    let service = Service::queue(&world).await;
    let notifications = (0..1_000).map(|n| {
        let (world, service) = (&world, &service);
        async move {
            if n % 2 == 0 {
                world.notify(service, "log").await.unwrap();
            } else {
                let fault = kind_and_outcome(world.notify("missing", "log").await);
                assert_eq!(fault, (FaultKind::UnknownService, Outcome::NotSent), "{n}");
            }
        }
    });
    join_all(notifications).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_wait_for_their_service_and_cannot_harm_it() {
    let world = World::new(RabbitMq::shared(), "").await;
    let service = Service::queue(&world).await;
    world.notify(&service, "log").await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let service = Service::serve(&world, &service, move |request| {
        keep.lock().unwrap().push(request.properties.clone());
        Answer::body(br#"{"result": null, "error": null}"#)
    })
    .await;
    until("delivered", async || !seen.lock().unwrap().is_empty()).await;
    // A call after it shows that the notification's reply has gone nowhere.
    world.call(&service.name, "log", Params::None).await.unwrap();
    let properties = seen.lock().unwrap()[0].clone();
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(*properties.expiration(), None);
    assert!(properties.content_type().is_some() && properties.reply_to().is_some());
    assert_eq!(world.linked.metric("genkan_late_replies_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_replies_end_their_own_call_and_no_other() {
    let world = World::new(RabbitMq::shared(), "").await;
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), AMQPValue::LongString("application/x-gzip".into()));
    let zlib = {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
        encoder.write_all(br#"{"result": "unpacked"}"#).unwrap();
        encoder.finish().unwrap()
    };
    let compressed = BasicProperties::default().with_headers(headers);
    let service = Service::start(&world, move |request| {
        let answer = Answer { body: br#"{"result": 1}"#.to_vec(), ..Answer::default() };
        match request.routing_key.as_str().rsplit('.').next().unwrap() {
            "no_json" => Answer::body("hello"),
            "no_keys" => Answer::body("{}"),
            "no_object" => Answer::body("[1]"),
            "no_utf8" => Answer::body(b"{\"result\":\"\xff\"}"),
            "error_text" => Answer::body(r#"{"error": "it broke"}"#),
            "nan" => Answer::body(r#"{"result": [NaN, -Infinity], "error": null}"#),
            "zlib" => {
                vec![Answer { body: zlib.clone(), properties: Some(compressed.clone()), ..answer }]
            }
            "no_properties" => {
                vec![Answer { properties: Some(BasicProperties::default()), ..answer }]
            }
            "twice" => vec![answer.clone(), answer],
            "foreign" => vec![Answer { correlation_id: Some("other".to_owned()), ..answer }],
            _ => Answer::body(r#"{"error": {"exc_type": "ValueError", "exc_path": "builtins.ValueError", "exc_args": ["bad 1"], "value": "bad 1"}}"#),
        }
    })
    .await;
    let call = async |method: &str| world.call(&service.name, method, Params::None).await;
    for method in ["no_json", "no_keys", "no_object", "no_utf8"] {
        let fault = call(method).await.unwrap_err();
        assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::Executed));
        assert!(fault.message().contains(&service.name), "{}", fault.message());
    }
    let fault = call("error_text").await.unwrap_err();
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Application, "it broke"));
    let fault = call("raises").await.unwrap_err();
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Application, "ValueError: bad 1"));
    assert_eq!(call("nan").await.unwrap().payload.as_str(), "[null, null]");
    assert_eq!(world.linked.metric("genkan_repaired_replies_total"), 1.0);
    assert_eq!(call("zlib").await.unwrap().payload.as_str(), r#""unpacked""#);
    assert_eq!(call("no_properties").await.unwrap().payload.as_str(), "1");
    assert_eq!(world.linked.metric("genkan_late_replies_total"), 0.0);

    assert_eq!(call("twice").await.unwrap().payload.as_str(), "1");
    until("the second is counted", async || {
        world.linked.metric("genkan_late_replies_total") == 1.0
    })
    .await;
    let patience = Duration::from_millis(200);
    let foreign = world.call_within(patience, &service.name, "foreign", Params::None).await;
    assert_eq!(kind_and_outcome(foreign), (FaultKind::Timeout, Outcome::Unknown));
    until("the foreign is counted", async || {
        world.linked.metric("genkan_late_replies_total") == 2.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_harm_a_service_never_leaves() {
    let world = World::new(RabbitMq::shared(), "").await;
    let tagged = array(r#"[{"__type__": "bytes", "__value__": "x"}]"#);
    let fault = kind_and_outcome(world.call("orders", "create", tagged).await);
    assert_eq!(fault, (FaultKind::InvalidParams, Outcome::NotSent));
    let fault = kind_and_outcome(world.call("orders", "*", Params::None).await);
    assert_eq!(fault, (FaultKind::InvalidRequest, Outcome::NotSent));
    let fault = kind_and_outcome(world.notify("a b", "c").await);
    assert_eq!(fault, (FaultKind::InvalidRequest, Outcome::NotSent));
    let refused = |reason: &str| {
        world.linked.metric(&format!(
            "genkan_refused_total{{upstream=\"{}\",reason=\"{reason}\"",
            world.linked.label
        ))
    };
    assert_eq!((refused("tagged_value"), refused("routing_key")), (1.0, 2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_sent_up_to_the_last_byte_that_fits_a_frame() {
    let world = World::not_waiting(&format!("{}?frame_max=4096", RabbitMq::shared().url()), "");
    world.linked.ready().await;
    let (mut fits, mut refused) = (3_000, 4_000);
    while refused - fits > 1 {
        let length = (fits + refused) / 2;
        let fault = world.call_as(&"x".repeat(length), "missing", "m").await.unwrap_err();
        match fault.kind() {
            FaultKind::UnknownService => fits = length,
            kind => {
                assert_eq!((kind, fault.outcome()), (FaultKind::TooLarge, Outcome::NotSent));
                refused = length;
            }
        }
    }
    assert!((3_300..3_900).contains(&fits), "{fits}");
    let fault = world.call_as(&"x".repeat(fits), "missing", "m").await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::UnknownService, "{}", fault.message());
    assert_eq!(world.linked.metric("genkan_upstream_reconnects_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_nobody_consumes_is_unavailable_at_once_and_usable_at_once_after() {
    let world = World::new(RabbitMq::shared(), "probe_interval = \"10m\"").await;
    let name = Service::queue(&world).await;
    world.notify(&name, "log").await.unwrap();
    for _ in 0..3 {
        let fault = world.call(&name, "echo", Params::None).await.unwrap_err();
        assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Unavailable, Outcome::NotSent));
        assert!(fault.message().contains("nobody consumes it"), "{}", fault.message());
        assert!(fault.message().contains("1 message waits"), "{}", fault.message());
    }
    let service = Service::serve(&world, &name, echo).await;
    // Without the background's help: a call looks again by itself after a quarter of a second.
    until("served", async || world.call(&name, "echo", array("[1]")).await.is_ok()).await;
    service.stop().await;
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_is_noticed_in_the_background() {
    let world = World::new(RabbitMq::shared(), "probe_interval = \"50ms\"").await;
    let service = Service::start(&world, echo).await;
    world.call(&service.name, "echo", array("[1]")).await.unwrap();
    let name = service.name.clone();
    service.stop().await;
    let short = Duration::from_millis(300);
    until("noticed", async || {
        let call = world.call_within(short, &name, "echo", Params::None).await;
        kind_and_outcome(call) == (FaultKind::Unavailable, Outcome::NotSent)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_thousands_of_missing_services_do_not_use_up_the_channels() {
    let world = World::new(RabbitMq::shared(), "probe_interval = \"5ms\"").await;
    let service = Service::queue(&world).await;
    for round in 0..65 {
        let calls = (0..40).map(|n| {
            let (world, name) = (&world, format!("missing{round}x{n}"));
            async move { kind_and_outcome(world.call(&name, "m", Params::None).await) }
        });
        for fault in join_all(calls).await {
            assert_eq!(fault, (FaultKind::UnknownService, Outcome::NotSent));
        }
    }
    until("still probing", async || {
        let short = Duration::from_millis(200);
        let call = world.call_within(short, &service, "m", Params::None).await;
        kind_and_outcome(call) == (FaultKind::Unavailable, Outcome::NotSent)
    })
    .await;
    assert_eq!(world.linked.metric("genkan_upstream_reconnects_total"), 0.0);
}

/// Why the prober replaces its connection. Once this fails, lapin has been mended.
#[tokio::test(flavor = "multi_thread")]
async fn lapin_has_no_channels_left_after_the_broker_has_closed_each_once() {
    let world = World::new(RabbitMq::shared(), "").await;
    let connection = world.connect().await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let most = usize::from(connection.configuration().channel_max());
    let mut lost = 0;
    while let Ok(channel) = connection.create_channel().await {
        let queue = channel.queue_declare("missing".into(), passive, FieldTable::default()).await;
        assert!(queue.is_err());
        lost += 1;
        assert!(lost <= most, "channel numbers are used again");
    }
    assert!(connection.status().connected());
}
