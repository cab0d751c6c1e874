//! The subscriptions of exposed services that one connection has, and what comes in over them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::error;

use super::super::generation::{Generation, MORE_SUBSCRIPTIONS};
use super::super::wire::{self, FIRST_EXPOSED, Message, Subscription, Taken, Unkept};
use super::answering::Arrival;
use super::shortfall::Shortfall;
use super::{Exposes, Owed, Service};
use crate::exposer::debts::{Debt, Debts};

pub(in super::super) struct Hosted {
    pub(super) exposes: Arc<Exposes>,
    /// Which of the upstream's generations this one is.
    pub(super) host: u64,
    subscribed: Mutex<Subscribed>,
    /// What this connection owes.
    debts: Debts,
    /// Something was refused.
    pub(super) refusal: Notify,
}

struct Subscribed {
    by_sid: HashMap<u64, Arc<Held>>,
    /// What the server does not take.
    refused: Vec<(Arc<Held>, Why)>,
    next_sid: u64,
    /// The services of which all calls are taken, as the log was told.
    taken: Vec<Arc<Service>>,
}

/// Why the server does not take a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// The user has no permission.
    Denied,
    /// There are too many.
    TooMany,
}

impl Subscribed {
    fn all(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.by_sid.values().chain(self.refused.iter().map(|(held, _)| held))
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
    pub(super) subscription: Subscription,
    _owed: Debt,
}

impl Held {
    pub(super) fn taken(&self) -> Taken {
        self.subscription.taken
    }

    /// The method that a message asks for.
    pub(super) fn method<'a>(&'a self, message: &'a Message) -> &'a str {
        let Service { expose, dialect, .. } = &*self.service;
        let endpoint = match self.taken() {
            Taken::Endpoint(index) => expose.methods.get(index),
            Taken::Calls | Taken::Questions(_) => None,
        };
        endpoint.map_or_else(|| wire::method(*dialect, message, &expose.name), String::as_str)
    }

    /// Whether calls come over it, and not questions about the service.
    pub(super) fn is_for_calls(&self) -> bool {
        !matches!(self.taken(), Taken::Questions(_))
    }
}

/// What changes.
#[derive(Default)]
pub(super) struct Change {
    /// To be written.
    pub(super) lines: Vec<u8>,
    /// The first of those that are subscribed to, and how many they are.
    pub(super) first: u64,
    pub(super) subscriptions: usize,
    /// The subscriptions that are left, once the server has read the lines.
    pub(super) left: Vec<u64>,
}

impl Hosted {
    /// No subscriptions yet.
    pub(in super::super) fn new(exposes: &Arc<Exposes>) -> Self {
        let subscribed = Subscribed {
            by_sid: HashMap::new(),
            refused: Vec::new(),
            next_sid: FIRST_EXPOSED,
            taken: Vec::new(),
        };
        Self {
            exposes: Arc::clone(exposes),
            host: exposes.next_host(),
            subscribed: Mutex::new(subscribed),
            debts: Debts::default(),
            refusal: Notify::new(),
        }
    }

    /// Subscribes to what is wanted, and then leaves what is not: nothing is missed in between. What was
    /// refused is tried again, because permissions may have changed.
    pub(super) fn change(&self, wanted: &[Arc<Service>]) -> Change {
        let mut change = Change::default();
        let is_wanted = |held: &Held| wanted.iter().any(|it| Arc::ptr_eq(it, &held.service));
        let mut subscribed = self.subscribed();
        change.first = subscribed.next_sid;
        for service in wanted {
            if subscribed.all().any(|held| Arc::ptr_eq(&held.service, service)) {
                continue;
            }
            let Service { dialect, expose, instance, .. } = &**service;
            for subscription in wire::subscriptions(*dialect, expose, instance.id()) {
                let (service, _owed) = (Arc::clone(service), self.exposes.debts.consumer());
                subscribed.add(Arc::new(Held { service, subscription, _owed }), &mut change.lines);
            }
        }
        let again = std::mem::take(&mut subscribed.refused);
        for (held, _) in again.into_iter().filter(|(held, _)| is_wanted(held)) {
            subscribed.add(held, &mut change.lines);
        }
        let new = subscribed.next_sid - change.first;
        change.subscriptions = usize::try_from(new).unwrap_or(usize::MAX);
        let left = subscribed.by_sid.iter().filter(|(_, held)| !is_wanted(held));
        change.left = left.map(|(sid, _)| *sid).collect();
        for sid in &change.left {
            wire::unsubscribe(&mut change.lines, *sid);
        }
        change
    }

    /// What the server does not take of services' subscriptions, each service once.
    pub(super) fn shortfalls(&self) -> Vec<Shortfall> {
        let subscribed = self.subscribed();
        let mut found: Vec<Shortfall> = Vec::new();
        for (held, why) in &subscribed.refused {
            let name = &held.service.expose.name;
            let known = found.iter_mut().find(|it| it.name == *name);
            // Calls are the graver matter.
            match known {
                Some(known) if known.for_calls == held.is_for_calls() => known.more += 1,
                Some(known) if known.for_calls => {}
                Some(known) => *known = Shortfall::of(held, *why),
                None => found.push(Shortfall::of(held, *why)),
            }
        }
        for shortfall in found.iter_mut().filter(|shortfall| shortfall.for_calls) {
            let mut held = subscribed.by_sid.values();
            let is_its =
                |it: &Arc<Held>| it.is_for_calls() && it.service.expose.name == shortfall.name;
            shortfall.takes_some = held.any(is_its);
        }
        found
    }

    /// Whether the server does not take something.
    pub(super) fn has_refused(&self) -> bool {
        !self.subscribed().refused.is_empty()
    }

    /// The server has read what has changed: nothing comes any more over what is left, and so many of those
    /// from `first` on, the last ones, it does not take because there are too many. What is to be written, so
    /// that both sides hold the same of them.
    pub(super) fn settle(&self, left: &[u64], first: u64, too_many: usize) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut subscribed = self.subscribed();
        left.iter().for_each(|sid| drop(subscribed.by_sid.remove(sid)));
        for _ in 0..too_many {
            let last = subscribed.by_sid.keys().copied().max().filter(|last| *last >= first);
            let Some((sid, held)) = last.and_then(|last| subscribed.by_sid.remove_entry(&last))
            else {
                break;
            };
            wire::unsubscribe(&mut lines, sid);
            self.tell(&held, Why::TooMany);
            subscribed.refused.push((held, Why::TooMany));
            self.refusal.notify_one();
        }
        lines
    }

    /// The services of which all calls are taken now, and were not before.
    pub(super) fn newly_taken(&self, wanted: &[Arc<Service>]) -> Vec<Arc<Service>> {
        let mut subscribed = self.subscribed();
        let Subscribed { taken, refused, .. } = &mut *subscribed;
        let is_refused = |service: &Arc<Service>| {
            let mut refused = refused.iter();
            refused.any(|(held, _)| held.is_for_calls() && Arc::ptr_eq(&held.service, service))
        };
        taken.retain(|service| wanted.iter().any(|it| Arc::ptr_eq(it, service)));
        let is_known = |service: &Arc<Service>| taken.iter().any(|it| Arc::ptr_eq(it, service));
        let new = wanted.iter().filter(|service| !is_refused(service) && !is_known(service));
        let new: Vec<_> = new.map(Arc::clone).collect();
        taken.extend(new.iter().map(Arc::clone));
        new
    }

    /// Whether services have been called over it.
    pub(in super::super) fn has_taken(&self) -> bool {
        self.subscribed().next_sid > FIRST_EXPOSED
    }

    /// Each is said once.
    fn tell(&self, held: &Held, why: Why) {
        let (upstream, expose) = (self.exposes.metrics.upstream(), &held.service.expose);
        let (service, name) = (&expose.service, &expose.name);
        let (subject, for_calls) = (&held.subscription.subject, held.is_for_calls());
        // One for all questions about a service.
        let what = if for_calls { subject.clone() } else { format!("$SRV {name}") };
        if !self.exposes.tell_refused((what, why)) {
            return;
        }
        let mend = match why {
            Why::Denied if for_calls => "allow Genkan's user to subscribe to it",
            Why::Denied => "allow Genkan's user to subscribe to `$SRV.>`",
            Why::TooMany => MORE_SUBSCRIPTIONS,
        };
        match (why, for_calls) {
            (Why::Denied, true) => error!(
                upstream,
                service,
                name,
                subject,
                mend,
                "NATS does not permit to take calls of an exposed service"
            ),
            (Why::Denied, false) => error!(
                upstream,
                service,
                name,
                subject,
                mend,
                "NATS does not permit to take questions about an exposed service"
            ),
            (Why::TooMany, true) => error!(
                upstream,
                service,
                name,
                subject,
                mend,
                "NATS takes no more subscriptions: calls of an exposed service are not taken"
            ),
            (Why::TooMany, false) => error!(
                upstream,
                service,
                name,
                subject,
                mend,
                "NATS takes no more subscriptions: tools do not find an exposed service"
            ),
        }
    }

    /// The server does not let us subscribe. False where that is no service's subject.
    pub(in super::super) fn refused(&self, subject: &str) -> bool {
        let mut subscribed = self.subscribed();
        let found = subscribed.by_sid.iter().find(|(_, held)| held.subscription.subject == subject);
        let Some(sid) = found.map(|(sid, _)| *sid) else { return false };
        let Some(held) = subscribed.by_sid.remove(&sid) else { return false };
        self.tell(&held, Why::Denied);
        subscribed.refused.push((held, Why::Denied));
        self.refusal.notify_one();
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
        if held.taken() == Taken::Calls && self.is_anothers(&held.service, &message) {
            return;
        }
        let owed = Owed::new(self.exposes.debts.call(), self.debts.call());
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
