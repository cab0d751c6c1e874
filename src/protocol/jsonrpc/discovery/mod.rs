//! What can be called through this gateway: `rpc.discover`, as an OpenRPC document
//! (1.3, <https://spec.open-rpc.org>).
//!
//! The table says what is reached, and those behind it what they offer. Asking them costs more than
//! a call, so what they said serves everybody for a moment, and one inquiry is under way at most.

mod findings;
mod inquiry;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::call::Payload;
use crate::caller::Caller;
use crate::offer::openrpc;
use crate::router::table::Table;
use crate::tasks;
use findings::Findings;

/// The method.
pub(super) const METHOD: &str = "rpc.discover";

/// How long an answer is taken for true.
const FRESH: Duration = Duration::from_secs(1);

/// What was found out, and finds it out anew.
pub(super) struct Discovery {
    /// One inquiry at a time.
    inquiry: Semaphore,
    /// And one document that is written.
    writing: Arc<Semaphore>,
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
        Self {
            inquiry: Semaphore::new(1),
            writing: Arc::new(Semaphore::new(1)),
            last: Mutex::default(),
        }
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
            let (service, caller) = (service.map(str::to_owned), caller.clone());
            // It is never closed.
            let turn = Arc::clone(&self.writing).acquire_owned().await;
            let write = move || {
                let may_call = |name: &str, number| {
                    findings::row(&table, number).rule.access.lets_call(&caller, name).is_ok()
                };
                let document = document(&findings, service.as_deref(), may_call);
                drop(turn);
                document
            };
            // It may be large. Where it panicked, that is in the log.
            tasks::apart(write).await.unwrap_or(Payload::NULL)
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

/// An OpenRPC document.
#[derive(Serialize)]
struct Document<'a> {
    openrpc: &'static str,
    info: Info<'a>,
    methods: Vec<Method<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Components<'a>>,
}

#[derive(Serialize)]
struct Info<'a> {
    title: &'a str,
    version: &'static str,
}

#[derive(Serialize)]
struct Method<'a> {
    name: &'a str,
    #[serde(flatten)]
    told: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct Components<'a> {
    schemas: BTreeMap<&'a str, &'a Value>,
}

fn document(
    findings: &Findings,
    service: Option<&str>,
    may_call: impl Fn(&str, Option<usize>) -> bool,
) -> Payload {
    let methods = findings.methods.iter().filter_map(|(whole, found)| {
        let name = found.called_at(service, whole)?;
        may_call(whole, found.row).then(|| Method { name, told: found.told.fields() })
    });
    let methods: Vec<_> = methods.collect();
    let schemas = referred(&methods, &findings.schemas);
    let document = Document {
        openrpc: "1.3.2",
        info: Info { title: service.unwrap_or("Genkan"), version: env!("CARGO_PKG_VERSION") },
        methods,
        components: (!schemas.is_empty()).then_some(Components { schemas }),
    };
    // Nothing in it is what JSON cannot say.
    serde_json::to_vec(&document).map_or(Payload::NULL, |json| Payload::from_validated(json.into()))
}

/// The schemas that methods refer to, and those that these do.
fn referred<'a>(
    methods: &[Method<'a>],
    schemas: &'a Map<String, Value>,
) -> BTreeMap<&'a str, &'a Value> {
    let mut found = BTreeMap::new();
    let mut open: Vec<&Value> = methods.iter().flat_map(|method| method.told.values()).collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                let name = fields.get("$ref").and_then(Value::as_str);
                let name = name.and_then(|place| place.strip_prefix(openrpc::SCHEMAS));
                if let Some((name, schema)) = name.and_then(|name| schemas.get_key_value(name))
                    && found.insert(name.as_str(), schema).is_none()
                {
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
