//! `POST /call/{service}/{method}`: params in, the bare result out, faults as HTTP statuses with
//! problem documents.

use serde_json::{Value, json};

use crate::harness::{Echo, eventually};

#[tokio::test]
async fn the_body_is_the_params_and_the_answer_is_the_result() {
    let echo = Echo::start().await;
    for (body, result) in [
        ("[\"one\"]", "\"one\""),
        (r#"[1, 2.50, "x"]"#, r#"[1, 2.50, "x"]"#),
        (r#"{"b": 1,"a":2}"#, r#"{"b": 1,"a":2}"#),
        ("", "null"),
        ("  \n", "null"),
        (" [ \"one\" ] \n", "\"one\""),
    ] {
        let response = echo.gateway.post("/call/echo/x", &[], body).await;
        assert_eq!((response.status, response.text()), (200, result), "{body}");
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn faults_are_statuses_with_problem_documents() {
    let echo = Echo::start().await;
    let cases = [
        ("/call/echo/x", "{", 400, "parse_error"),
        ("/call/echo/x", "\u{1}", 400, "parse_error"),
        ("/call/echo/x", "7", 400, "invalid_request"),
        ("/call/echo/x", "\"text\"", 400, "invalid_request"),
        ("/call/nobody/x", "[]", 404, "unknown_service"),
        ("/call/echo/fail", "[]", 500, "application"),
        ("/call/echo/x", "[null]", 422, "invalid_params"),
    ];
    for (path, body, status, kind) in cases {
        let response = echo.gateway.post(path, &[], body).await;
        assert_eq!(response.status, status, "{path} {body}: {response:?}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        let problem = response.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["kind"], kind);
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        assert!(problem["outcome"].is_string() && problem["retryable"].is_boolean(), "{problem}");
    }
    let application = echo.gateway.post("/call/echo/fail", &[], "[]").await.json();
    assert_eq!(application["detail"], "mailbox full");
    assert_eq!(application["outcome"], "executed");
}

#[tokio::test]
async fn a_deadline_that_passes_is_a_504() {
    let echo = Echo::start().await;
    let headers = [("X-Request-Timeout", "200ms")];
    let response = echo.gateway.post("/call/echo/never", &headers, "").await;
    assert_eq!(response.status, 504);
    assert_eq!(response.json()["kind"], "timeout");
    assert_eq!(response.json()["outcome"], "unknown");
    assert_eq!(response.json()["retryable"], false, "it may have run");
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_503() {
    let echo = Echo::start().await;
    echo.nats.stop();
    let problem = eventually("it is noticed", async || {
        let response = echo.gateway.post("/call/echo/x", &[], "").await;
        (response.status == 503).then(|| response.json())
    })
    .await;
    assert_eq!(problem["kind"], "unavailable");
}

#[tokio::test]
async fn names_may_be_written_with_escapes() {
    let echo = Echo::start().await;
    let response = echo.gateway.post("/call/%65cho/x", &[], "[\"p\"]").await;
    assert_eq!(response.text(), "\"p\"");
    let dotted = echo.gateway.post("/call/echo.sub.deep/x", &[], "[\"p\"]").await;
    assert_eq!(dotted.text(), "\"p\"");
}

#[tokio::test]
async fn the_content_type_must_be_json_where_there_is_a_body() {
    let echo = Echo::start().await;
    let text = echo.gateway.post("/call/echo/x", &[("Content-Type", "text/plain")], "[1]").await;
    assert_eq!(text.status, 415);
    let none = echo.gateway.post("/call/echo/x", &[], "").await;
    assert_eq!((none.status, none.json()), (200, Value::Null));
    assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
}

/// JSON-RPC has `"params": null` for none, and so have its clients.
#[tokio::test]
async fn null_is_no_params() {
    let echo = Echo::start().await;
    for body in ["", "null", " null\n", "\u{feff}null"] {
        let answer = echo.gateway.post("/call/echo/x", &[], body).await;
        assert_eq!((answer.status, answer.json()), (200, Value::Null), "{body:?}: {answer:?}");
    }
    assert!(echo.service.requests.all().iter().all(|seen| seen.body.is_empty()));
    for body in ["nul", "null null", "1", "\"null\""] {
        assert_eq!(echo.gateway.post("/call/echo/x", &[], body).await.status, 400, "{body}");
    }
}
