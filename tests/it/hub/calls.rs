//! Calls: between modules, from HTTP to a module, from a module to elsewhere.

use serde_json::{Value, json};

use super::{HUB, Peer, error};
use crate::harness::{Answer, Gateway, NamekoVersion, Nats, NatsResponder, Shop, eventually};

#[tokio::test]
async fn one_module_calls_another() {
    let gateway = Gateway::start(HUB).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let id = caller
        .request(json!({"type": 3, "function": "math.add", "arguments": {"a": 2, "b": 5}}))
        .await;
    let call = math.receive().await;
    assert_eq!((&call["function"], &call["caller"]), (&json!("add"), &json!("caller")));
    assert_eq!(call["arguments"], json!({"a": 2, "b": 5}));
    assert_ne!(call["requestId"], json!(id));
    math.answer(&call, json!(7.0)).await;
    assert_eq!(caller.receive().await, json!({"requestId": id, "type": 4, "data": 7.0}));
    for (function, number) in [
        ("add", 5),
        ("math.add.x", 5),
        ("math.my-fn", 5),
        ("math.sub", 5),
        ("nobody.add", 4),
        (".add", 4),
    ] {
        assert_eq!(error(&caller.call(function, json!({})).await), number, "{function}");
    }
    let calls = gateway
        .metric(
            "genkan_calls_total",
            &[("ingress", "hub"), ("outcome", "ok"), ("route", "*"), ("upstream", "hub")],
        )
        .await;
    assert!(calls >= 1.0, "{calls}");
    let unserved = [("ingress", "hub"), ("outcome", "unknown_service"), ("route", "none")];
    assert!(gateway.metric("genkan_calls_total", &unserved).await >= 1.0);
}

#[tokio::test]
async fn http_calls_a_modules_function() {
    let gateway = Gateway::start(&format!(
        "{HUB}[[routes]]\nmatch = \"named.*\"\nupstream = \"hub\"\nservice = \"math\"\nparams = [\"a\", \"b\"]\n"
    ))
    .await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let serving = tokio::spawn(async move {
        while let Some(call) = math.next().await {
            assert_eq!(call["caller"], "genkan");
            match call["arguments"]["a"].as_i64() {
                Some(13) => {
                    let error = json!({"type": 0, "requestId": call["requestId"], "error": 13, "message": "unlucky", "data": [1]});
                    math.send(&error).await;
                }
                Some(14) => {
                    math.send(&json!({"type": 0, "requestId": call["requestId"], "error": 5})).await
                }
                Some(15) => math.send(&json!({"type": 4, "requestId": call["requestId"]})).await,
                Some(16) => {}
                Some(17) => return,
                _ => math.answer(&call, call["arguments"].clone()).await,
            }
        }
    });
    assert_eq!(gateway.result("math.add", json!({"a": 1})).await, json!({"a": 1}));
    assert_eq!(gateway.result("math.add", Value::Null).await, json!({}));
    assert_eq!(gateway.result("named.add", json!([1, 2])).await, json!({"a": 1, "b": 2}));
    assert_eq!(gateway.result("math.add", json!({"a": 15})).await, Value::Null);
    gateway.fault("math.add", json!([1])).await.is("invalid_params", "not_sent");
    gateway.fault("named.add", json!([1, 2, 3])).await.is("invalid_params", "not_sent");
    gateway.fault("math.sub", json!({})).await.is("unknown_method", "not_sent");
    gateway.fault("nobody.add", json!({})).await.is("unknown_service", "not_sent");
    let fault = gateway.fault("math.add", json!({"a": 13})).await;
    fault.is("application", "executed");
    assert_eq!((fault.message.as_str(), &fault.data["info"]), ("unlucky", &json!([1])));
    // It had declared the function: what it passes on is what a call of its own got.
    let fault = gateway.fault("math.add", json!({"a": 14})).await;
    assert_eq!(fault.is("application", "executed").data["code"], 5);
    let body =
        json!({"jsonrpc": "2.0", "id": 1, "method": "math.add", "params": {"a": 16}}).to_string();
    let response = gateway.post("/api", &[("X-Request-Timeout", "200ms")], body).await.json();
    crate::harness::as_fault(&response).is("timeout", "unknown");
    gateway.fault("math.add", json!({"a": 17})).await.is("unavailable", "unknown");
    serving.await.unwrap();
    assert_eq!(gateway.metric("genkan_calls_in_flight", &[("upstream", "hub")]).await, 0.0);
    assert!(gateway.metric("genkan_upstream_up", &[("upstream", "hub")]).await >= 1.0);
}

#[tokio::test]
async fn a_row_names_the_positional_arguments_of_a_modules_call_too() {
    let gateway = Gateway::start(&format!(
        "{HUB}max_in_flight = 1\n[[routes]]\nmatch = \"named.*\"\nupstream = \"hub\"\nservice = \"math\"\nparams = [\"a\", \"b\"]\n"
    ))
    .await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let refused = caller.call("named.add", json!([1, 2, 3])).await;
    assert_eq!((error(&refused), &refused["data"]["kind"]), (0, &json!("invalid_params")));
    caller.request(json!({"type": 3, "function": "named.add", "arguments": [1, 2]})).await;
    assert_eq!(math.receive().await["arguments"], json!({"a": 1, "b": 2}));
    // The limit on calls in flight is named where it is met.
    let refused = caller.call("math.add", json!({})).await;
    assert_eq!((error(&refused), &refused["data"]["kind"]), (2, &json!("overloaded")));
    assert!(refused["message"].as_str().unwrap().contains("max_in_flight"), "{refused}");
}

#[tokio::test]
async fn a_notification_reaches_a_module_and_its_answer_harms_nobody() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    gateway.notify("m.f", json!({"n": 1})).await;
    let call = m.receive().await;
    assert_eq!(call["arguments"], json!({"n": 1}));
    m.answer(&call, json!("done")).await;
    m.is_served().await;
}

#[tokio::test]
async fn a_module_calls_services_elsewhere() {
    let nats = Nats::start();
    let service =
        NatsResponder::serve(nats.client().await, "svc", |seen| match seen.body.as_str() {
            r#"{"n":1}"# => Answer::new(r#"{"payload":{"big":18446744073709551616}}"#),
            r#"{"n":2}"# => Answer::new(r#"{"error":"no"}"#),
            _ => Vec::new(),
        })
        .await;
    let gateway = Gateway::ready(&format!(
        "{}\n[[routes]]\nmatch = \"svc.*\"\nupstream = \"nats\"\ntimeout = \"2s\"\n{HUB}",
        nats.upstream("nats", "picom")
    ))
    .await;
    let mut module = Peer::module(&gateway, "m", &[]).await;
    module
        .send(&json!({"type": 3, "requestId": "x", "function": "svc.f", "arguments": {"n": 1}}))
        .await;
    let line = module.line().await.expect("a line");
    assert_eq!(line, r#"{"requestId":"x","type":4,"data":{"big":18446744073709551616}}"#);
    let answer = module.call("svc.f", json!({"n": 2})).await;
    assert_eq!((error(&answer), &answer["message"]), (2, &json!("no")));
    assert_eq!(answer["data"]["kind"], "application");
    let answer = module.call("svc.f", json!({"n": 3})).await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (2, &json!("timeout")));
    // A module that goes while its call is under way leaves nothing behind.
    module.request(json!({"type": 3, "function": "svc.f", "arguments": {"n": 4}})).await;
    eventually("the call has left", async || (service.requests.count() >= 4).then_some(())).await;
    drop(module);
    let gone = [("ingress", "hub"), ("outcome", "cancelled")];
    gateway.wait_for_metric("genkan_calls_total", &gone, 1.0).await;
}

#[tokio::test]
async fn a_module_calls_a_nameko_service() {
    let shop = Shop::shared(NamekoVersion::Three);
    let gateway = Gateway::ready(&format!("{}{HUB}", shop.config())).await;
    let mut module = Peer::module(&gateway, "m", &[]).await;
    let answer = module.call("shop.add", json!({"a": 1, "b": 2})).await;
    assert_eq!(answer["data"], json!(3), "{answer}");
    let answer = module.call("shop.nothing_like_it", json!({})).await;
    assert_eq!(error(&answer), 5);
}

#[tokio::test]
async fn the_table_decides_for_modules_too() {
    let nats = Nats::start();
    let _service = NatsResponder::serve(nats.client().await, "orders", |_| {
        Answer::new(r#"{"payload":"from NATS"}"#)
    })
    .await;
    let gateway = Gateway::ready(&format!(
        "{}\n[[routes]]\nmatch = \"orders.*\"\nupstream = \"nats\"\n{HUB}",
        nats.upstream("nats", "picom")
    ))
    .await;
    // It registers, with a warning that says why nobody will call it.
    let mut thief = Peer::module(&gateway, "orders", &["create"]).await;
    let warning = gateway.wait_for_log(0, "nobody will call this module by that name").await;
    assert_eq!((&warning["module"], &warning["name"]), (&json!("orders"), &json!("orders.*")));
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    assert_eq!(caller.call("orders.create", json!({})).await["data"], "from NATS");
    assert_eq!(gateway.result("orders.create", json!({})).await, json!("from NATS"));
    thief.is_silent().await;
    let page = gateway.page("/hub/modules").await.json();
    assert_eq!(page["modules"][0]["shadowed"][0]["name"], "orders.*");
    assert_eq!(page["modules"][0]["shadowed"][0]["upstream"], "nats");
}

#[tokio::test]
async fn a_call_between_modules_ends_at_its_deadline_or_with_its_callee() {
    let gateway = Gateway::start(&format!("{HUB}timeout = \"300ms\"\n")).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let answer = caller.call("math.add", json!({})).await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (2, &json!("timeout")));
    // Its answer comes too late: nobody is told, and nobody is harmed.
    let call = math.receive().await;
    math.answer(&call, json!(1)).await;
    math.is_served().await;
    caller.is_silent().await;
    gateway.wait_for_metric("genkan_late_replies_total", &[("upstream", "hub")], 1.0).await;
    let id = caller.request(json!({"type": 3, "function": "math.add"})).await;
    math.receive().await;
    drop(math);
    let answer = caller.receive().await;
    assert_eq!((error(&answer), &answer["requestId"]), (4, &json!(id)));
    assert_eq!(
        answer["data"],
        json!({"kind": "unavailable", "outcome": "unknown", "retryable": false})
    );
}

#[tokio::test]
async fn only_the_callee_answers_and_its_error_ends_the_call() {
    let gateway = Gateway::start(HUB).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut thief = Peer::module(&gateway, "thief", &[]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    let call = math.receive().await;
    thief.send(&json!({"type": 4, "requestId": call["requestId"], "data": "stolen"})).await;
    assert_eq!(error(&thief.receive().await), 0);
    caller.is_silent().await;
    math.send(&json!({"type": 0, "requestId": call["requestId"], "error": 5})).await;
    let answer = caller.receive().await;
    assert_eq!((&answer["type"], &answer["error"]), (&json!(0), &json!(5)));
    math.is_served().await;
}

#[tokio::test]
async fn errors_as_data() {
    let gateway = Gateway::start(&format!("{HUB}errors = \"data\"\n")).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let answer = caller.call("nobody.f", json!({})).await;
    assert_eq!(answer["type"], 4);
    assert_eq!(answer["data"]["error"]["error"], 4);
    assert_eq!(answer["data"]["error"]["data"]["kind"], "unknown_service");
}

#[tokio::test]
async fn errors_as_data_for_every_way_to_fail() {
    let gateway =
        Gateway::start(&format!("{HUB}errors = \"data\"\ntimeout = \"300ms\"\nmax_calls = 2\n"))
            .await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let told = |answer: &Value| {
        assert_eq!(answer["type"], 4, "{answer}");
        let error = &answer["data"]["error"];
        assert!(error["message"].is_string(), "{answer}");
        (error["error"].as_i64().unwrap(), error["data"]["kind"].as_str().unwrap().to_owned())
    };
    let kind = |number: i64, kind: &str| (number, kind.to_owned());
    assert_eq!(told(&caller.call("math.sub", json!({})).await), kind(5, "unknown_method"));
    assert_eq!(told(&caller.call("add", json!({})).await), kind(5, "unknown_method"));
    let no_name = json!({"type": 3, "function": 7});
    assert_eq!(told(&caller.ask(no_name).await), kind(0, "invalid_request"));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    caller.write(format!("{{\"type\":3,\"requestId\":\"d\",\"x\":{deep}}}\n")).await;
    let answer = caller.receive().await;
    assert_eq!((told(&answer), &answer["requestId"]), (kind(0, "too_large"), &json!("d")));
    let mut stranger = Peer::connect(&gateway).await;
    assert_eq!(told(&stranger.call("math.add", json!({})).await), kind(3, "access_denied"));
    // The callee's error, the deadline, the bound, and the callee's end.
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    let call = math.receive().await;
    math.send(&json!({"type": 0, "requestId": call["requestId"], "error": 12, "message": "no"}))
        .await;
    let answer = caller.receive().await;
    assert_eq!(
        (told(&answer), &answer["data"]["error"]["message"]),
        (kind(12, "application"), &json!("no"))
    );
    assert_eq!(told(&caller.call("math.add", json!({})).await), kind(2, "timeout"));
    for _ in 0..2 {
        caller.request(json!({"type": 3, "function": "math.add"})).await;
    }
    assert_eq!(told(&caller.call("math.add", json!({})).await), kind(2, "overloaded"));
    for _ in 0..3 {
        math.receive().await;
    }
    drop(math);
    for _ in 0..2 {
        assert_eq!(told(&caller.receive().await), kind(4, "unavailable"));
    }
    // What is no call is answered by a frame, and HTTP callers as ever.
    assert_eq!(error(&caller.ask(json!({"type": 9})).await), 0);
    gateway.fault("math.add", json!({})).await.is("unknown_service", "not_sent");
}

#[tokio::test]
async fn a_row_renames_for_modules_too_and_its_timeout_holds() {
    let gateway = Gateway::start(&format!(
        "{HUB}[[routes]]\nmatch = \"old.*\"\nupstream = \"hub\"\nservice = \"math\"\nmethod = \"add\"\ntimeout = \"300ms\"\n"
    ))
    .await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let first =
        caller.request(json!({"type": 3, "function": "old.plus", "arguments": {"a": 1}})).await;
    // One of a longer timeout, made before, does not hold it up; nor does one made later.
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    let call = math.receive().await;
    assert_eq!((&call["function"], &call["arguments"]), (&json!("add"), &json!({"a": 1})));
    math.receive().await;
    gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "hub")], 2.0).await;
    let answer = caller.receive().await;
    assert_eq!((error(&answer), &answer["requestId"]), (2, &json!(first)));
    // The other one waits on.
    assert_eq!(gateway.metric("genkan_calls_in_flight", &[("upstream", "hub")]).await, 1.0);
    let timeouts =
        [("ingress", "hub"), ("route", "old.*"), ("outcome", "timeout"), ("upstream", "hub")];
    gateway.wait_for_metric("genkan_calls_total", &timeouts, 1.0).await;
    let spent = [("ingress", "hub"), ("route", "old.*")];
    assert!(gateway.metric("genkan_call_duration_seconds_sum", &spent).await >= 0.29);
    let line = gateway.wait_for_log(0, "call failed").await;
    assert_eq!((&line["call"], &line["kind"]), (&json!("old.plus"), &json!("timeout")));
}

#[tokio::test]
async fn instances_share_the_calls_of_a_module() {
    let gateway = Gateway::start(&format!("{HUB}instances = \"share\"\n")).await;
    let mut one = Peer::module(&gateway, "math", &["add"]).await;
    let mut two = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    for _ in 0..2 {
        caller.request(json!({"type": 3, "function": "math.add"})).await;
    }
    let (first, second) = (one.receive().await, two.receive().await);
    drop(one);
    assert_eq!(error(&caller.receive().await), 4);
    two.answer(&second, json!(2)).await;
    assert_eq!(caller.receive().await["data"], 2);
    assert_ne!(first["requestId"], second["requestId"]);
    assert_eq!(gateway.metric("genkan_hub_modules", &[("state", "active")]).await, 2.0);
}

#[tokio::test]
async fn a_module_that_has_said_all_is_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    // As a script would: all lines, and then the end.
    let register = json!({"type": 1, "requestId": "r", "moduleId": "script", "version": "1.0.0"});
    let call = json!({"type": 3, "requestId": "c", "function": "m.f"});
    let at = super::address(&gateway).await;
    let mut script = tokio::net::TcpStream::connect(at).await.expect("it accepts");
    script.write_all(format!("{register}\n{call}\n").as_bytes()).await.expect("taken");
    script.shutdown().await.expect("it has said all");
    let asked = m.receive().await;
    // It is sought with a blank.
    let mut heard = String::new();
    while !heard.ends_with(' ') {
        let mut chunk = [0; 1_024];
        let reading = tokio::time::timeout(super::PATIENCE, script.read(&mut chunk)).await;
        let length = reading.expect("in time").expect("it is there");
        assert!(length > 0, "it was closed: {heard}");
        heard.push_str(std::str::from_utf8(&chunk[..length]).expect("text"));
    }
    m.answer(&asked, json!("late")).await;
    let reading = script.read_to_string(&mut heard);
    tokio::time::timeout(super::PATIENCE, reading).await.expect("it ends").expect("text");
    let frames: Vec<serde_json::Value> =
        heard.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let answer = frames.last().expect("an answer");
    assert_eq!((&answer["requestId"], &answer["data"]), (&json!("c"), &json!("late")), "{heard}");
    gateway.wait_for_modules(1).await;
}
