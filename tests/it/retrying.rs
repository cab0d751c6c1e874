//! Calls that may run twice are tried again where the way to their service failed, and only those.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::gateway::genkan;
use crate::harness::web::{Asked, Say, Web};
use crate::harness::{Gateway, process};

/// A service that breaks off so many calls, and answers from then on.
async fn breaks_off(calls: usize) -> Web {
    let left = AtomicUsize::new(calls);
    let take = |left: usize| left.checked_sub(1);
    Web::serve(move |asked: &Asked| match asked.method().as_str() {
        "fail" => asked.error(r#"{"code":1,"message":"no such order"}"#),
        _ if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() => {
            Say::bytes("").and_close()
        }
        _ => asked.result("1"),
    })
    .await
}

fn config(url: &str, keys: &str) -> String {
    format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{url}\"\n\
         [[routes]]\nmatch = \"a.*\"\nupstream = \"web\"\n{keys}\n"
    )
}

#[tokio::test]
async fn a_call_that_was_broken_off_is_tried_again_where_its_row_says_so() {
    let service = breaks_off(2).await;
    let gateway = Gateway::ready(&config(&service.url, "idempotent = true\nretries = 2")).await;
    assert_eq!(gateway.result("a.f", json!([])).await, 1);
    assert_eq!(service.asked().len(), 3);
    let count = async |outcome| {
        let labels = [("route", "a.*"), ("outcome", outcome)];
        gateway.metric("genkan_retries_total", &labels).await
    };
    assert_eq!([count("ok").await, count("failed").await], [1.0, 1.0]);
    gateway.fault("a.fail", json!([])).await.is("application", "executed");
    assert_eq!(service.asked().len(), 4, "what a service says is the answer");

    let service = breaks_off(1).await;
    let gateway = Gateway::ready(&config(&service.url, "idempotent = true")).await;
    gateway.fault("a.f", json!([])).await.is("unavailable", "unknown");
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn a_service_that_is_down_gets_no_more_than_its_budget() {
    let service = breaks_off(usize::MAX).await;
    let gateway = Gateway::ready(&config(&service.url, "idempotent = true\nretries = 10")).await;
    // Of 40 calls a fifth is less than the ten that there always are.
    join_all((0..40).map(|_| gateway.fault("a.f", json!([])))).await;
    assert!(service.asked().len() <= 40 + 10, "{}", service.asked().len());
    let labels = [("route", "a.*"), ("outcome", "no_budget")];
    assert!(gateway.metric("genkan_retries_total", &labels).await > 0.0);
}

#[tokio::test]
async fn retries_are_checked_and_explained() {
    let gateway = Gateway::start("").await;
    let rows = config("http://127.0.0.1:9/api", "idempotent = true\nretries = 2");
    let run = |arguments: &[&str]| {
        let mut command = genkan();
        command.args(arguments).arg("--config").arg(gateway.config());
        process::run(&mut command)
    };
    gateway.write_config(&rows);
    let (status, told, _) = run(&["explain", "a.f"]);
    assert_eq!(status, 0, "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["retries"], 2);
    gateway.write_config(&rows.replace("idempotent = true", ""));
    let (status, _, said) = run(&["check"]);
    assert!(status != 0 && said.contains("add `idempotent = true`"), "{said}");
}
