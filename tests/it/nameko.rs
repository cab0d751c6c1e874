//! Calls to real Nameko services, of both generations: results, exceptions, context, notifications,
//! and services that are not there. `genkan` stands between a JSON-RPC caller and `nameko run`.

use std::cell::Cell;

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::harness::responder::connect;
use crate::harness::{Gateway, NamekoVersion, RabbitMq, Shop, as_fault, eventually, until};

const BOTH: [NamekoVersion; 2] = [NamekoVersion::Two, NamekoVersion::Three];

/// The shared shop of a generation, with a gateway before it.
async fn shop(version: NamekoVersion) -> Gateway {
    Gateway::ready(&Shop::shared(version).config()).await
}

#[tokio::test]
async fn params_by_position_by_name_and_none() {
    for version in BOTH {
        let gateway = shop(version).await;
        assert_eq!(gateway.result("shop.add", json!([1, 2])).await, 3);
        assert_eq!(gateway.result("shop.add", json!({"a": "x", "b": "y"})).await, "xy");
        let echoed = gateway.result("shop.echo", json!([1, "é", null, [true]])).await;
        assert_eq!(echoed, json!({"args": [1, "é", null, [true]], "kwargs": {}}));
        let echoed = gateway.result("shop.echo", json!({"k": [1.5, {}]})).await;
        assert_eq!(echoed, json!({"args": [], "kwargs": {"k": [1.5, {}]}}));
        let echoed = gateway.result("shop.echo", Value::Null).await;
        assert_eq!(echoed, json!({"args": [], "kwargs": {}}));
        assert_eq!(gateway.result("shop.none", Value::Null).await, Value::Null);
        let text = gateway.result("shop.japanese", Value::Null).await;
        assert_eq!(text, "玄関 \u{2028} \u{1f3e0} \\ \" /");
    }
}

#[tokio::test]
async fn an_exception_comes_out_with_its_class_words_and_arguments() {
    for version in BOTH {
        let gateway = shop(version).await;
        let fault = gateway.fault("shop.fail", Value::Null).await;
        assert_eq!(fault.is("application", "executed").code, -32000);
        assert_eq!(fault.data["retryable"], false);
        assert!(fault.message.contains("bad 1"), "{fault:?}");
        assert_eq!(fault.data["class"], "ValueError");
        assert_eq!(fault.data["info"], "bad 1");
        assert_eq!(fault.data["args"], json!(["bad 1"]));
        let path = fault.data["path"].as_str().unwrap_or_default();
        assert!(path.ends_with(".ValueError"), "{path}");

        let custom = gateway.fault("shop.custom", Value::Null).await;
        custom.is("application", "executed");
        assert_eq!(custom.data["class"], "ShopError");
        assert_eq!(custom.data["path"], "nameko_shop.ShopError");
        assert_eq!(custom.data["args"], json!(["a", "2", {"k": ["1"]}]));
        let key = gateway.fault("shop.key_error", Value::Null).await;
        assert_eq!((&key.data["class"], &key.data["info"]), (&json!("KeyError"), &json!("'nope'")));
        let empty = gateway.fault("shop.empty_error", Value::Null).await;
        assert_eq!(empty.is("application", "executed").data["class"], "RuntimeError");
        assert!(!empty.message.is_empty());
    }
}

#[tokio::test]
async fn what_the_service_refuses_is_named_and_not_said_never_to_have_run() {
    for version in BOTH {
        let gateway = shop(version).await;
        let unknown = gateway.fault("shop.nope", Value::Null).await;
        assert_eq!(unknown.is("unknown_method", "unknown").code, -32601);
        let private = gateway.fault("shop.call_context", Value::Null).await;
        private.is("unknown_method", "unknown");
        for params in [json!([1]), json!([1, 2, 3]), json!({"a": 1, "bogus": 2}), Value::Null] {
            let fault = gateway.fault("shop.add", params).await;
            assert_eq!(fault.is("invalid_params", "unknown").code, -32602);
            assert!(fault.data["info"].as_str().is_some_and(|info| info.contains("add")));
        }
    }
}

#[tokio::test]
async fn a_method_that_ran_is_told_as_executed_whatever_it_called() {
    for version in BOTH {
        let gateway = shop(version).await;
        for method in ["nested_bad", "nested_unknown"] {
            let token = format!("{method} {version:?}");
            let fault = gateway.fault(&format!("shop.{method}"), json!([token])).await;
            fault.is("application", "executed");
            let ran = gateway.result("shop.ran", json!([token])).await;
            assert_eq!(ran, json!([[]]), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn what_ran_is_never_told_as_rejected() {
    for version in BOTH {
        let gateway = shop(version).await;
        for method in ["take", "vanish", "unhappy"] {
            let token = format!("{method} {version:?}");
            let fault = gateway.fault(&format!("shop.{method}"), json!([token])).await;
            let ran = gateway.result("shop.ran", json!([token])).await;
            assert_eq!(ran, json!([[]]), "{fault:?}");
            assert_ne!(fault.data["outcome"], "rejected", "it has run: {fault:?}");
            assert_ne!(fault.data["outcome"], "not_sent", "it has run: {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_exception_is_known_by_its_path_and_not_by_its_name() {
    for version in BOTH {
        let gateway = shop(version).await;
        let fault = gateway.fault("shop.imposter", Value::Null).await;
        fault.is("application", "executed");
        assert_eq!(fault.data["class"], "MethodNotFound");
        assert_eq!(fault.data["path"], "nameko_shop.MethodNotFound");
    }
}

#[tokio::test]
async fn a_result_that_is_no_json_in_python_is_the_services_fault() {
    for version in BOTH {
        let gateway = shop(version).await;
        let fault = gateway.fault("shop.unserialisable", Value::Null).await;
        fault.is("application", "executed");
        assert_eq!(fault.data["class"], "UnserializableValueError");
    }
}

#[tokio::test]
async fn nan_and_infinity_become_null_and_are_counted() {
    for version in BOTH {
        let gateway = shop(version).await;
        let repaired = "genkan_repaired_replies_total";
        assert_eq!(gateway.metric(repaired, &[("upstream", "rabbit")]).await, 0.0);
        let result = gateway.result("shop.nan", Value::Null).await;
        assert_eq!(result, json!({"nan": null, "more": [null, null, "NaN", 1]}));
        assert_eq!(gateway.metric(repaired, &[("upstream", "rabbit")]).await, 1.0);
    }
}

#[tokio::test]
async fn big_integers_come_back_to_the_digit() {
    for version in BOTH {
        let gateway = shop(version).await;
        let raw = gateway.raw("shop.big", "[]").await;
        assert_eq!(
            raw.replace(' ', ""),
            "[9007199254740993,1180591620717411303424,-9223372036854775808]"
        );
        let raw = gateway.raw("shop.echo", "[9007199254740993,1180591620717411303424]").await;
        assert!(raw.contains("9007199254740993, 1180591620717411303424"), "{raw}");
    }
}

#[tokio::test]
async fn dates_decimals_and_uuids_come_out_as_plain_strings_unless_kept() {
    for version in BOTH {
        let gateway = shop(version).await;
        let plain = gateway.result("shop.tagged", Value::Null).await;
        assert_eq!(plain["decimal"], "1.10");
        assert_eq!(plain["uuid"], "12345678-1234-5678-1234-567812345678");
        assert!(
            plain["date"].as_str().is_some_and(|date| date.starts_with("2024-02-29")),
            "{plain}"
        );
        let time = plain["datetime"].as_str();
        assert!(time.is_some_and(|time| time.starts_with("2024-02-29T12:30:15")), "{plain}");
        assert_eq!(plain["plain"], json!({"__type__": "mine"}), "not a tagged value");

        let config = Shop::shared(version).config();
        let config =
            config.replace("protocol = \"nameko\"", "protocol = \"nameko\"\ntagged = \"keep\"");
        let kept = Gateway::ready(&config).await.result("shop.tagged", Value::Null).await;
        assert_eq!(kept["decimal"], json!({"__type__": "decimal", "__value__": "1.10"}));
    }
}

#[tokio::test]
async fn context_travels_to_the_service_and_on_to_the_services_it_calls() {
    for version in BOTH {
        let gateway = shop(version).await;
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = [
            ("Accept-Language", "de-AT"),
            ("User-Agent", "till/7"),
            ("X-Request-Id", "order-4711"),
            ("traceparent", trace),
            ("Authorization", "Bearer never-allowed"),
        ];
        for (method, hops) in [("context", 1), ("chain", 2)] {
            let body = format!(r#"{{"jsonrpc":"2.0","method":"shop.{method}","id":1}}"#);
            let response = gateway.post("/api", &headers, body).await.json();
            let seen = &response["result"];
            assert_eq!(seen["data"]["language"], "de-AT", "{response}");
            assert_eq!(seen["data"]["user_agent"], "till/7");
            let carried = seen["data"]["traceparent"].as_str().unwrap_or_default();
            assert_eq!(carried.get(3..35), Some(&trace[3..35]), "{response}");
            let stack = seen["stack"].as_array().expect("an array");
            // The gateway's own id, and the ids of the workers that it passed.
            assert_eq!(stack.len(), hops + 1, "{response}");
            assert!(!response.to_string().contains("never-allowed"), "{response}");
        }
    }
}

#[tokio::test]
async fn authorization_travels_when_it_is_allowed_to() {
    let config = format!(
        "[http]\nforward_authorization = true\n{}",
        Shop::shared(NamekoVersion::Two).config()
    );
    let gateway = Gateway::ready(&config).await;
    let body = r#"{"jsonrpc":"2.0","method":"shop.context","id":1}"#;
    let response = gateway.post("/api", &[("Authorization", "Bearer secret-token")], body).await;
    let token = response.json()["result"]["data"]["auth_token"].to_string();
    assert!(token.contains("secret-token"), "{token}");
    assert!(!gateway.log_text().contains("secret-token"));
}

#[tokio::test]
async fn notifications_run_and_harm_no_service() {
    for version in BOTH {
        let gateway = shop(version).await;
        let token = format!("notified {version:?}");
        gateway.notify("shop.note", json!([token, 1])).await;
        gateway.notify("shop.fail", json!([])).await;
        gateway.notify("shop.nope", json!([])).await;
        gateway.notify("shop.unserialisable", json!([])).await;
        let batch = format!(r#"[{{"jsonrpc":"2.0","method":"shop.note","params":["{token}",2]}}]"#);
        assert_eq!(gateway.post("/api", &[], batch).await.text(), "");
        eventually("both notes", async || {
            let ran = gateway.result("shop.ran", json!([token])).await;
            (ran.as_array().map(Vec::len) == Some(2)).then_some(())
        })
        .await;
        assert_eq!(gateway.result("shop.add", json!([1, 2])).await, 3, "the service lives");
    }
}

#[tokio::test]
async fn a_slow_call_holds_no_other_up() {
    let gateway = shop(NamekoVersion::Three).await;
    let slow_is_over = Cell::new(false);
    let slow = async {
        assert_eq!(gateway.result("shop.slow", json!([2])).await, 2);
        slow_is_over.set(true);
    };
    let quick = async {
        for _ in 0..5 {
            assert_eq!(gateway.result("shop.add", json!([1, 2])).await, 3);
        }
        assert!(!slow_is_over.get(), "they were held up until the slow one had ended");
    };
    tokio::join!(slow, quick);
}

#[tokio::test]
async fn a_deadline_that_passes_ends_the_call_and_the_late_reply_is_counted() {
    let gateway = shop(NamekoVersion::Two).await;
    let body = r#"{"jsonrpc":"2.0","method":"shop.slow","params":[0.8],"id":1}"#;
    let response = gateway.post("/api", &[("X-Request-Timeout", "300ms")], body).await;
    as_fault(&response.json()).is("timeout", "unknown");
    gateway.wait_for_metric("genkan_late_replies_total", &[("upstream", "rabbit")], 1.0).await;
}

#[tokio::test]
async fn a_service_that_nobody_knows_is_unknown_at_once() {
    let gateway = Gateway::ready(&RabbitMq::shared().vhost().config()).await;
    let fault = gateway.fault("oders.create", json!([])).await;
    assert_eq!(fault.is("unknown_service", "not_sent").code, -32601);
    assert!(fault.message.contains("oders"), "{}", fault.message);
}

#[tokio::test]
async fn a_stopped_service_is_unavailable_at_once_and_runs_nothing_late() {
    let vhost = RabbitMq::shared().vhost();
    let gateway = Gateway::ready(&vhost.config()).await;
    for version in BOTH {
        let name = format!("till{}", version as usize);
        let shop = Shop::start(version, &vhost.url(), &name);
        let note = format!("{name}.note");
        assert_eq!(gateway.result(&note, json!(["before"])).await, 1);
        shop.stop();
        // A call that is sent before the next look at the queue waits there until it expires.
        let window = format!(r#"{{"jsonrpc":"2.0","method":"{note}","params":["window"],"id":1}}"#);
        let fault = eventually("it is noticed", async || {
            let headers = [("X-Request-Timeout", "500ms")];
            let fault = as_fault(&gateway.post("/api", &headers, &window).await.json());
            (fault.data["kind"] != "timeout").then_some(fault)
        })
        .await;
        assert_eq!(fault.is("unavailable", "not_sent").code, -32004);
        assert_eq!(fault.data["retryable"], true);
        for _ in 0..20 {
            gateway.fault(&note, json!(["late"])).await.is("unavailable", "not_sent");
        }

        let again = Shop::start(version, &vhost.url(), &name);
        eventually("traffic resumes", async || {
            let response = gateway.rpc(&note, json!(["after"])).await;
            (response["result"].is_number()).then_some(())
        })
        .await;
        for token in ["late", "window"] {
            let late = gateway.result(&format!("{name}.ran"), json!([token])).await;
            assert_eq!(late, json!([]), "`{token}`: nobody waited for it any more");
        }
        again.stop();
    }
}

#[tokio::test]
async fn a_call_that_waited_longer_than_its_caller_is_never_executed() {
    let vhost = RabbitMq::shared().vhost();
    let gateway = Gateway::ready(&vhost.config()).await;
    let shop = Shop::start(NamekoVersion::Two, &vhost.url(), "late");
    assert_eq!(gateway.result("late.note", json!(["first"])).await, 1);
    // Ten workers are taken and the prefetch is full: what comes behind the eleventh waits.
    let busy: Vec<_> = (0..11).map(|_| gateway.result("late.slow", json!([1.5]))).collect();
    let queued = async {
        let rabbit = [("upstream", "rabbit")];
        gateway.wait_for_metric("genkan_calls_in_flight", &rabbit, 11.0).await;
        until("the eleventh is in the queue", async || {
            let state = crate::harness::responder::queue_state(&vhost.url(), "rpc-late").await;
            state.is_some_and(|(_, messages)| messages > 0)
        })
        .await;
        let body = r#"{"jsonrpc":"2.0","method":"late.note","params":["expired"],"id":1}"#;
        gateway.post("/api", &[("X-Request-Timeout", "300ms")], body).await.json()
    };
    let (_, queued) = tokio::join!(futures_util::future::join_all(busy), queued);
    as_fault(&queued).is("timeout", "unknown");
    assert_eq!(gateway.result("late.note", json!(["last"])).await, 2, "two have run, no third");
    assert_eq!(gateway.result("late.ran", json!(["expired"])).await, json!([]));
    shop.stop();
}

#[tokio::test]
async fn a_service_that_compresses_what_it_sends() {
    for version in BOTH {
        let vhost = RabbitMq::shared().vhost();
        let packed = [("SHOP_COMPRESSION", "gzip")];
        let shop = Shop::configured(version, &vhost.url(), "shop", &packed, &[]);
        let gateway = Gateway::ready(&shop.config()).await;
        assert_eq!(gateway.result("shop.add", json!([1, 2])).await, 3);
        let large = "玄関".repeat(50_000);
        let echoed = gateway.result("shop.echo", json!([large])).await;
        assert_eq!(echoed["args"][0], large);
        assert_eq!(gateway.fault("shop.fail", Value::Null).await.data["info"], "bad 1");
        shop.stop();

        let packed = [("SHOP_COMPRESSION", "bzip2")];
        let _shop = Shop::configured(version, &vhost.url(), "shop", &packed, &[]);
        let fault = eventually("the service is back", async || {
            let fault = gateway.fault("shop.add", json!([1, 2])).await;
            (fault.data["kind"] != "unavailable").then_some(fault)
        });
        let fault = fault.await;
        fault.is("internal", "executed");
        assert!(fault.message.contains("application/x-bz2"), "{}", fault.message);
    }
}

#[tokio::test]
async fn a_service_with_another_serializer_answers_in_json_where_it_accepts_it() {
    let vhost = RabbitMq::shared().vhost();
    let three = NamekoVersion::Three;
    let both = ["--define", "serializer=pickle", "--define", "ACCEPT=[json, pickle]"];
    let shop = Shop::configured(three, &vhost.url(), "shop", &[], &both);
    let gateway = Gateway::ready(&shop.config()).await;
    assert_eq!(gateway.result("shop.add", json!([1, 2])).await, 3);
    assert_eq!(gateway.fault("shop.fail", Value::Null).await.data["class"], "ValueError");
    shop.stop();
    // Where it does not, Nameko drops the request without a reply.
    let pickle = ["--define", "serializer=pickle"];
    let _shop = Shop::configured(three, &vhost.url(), "shop", &[], &pickle);
    let add = r#"{"jsonrpc":"2.0","method":"shop.add","params":[1,2],"id":1}"#;
    let fault = eventually("the service is back", async || {
        let answer = gateway.post("/api", &[("X-Request-Timeout", "1s")], add).await;
        let fault = as_fault(&answer.json());
        (fault.data["kind"] != "unavailable").then_some(fault)
    });
    fault.await.is("timeout", "unknown");
}

/// Calls `note` with a deadline, in milliseconds since 1970, and returns the reply.
async fn note_by(url: &str, token: &str, deadline: i64) -> String {
    let channel = connect(url).await.create_channel().await.expect("a channel");
    let none = FieldTable::default;
    let (key, exclusive) = (format!("reply-{token}"), QueueDeclareOptions::default());
    channel.queue_declare(key.as_str().into(), exclusive, none()).await.expect("a queue");
    let bind = QueueBindOptions::default();
    let bound = channel.queue_bind(
        key.as_str().into(),
        "nameko-rpc".into(),
        key.as_str().into(),
        bind,
        none(),
    );
    bound.await.expect("a binding");
    let mut headers = none();
    headers.insert("nameko.deadline".into(), AMQPValue::LongLongInt(deadline));
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_reply_to(key.as_str().into())
        .with_headers(headers);
    let body = json!({"args": [token], "kwargs": {}}).to_string();
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(
        "nameko-rpc".into(),
        "shop.note".into(),
        options,
        body.as_bytes(),
        properties,
    );
    drop(sent.await.expect("the broker is there"));
    let get = async || {
        let options = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(key.as_str().into(), options).await.expect("the queue");
        got.map(|message| String::from_utf8(message.delivery.data).expect("text"))
    };
    eventually("a reply", get).await
}

#[tokio::test]
async fn the_example_guard_refuses_what_has_expired_and_lets_the_rest_run() {
    for version in BOTH {
        let vhost = RabbitMq::shared().vhost();
        let shop = Shop::start(version, &vhost.url(), "shop");
        let gateway = Gateway::ready(&shop.config()).await;
        let expired = note_by(&vhost.url(), "late", 1_000).await;
        assert!(expired.contains("DeadlineExceeded"), "{expired}");
        let in_time = note_by(&vhost.url(), "early", i64::MAX / 2).await;
        assert!(in_time.contains(r#""error": null"#), "{in_time}");
        assert_eq!(gateway.result("shop.ran", json!(["late"])).await, json!([]));
        assert_eq!(gateway.result("shop.ran", json!(["early"])).await, json!([[]]));
    }
}
