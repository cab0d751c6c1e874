//! A JetStream stream that covers the subjects of calls: its receipt is no service's answer.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Nats, NatsResponder, as_fault};

/// A server whose stream `acmes` stores all that is sent to `svc`.
async fn streaming(limits: Value) -> Nats {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    let mut stream = json!({"name": "acmes", "subjects": ["svc.>"], "storage": "memory",
        "retention": "limits", "num_replicas": 1});
    stream.as_object_mut().expect("an object").extend(limits.as_object().cloned().expect("one"));
    let subject = "$JS.API.STREAM.CREATE.acmes";
    let answer = client.request(subject, stream.to_string().into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer.get("error"), None, "{answer}");
    nats
}

#[tokio::test]
async fn a_receipt_is_not_a_result() {
    for (dialect, reply, result) in [
        ("picom", r#"{"payload":"served"}"#, json!("served")),
        ("plain", r#""served""#, json!("served")),
        ("micro", r#""served""#, json!("served")),
        // Nearly a receipt, and the service's own answer.
        (
            "plain",
            r#"{"stream":"acmes","seq":1,"title":"x"}"#,
            json!({"stream": "acmes", "seq": 1, "title": "x"}),
        ),
    ] {
        // The second call meets a stream that is full, and says so.
        let nats = streaming(json!({"max_msgs": 1, "discard": "new"})).await;
        let answer = move |_: &_| Answer::after(reply, Duration::from_millis(200));
        let _service = NatsResponder::serve(nats.client().await, "svc", answer).await;
        let gateway = Gateway::ready(&nats.config(dialect)).await;
        for _ in 0..3 {
            assert_eq!(gateway.result("svc.x", json!({"a": 1})).await, result, "{dialect}");
        }
        let receipts = gateway.metric("genkan_stream_receipts_total", &[("upstream", "nats")]);
        assert_eq!(receipts.await, 3.0, "{dialect}");
        let log = gateway.log_text();
        assert_eq!(
            log.matches("a JetStream stream stores the calls").count(),
            1,
            "said once: {log}"
        );
        assert!(log.contains("acmes") && log.contains("no_ack"), "with the mend: {log}");
    }
}

#[tokio::test]
async fn a_receipt_alone_is_no_answer() {
    let nats = streaming(json!({})).await;
    let gateway = Gateway::ready(&nats.config("picom")).await;
    let body = r#"{"jsonrpc":"2.0","method":"svc.x","id":1}"#;
    let response = gateway.post("/api", &[("X-Request-Timeout", "700ms")], body).await;
    as_fault(&response.json()).is("timeout", "unknown");
}
