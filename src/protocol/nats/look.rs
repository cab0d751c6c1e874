//! What a look at a running NATS finds amiss, for `genkan check --live`. Read-only: nothing is sent to
//! a service but, in the dialect `micro`, the question whether it lives. Whether anybody has
//! subscribed to a subject is known to the server alone.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::ask::ask;
use super::config::Settings;
use super::connection::Link;
use super::events::Events;
use super::expose::Exposes;
use super::generation::Generation;
use super::open::{self, Accounts};
use super::wire::{self, Dialect};
use crate::budget::Budget;
use crate::metrics::UpstreamMetrics;
use crate::route::Rule;
use crate::tasks::Tasks;
use crate::upstream::Amiss;

/// What answers may take of the memory.
const MEMORY: usize = 64 << 20;

/// Looks at the servers, and at what the rows need.
pub(super) async fn look(settings: &Arc<Settings>, rows: &[&Rule], tasks: &Tasks) -> Vec<Amiss> {
    let (budget, metrics) = (Budget::new(MEMORY), UpstreamMetrics::new("check"));
    let accounts = Accounts {
        replies: budget.upstream(),
        requests: budget.upstream(),
        events: budget.upstream(),
    };
    let link = Link::new();
    let exposes = Exposes::new(settings, &link, &metrics, tasks);
    let events = Events::new(settings, &link, &metrics);
    let mut amiss = Vec::new();
    let mut first = None;
    for server in &settings.servers {
        match open::open(settings, server, &accounts, (&exposes, &events), &metrics).await {
            Ok(opened) => {
                first.get_or_insert(opened);
            }
            Err(failure) => {
                let mend = failure.mend.map(|mend| format!(": {mend}")).unwrap_or_default();
                amiss.push(Amiss::of_upstream(&format!("{server}: {}{mend}", failure.reason)));
            }
        }
    }
    let Some((generation, io)) = first else { return amiss };
    let running = Arc::clone(&generation);
    tasks.spawn_session(async move {
        running.run(io).await;
    });
    for (row, rule) in rows.iter().enumerate() {
        if let Some(subject) = subject(rule) {
            let streams = streams(&generation, &subject).await;
            amiss.extend(streams.map(|what| Amiss::error_of_row(row, &what)));
        }
        if settings.dialect == Dialect::Micro
            && rule.subject.is_none()
            && let Some(service) = rule.known_service()
        {
            amiss.extend(silent(&generation, service).await.map(|what| Amiss::of_row(row, &what)));
        }
    }
    generation.end();
    amiss
}

/// The subject, or the subjects, that calls of a row go to.
fn subject(rule: &Rule) -> Option<String> {
    if let Some(subject) = &rule.subject {
        return Some(subject.clone());
    }
    let service = rule.known_service()?;
    Some(format!("{service}.{}", rule.known_method().unwrap_or(">")))
}

/// The answer of JetStream's API that names streams.
#[derive(Deserialize)]
struct Streams {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

/// What is wrong where a stream takes requests in: its receipt comes back in the place of the
/// service's answer, and usually first (WIRE, section 8).
async fn streams(generation: &Generation, subject: &str) -> Option<String> {
    let question = json!({"subject": subject}).to_string();
    let answer = ask(generation, "$JS.API.STREAM.NAMES", question).await.ok()?;
    let Streams { streams } = serde_json::from_slice(&answer.payload).ok()?;
    let mut names = Vec::new();
    for name in streams.unwrap_or_default() {
        if sends_receipts(generation, &name).await {
            names.push(format!("`{name}`"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let (streams, s) = (names.join(", "), if names.len() == 1 { "s" } else { "" });
    Some(format!(
        "JetStream's {streams} store{s} what is sent to `{subject}`, and answer{s} in the place of the \
         service: take the subject out of the stream, or set its `no_ack`"
    ))
}

/// The answer of JetStream's API that shows a stream.
#[derive(Deserialize)]
struct Shown {
    config: ShownConfig,
}

#[derive(Deserialize)]
struct ShownConfig {
    #[serde(default)]
    no_ack: bool,
}

/// Whether a stream tells whoever sends something that it has it. Where nobody may ask, it does as
/// nearly all do.
async fn sends_receipts(generation: &Generation, name: &str) -> bool {
    let answer = ask(generation, &format!("$JS.API.STREAM.INFO.{name}"), Bytes::new()).await.ok();
    let shown = answer.and_then(|it| serde_json::from_slice::<Shown>(&it.payload).ok());
    shown.is_none_or(|shown| !shown.config.no_ack)
}

/// What is wrong where no instance of a micro service answers.
async fn silent(generation: &Generation, service: &str) -> Option<String> {
    let name = service.split('.').next().unwrap_or_default();
    let answer = ask(generation, &wire::inquiry(name), Bytes::new()).await.ok()?;
    wire::is_no_responders(&answer).then(|| {
        format!(
            "nobody answers: no NATS service calls itself `{name}`: start it, or name the right one \
             with `service` in the row"
        )
    })
}
