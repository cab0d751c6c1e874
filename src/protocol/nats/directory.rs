//! Where the endpoints of NATS micro services are: asked of the services, and remembered.
//!
//! One inquiry serves all who want to know. What is known is used while it is asked anew, and where those
//! who are asked do not answer in time; where nobody is there to ask, the guess `service.method` is left,
//! which older services serve.

use std::collections::{HashMap, VecDeque};
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
/// How long a subject where nobody listened is tried after the others that are told of an endpoint.
const DESERTED: Duration = Duration::from_secs(30);
/// How many such subjects of a service are remembered.
const MOST_DESERTED: usize = 64;

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
    /// Subjects where nobody listened, and when that was.
    deserted: VecDeque<(Arc<str>, Instant)>,
}

impl Service {
    fn is_deserted(&self, subject: &str) -> bool {
        let mut deserted = self.deserted.iter();
        deserted.any(|(one, at)| **one == *subject && at.elapsed() < DESERTED)
    }
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

    /// Where `called`, a call's whole name, goes. Nobody was at the subjects `missed`.
    pub(super) async fn find(self: &Arc<Self>, called: &str, missed: &[Arc<str>]) -> Location {
        let Some((service, _)) = wire::split(called) else { return Location::Guess };
        if let State::Down(_) = &*self.link.state() {
            return Location::Guess;
        }
        let mut service = self.ask(service, called, missed);
        let suffices = |known: &Service| {
            let told = self.subject(known, called, missed);
            let has_told = told.is_some_and(|told| !missed.contains(&told));
            // Who never answers is asked again, and nobody waits for that.
            !known.busy || has_told || known.state == Known::Silent && missed.is_empty()
        };
        // The sender is in the table, and in the inquiry's task.
        let Ok(known) = service.wait_for(suffices).await else { return Location::Guess };
        match self.subject(&known, called, missed) {
            Some(subject) => Location::Endpoint(subject),
            None if known.state == Known::Settled => Location::Unknown(known.endpoints.names()),
            None => Location::Guess,
        }
    }

    /// Where nobody listened a moment ago is tried after the others, and where this call has been, last.
    fn subject(&self, known: &Service, called: &str, missed: &[Arc<str>]) -> Option<Arc<str>> {
        let is_missed = |subject: &str| missed.iter().any(|missed| **missed == *subject);
        let is_passed = |subject: &str| is_missed(subject) || known.is_deserted(subject);
        let (endpoints, prefix) = (&known.endpoints, self.inbox_prefix.as_str());
        let found = endpoints.subject(called, prefix, is_passed)?;
        match is_missed(&found) {
            true => endpoints.subject(called, prefix, is_missed),
            false => Some(found),
        }
    }

    /// Nobody listens where a service says that it has what is called.
    pub(super) fn met_nobody(&self, called: &str, subject: &Arc<str>) {
        let Some((service, _)) = wire::split(called) else { return };
        let services = self.services();
        let Some(sender) = services.get(service) else { return };
        sender.send_modify(|known| {
            let is_kept =
                |(one, at): &(Arc<str>, Instant)| one != subject && at.elapsed() < DESERTED;
            known.deserted.retain(is_kept);
            if known.deserted.len() == MOST_DESERTED {
                known.deserted.pop_front();
            }
            known.deserted.push_back((Arc::clone(subject), Instant::now()));
        });
    }

    /// What is known of a service, which is asked where there is reason to.
    fn ask(
        self: &Arc<Self>,
        name: &str,
        called: &str,
        missed: &[Arc<str>],
    ) -> watch::Receiver<Service> {
        let now = Instant::now();
        let mut services = self.services();
        if let Some(sender) = services.get(name) {
            let is_due = {
                let known = sender.borrow();
                let told = self.subject(&known, called, missed);
                let is_missed = told.is_none_or(|told| missed.contains(&told));
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
        let (sender, receiver) = watch::channel(Service {
            endpoints,
            asked: now,
            heard: now,
            busy: true,
            state,
            deserted: VecDeque::new(),
        });
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
