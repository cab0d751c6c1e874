//! What can be called through this gateway: `rpc.discover`, as an OpenRPC document
//! (1.3, <https://spec.open-rpc.org>).
//!
//! The table says what is reached, and those behind it what they offer. Asking them costs more than
//! a call, so what they said serves everybody for a moment, and one inquiry is under way at most.

mod findings;
mod inquiry;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::call::Payload;
use crate::caller::Caller;
use crate::offer::openrpc;
use crate::router::table::Table;
use findings::Findings;

/// The method.
pub(super) const METHOD: &str = "rpc.discover";

/// How long an answer is taken for true.
const FRESH: Duration = Duration::from_secs(1);

/// What was found out, and finds it out anew.
pub(super) struct Discovery {
    /// One inquiry at a time.
    inquiry: Semaphore,
    last: Mutex<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    table: Arc<Table>,
    at: Instant,
    findings: Arc<Findings>,
}

impl Discovery {
    pub(super) fn new() -> Self {
        Self { inquiry: Semaphore::new(1), last: Mutex::default() }
    }

    /// The document, of all services or of one by its methods' own names, as far as the caller may
    /// call them.
    // Boxed: it would lie in the future of every call else.
    pub(super) fn document<'a>(
        &'a self,
        table: Arc<Table>,
        (service, caller): (Option<&'a str>, &'a Caller),
    ) -> BoxFuture<'a, Payload> {
        Box::pin(async move {
            let findings = self.findings(&table).await;
            let may_call = |name: &str, number| {
                findings::row(&table, number).rule.access.lets_call(caller, name).is_ok()
            };
            let document = document(&findings, service, may_call);
            Payload::from_validated(document.to_string().into())
        })
    }

    async fn findings(&self, table: &Arc<Table>) -> Arc<Findings> {
        if let Some(findings) = self.known(table) {
            return findings;
        }
        // It is never closed.
        let _turn = self.inquiry.acquire().await;
        if let Some(findings) = self.known(table) {
            return findings;
        }
        let findings = Arc::new(inquiry::ask(Arc::clone(table)).await);
        let known =
            Known { table: Arc::clone(table), at: Instant::now(), findings: Arc::clone(&findings) };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        findings
    }

    fn known(&self, table: &Arc<Table>) -> Option<Arc<Findings>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.as_ref()?;
        let is_fresh = Arc::ptr_eq(&known.table, table) && known.at.elapsed() < FRESH;
        is_fresh.then(|| Arc::clone(&known.findings))
    }
}

fn document(
    findings: &Findings,
    service: Option<&str>,
    may_call: impl Fn(&str, Option<usize>) -> bool,
) -> Value {
    let methods = findings.methods.iter().filter_map(|(whole, found)| {
        let name = found.called_at(service, whole)?;
        may_call(whole, found.row).then(|| found.told.named(name))
    });
    let methods: Vec<Value> = methods.collect();
    let schemas = referred(&methods, &findings.schemas);
    let mut document = Map::new();
    document.insert("openrpc".into(), "1.3.2".into());
    let (title, version) = (service.unwrap_or("Genkan"), env!("CARGO_PKG_VERSION"));
    document.insert("info".into(), json!({"title": title, "version": version}));
    document.insert("methods".into(), methods.into());
    if !schemas.is_empty() {
        document.insert("components".into(), json!({ "schemas": schemas }));
    }
    document.into()
}

/// The schemas that methods refer to, and those that these do.
fn referred(methods: &[Value], schemas: &Map<String, Value>) -> Map<String, Value> {
    let mut found = Map::new();
    let mut open: Vec<&Value> = methods.iter().collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                let name = fields.get("$ref").and_then(Value::as_str);
                let name = name.and_then(|place| place.strip_prefix(openrpc::SCHEMAS));
                if let Some((name, schema)) = name.and_then(|name| schemas.get_key_value(name))
                    && !found.contains_key(name)
                {
                    found.insert(name.clone(), schema.clone());
                    open.push(schema);
                }
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}
