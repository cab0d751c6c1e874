//! Modules of the hub, callers on NATS and Nameko, and what services of each protocol are told of a key.

use async_nats::HeaderMap;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use serde_json::{Value, json};

use super::{KEPT, Till, config, is_replayed};
use crate::harness::web::Web;
use crate::harness::{Answer, Gateway, NamekoResponder, Nats, NatsResponder, RabbitMq, as_fault};
use crate::hub::{HUB, Peer};
use crate::nameko_exposes::caller::{Caller, NONE};
use crate::nats_exposes::exposed;

/// The frame of a call of a module's under a key.
fn call(function: &str, key: &Value) -> Value {
    json!({"type": 3, "function": function, "arguments": {"sum": 10},
        "meta": {"idempotencyKey": key}})
}

#[tokio::test]
async fn a_module_calls_a_service_once() {
    let till = Till::start(HUB, KEPT).await;
    let mut shop = Peer::module(&till.gateway, "shop", &[]).await;
    let mut other = Peer::module(&till.gateway, "other", &[]).await;
    let first = shop.ask(call("till.pay", &json!("k"))).await;
    assert_eq!((&first["data"], first.get("meta")), (&json!(1), None), "{first}");
    assert_eq!(till.service.last().header("idempotency-key"), Some("\"k\""));
    let again = shop.ask(call("till.pay", &json!("k"))).await;
    let mark = json!({"idempotencyReplayed": true});
    assert_eq!((&again["data"], &again["meta"]), (&json!(1), &mark));
    let of_other = other.ask(call("till.pay", &json!("k"))).await;
    assert_eq!((&of_other["data"], of_other.get("meta")), (&json!(2), None), "{of_other}");
    let mut another = call("till.pay", &json!("k"));
    another["arguments"] = json!({"sum": 11});
    let refused = shop.ask(another).await;
    assert_eq!((&refused["type"], &refused["data"]["kind"]), (&json!(0), &json!("invalid_params")));
    for bad in [json!(""), json!(7), json!("a\nb"), json!("k".repeat(300))] {
        let refused = shop.ask(call("till.pay", &bad)).await;
        assert_eq!((&refused["type"], &refused["error"]), (&json!(0), &json!(0)), "{refused}");
        assert_eq!(refused["data"]["kind"], "invalid_request", "{refused}");
    }
    assert_eq!(shop.ask(call("till.pay", &Value::Null)).await["data"], 3);
    assert_eq!(till.runs(), 3);
}

#[tokio::test]
async fn a_module_calls_a_module_once_and_one_that_leaves_may_come_back_for_the_answer() {
    let row = format!("[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\n{KEPT}\n");
    let gateway = Gateway::ready(&format!("{HUB}{row}")).await;
    let mut desk = Peer::module(&gateway, "desk", &["pay"]).await;
    let mut shop = Peer::module(&gateway, "shop", &[]).await;
    shop.request(call("desk.pay", &json!("k"))).await;
    let held = desk.receive().await;
    assert_eq!((&held["function"], &held["arguments"]), (&json!("pay"), &json!({"sum": 10})));
    assert_eq!(
        (&held["caller"], &held["meta"]),
        (&json!("genkan"), &json!({"idempotencyKey": "k"}))
    );
    drop(shop);
    gateway.wait_for_modules(1).await;
    desk.answer(&held, json!("paid")).await;
    let mut shop = Peer::module(&gateway, "shop", &[]).await;
    let again = shop.ask(call("desk.pay", &json!("k"))).await;
    assert_eq!(again["data"], "paid", "{again}");
    // Without a key, and where the row keeps none, what stands in `meta` goes through as it is.
    let mut plain = call("desk.pay", &Value::Null);
    plain["meta"] = json!({"trace": "t"});
    shop.request(plain).await;
    let held = desk.receive().await;
    assert_eq!((&held["caller"], &held["meta"]), (&json!("shop"), &json!({"trace": "t"})));
    desk.answer(&held, json!(1)).await;
    assert_eq!(shop.receive().await["data"], 1);
    desk.is_silent().await;
}

#[tokio::test]
async fn services_are_told_the_key_in_their_protocols_headers() {
    let (nats, vhost) = (Nats::start(), RabbitMq::shared().vhost());
    let till = NamekoResponder::serve(&vhost.url(), "till", |_| {
        Answer::new(r#"{"result": 1, "error": null}"#)
    })
    .await;
    let mailer = NatsResponder::serve(nats.client().await, "mailer", |_| Answer::new("1")).await;
    let routes = format!(
        "{}{}[[routes]]\nmatch = \"till.*\"\nupstream = \"rabbit\"\n{KEPT}\n\
         [[routes]]\nmatch = \"mailer.*\"\nupstream = \"bus\"\n",
        vhost.upstream("rabbit"),
        nats.upstream("bus", "plain")
    );
    let gateway = Gateway::ready(&routes).await;
    for round in 0..2 {
        let key = [("Idempotency-Key", "\"a b\"")];
        let paid = gateway.post("/call/till/pay", &key, "[1]").await;
        assert_eq!((paid.text(), is_replayed(&paid)), ("1", round == 1), "{paid:?}");
        // A row that keeps nothing hands it on as well.
        let sent = gateway.post("/call/mailer/send", &key, "{}").await;
        assert_eq!((sent.text(), is_replayed(&sent)), ("1", false), "{sent:?}");
    }
    assert_eq!((till.requests.count(), mailer.requests.count()), (1, 2));
    let header = |headers: std::collections::BTreeMap<String, String>, name: &str| {
        headers.get(name).cloned().unwrap_or_default()
    };
    assert_eq!(header(till.requests.last().headers, "nameko.idempotency_key"), "a b");
    assert_eq!(header(mailer.requests.last().headers, "Idempotency-Key"), "\"a b\"");
}

#[tokio::test]
async fn callers_on_nats_have_keys() {
    let (nats, count) = (Nats::start(), std::sync::atomic::AtomicUsize::new(0));
    let service = Web::serve(move |asked| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        asked.result(&nth.to_string())
    })
    .await;
    let expose = "[[expose]]\nservice = \"till\"\non = [\"bus\"]\n";
    let tables = format!("{}{expose}", nats.upstream("bus", "plain"));
    let gateway = Gateway::ready(&config(&tables, &service, KEPT)).await;
    exposed(&gateway, "till", 1).await;
    let client = nats.client().await;
    let pay = async |key: &str, user: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Idempotency-Key", key);
        headers.insert("X-User-Id", user);
        let body = r#"{"sum":10}"#.into();
        let answer = client.request_with_headers("till.pay", headers, body).await;
        let answer = answer.expect("an answer");
        let headers = answer.headers.unwrap_or_default();
        let mark = headers.get("Idempotency-Replayed").map(|mark| mark.as_str().to_owned());
        (String::from_utf8(answer.payload.to_vec()).expect("text"), mark)
    };
    for (key, user, answer, mark) in [
        ("k", "ada", "1", None),
        ("\"k\"", "ada", "1", Some("true")),
        ("k", "bob", "2", None),
        ("l", "ada", "3", None),
        ("l", "ada", "3", Some("true")),
    ] {
        let (told, marked) = pay(key, user).await;
        assert_eq!((told.as_str(), marked.as_deref()), (answer, mark), "{key} {user}");
    }
    let refused: Value = serde_json::from_str(&pay("a b", "ada").await.0).expect("JSON");
    assert!(refused.to_string().contains("the header Idempotency-Key"), "{refused}");
    assert_eq!(service.asked().len(), 3);
}

#[tokio::test]
async fn callers_of_nameko_have_keys_and_those_that_services_make_of_a_call_do_not() {
    let (vhost, count) = (RabbitMq::shared().vhost(), std::sync::atomic::AtomicUsize::new(0));
    let service = Web::serve(move |asked| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        asked.result(&nth.to_string())
    })
    .await;
    let expose = "[[expose]]\nservice = \"till\"\non = [\"rabbit\"]\n";
    let tables = format!("{}{expose}", vhost.upstream("rabbit"));
    let gateway = Gateway::ready(&config(&tables, &service, KEPT)).await;
    crate::nameko_exposes::exposed(&gateway, "till", 1).await;
    let mut caller = Caller::connect(&vhost.url(), "till-caller").await;
    let pay = async |caller: &mut Caller, key: &str, calls: &[&str]| {
        let mut headers = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        headers.insert("nameko.idempotency_key".into(), text(key));
        let calls: Vec<AMQPValue> = calls.iter().map(|call| text(call)).collect();
        headers
            .insert("nameko.call_id_stack".into(), AMQPValue::FieldArray(FieldArray::from(calls)));
        let properties = caller.properties("1").with_headers(headers);
        let reply = caller.call("till.pay", properties, NONE).await;
        let headers = reply.properties.headers().clone().unwrap_or_default();
        let mark = headers.inner().get("nameko.idempotency_replayed").cloned();
        (reply.body, mark == Some(AMQPValue::Boolean(true)))
    };
    let own = ["standalone_rpc_proxy.call.1"];
    let (first, marked) = pay(&mut caller, "k", &own).await;
    assert_eq!((&first["result"], marked), (&json!(1), false));
    let (again, marked) = pay(&mut caller, "k", &own).await;
    assert_eq!((&again["result"], marked), (&json!(1), true));
    assert_eq!(service.last().header("idempotency-key"), Some("\"k\""));
    // Nameko hands the context on to what a service calls in turn.
    let nested = ["standalone_rpc_proxy.call.1", "shop.order.2"];
    assert_eq!(pay(&mut caller, "k", &nested).await.0["result"], 2);
    assert_eq!(service.last().header("idempotency-key"), None);
    let (refused, _) = pay(&mut caller, " ", &own).await;
    let said = refused["error"]["value"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("nameko.idempotency_key"), "{refused}");
    assert_eq!(service.asked().len(), 2);
}

#[tokio::test]
async fn a_socket_keeps_no_key_for_all_of_its_calls() {
    let till = Till::start("", KEPT).await;
    let opening = [("Idempotency-Key", "k")];
    let mut socket =
        crate::harness::websocket::WebSocket::open_with(&till.gateway.http, "/api", &opening).await;
    for nth in 1..=2 {
        let plain = r#"{"jsonrpc":"2.0","id":1,"method":"till.pay","params":{"sum":10}}"#;
        assert_eq!(socket.ask(plain).await["result"], nth);
    }
    let keyed = super::request(2, "till.pay", "k").to_string();
    assert_eq!(socket.ask(&keyed).await["result"], 3);
    let again = socket.ask(&keyed).await;
    assert_eq!(
        (&again["result"], &again["meta"]["idempotencyReplayed"]),
        (&json!(3), &json!(true))
    );
    let bad = super::request(3, "till.pay", "").to_string();
    as_fault(&socket.ask(bad).await).is("invalid_request", "not_sent");
    assert_eq!(till.runs(), 3);
}
