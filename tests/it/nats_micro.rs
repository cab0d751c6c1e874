//! NATS micro services as the libraries' own examples make them: where their endpoints are is asked
//! of them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{
    Answer, Gateway, MicroService, Nats, NatsResponder, RawNats, as_fault, eventually,
};

#[tokio::test]
async fn endpoints_are_called_where_their_makers_put_them() {
    let nats = Nats::start();
    let _calc = MicroService::calc(&nats);
    let _demo = MicroService::demo(&nats);
    let gateway = Gateway::ready(&nats.config("micro")).await;
    for (method, params, result) in [
        ("max.max", json!([1, 3, 2]), json!(3)),
        ("calc.sum", json!([1, 3, 2]), json!(6)),
        ("calc.average", json!([1, 3, 2]), json!(2)),
        ("demo_service.echo", json!({"a": 1}), json!({"a": 1})),
    ] {
        assert_eq!(gateway.result(method, params).await, result, "{method}");
    }
    let unknown = gateway.fault("calc.median", json!([1, 2])).await;
    assert_eq!(unknown.is("unknown_method", "not_sent").code, -32601);
    assert!(unknown.message.contains("`average`"), "what there is: {unknown:?}");
    let nobody = gateway.fault("calk.sum", json!([1, 2])).await;
    assert_eq!(nobody.is("unknown_service", "not_sent").code, -32601);
}

#[tokio::test]
async fn errors_keep_their_codes_and_bodies() {
    let nats = Nats::start();
    let _calc = MicroService::calc(&nats);
    let _demo = MicroService::demo(&nats);
    let gateway = Gateway::ready(&nats.config("micro")).await;
    let fault = gateway.fault("calc.fail", json!([1])).await;
    assert_eq!(fault.is("application", "executed").message, "no numbers");
    assert_eq!((&fault.data["code"], &fault.data["info"]), (&json!(422), &json!({"field": "n"})));
    let fault = gateway.fault("demo_service.fail", json!([1])).await;
    assert_eq!(fault.is("application", "executed").message, "out of numbers");
    assert_eq!(
        (&fault.data["code"], &fault.data["info"]),
        (&json!("E42"), &json!("see the manual"))
    );
    // Without an envelope, a code that is a status is the status.
    for (path, status, code) in
        [("/call/calc/fail", 422, json!(422)), ("/call/demo_service/fail", 500, json!("E42"))]
    {
        let problem = gateway.post(path, &[], "[1]").await;
        assert_eq!((problem.status, &problem.json()["code"]), (status, &code), "{path}");
        assert_eq!(problem.json()["status"], status);
        assert_eq!(problem.json()["kind"], "application");
    }
}

#[tokio::test]
async fn a_service_that_starts_later_is_found_and_one_that_moves_too() {
    let nats = Nats::start();
    let gateway = Gateway::ready(&nats.config("micro")).await;
    gateway.fault("calc.average", json!([1, 3])).await.is("unknown_service", "not_sent");
    let calc = MicroService::calc(&nats);
    let average = async || {
        let body = r#"{"jsonrpc":"2.0","method":"calc.average","params":[1,3],"id":1}"#;
        // A process that is being killed takes a call and does not answer it.
        let timeout = [("X-Request-Timeout", "2s")];
        gateway.post("/api", &timeout, body).await.json().get("result").cloned()
    };
    assert_eq!(eventually("it is found", average).await, 2);
    drop(calc);
    // Somebody else serves the same name elsewhere.
    let mut other = RawNats::serve(&nats, "$SRV.INFO.calc").await;
    let moved = tokio::spawn(async move {
        loop {
            let (_, reply) = other.request().await;
            let info = r#"{"name":"calc","endpoints":[{"name":"average","subject":"new.place"}]}"#;
            other.publish(&reply, b"NATS/1.0\r\n\r\n", info.as_bytes()).await;
        }
    });
    let _service = NatsResponder::serve(nats.client().await, "new", |_| Answer::new("7")).await;
    let found = eventually("it is found again", async || average().await.filter(|n| *n == 7)).await;
    assert_eq!(found, 7);
    moved.abort();
}

/// A wildcard takes what a name that matches it says; without one there is nothing to put there.
#[tokio::test]
async fn endpoints_with_wildcards_are_called_by_names_that_match() {
    let nats = Nats::start();
    let _calc = MicroService::calc(&nats);
    let gateway = Gateway::ready(&nats.config("micro")).await;
    assert_eq!(gateway.result("calc.raise.2.to.10", json!(["p"])).await, 1024);
    let unknown = gateway.fault("calc.power", json!(["p"])).await;
    unknown.is("unknown_method", "not_sent");
    assert!(unknown.message.contains("`power` (`raise.*.to.*`)"), "what to call: {unknown:?}");
}

/// An instance answers an inquiry with `info`, `after` that time, as often as it is asked.
async fn instance(nats: &Nats, name: &str, info: Value, after: Duration) -> JoinHandle<()> {
    let mut instance = RawNats::serve(nats, &format!("$SRV.INFO.{name}")).await;
    tokio::spawn(async move {
        loop {
            let (_, reply) = instance.request().await;
            tokio::time::sleep(after).await;
            instance.publish(&reply, b"NATS/1.0\r\n\r\n", info.to_string().as_bytes()).await;
        }
    })
}

#[tokio::test]
async fn an_instance_that_takes_its_time_is_heard() {
    let nats = Nats::start();
    let has = |name: &str| json!({"endpoints": [{"name": name, "subject": format!("p.{name}")}]});
    let _fast = instance(&nats, "parts", has("one"), Duration::ZERO).await;
    let _slow = instance(&nats, "parts", has("two"), Duration::from_millis(500)).await;
    let _service = NatsResponder::serve(nats.client().await, "p", |_| Answer::new("7")).await;
    let gateway = Gateway::ready(&nats.config("micro")).await;
    assert_eq!(gateway.result("parts.two", json!(["p"])).await, 7);
}

/// It is asked again now and then, or for a method that it did not tell of.
#[tokio::test]
async fn an_instance_that_is_too_busy_to_answer_keeps_its_endpoints() {
    let nats = Nats::start();
    let mut instance = RawNats::serve(&nats, "$SRV.INFO.parts").await;
    let (asked, mut again) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (_, reply) = instance.request().await;
        let info = r#"{"endpoints":[{"name":"one","subject":"p.one"}]}"#;
        instance.publish(&reply, b"NATS/1.0\r\n\r\n", info.as_bytes()).await;
        loop {
            instance.request().await;
            if asked.send(()).is_err() {
                break;
            }
        }
    });
    let _service = NatsResponder::serve(nats.client().await, "p", |_| Answer::new("7")).await;
    let gateway = Gateway::ready(&nats.config("micro")).await;
    assert_eq!(gateway.result("parts.one", json!(["p"])).await, 7);
    let mut is_asked_again = false;
    while !is_asked_again {
        let fault = gateway.fault("parts.two", json!(["p"])).await;
        fault.is("unknown_method", "not_sent");
        is_asked_again = again.try_recv().is_ok();
    }
    assert_eq!(gateway.result("parts.one", json!(["p"])).await, 7);
}

/// The service lives, so it is not unknown; it may serve its endpoint in a moment.
#[tokio::test]
async fn an_endpoint_that_nobody_serves_is_unavailable() {
    let nats = Nats::start();
    let info = json!({"endpoints": [{"name": "one", "subject": "p.one"}]});
    let _instance = instance(&nats, "parts", info, Duration::ZERO).await;
    let gateway = Gateway::ready(&nats.config("micro")).await;
    let fault = gateway.fault("parts.one", json!(["p"])).await;
    fault.is("unavailable", "not_sent");
    assert!(fault.message.contains("`p.one`"), "where it is to be: {fault:?}");
    let _service = NatsResponder::serve(nats.client().await, "p", |_| Answer::new("7")).await;
    assert_eq!(gateway.result("parts.one", json!(["p"])).await, 7);
}

/// As while a new version takes over that has its endpoint elsewhere, and the old one drains.
#[tokio::test]
async fn an_instance_that_nobody_listens_for_stands_in_no_other_s_way() {
    let nats = Nats::start();
    let at = |subject: &str| json!({"endpoints": [{"name": "do", "subject": subject}]});
    let _old = instance(&nats, "parts", at("dead.do"), Duration::ZERO).await;
    let _new = instance(&nats, "parts", at("live.do"), Duration::from_millis(300)).await;
    let service = NatsResponder::serve(nats.client().await, "live", |_| Answer::new("7")).await;
    let gateway = Gateway::ready(&nats.config("micro")).await;
    for _ in 0..5 {
        assert_eq!(gateway.result("parts.do", json!(["p"])).await, 7);
    }
    gateway.notify("parts.do", json!(["p"])).await;
    eventually("it is told", async || (service.requests.count() == 6).then_some(())).await;
    // Where nobody listens at all, all places are named.
    let _one = instance(&nats, "gone", at("dead.one"), Duration::ZERO).await;
    let _two = instance(&nats, "gone", at("dead.two"), Duration::ZERO).await;
    let fault = gateway.fault("gone.do", json!(["p"])).await;
    fault.is("unavailable", "not_sent");
    assert!(
        fault.message.contains("`dead.one`") && fault.message.contains("`dead.two`"),
        "{fault:?}"
    );
}

/// Many callers, and several instances of which each knows a part.
#[tokio::test]
async fn one_inquiry_serves_all_and_all_instances_are_heard() {
    let nats = Nats::start();
    let mut asked = Vec::new();
    for part in ["one", "two"] {
        let mut instance = RawNats::serve(&nats, "$SRV.INFO.parts").await;
        asked.push(tokio::spawn(async move {
            let mut times = 0;
            while times < 1 {
                let (_, reply) = instance.request().await;
                times += 1;
                let info = json!({"endpoints": [{"name": part, "subject": format!("p.{part}")}]});
                instance.publish(&reply, b"NATS/1.0\r\n\r\n", info.to_string().as_bytes()).await;
            }
            instance
        }));
    }
    let service = NatsResponder::serve(nats.client().await, "p", |seen| {
        Answer::new(format!("\"{}\"", seen.method))
    })
    .await;
    let gateway = Gateway::ready(&nats.config("micro")).await;
    let calls = (0..40).map(|n| {
        let part = if n % 2 == 0 { "one" } else { "two" };
        json!({"jsonrpc": "2.0", "method": format!("parts.{part}"), "id": n})
    });
    let answers = gateway.api(Value::from_iter(calls).to_string()).await;
    for answer in answers.as_array().expect("a batch") {
        assert!(answer["result"] == "one" || answer["result"] == "two", "{answer}");
    }
    assert_eq!(service.requests.count(), 40);
    // Each instance was asked once: a second inquiry would wait for an answer of theirs.
    for instance in asked {
        drop(instance.await.expect("it was asked"));
    }
    let unknown = gateway.fault("parts.three", json!([1])).await;
    unknown.is("unknown_method", "not_sent");
}

#[tokio::test]
async fn a_row_names_a_subject_of_its_own() {
    for dialect in ["picom", "plain", "micro"] {
        let nats = Nats::start();
        let service = NatsResponder::serve(nats.client().await, "far", move |_| {
            Answer::new(if dialect == "picom" { r#"{"payload":7}"# } else { "7" })
        })
        .await;
        let upstream = nats.upstream("nats", dialect);
        let row =
            "[[routes]]\nmatch = \"near.get\"\nupstream = \"nats\"\nsubject = \"far.away.get\"\n";
        let gateway = Gateway::ready(&format!("{upstream}{row}")).await;
        assert_eq!(gateway.result("near.get", json!(["p"])).await, 7, "{dialect}");
        assert_eq!(service.requests.count(), 1);
    }
}

/// Who may not ask calls as before.
#[tokio::test]
async fn where_asking_is_not_permitted_the_name_is_the_subject() {
    let nats = Nats::configured(
        r#"authorization { users = [{user: all, password: p},
            {user: some, password: p, permissions: {publish: ["svc.>", "_INBOX.>"]}}] }"#,
    );
    let options = async_nats::ConnectOptions::with_user_and_password("all".into(), "p".into());
    let client = options.connect(nats.url()).await.expect("the server accepts");
    let _service = NatsResponder::serve(client, "svc", |_| Answer::new("7")).await;
    let toml =
        nats.config("micro").replace("dialect", "user = \"some\"\npassword = \"p\"\ndialect");
    let gateway = Gateway::ready(&toml).await;
    assert_eq!(gateway.result("svc.x", json!(["p"])).await, 7);
    let told = gateway.wait_for_log(0, "NATS does not permit to ask services").await;
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("$SRV.INFO.>")), "{told}");
    let timeout = [("X-Request-Timeout", "5s")];
    let body = r#"{"jsonrpc":"2.0","method":"shut.x","id":1}"#;
    let response = gateway.post("/api", &timeout, body).await;
    as_fault(&response.json()).is("access_denied", "rejected");
}
