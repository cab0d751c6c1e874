//! Where the endpoints of NATS micro services are: asked of the services, and remembered.
//!
//! One inquiry serves all who want to know. What is known is used while it is asked anew, and where those
//! who are asked do not answer in time; where nobody is there to ask, the guess `service.method` is left,
//! which older services serve.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::connection::{Link, State};
use super::outbox::Publication;
use super::pending::Answer;
use super::wire::{self, Endpoints};
use crate::tasks::Tasks;

/// How long an answer is used before the service is asked again.
const FRESH: Duration = Duration::from_secs(30);
/// How long nobody asks again after an endpoint, or a service, that there was not.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the instances of a service have to answer. Whoever finds an endpoint in one's answer
/// waits for no other.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many services are remembered.
const MOST: usize = 1024;

/// The services, and what their endpoints are.
pub(super) struct Directory {
    link: Arc<Link>,
    inbox_prefix: String,
    tasks: Tasks,
    services: Mutex<HashMap<Box<str>, watch::Sender<Service>>>,
    /// That asking is not permitted has been told.
    is_denied: AtomicBool,
}

/// What is known of a service.
#[derive(Clone)]
struct Service {
    endpoints: Endpoints,
    asked: Instant,
    /// When the last inquiry was over.
    heard: Instant,
    /// An inquiry is under way.
    busy: bool,
    state: Known,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// All that could be learnt.
    Settled,
    /// That nobody answers.
    Silent,
}

/// What an inquiry has come to.
enum Heard {
    /// What the instances have.
    Endpoints(Endpoints),
    /// Nobody is there, or asking is not permitted.
    Nobody,
    /// Nobody answers in time.
    Nothing,
    /// The service could not be asked.
    NotAsked,
}

/// Where a call goes.
#[derive(Debug)]
pub(super) enum Location {
    /// To an endpoint's subject.
    Endpoint(Arc<str>),
    /// The service lives, and has no such endpoint; the names of those that it has.
    Unknown(String),
    /// Nobody has told.
    Guess,
}

impl Directory {
    /// An empty one.
    pub(super) fn new(link: Arc<Link>, inbox_prefix: &str, tasks: &Tasks) -> Arc<Self> {
        let (inbox_prefix, tasks) = (inbox_prefix.to_owned(), tasks.clone());
        let (services, is_denied) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { link, inbox_prefix, tasks, services, is_denied })
    }

    /// Where `called`, a call's whole name, goes. Nobody was at the subject `missed`.
    pub(super) async fn find(self: &Arc<Self>, called: &str, missed: Option<&str>) -> Location {
        let Some((service, _)) = wire::split(called) else { return Location::Guess };
        if let State::Down(_) = &*self.link.state() {
            return Location::Guess;
        }
        let mut service = self.ask(service, called, missed.is_some());
        let suffices = |known: &Service| {
            let told = self.subject(known, called);
            let has_told = told.is_some_and(|told| missed.is_none_or(|missed| *missed != *told));
            // Who never answers is asked again, and nobody waits for that.
            !known.busy || has_told || known.state == Known::Silent && missed.is_none()
        };
        // The sender is in the table, and in the inquiry's task.
        let Ok(known) = service.wait_for(suffices).await else { return Location::Guess };
        match self.subject(&known, called) {
            Some(subject) => Location::Endpoint(subject),
            None if known.state == Known::Settled => Location::Unknown(known.endpoints.names()),
            None => Location::Guess,
        }
    }

    fn subject(&self, known: &Service, called: &str) -> Option<Arc<str>> {
        known.endpoints.subject(called, &self.inbox_prefix)
    }

    /// What is known of a service, which is asked where there is reason to.
    fn ask(self: &Arc<Self>, name: &str, called: &str, anew: bool) -> watch::Receiver<Service> {
        let now = Instant::now();
        let mut services = self.services();
        if let Some(sender) = services.get(name) {
            let is_due = {
                let known = sender.borrow();
                let is_missed = anew || self.subject(&known, called).is_none();
                let is_old = now - known.asked >= FRESH || is_missed && now - known.heard >= PAUSE;
                !known.busy && is_old
            };
            if is_due {
                sender.send_modify(|known| (known.asked, known.busy) = (now, true));
                self.inquire(name, sender.clone());
            }
            return sender.subscribe();
        }
        if services.len() >= MOST {
            services.retain(|_, known| known.borrow().state == Known::Settled);
            if services.len() >= MOST {
                services.clear();
            }
        }
        let (endpoints, state) = (Endpoints::default(), Known::Nothing);
        let (sender, receiver) =
            watch::channel(Service { endpoints, asked: now, heard: now, busy: true, state });
        services.insert(name.into(), sender.clone());
        drop(services);
        self.inquire(name, sender);
        receiver
    }

    fn inquire(self: &Arc<Self>, name: &str, service: watch::Sender<Service>) {
        let (directory, name) = (Arc::clone(self), name.to_owned());
        let shutdown = self.tasks.shutdown().clone();
        self.tasks.spawn_session(async move {
            let inquiry = directory.inquiry(&name, &service);
            let heard = shutdown.run_until_cancelled(inquiry).await.unwrap_or(Heard::NotAsked);
            service.send_modify(|known| {
                (known.busy, known.heard) = (false, Instant::now());
                match heard {
                    Heard::Endpoints(endpoints) => {
                        (known.state, known.endpoints) = (Known::Settled, endpoints);
                    }
                    // Who is too busy to answer has what it had.
                    Heard::Nothing if known.state == Known::Settled => {}
                    Heard::Nobody | Heard::Nothing => {
                        (known.state, known.endpoints) = (Known::Silent, Endpoints::default());
                    }
                    // What was known stays, and the next call asks.
                    Heard::NotAsked => {
                        let long_ago = |at: Instant| at.checked_sub(FRESH).unwrap_or(at);
                        known.asked = long_ago(known.asked);
                        known.heard = long_ago(known.heard);
                    }
                }
            });
        });
    }

    /// Asks a service, and gathers what its instances say.
    async fn inquiry(&self, name: &str, service: &watch::Sender<Service>) -> Heard {
        let State::Up(generation) = &*self.link.state() else { return Heard::NotAsked };
        let subject: Arc<str> = wire::inquiry(name).into();
        let Ok(mut answers) = generation.pending().gather(Arc::clone(&subject)) else {
            return Heard::NotAsked;
        };
        let (headers, payload) = (wire::NO_HEADERS.to_owned(), Bytes::new());
        let publication = Publication { subject, headers, payload };
        if !generation.send(answers.key(), publication, true).await {
            return Heard::NotAsked;
        }
        let until = Instant::now() + PATIENCE;
        let before = service.borrow().endpoints.clone();
        let mut found: Option<Endpoints> = None;
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            match answer {
                Answer::Reply(message) => {
                    let Some(one) = Endpoints::read(&message, &self.inbox_prefix) else {
                        // Nobody is there, or somebody else has answered.
                        if wire::is_no_responders(&message) {
                            return Heard::Nobody;
                        }
                        continue;
                    };
                    let found = found.get_or_insert_default();
                    found.merge(one);
                    // Whoever has waited for this one need not wait for the others.
                    let known_now = found.before(before.clone());
                    service.send_modify(|known| known.endpoints = known_now);
                }
                Answer::Denied => {
                    self.denied(name);
                    return Heard::Nobody;
                }
                Answer::Taken | Answer::Unkept(_) | Answer::Lost { .. } => return Heard::NotAsked,
            }
        }
        found.map_or(Heard::Nothing, Heard::Endpoints)
    }

    fn denied(&self, service: &str) {
        if !self.is_denied.swap(true, Ordering::Relaxed) {
            warn!(
                service,
                mend = "allow Genkan's user to publish to `$SRV.INFO.>`, or name each `subject` in \
                    a [[routes]] row",
                "NATS does not permit to ask services for their endpoints"
            );
        }
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Box<str>, watch::Sender<Service>>> {
        // Every use leaves the table whole.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
