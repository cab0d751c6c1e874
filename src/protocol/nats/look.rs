//! What a look at a running NATS finds amiss, for `genkan check --live`. Read-only: nothing is sent to
//! a service but, in the dialect `micro`, the question whether it lives. Whether anybody has
//! subscribed to a subject is known to the server alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};

use super::config::{Server, Settings};
use super::connection::Link;
use super::events::{self, Events};
use super::expose::{self, Exposes};
use super::generation::Generation;
use super::open::{self, Accounts, Failure};
use super::outbox::Publication;
use super::pending::Answer;
use super::streams::streams;
use super::wire::{self, Dialect, Endpoints};
use crate::budget::Budget;
use crate::event_port::{EventPort as _, Source, Way};
use crate::metrics::UpstreamMetrics;
use crate::route::Rule;
use crate::route::expose::Expose;
use crate::tasks::Tasks;
use crate::upstream::{Amiss, EventsLook};

/// How long the first instance of a service has to answer, and how long each further one after that.
const FIRST: Duration = Duration::from_secs(2);
const FURTHER: Duration = Duration::from_millis(200);
/// How many of one service's subjects are looked for in streams.
const MOST: usize = 100;
/// What answers may take of the memory.
const MEMORY: usize = 64 << 20;

/// Looks at the servers, and at what the rows need.
pub(super) async fn look(settings: &Arc<Settings>, rows: &[&Rule], tasks: &Tasks) -> Vec<Amiss> {
    let mut amiss = Vec::new();
    let mut first = None;
    for server in &settings.servers {
        match connect(settings, server, &[], tasks).await {
            Ok(opened) => {
                first.get_or_insert(opened);
            }
            Err(failure) => {
                let (told, detail) = (failure.told(), &failure.detail);
                let what = match failure.mend {
                    Some(_) => format!("{server}: {told} ({detail})"),
                    None => {
                        format!("{server}: {told}: start it, or name the right place in `servers`")
                    }
                };
                amiss.push(Amiss::of_upstream(&what));
            }
        }
    }
    let Some(looking) = first else { return amiss };
    let generation = looking.generation();
    for (row, rule) in rows.iter().enumerate() {
        let mut subjects: Vec<Arc<str>> =
            subject(settings.dialect, rule).into_iter().map(Arc::from).collect();
        if settings.dialect == Dialect::Micro && rule.subject.is_none() {
            match served(generation, rule, &settings.inbox_prefix).await {
                Ok(Some(served)) => subjects = served,
                Ok(None) => {}
                Err(unserved) => amiss.push(Amiss::of_row(row, &unserved)),
            }
        }
        for subject in subjects.iter().take(MOST) {
            let streams = streams(generation, subject).await;
            amiss.extend(streams.map(|what| Amiss::error_of_row(row, &what)));
        }
    }
    amiss
}

/// Looks at what would keep calls of exposed services from being answered.
pub(super) async fn look_at_exposes(
    settings: &Arc<Settings>,
    exposes: &[&Expose],
    tasks: &Tasks,
) -> Vec<Amiss> {
    let mut amiss = Vec::new();
    if exposes.is_empty() {
        return amiss;
    }
    let subjects: Vec<Vec<String>> =
        exposes.iter().map(|expose| expose::subjects(settings, expose)).collect();
    let probes = events::probes(subjects.iter().flatten().map(String::as_str));
    let Some(looking) = connect_any(settings, &probes, tasks).await else { return amiss };
    let denied = looking.denied().await;
    for (row, subjects) in subjects.iter().enumerate() {
        for subject in subjects {
            let streams = streams(looking.generation(), subject).await;
            amiss.extend(streams.map(|what| Amiss::error_of_row(row, &what)));
        }
        amiss.extend(subjects.iter().find_map(|subject| denial(row, subject, &denied)));
    }
    amiss
}

/// Looks at what would keep events from coming and going.
pub(super) async fn look_at_events(
    settings: &Arc<Settings>,
    ways: &[Way<'_>],
    tasks: &Tasks,
) -> EventsLook {
    if ways.is_empty() {
        return EventsLook::default();
    }
    let probes = events::probes(events::subjects(ways));
    let Some(looking) = connect_any(settings, &probes, tasks).await else {
        return EventsLook::default();
    };
    let denied = looking.denied().await;
    let mut found = events::look(looking.generation(), ways).await;
    for (row, way) in ways.iter().enumerate() {
        let subject = events::subjects(std::slice::from_ref(way)).next();
        found.amiss.extend(subject.and_then(|subject| denial(row, subject, &denied)));
    }
    found
}

/// What is wrong with a row where the server does not let Genkan's user subscribe to a subject. Nobody looks as a member
/// of a queue group: the server would hand it what is others'.
fn denial(row: usize, subject: &str, denied: &[String]) -> Option<Amiss> {
    let is_denied = denied.iter().any(|denied| denied == subject);
    is_denied.then(|| {
        let what =
            format!(
                "NATS does not permit to subscribe to `{subject}`: allow it for Genkan's user (what is permitted with a \
                 queue group alone is not seen by this look, which joins none)"
            );
        Amiss::error_of_row(row, &what)
    })
}

/// A connection to look around by, until that is dropped.
struct Looking {
    generation: Arc<Generation>,
    events: Arc<Events>,
}

impl Looking {
    fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Which of the probes it was opened with the server does not permit.
    async fn denied(&self) -> Vec<String> {
        // A server that does not answer is told of by those who ask it more.
        drop(timeout(FIRST, self.events.is_settled()).await);
        self.generation.refused_events()
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.generation.end();
    }
}

/// The first server that there is; why there is none, [`look`] tells.
async fn connect_any(
    settings: &Arc<Settings>,
    probes: &[Source],
    tasks: &Tasks,
) -> Option<Looking> {
    for server in &settings.servers {
        if let Ok(looking) = connect(settings, server, probes, tasks).await {
            return Some(looking);
        }
    }
    None
}

async fn connect(
    settings: &Arc<Settings>,
    server: &Server,
    probes: &[Source],
    tasks: &Tasks,
) -> Result<Looking, Failure> {
    let (budget, metrics) = (Budget::new(MEMORY), UpstreamMetrics::new("check"));
    let accounts = Accounts {
        replies: budget.upstream(),
        requests: budget.upstream(),
        events: budget.upstream(),
    };
    let link = Link::new();
    let exposes = Exposes::new(settings, &link, &metrics, tasks);
    let events = Events::new(settings, &link, &metrics);
    events.listen(probes);
    let opened = open::open(settings, server, &accounts, (&exposes, &events), &metrics).await;
    let (generation, io) = opened?;
    let running = Arc::clone(&generation);
    tasks.spawn_session(async move {
        running.run(io).await;
    });
    Ok(Looking { generation, events })
}

/// The subject, or the subjects, that calls of a row go to.
fn subject(dialect: Dialect, rule: &Rule) -> Option<String> {
    if let Some(subject) = &rule.subject {
        return Some(wire::written(dialect, subject));
    }
    let service = rule.known_service()?;
    Some(format!("{service}.{}", rule.known_method().unwrap_or(">")))
}

/// The subjects of a micro service's endpoints that a row's calls go to: those that its instances tell, where
/// they do. Else what is wrong where none answers, or none has the endpoint.
async fn served(
    generation: &Generation,
    rule: &Rule,
    inbox_prefix: &str,
) -> Result<Option<Vec<Arc<str>>>, String> {
    let Some(service) = rule.known_service() else { return Ok(None) };
    let name = wire::split(service).map_or(service, |(name, _)| name);
    let asked: Arc<str> = wire::inquiry(name).into();
    let Ok(mut answers) = generation.pending().gather(Arc::clone(&asked)) else { return Ok(None) };
    let headers = wire::NO_HEADERS.to_owned();
    let question = Publication { subject: asked, headers, payload: Bytes::new() };
    if !generation.send(answers.key(), question, true).await {
        return Ok(None);
    }
    let mut known: Option<Endpoints> = None;
    let mut until = Instant::now() + FIRST;
    while let Ok(Some(Answer::Reply(message))) = timeout_at(until, answers.next()).await {
        if wire::is_no_responders(&message) {
            return Err(format!(
                "nobody answers: no NATS service calls itself `{name}`: start it, or name the right one \
                 with `service` in the row"
            ));
        }
        if let Some(told) = Endpoints::read(&message, inbox_prefix) {
            known.get_or_insert_default().merge(told);
        }
        until = Instant::now() + FURTHER;
    }
    let Some(known) = known else { return Ok(None) };
    let Some(method) = rule.known_method() else { return Ok(Some(known.subjects())) };
    if let Some(subject) = known.subject(&format!("{service}.{method}"), inbox_prefix, |_| false) {
        return Ok(Some(vec![subject]));
    }
    let names = match known.names() {
        names if names.is_empty() => "it has none".to_owned(),
        names => format!("it has {names}"),
    };
    Err(format!(
        "nobody answers: `{name}` has no endpoint `{method}`: {names}: name the right one with `method` \
         in the row, or its `subject`"
    ))
}
