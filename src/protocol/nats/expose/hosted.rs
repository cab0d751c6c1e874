//! The subscriptions of exposed services that one connection has, and what comes in over them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::error;

use super::super::generation::Generation;
use super::super::wire::{self, FIRST_EXPOSED, Message, Subscription, Taken, Unkept};
use super::answering::Arrival;
use super::{Exposes, Owed, Service};
use crate::exposer::debts::{Debt, Debts};

pub(in super::super) struct Hosted {
    pub(super) exposes: Arc<Exposes>,
    /// Which of the upstream's generations this one is.
    pub(super) host: u64,
    subscribed: Mutex<Subscribed>,
    /// What this connection owes.
    debts: Debts,
}

struct Subscribed {
    by_sid: HashMap<u64, Arc<Held>>,
    /// What the server does not permit.
    refused: Vec<Arc<Held>>,
    next_sid: u64,
}

impl Subscribed {
    fn all(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.by_sid.values().chain(&self.refused)
    }

    fn add(&mut self, held: Arc<Held>, lines: &mut Vec<u8>) {
        let Subscription { subject, group, .. } = &held.subscription;
        wire::subscribe(lines, subject, group.as_deref(), self.next_sid);
        self.by_sid.insert(self.next_sid, held);
        self.next_sid += 1;
    }
}

/// A subscription.
pub(super) struct Held {
    pub(super) service: Arc<Service>,
    subscription: Subscription,
    _owed: Debt,
}

impl Held {
    pub(super) fn taken(&self) -> Taken {
        self.subscription.taken
    }
}

/// What changes.
#[derive(Default)]
pub(super) struct Change {
    /// To be written.
    pub(super) lines: Vec<u8>,
    /// The services that are new.
    pub(super) new: Vec<Arc<Service>>,
    /// The subscriptions that are left, once the server has read the lines.
    pub(super) left: Vec<u64>,
}

impl Hosted {
    /// No subscriptions yet.
    pub(in super::super) fn new(exposes: &Arc<Exposes>) -> Self {
        let subscribed =
            Subscribed { by_sid: HashMap::new(), refused: Vec::new(), next_sid: FIRST_EXPOSED };
        Self {
            exposes: Arc::clone(exposes),
            host: exposes.next_host(),
            subscribed: Mutex::new(subscribed),
            debts: Debts::default(),
        }
    }

    /// Subscribes to what is wanted, and then leaves what is not: nothing is missed in between. What was
    /// refused is tried again, because permissions may have changed.
    pub(super) fn change(&self, wanted: &[Arc<Service>]) -> Change {
        let mut change = Change::default();
        let is_wanted = |held: &Held| wanted.iter().any(|it| Arc::ptr_eq(it, &held.service));
        let mut subscribed = self.subscribed();
        for service in wanted {
            if subscribed.all().any(|held| Arc::ptr_eq(&held.service, service)) {
                continue;
            }
            let Service { dialect, expose, instance, .. } = &**service;
            for subscription in wire::subscriptions(*dialect, expose, instance.id()) {
                let (service, _owed) = (Arc::clone(service), self.exposes.debts.consumer());
                subscribed.add(Arc::new(Held { service, subscription, _owed }), &mut change.lines);
            }
            change.new.push(Arc::clone(service));
        }
        let again = std::mem::take(&mut subscribed.refused);
        for held in again.into_iter().filter(|held| is_wanted(held)) {
            subscribed.add(held, &mut change.lines);
        }
        let left = subscribed.by_sid.iter().filter(|(_, held)| !is_wanted(held));
        change.left = left.map(|(sid, _)| *sid).collect();
        for sid in &change.left {
            wire::unsubscribe(&mut change.lines, *sid);
        }
        change
    }

    /// What the server does not permit: the services' names, and the subjects.
    pub(super) fn refused_subjects(&self) -> Vec<(String, String)> {
        let subscribed = self.subscribed();
        let refused = subscribed.refused.iter();
        let told = refused
            .map(|held| (held.service.expose.name.clone(), held.subscription.subject.clone()));
        told.collect()
    }

    /// Whether the server does not permit something.
    pub(super) fn has_refused(&self) -> bool {
        !self.subscribed().refused.is_empty()
    }

    /// Forgets subscriptions over which nothing comes any more.
    pub(super) fn forget(&self, left: &[u64]) {
        let mut subscribed = self.subscribed();
        left.iter().for_each(|sid| drop(subscribed.by_sid.remove(sid)));
    }

    /// The server does not let us subscribe. False where that is no service's subject.
    pub(in super::super) fn refused(&self, subject: &str) -> bool {
        let mut subscribed = self.subscribed();
        let found = subscribed.by_sid.iter().find(|(_, held)| held.subscription.subject == subject);
        let Some(sid) = found.map(|(sid, _)| *sid) else { return false };
        let Some(held) = subscribed.by_sid.remove(&sid) else { return false };
        let (upstream, service) = (self.exposes.metrics.upstream(), &held.service.expose.service);
        if self.exposes.tell_refused(subject) {
            error!(
                upstream,
                service,
                subject,
                mend = "allow Genkan's user to subscribe to it",
                "NATS does not permit to take calls of an exposed service"
            );
        }
        subscribed.refused.push(held);
        true
    }

    /// Whether nothing is subscribed to, and nothing owed.
    pub(in super::super) fn is_idle(&self) -> bool {
        self.subscribed().by_sid.is_empty() && self.debts.calls() == 0
    }

    /// The connection has ended.
    pub(in super::super) fn end(&self) {
        let mut subscribed = self.subscribed();
        subscribed.by_sid.clear();
        subscribed.refused.clear();
    }

    /// Takes what has come in.
    pub(in super::super) fn take(
        &self,
        generation: &Arc<Generation>,
        message: Message,
        unkept: Option<Unkept>,
    ) {
        // One that has been left already was answered for by the server.
        let Some(held) = self.subscribed().by_sid.get(&message.sid).map(Arc::clone) else { return };
        if self.is_anothers(&held.service, &message) {
            return;
        }
        let owed = Owed { _upstream: self.exposes.debts.call(), _connection: self.debts.call() };
        Arrival::new(held, Arc::clone(&self.exposes), Arc::clone(generation), message)
            .begin(unkept, owed);
    }

    /// `eu.>` covers `eu.mailer.send`, which a service `eu.mailer` that is exposed here too gets as well.
    fn is_anothers(&self, service: &Arc<Service>, message: &Message) -> bool {
        let own = service.expose.name.len() + 1;
        if memchr::memchr(b'.', message.subject.get(own..).unwrap_or_default()).is_none() {
            return false;
        }
        let takes = |name: &str| {
            let rest = message.subject.strip_prefix(name.as_bytes());
            name.len() >= own && rest.is_some_and(|rest| rest.starts_with(b"."))
        };
        self.subscribed().all().any(|held| takes(&held.service.expose.name))
    }

    fn subscribed(&self) -> MutexGuard<'_, Subscribed> {
        // Every use leaves the tables whole.
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
