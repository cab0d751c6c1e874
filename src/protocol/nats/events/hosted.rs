//! The subscriptions to events that one connection has, and what comes in over them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::{error, info};

use super::super::generation::MORE_SUBSCRIPTIONS;
use super::super::wire::{self, FIRST_EVENT, FIRST_STREAM, Message, Unkept};
use super::address::is_left_out;
use super::stream::Session;
use super::{Events, Wanted};
use crate::event::{Delivery, captures};

pub(in super::super) struct Hosted {
    pub(super) events: Arc<Events>,
    /// Which of the upstream's generations this one is.
    pub(super) host: u64,
    subscribed: Mutex<Subscribed>,
    /// Something was refused.
    pub(super) refusal: Notify,
}

struct Subscribed {
    by_sid: HashMap<u64, Held>,
    /// What streams hand over.
    sessions: HashMap<u64, Arc<Session>>,
    next_session: u64,
    /// What the server does not permit, or has no room for.
    refused: Vec<Arc<Wanted>>,
    next_sid: u64,
}

struct Held {
    wanted: Arc<Wanted>,
    /// The server has read that it is wanted.
    is_settled: bool,
}

/// What changes.
#[derive(Default)]
pub(super) struct Change {
    /// To be written.
    pub(super) lines: Vec<u8>,
    /// How many of them subscribe.
    pub(super) subscriptions: usize,
    /// The subscriptions that are left, once the server has read the lines.
    pub(super) left: Vec<u64>,
}

impl Hosted {
    /// No subscriptions yet.
    pub(in super::super) fn new(events: &Arc<Events>) -> Self {
        let subscribed = Subscribed {
            by_sid: HashMap::new(),
            sessions: HashMap::new(),
            next_session: FIRST_STREAM,
            refused: Vec::new(),
            next_sid: FIRST_EVENT,
        };
        let host = events.next_host();
        let (subscribed, refusal) = (Mutex::new(subscribed), Notify::new());
        Self { events: Arc::clone(events), host, subscribed, refusal }
    }

    /// What inboxes' names begin with.
    pub(in super::super) fn inbox_prefix(&self) -> &str {
        &self.events.settings.inbox_prefix
    }

    /// Enters what a stream hands over: by which id it is subscribed to.
    pub(super) fn enter(&self, session: &Arc<Session>) -> u64 {
        let mut subscribed = self.subscribed();
        let sid = subscribed.next_session;
        subscribed.next_session += 1;
        subscribed.sessions.insert(sid, Arc::clone(session));
        sid
    }

    /// Nothing comes by that id any more.
    pub(super) fn leave(&self, sid: u64) {
        self.subscribed().sessions.remove(&sid);
    }

    /// Subscribes to what is wanted and leaves what is not. What was refused is tried again, because
    /// permissions may have changed.
    pub(super) fn change(&self, wanted: &[Arc<Wanted>]) -> Change {
        let mut change = Change::default();
        let mut guard = self.subscribed();
        let subscribed = &mut *guard;
        subscribed.refused.clear();
        for wanted in wanted {
            if subscribed.by_sid.values().any(|held| Arc::ptr_eq(&held.wanted, wanted)) {
                continue;
            }
            let (subject, sid) = (&wanted.source.address, subscribed.next_sid);
            wire::subscribe(&mut change.lines, subject, wanted.group.as_deref(), sid);
            subscribed.next_sid += 1;
            change.subscriptions += 1;
            subscribed.by_sid.insert(sid, Held { wanted: Arc::clone(wanted), is_settled: false });
        }
        for (sid, held) in &subscribed.by_sid {
            if !wanted.iter().any(|it| Arc::ptr_eq(it, &held.wanted)) {
                wire::unsubscribe(&mut change.lines, *sid);
                change.left.push(*sid);
            }
        }
        change
    }

    /// The server has read the lines: over what is left nothing comes any more, over what is new all does.
    pub(super) fn settle(&self, left: &[u64]) {
        let (mut new, mut interrupted) = (Vec::new(), Vec::new());
        {
            let mut subscribed = self.subscribed();
            for sid in left {
                if let Some(held) = subscribed.by_sid.remove(sid).filter(|held| held.is_settled) {
                    held.wanted.ends(false);
                }
            }
            for held in subscribed.by_sid.values_mut().filter(|held| !held.is_settled) {
                held.is_settled = true;
                new.push(Arc::clone(&held.wanted));
                if held.wanted.begins() {
                    interrupted.push(Arc::clone(&held.wanted));
                }
            }
        }
        for wanted in new {
            wanted.source.taker.unheard(None);
            let subject = &wanted.source.address;
            if self.events.is_refused_no_more(subject) {
                info!(
                    upstream = self.events.upstream(),
                    subject, "NATS lets events be taken again"
                );
            }
        }
        for wanted in interrupted {
            wanted.source.taker.gap("its connection to NATS was lost or left, and made anew");
        }
    }

    /// The server does not take so many of the latest subscriptions, because there are too many. What is to
    /// be written, so that both sides hold the same of them.
    pub(super) fn crowded_out(&self, too_many: usize) -> Vec<u8> {
        let mut lines = Vec::new();
        let mut subscribed = self.subscribed();
        for _ in 0..too_many {
            let new = subscribed.by_sid.iter().filter(|(_, held)| !held.is_settled);
            let Some(last) = new.map(|(sid, _)| *sid).max() else { break };
            let Some(Held { wanted, .. }) = subscribed.by_sid.remove(&last) else { break };
            wire::unsubscribe(&mut lines, last);
            let subject = &wanted.source.address;
            if self.events.tell_refused(subject) {
                error!(
                    upstream = self.events.metrics.upstream(),
                    subject,
                    mend = MORE_SUBSCRIPTIONS,
                    "NATS takes no more subscriptions: events are not taken"
                );
            }
            self.refuse(
                &mut subscribed,
                wanted,
                "NATS takes no more subscriptions",
                MORE_SUBSCRIPTIONS,
            );
        }
        lines
    }

    /// Nothing comes of it: what is missed until it does is a gap.
    fn refuse(&self, subscribed: &mut Subscribed, wanted: Arc<Wanted>, why: &str, mend: &str) {
        wanted.was_interrupted.store(true, Ordering::Release);
        wanted.source.taker.unheard(Some(&format!("{why}: {mend}")));
        subscribed.refused.push(wanted);
        self.refusal.notify_one();
    }

    /// The subjects that the server does not let us subscribe to.
    pub(in super::super) fn refused_subjects(&self) -> Vec<String> {
        let subscribed = self.subscribed();
        let refused = subscribed.refused.iter().map(|wanted| wanted.source.address.clone());
        refused.collect()
    }

    /// Whether the server does not permit something.
    pub(super) fn has_refused(&self) -> bool {
        !self.subscribed().refused.is_empty()
    }

    /// The server does not let us subscribe. False where that is no event's subject.
    pub(in super::super) fn refused(&self, subject: &str) -> bool {
        let mut subscribed = self.subscribed();
        let mut all = subscribed.by_sid.iter();
        let found = all.find(|(_, held)| held.wanted.source.address == subject);
        let Some(sid) = found.map(|(sid, _)| *sid) else { return false };
        let Some(held) = subscribed.by_sid.remove(&sid) else { return false };
        if held.is_settled {
            held.wanted.ends(true);
        }
        let mend = "allow Genkan's user to subscribe to it";
        if self.events.tell_refused(subject) {
            let upstream = self.events.upstream();
            error!(upstream, subject, mend, "NATS does not permit to take events");
        }
        let why = format!("NATS does not permit to subscribe to `{subject}`");
        self.refuse(&mut subscribed, held.wanted, &why, "allow it for Genkan's user");
        true
    }

    /// Whether nothing is subscribed to.
    pub(in super::super) fn is_idle(&self) -> bool {
        let subscribed = self.subscribed();
        subscribed.by_sid.is_empty() && subscribed.sessions.is_empty()
    }

    /// The connection has ended.
    pub(in super::super) fn end(&self) {
        let mut subscribed = self.subscribed();
        subscribed.refused.clear();
        subscribed.sessions.clear();
        for (_, held) in subscribed.by_sid.drain().filter(|(_, held)| held.is_settled) {
            held.wanted.ends(true);
        }
    }

    /// Takes what has come in. Never waits.
    pub(in super::super) fn take(&self, message: &Message, unkept: Option<Unkept>) {
        if message.sid >= FIRST_STREAM {
            let session = self.subscribed().sessions.get(&message.sid).map(Arc::clone);
            if let Some(session) = session {
                session.take(&self.events, message, unkept);
            }
            return;
        }
        let wanted = match self.subscribed().by_sid.get(&message.sid) {
            Some(held) => Arc::clone(&held.wanted),
            None => return,
        };
        let subject = String::from_utf8_lossy(&message.subject);
        let settings = &self.events.settings;
        if is_left_out(&wanted.source.address, &subject, &settings.inbox_prefix) {
            return;
        }
        let event = match unkept {
            None => wire::event(settings.dialect, message, settings.credence_of_events()),
            Some(unkept) => Err(wire::unkept_event(message, unkept, settings.max_request)),
        };
        let captures = captures(&wanted.source.address, &subject).unwrap_or_default();
        // Where there is no room, the taker counts it and tells of the gap.
        drop(wanted.source.taker.take(Delivery { event, captures, message: 0, receipt: None }));
    }

    fn subscribed(&self) -> MutexGuard<'_, Subscribed> {
        // Every use leaves the tables whole.
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
