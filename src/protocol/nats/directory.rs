//! Where the endpoints of NATS micro services are: asked of the services, and remembered.
//!
//! One inquiry serves all who want to know. What is known is used while it is asked anew; an
//! inquiry that nobody answers leaves the guess `service.method`, which older services serve.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::connection::{Link, State};
use super::generation::Publication;
use super::pending::Answer;
use super::wire::{self, Endpoints};
use crate::tasks::Tasks;

/// How long an answer is used before the service is asked again.
const FRESH: Duration = Duration::from_secs(30);
/// How long nobody asks again after an endpoint, or a service, that there was not.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a service has to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long other instances have after the first one has answered.
const OTHERS: Duration = Duration::from_millis(100);
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

    /// Where `called`, a call's whole name, goes. `anew`: what is known has proved wrong.
    pub(super) async fn find(self: &Arc<Self>, called: &str, anew: bool) -> Location {
        let Some((service, _)) = wire::split(called) else { return Location::Guess };
        if let State::Down(_) = &*self.link.state() {
            return Location::Guess;
        }
        let mut service = self.ask(service, called, anew);
        let suffices = |known: &Service| {
            let has_told = known.endpoints.subject(called).is_some() && !anew;
            // Who never answers is asked again, and nobody waits for that.
            !known.busy || has_told || known.state == Known::Silent && !anew
        };
        // The sender is in the table, and in the inquiry's task.
        let Ok(known) = service.wait_for(suffices).await else { return Location::Guess };
        match known.endpoints.subject(called) {
            Some(subject) => Location::Endpoint(subject),
            None if known.state == Known::Settled => Location::Unknown(known.endpoints.names()),
            None => Location::Guess,
        }
    }

    /// What is known of a service, which is asked where there is reason to.
    fn ask(self: &Arc<Self>, name: &str, called: &str, anew: bool) -> watch::Receiver<Service> {
        let now = Instant::now();
        let mut services = self.services();
        if let Some(sender) = services.get(name) {
            let is_due = {
                let known = sender.borrow();
                let age = now - known.asked;
                let is_missed = anew || known.endpoints.subject(called).is_none();
                !known.busy && (age >= FRESH || is_missed && age >= PAUSE)
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
            watch::channel(Service { endpoints, asked: now, busy: true, state });
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
            let heard = shutdown.run_until_cancelled(inquiry).await.flatten();
            service.send_modify(|known| {
                known.busy = false;
                match heard {
                    Some(true) => known.state = Known::Settled,
                    Some(false) => {
                        (known.state, known.endpoints) = (Known::Silent, Endpoints::default());
                    }
                    // It was not asked: what was known stays, and the next call asks.
                    None => known.asked = known.asked.checked_sub(FRESH).unwrap_or(known.asked),
                }
            });
        });
    }

    /// Asks a service, and gathers what its instances say. False where there is
    /// none, and nothing where it could not be asked.
    async fn inquiry(&self, name: &str, service: &watch::Sender<Service>) -> Option<bool> {
        let State::Up(generation) = &*self.link.state() else { return None };
        let subject: Arc<str> = wire::inquiry(name).into();
        let Ok(mut answers) = generation.pending().gather(Arc::clone(&subject)) else {
            return None;
        };
        let (headers, payload) = (wire::NO_HEADERS.to_owned(), Bytes::new());
        let publication = Publication { subject, headers, payload };
        if !generation.send(answers.key(), publication, true).await {
            return None;
        }
        let mut until = Instant::now() + PATIENCE;
        let mut found: Option<Endpoints> = None;
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            match answer {
                Answer::Reply(message) => {
                    let Some(one) = Endpoints::read(&message, &self.inbox_prefix) else {
                        // Nobody is there, or somebody else has answered.
                        if wire::is_no_responders(&message) {
                            return Some(false);
                        }
                        continue;
                    };
                    match &mut found {
                        Some(found) => found.merge(one),
                        None => {
                            until = Instant::now() + OTHERS;
                            found = Some(one);
                        }
                    }
                    // Whoever has waited for this one need not wait for the others.
                    service
                        .send_modify(|known| known.endpoints = found.clone().unwrap_or_default());
                }
                Answer::Denied if self.is_denied.swap(true, Ordering::Relaxed) => {
                    return Some(false);
                }
                Answer::Denied => {
                    warn!(
                        service = name,
                        mend = "allow Genkan's user to publish to `$SRV.INFO.>`, or name each \
                            `subject` in a [[routes]] row",
                        "NATS does not permit to ask services for their endpoints"
                    );
                    return Some(false);
                }
                Answer::Taken | Answer::Unkept(_) | Answer::Lost { .. } => return None,
            }
        }
        Some(found.is_some())
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Box<str>, watch::Sender<Service>>> {
        // Every use leaves the table whole.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
