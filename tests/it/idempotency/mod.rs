//! Calls that have idempotency keys: they run once, and whoever repeats one gets the answer of the first.

mod callers;
mod ends;
mod keys;
mod room;
mod under_way;
mod ways;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::http::Response;
use crate::harness::web::{Asked, Say, Web};
use crate::harness::{Gateway, eventually};

/// A service that counts what it runs, and answers how often it has; a gateway before it.
struct Till {
    gateway: Gateway,
    service: Web,
}

impl Till {
    /// One whose row has these keys, with tables before it.
    async fn start(tables: &str, keys: &str) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        Self::serve(tables, keys, move |asked| {
            let nth = count.fetch_add(1, Ordering::SeqCst) + 1;
            asked.result(&nth.to_string())
        })
        .await
    }

    /// One whose service answers so.
    async fn serve(
        tables: &str,
        keys: &str,
        answer: impl Fn(&Asked) -> Say + Send + Sync + 'static,
    ) -> Self {
        let service = Web::serve(answer).await;
        let gateway = Gateway::ready(&config(tables, &service, keys)).await;
        Self { gateway, service }
    }

    /// Pays under a key, or without one.
    async fn pay(&self, key: &str) -> Response {
        self.pay_as(&[("Idempotency-Key", key)], r#"{"sum":10}"#).await
    }

    async fn pay_as(&self, headers: &[(&str, &str)], body: &str) -> Response {
        self.gateway.post("/call/till/pay", headers, body).await
    }

    /// How often the service has run.
    fn runs(&self) -> usize {
        self.service.asked().len()
    }

    async fn waits(&self, calls: f64) {
        waiting(&self.gateway, calls).await;
    }
}

fn config(tables: &str, service: &Web, keys: &str) -> String {
    format!(
        "{tables}\n[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"till.*\"\nupstream = \"web\"\n{keys}\n",
        service.url
    )
}

/// The key of a row that keeps answers.
const KEPT: &str = "idempotency = { ttl = \"1h\" }";

/// Waits until so many calls have come under keys, and are answered by others' ends.
async fn waiting(gateway: &Gateway, calls: f64) {
    let keys = "genkan_idempotency_keys";
    eventually(&format!("{calls} keys are known"), async || {
        (gateway.metric(keys, &[]).await == calls).then_some(())
    })
    .await;
}

/// Whether an answer says that it is another call's.
fn is_replayed(response: &Response) -> bool {
    match response.header("idempotency-replayed") {
        None => false,
        Some(value) => value == "true" || panic!("{response:?}"),
    }
}

/// Kind and outcome of a problem document, and what it says.
#[track_caller]
fn problem(response: &Response) -> (String, String, String) {
    let problem = response.json();
    let said = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    (said("kind"), said("outcome"), said("detail"))
}

/// A request with a key of its own.
fn request(id: u64, method: &str, key: &str) -> Value {
    let params = json!({"sum": 10});
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params,
        "meta": {"idempotencyKey": key}})
}
