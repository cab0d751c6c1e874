//! How much is kept: what there is no room for is said.

use serde_json::json;

use super::{KEPT, Till, is_replayed, problem, waiting};
use crate::harness::Gateway;
use crate::hub::{HUB, Peer};

#[tokio::test]
async fn of_too_many_keys_the_oldest_goes() {
    let till = Till::start("[idempotency]\nmax_keys = 2\n", KEPT).await;
    for (key, answer) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", "2"), ("a", "4")] {
        assert_eq!(till.pay(key).await.text(), answer, "{key}");
    }
    let forgotten = [("limit", "max_keys")];
    till.gateway.wait_for_metric("genkan_idempotency_forgotten_total", &forgotten, 2.0).await;
    till.waits(2.0).await;
    let said = till.gateway.log_text();
    assert!(said.contains("raise `max_keys` in [idempotency]"), "{said}");
}

#[tokio::test]
async fn of_too_many_bytes_answers_go_and_their_keys_stay() {
    let till = Till::serve("[idempotency]\nmax_bytes = \"1KiB\"\n", KEPT, |asked| {
        let length = asked.json()["params"][0].as_u64().expect("a length");
        let text = "x".repeat(usize::try_from(length).expect("a length"));
        asked.result(&format!("\"{text}\""))
    })
    .await;
    let pay = async |key: &str, length: usize| {
        till.pay_as(&[("Idempotency-Key", key)], &format!("[{length}]")).await
    };
    // More than a quarter is never kept; four of a quarter are, and not five.
    for (key, length) in
        [("large", 300), ("a", 254), ("b", 254), ("c", 254), ("d", 254), ("e", 254)]
    {
        assert_eq!(pay(key, length).await.text().len(), length + 2, "{key}");
    }
    for (key, length) in [("large", 300), ("a", 254)] {
        let gone = pay(key, length).await;
        let (kind, outcome, detail) = problem(&gone);
        assert_eq!((&*kind, &*outcome, gone.status), ("too_large", "executed", 413), "{detail}");
        assert!(detail.contains("it has run") && detail.contains("max_bytes"), "{detail}");
        assert!(is_replayed(&gone));
    }
    for key in ["b", "c", "d", "e"] {
        let again = pay(key, 254).await;
        assert_eq!((again.text().len(), is_replayed(&again)), (256, true), "{key}");
    }
    assert_eq!(till.runs(), 6);
    let held = till.gateway.metric("genkan_idempotency_held_bytes", &[]).await;
    assert!(held <= 1024.0, "{held}");
    let forgotten = [("limit", "max_bytes")];
    till.gateway.wait_for_metric("genkan_idempotency_forgotten_total", &forgotten, 2.0).await;
}

#[tokio::test]
async fn calls_under_way_are_not_forgotten_for_others() {
    let row = format!("[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\n{KEPT}\n");
    let toml = format!("[idempotency]\nmax_keys = 1\n{HUB}{row}");
    let gateway = Gateway::ready(&toml).await;
    let mut desk = Peer::module(&gateway, "desk", &["pay"]).await;
    let pay =
        async |key: &str| gateway.post("/call/desk/pay", &[("Idempotency-Key", key)], "{}").await;
    let (paid, ()) = tokio::join!(pay("a"), async {
        let call = desk.receive().await;
        waiting(&gateway, 1.0).await;
        let full = pay("b").await;
        let (kind, outcome, detail) = problem(&full);
        assert_eq!((&*kind, &*outcome, full.status), ("overloaded", "not_sent", 429), "{detail}");
        assert!(detail.contains("[idempotency] max_keys"), "{detail}");
        assert!(full.header("retry-after").is_some());
        desk.answer(&call, json!(1)).await;
    });
    assert_eq!(paid.text(), "1");
    let limited = [("route", "desk.*"), ("limit", "max_keys")];
    assert_eq!(gateway.metric("genkan_limited_total", &limited).await, 1.0);
}
