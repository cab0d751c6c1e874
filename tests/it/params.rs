//! CONTRACT's table of params, cell by cell: from JSON-RPC (and `/call`) to each protocol.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, NamekoResponder, Nats, NatsResponder, RabbitMq, as_fault};

const FORMS: [&str; 5] = [r#"{"b":1,"a":2}"#, r#"["one"]"#, r#"["one",2]"#, "[]", ""];

async fn send(gateway: &Gateway, service: &str, params: &str) -> Value {
    let member = if params.is_empty() { String::new() } else { format!(r#""params":{params},"#) };
    let body = format!(r#"{{"jsonrpc":"2.0","method":"{service}.x",{member}"id":1}}"#);
    gateway.api(body).await
}

#[tokio::test]
async fn to_nameko() {
    let vhost = RabbitMq::shared().vhost();
    let service =
        NamekoResponder::serve(&vhost.url(), "svc", |_| Answer::new(r#"{"result":1}"#)).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let bodies = [
        r#"{"args":[],"kwargs":{"b":1,"a":2}}"#,
        r#"{"args":["one"],"kwargs":{}}"#,
        r#"{"args":["one",2],"kwargs":{}}"#,
        r#"{"args":[],"kwargs":{}}"#,
        r#"{"args":[],"kwargs":{}}"#,
    ];
    for (params, body) in FORMS.iter().zip(bodies) {
        assert_eq!(send(&gateway, "svc", params).await["result"], 1);
        assert_eq!(service.requests.last().body, body, "{params}");
        assert_eq!(gateway.post("/call/svc/x", &[], params).await.status, 200);
        assert_eq!(service.requests.last().body, body, "{params}");
    }
    // JSON's false values are arguments like any other there.
    for falsy in ["[null]", "[0]", "[false]", "[\"\"]"] {
        assert_eq!(send(&gateway, "svc", falsy).await["result"], 1, "{falsy}");
    }
}

#[tokio::test]
async fn to_picom_plain_and_micro() {
    let bodies = [r#"{"b":1,"a":2}"#, "\"one\"", r#"["one",2]"#, "", ""];
    for dialect in ["picom", "plain", "micro"] {
        let nats = Nats::start();
        let answer = if dialect == "picom" { r#"{"payload":1}"# } else { "1" };
        let client = nats.client().await;
        let service = NatsResponder::serve(client, "svc", move |_| Answer::new(answer)).await;
        let gateway = Gateway::ready(&nats.config(dialect)).await;
        for (params, body) in FORMS.iter().zip(bodies) {
            assert_eq!(send(&gateway, "svc", params).await["result"], 1);
            assert_eq!(service.requests.last().body, body, "{dialect} {params}");
            assert_eq!(gateway.post("/call/svc/x", &[], params).await.status, 200);
            assert_eq!(service.requests.last().body, body, "{dialect} {params}");
        }
        let before = service.requests.count();
        for falsy in ["[null]", "[0]", "[false]", "[\"\"]"] {
            let answer = send(&gateway, "svc", falsy).await;
            if dialect == "picom" {
                as_fault(&answer).is("invalid_params", "not_sent");
            } else {
                assert_eq!(answer["result"], 1, "{dialect} {falsy}");
            }
        }
        let sent = if dialect == "picom" { 0 } else { 4 };
        assert_eq!(service.requests.count() - before, sent, "{dialect}");
    }
}

#[tokio::test]
async fn a_routes_names_turn_positions_into_names_on_nats() {
    let nats = Nats::start();
    let answer = |_: &crate::harness::Seen| Answer::new(r#"{"payload":1}"#);
    let service = NatsResponder::serve(nats.client().await, "svc", answer).await;
    let toml = format!("{}params = [\"id\", \"size\"]\n", nats.config("picom"));
    let gateway = Gateway::ready(&toml).await;
    for (params, body) in [
        (json!([7, "L"]), r#"{"id":7,"size":"L"}"#),
        (json!([7]), r#"{"id":7}"#),
        (json!([null]), r#"{"id":null}"#),
        (json!({"other": 1}), r#"{"other":1}"#),
    ] {
        assert_eq!(gateway.result("svc.x", params.clone()).await, 1);
        assert_eq!(service.requests.last().body, body, "{params}");
    }
    let fault = gateway.fault("svc.x", json!([1, 2, 3])).await;
    assert_eq!(fault.is("invalid_params", "not_sent").code, -32602);
}
