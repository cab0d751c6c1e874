//! A service's own errors, as every kind of caller gets them.

use serde_json::{Value, json};

use super::config;
use crate::harness::rabbit::Vhost;
use crate::harness::{Asked, Gateway, NamekoVersion, RabbitMq, Say, Web};
use crate::nameko_exposes::{raised, results, row};

/// Answers with the error that the call's method is named after.
async fn failing() -> Web {
    Web::serve(|asked: &Asked| match asked.method().as_str() {
        "odd" => asked.error(
            r#"{"code":-32050,"message":"\ud83d\ude00","data":{"b":1e400,"a":1.10,"n":1180591620717411303424}}"#,
        ),
        "list" => asked.error(r#"{"code":7,"message":"no","data":[1, {}]}"#),
        "bare" => asked.error(r#"{"message":"no such order","code":404}"#),
        "params" => asked.error(r#"{"code":-32602,"message":"size is missing","data":"size"}"#),
        "gemstone" => asked.error(
            r#"{"code":-32603,"message":"Internal error","data":{"class":"ValueError","info":"bad x"}}"#,
        ),
        "status" => {
            let id = &asked.json()["id"];
            let body = format!(r#"{{"error":{{"code":5,"message":"mine"}},"id":{id}}}"#);
            Say::status("500 Oh", "Content-Type: application/json\r\n", &body)
        }
        _ => asked.result("1"),
    })
    .await
}

#[tokio::test]
async fn json_rpc_callers_get_them_as_they_came() {
    let service = failing().await;
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    for (method, error) in [
        (
            "odd",
            r#"{"code":-32050,"message":"\ud83d\ude00","data":{"b":1e400,"a":1.10,"n":1180591620717411303424,"kind":"application","outcome":"executed","retryable":false}}"#,
        ),
        ("list", r#"{"code":7,"message":"no","data":[1, {}]}"#),
        (
            "bare",
            r#"{"code":404,"message":"no such order","data":{"kind":"application","outcome":"executed","retryable":false}}"#,
        ),
        ("params", r#"{"code":-32602,"message":"size is missing","data":"size"}"#),
        (
            "status",
            r#"{"code":5,"message":"mine","data":{"kind":"application","outcome":"executed","retryable":false}}"#,
        ),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"a.{method}","id":1}}"#);
        let answer = gateway.post("/api", &[], body).await;
        let expected = format!(r#"{{"jsonrpc":"2.0","error":{error},"id":1}}"#);
        assert_eq!((answer.status, answer.text()), (200, expected.as_str()), "{method}");
    }
    let answer = gateway.post("/call/a/bare", &[], "").await;
    assert_eq!(answer.status, 404, "a code that is a status is that");
    assert_eq!(answer.json()["detail"], "no such order");
    let answer = gateway.post("/call/a/params", &[], "").await;
    assert_eq!((answer.status, &answer.json()["info"]), (422, &json!("size")));
}

#[tokio::test]
async fn what_a_service_passes_on_of_a_call_of_its_own_is_its_own_error() {
    let nested = r#"{"code":-32601,"message":"nobody serves `ghost`","data":{"kind":"unknown_service","outcome":"not_sent","retryable":true}}"#;
    let service = Web::serve(move |asked: &Asked| {
        // Some pass on the headers of the answer, too.
        let headers = "Content-Type: application/json\r\nGenkan-Fault: unknown_service not_sent\r\n\
                       Genkan-Call: 0123456789abcdef0123456789abcdef\r\n";
        let body = format!(r#"{{"jsonrpc":"2.0","error":{nested},"id":{}}}"#, asked.id());
        match asked.method().as_str() {
            "headers" => Say::status("200 OK", headers, &body),
            "status" => Say::status("503 Down", headers, &body),
            _ => asked.error(nested),
        }
    })
    .await;
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    for method in ["body", "headers", "status"] {
        let fault = gateway.fault(&format!("a.{method}"), json!([])).await;
        fault.is("application", "executed");
        assert_eq!(fault.data["retryable"], false, "{method}: {fault:?}");
        assert_eq!(fault.data["info"]["outcome"], "not_sent", "as it was told: {fault:?}");
        assert_eq!((fault.code, fault.message.as_str()), (-32601, "nobody serves `ghost`"));
        let problem = gateway.post(&format!("/call/a/{method}"), &[], "").await.json();
        assert_eq!(
            (&problem["kind"], &problem["outcome"]),
            (&json!("application"), &json!("executed"))
        );
    }
}

fn world(vhost: &Vhost<'_>, service: &Web) -> String {
    let rabbit = vhost.upstream("rabbit");
    format!("{rabbit}\n{}\n{}", row("web", ""), config(&service.url, ""))
}

#[tokio::test]
async fn a_nameko_caller_gets_exceptions() {
    let (vhost, service) = (RabbitMq::shared().vhost(), failing().await);
    let gateway = Gateway::ready(&world(&vhost, &service)).await;
    crate::nameko_exposes::exposed(&gateway, "web", 1).await;
    let outcomes = crate::harness::clients::nameko(
        NamekoVersion::Three,
        &vhost.url(),
        &[
            ("web", "fine", json!([1]), json!({})),
            ("web", "gemstone", json!([]), json!({})),
            ("web", "params", json!([]), json!({})),
            ("web", "bare", json!([]), json!({})),
        ],
    )
    .await;
    assert_eq!(results(&outcomes[..1]), [json!(1)]);
    let error = raised(&outcomes[1]).to_string();
    assert!(error.contains("ValueError") && error.contains("bad x"), "{error}");
    let error = raised(&outcomes[2]).to_string();
    assert!(error.contains("IncorrectSignature") && error.contains("size is missing"), "{error}");
    let error = raised(&outcomes[3]).to_string();
    assert!(error.contains("RemoteError") && error.contains("no such order"), "{error}");
    assert_eq!(service.asked()[0].json()["params"], json!([1]));
    assert_eq!(service.asked()[1].json().get("params"), None::<&Value>);
}
