//! What is a key, and what is none: nothing of a request with a bad one runs.

use serde_json::{Value, json};

use super::{KEPT, Till, is_replayed, problem, request};
use crate::harness::as_fault;
use crate::harness::http::encode;

#[tokio::test]
async fn what_is_no_key_is_refused_wherever_it_goes() {
    // In a row that keeps answers, and in one that hands keys on alone.
    for keys in [KEPT, ""] {
        let till = Till::start("", keys).await;
        let long = "k".repeat(256);
        let huge = "k".repeat(20_000);
        for bad in ["\"\"", "\"a", "a b", "a,b", "a\tb", "schl\u{fc}ssel", "\"a\";b", &long, &huge]
        {
            let refused = till.pay(bad).await;
            let (kind, outcome, detail) = problem(&refused);
            assert_eq!((&*kind, &*outcome), ("invalid_request", "not_sent"), "{bad}: {detail}");
            assert_eq!(refused.status, 400, "{bad}: {detail}");
            assert!(detail.contains("the header Idempotency-Key"), "{detail}");
            assert!(detail.len() < 300, "it is not repeated: {detail}");
        }
        let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")];
        let refused = till.pay_as(&twice, "{}").await;
        assert_eq!((refused.status, problem(&refused).0), (400, "invalid_request".to_owned()));
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"till.pay"}"#;
        let refused = till.gateway.post("/api", &twice, body).await;
        assert_eq!(refused.status, 200);
        as_fault(&refused.json()).is("invalid_request", "not_sent");
        // An empty header, which the harness leaves out.
        let mut connection = till.gateway.connect().await;
        let head = encode("POST", "/call/till/pay", &[], b"{}");
        let head =
            String::from_utf8(head).expect("text").replacen("\r\n", "\r\nIdempotency-Key:\r\n", 1);
        connection.send(head.as_bytes()).await;
        assert_eq!(connection.receive().await.expect("an answer").status, 400);
        assert_eq!(till.runs(), 0);
        assert_eq!(till.pay(&"k".repeat(255)).await.status, 200);
    }
}

#[tokio::test]
async fn a_key_of_a_megabyte_costs_nothing() {
    let till = Till::start("", KEPT).await;
    let mut connection = till.gateway.connect().await;
    let key = "k".repeat(1 << 20);
    let bytes = encode("POST", "/call/till/pay", &[("Idempotency-Key", &key)], b"{}");
    // It may be cut off before all of it has been sent.
    drop(connection.try_send(&bytes).await);
    let status = connection.receive().await.map_or(431, |response| response.status);
    assert_eq!((status, till.runs()), (431, 0));
    let meta = request(1, "till.pay", &"k".repeat(900_000));
    as_fault(&till.gateway.api(meta.to_string()).await).is("invalid_request", "not_sent");
    assert_eq!((till.pay("k").await.text(), till.runs()), ("1", 1));
}

#[tokio::test]
async fn a_batch_has_a_key_for_each_of_its_calls_and_none_for_all() {
    let till = Till::start("", KEPT).await;
    let one = json!({"jsonrpc": "2.0", "id": 1, "method": "till.pay"});
    let note = json!({"jsonrpc": "2.0", "method": "till.pay"});
    let batch = json!([one, note]).to_string();
    let refused = till.gateway.post("/api", &[("Idempotency-Key", "k")], batch).await.json();
    let fault = as_fault(&refused[0]);
    assert!(fault.is("invalid_request", "not_sent").message.contains("meta"), "{fault:?}");
    assert_eq!((refused.as_array().map(Vec::len), till.runs()), (Some(1), 0));
    let batch = json!([
        request(1, "till.pay", "a"),
        request(2, "till.pay", "a"),
        request(3, "till.pay", "b"),
        one
    ]);
    for round in 0..2 {
        let answers = till.gateway.post("/api", &[], batch.to_string()).await;
        assert!(!is_replayed(&answers), "which one would it be");
        let answers = answers.json();
        let answers = answers.as_array().expect("a batch");
        let mark = json!({"idempotencyReplayed": true});
        let marked = answers.iter().filter(|answer| answer["meta"] == mark).count();
        assert_eq!(marked, if round == 0 { 1 } else { 3 }, "{answers:?}");
        assert_eq!(answers[0]["result"], answers[1]["result"]);
        assert_ne!(answers[0]["result"], answers[2]["result"]);
        assert_eq!(answers[3].get("meta"), None);
        assert_eq!(till.runs(), 3 + round);
    }
}

#[tokio::test]
async fn a_key_in_an_envelope_is_one_over_http_too() {
    let till = Till::start("", KEPT).await;
    let pay = async |headers: &[(&str, &str)], meta: Value| {
        let mut body = request(1, "till.pay", "");
        body["meta"] = meta;
        till.gateway.post("/api", headers, body.to_string()).await
    };
    let header = [("Idempotency-Key", "k")];
    let first = pay(&[], json!({"idempotencyKey": "k", "more": 1})).await.json();
    assert_eq!((&first["result"], first.get("meta")), (&json!(1), None));
    let again = pay(&header, json!({"idempotencyKey": "k"})).await;
    assert_eq!((&again.json()["result"], is_replayed(&again)), (&json!(1), true));
    let again = pay(&header, json!("of somebody else")).await;
    assert_eq!((&again.json()["result"], is_replayed(&again)), (&json!(1), true));
    for (headers, meta) in [
        (&header[..], json!({"idempotencyKey": "l"})),
        (&[], json!({"idempotencyKey": 7})),
        (&[], json!({"idempotencyKey": ""})),
        (&[], json!({"idempotencyKey": "a\nb"})),
    ] {
        let refused = pay(headers, meta.clone()).await.json();
        let fault = as_fault(&refused);
        assert!(fault.is("invalid_request", "not_sent").message.contains("meta"), "{meta}");
    }
    assert_eq!(till.runs(), 1);
    let none = pay(&[], json!({"idempotencyKey": null})).await.json();
    assert_eq!(none["result"], 2);
}
