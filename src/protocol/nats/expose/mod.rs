//! Services that are exposed on NATS: their callers find a service that speaks Picom, plain JSON or
//! NATS's micro services (WIRE 2; ADR-32).
//!
//! ```text
//!  subject, group ──► generation (read) ──► hosted ──► answering ──► Entrance ─ … ─ the routing table
//!                                                       │
//!  reply subject ◄─── generation (write) ◄──────────────┘
//! ```
//!
//! They are called over the connection that the upstream has. A generation hosts the `role`, which
//! subscribes to what is wanted, and leaves what is not: then the server is waited for, so that what was
//! on its way is answered too. Where a server says goodbye, the next generation has subscribed before
//! the old one leaves. An answer goes over the connection that its call came by, or over the next one.

mod answering;
mod hosted;
mod instance;
pub(super) mod role;
mod shortfall;
mod waiting;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot, watch};

use super::config::Settings;
use super::connection::Link;
use super::connection::State;
use super::wire::{self, Dialect, Taken};
use crate::caller::Caller;
use crate::exposer::debts::{Debt, Debts};
use crate::exposer::{Entrance, Exposer, Trouble};
use crate::metrics::UpstreamMetrics;
use crate::route::expose::Expose;
use crate::tasks::Tasks;
use crate::upstream::Sent;
pub(super) use hosted::Hosted;
use hosted::Why;
use instance::Instance;
use shortfall::Shortfall;
use waiting::Waiting;

/// The services that are exposed on one upstream, over all of its generations.
pub(super) struct Exposes {
    settings: Arc<Settings>,
    /// Whoever calls: the server has let them in, and what else they say of themselves nobody has
    /// verified.
    caller: Caller,
    link: Arc<Link>,
    metrics: UpstreamMetrics,
    tasks: Tasks,
    wanted: watch::Sender<Wanted>,
    settled: watch::Sender<Settled>,
    hosts: AtomicU64,
    debts: Debts,
    /// What the log was told of that the server does not take.
    refused: Mutex<HashSet<(String, Why)>>,
}

/// What is to be exposed now.
#[derive(Clone, Default)]
struct Wanted {
    version: u64,
    services: Vec<Arc<Service>>,
}

/// What the server has taken note of.
#[derive(Clone, Copy, Default)]
struct Settled {
    /// The generation that has told it.
    host: u64,
    /// Of what is wanted.
    version: u64,
}

/// An exposed service, from the row that says so to the one that does not.
struct Service {
    expose: Arc<Expose>,
    dialect: Dialect,
    entrance: Arc<dyn Entrance>,
    /// One for each of its calls that is under way.
    permits: Arc<Semaphore>,
    /// Its notifications for which there was none.
    waiting: Arc<Waiting>,
    instance: Instance,
}

/// An answer that is owed, by the upstream and by one of its connections.
pub(super) struct Owed {
    _upstream: Debt,
    _connection: Debt,
    /// Told when the server has read it, where somebody wants to know.
    read: Option<oneshot::Sender<()>>,
}

impl Owed {
    fn new(upstream: Debt, connection: Debt) -> Self {
        Self { _upstream: upstream, _connection: connection, read: None }
    }

    /// Tells when the server has read the answer: an error where it never will.
    fn watched(&mut self) -> oneshot::Receiver<()> {
        let (sender, read) = oneshot::channel();
        self.read = Some(sender);
        read
    }

    /// Whether somebody wants to know what becomes of the answer.
    pub(super) fn is_watched(&self) -> bool {
        self.read.is_some()
    }

    /// The server has read it.
    pub(super) fn tell_read(self) {
        if let Some(read) = self.read {
            // Who has stopped waiting need not be told.
            let _told = read.send(());
        }
    }
}

impl Exposes {
    pub(super) fn new(
        settings: &Arc<Settings>,
        link: &Arc<Link>,
        metrics: &UpstreamMetrics,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::clone(settings),
            caller: Caller::by_way_of(metrics.upstream()),
            link: Arc::clone(link),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            wanted: watch::Sender::default(),
            settled: watch::Sender::default(),
            hosts: AtomicU64::new(0),
            debts: Debts::default(),
            refused: Mutex::default(),
        })
    }

    fn next_host(&self) -> u64 {
        self.hosts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether it has not been told yet that the server does not take something.
    fn tell_refused(&self, what: (String, Why)) -> bool {
        // Configured subjects alone; every use leaves the set whole.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(what)
    }

    fn service(&self, expose: &Arc<Expose>, entrance: &Arc<dyn Entrance>) -> Service {
        let most = expose.prefetch.unwrap_or(self.settings.prefetch);
        Service {
            dialect: dialect(&self.settings, expose),
            entrance: Arc::clone(entrance),
            permits: Arc::new(Semaphore::new(most.into())),
            waiting: Arc::default(),
            instance: Instance::new(&expose.methods),
            expose: Arc::clone(expose),
        }
    }
}

impl Exposes {
    /// Who calls; `user` is whom the call says it comes from, and counts where that is believed.
    fn caller(&self, user: Option<&str>) -> Caller {
        match user.filter(|_| self.settings.trust_context) {
            Some(user) => self.caller.clone().vouched_for(user),
            None => self.caller.clone(),
        }
    }
}

impl Exposer for Exposes {
    fn expose(&self, services: &[Arc<Expose>], entrance: &Arc<dyn Entrance>) {
        self.wanted.send_modify(|wanted| {
            let before = std::mem::take(&mut wanted.services);
            let services = services.iter().map(|expose| {
                // One that stays keeps its id and its statistics.
                let same = before.iter().find(|service| service.expose == *expose);
                let new = || Arc::new(self.service(expose, entrance));
                same.map_or_else(new, Arc::clone)
            });
            wanted.services = services.collect();
            wanted.version += 1;
        });
    }

    fn is_settled(&self) -> bool {
        self.settled.borrow().version == self.wanted.borrow().version
    }

    fn troubles(&self) -> Vec<Trouble> {
        let State::Up(generation) = &*self.link.state() else { return Vec::new() };
        generation.hosted().shortfalls().into_iter().map(Shortfall::trouble).collect()
    }

    fn owed(&self) -> usize {
        // Over a subscription that is about to be left more may come: it counts until the server has
        // read that it is, and is looked at before the calls that came over it.
        let leaving = self.wanted.borrow().services.is_empty();
        let subscriptions = if leaving { self.debts.consumers() } else { 0 };
        subscriptions + self.debts.calls()
    }
}

/// The row's dialect, or the upstream's.
fn dialect(settings: &Settings, expose: &Expose) -> Dialect {
    // `object_to` has complained of a word that is none.
    expose.dialect.as_deref().and_then(Dialect::of).unwrap_or(settings.dialect)
}

/// The subject by which a method of a service is called that is exposed here.
pub(super) fn called(settings: &Settings, expose: &Expose, method: &str) -> String {
    wire::endpoint(dialect(settings, expose), expose, method)
}

/// The methods by which a call reaches a service that is exposed here.
pub(super) fn takes(settings: &Settings, expose: &Expose, sent: &Sent<'_>) -> Vec<String> {
    let dialect = dialect(settings, expose);
    match sent.subject {
        Some(subject) => wire::reached(dialect, expose, subject),
        // Nearly every pair of rows: nothing is made for it.
        None if expose.subjects.is_empty() && !sent.service.starts_with(&expose.name) => Vec::new(),
        None => wire::reached(dialect, expose, &format!("{}.{}", sent.service, sent.method)),
    }
}

/// The subjects that a service's calls come on.
pub(super) fn subjects(settings: &Settings, expose: &Expose) -> Vec<String> {
    let all = wire::subscriptions(dialect(settings, expose), expose, "");
    let calls = all.into_iter().filter(|it| !matches!(it.taken, Taken::Questions(_)));
    calls.map(|it| it.subject).collect()
}

/// What of a row cannot be done on NATS, each with its key and the mend.
pub(super) fn object_to(settings: &Settings, expose: &Expose) -> Vec<(&'static str, String)> {
    if let Some(word) = expose.dialect.as_deref().filter(|word| Dialect::of(word).is_none()) {
        let word: String = word.chars().take(40).collect();
        let words = Dialect::WORDS.map(|(word, _)| format!("`{word}`")).join(", ");
        return vec![("dialect", format!("{word:?} is no dialect on NATS: write one of {words}"))];
    }
    wire::objections(dialect(settings, expose), &settings.inbox_prefix, expose)
}
