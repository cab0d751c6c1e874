//! A stream's messages as they come over one connection. Must not: wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::super::super::wire::{self, Ack, Message, PullStatus, Stored, Unkept};
use super::super::Events;
use super::ledger::{Place, Taken};
use super::{Hold, StreamSource};
use crate::budget::Exceeded;
use crate::event::{Delivery, captures};

/// One connection's subscription for a stream.
pub(in super::super) struct Session {
    stream: Arc<StreamSource>,
    /// Where messages come to: with the number of a pull behind it.
    inbox: String,
    pulls: Mutex<Pulls>,
}

struct Pulls {
    /// Those that wait, with how many messages they still bring.
    open: VecDeque<(u64, usize)>,
    last: u64,
    /// When something came of them.
    heard: Instant,
    /// Why nothing more is taken. What comes then is asked for again, in order.
    over: Option<String>,
}

impl Session {
    pub(super) fn new(stream: &Arc<StreamSource>, inbox: String) -> Arc<Self> {
        let pulls = Pulls { open: VecDeque::new(), last: 0, heard: Instant::now(), over: None };
        Arc::new(Self { stream: Arc::clone(stream), inbox, pulls: Mutex::new(pulls) })
    }

    /// What is subscribed to.
    pub(super) fn subscription(&self) -> String {
        [&self.inbox, "*"].concat()
    }

    /// Enters a pull: where its messages go.
    pub(super) fn pull(&self, messages: usize) -> String {
        let mut pulls = self.pulls();
        pulls.last += 1;
        let number = pulls.last;
        if pulls.open.is_empty() {
            pulls.heard = Instant::now();
        }
        pulls.open.push_back((number, messages));
        format!("{}{number}", self.inbox)
    }

    /// How many pulls wait, and how many messages they are to bring.
    pub(super) fn open(&self) -> (usize, usize) {
        let pulls = self.pulls();
        (pulls.open.len(), pulls.open.iter().map(|(_, left)| left).sum())
    }

    /// Since when nothing has come of the pulls that wait.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let pulls = self.pulls();
        (!pulls.open.is_empty()).then_some(pulls.heard)
    }

    /// Why nothing more is taken.
    pub(super) fn over(&self) -> Option<String> {
        self.pulls().over.clone()
    }

    /// Takes nothing more.
    pub(super) fn end(&self, reason: impl Into<String>) {
        self.pulls().over.get_or_insert(reason.into());
        self.stream.state.changed.notify_one();
    }

    /// Takes what has come in.
    pub(in super::super) fn take(
        &self,
        events: &Arc<Events>,
        message: &Message,
        unkept: Option<Unkept>,
    ) {
        if let Some(status) = wire::pull_status(message) {
            return self.status(&message.subject, status);
        }
        let Some(stored) = wire::stored(&message.reply) else { return };
        if !self.counts() {
            return;
        }
        // What never has room is as unusable as what is too large.
        if let Some(Unkept::NoRoom(Exceeded::Connection { .. } | Exceeded::Process { .. })) = unkept
        {
            return self.end("there is no room for its events (max_memory)");
        }
        let size = message.headers.len() + message.payload.len();
        let (taken, gap) = {
            let mut ledger = self.stream.ledger();
            (ledger.take(&stored, &message.reply, size), ledger.holes.due())
        };
        // Before what comes behind it.
        if let Some(gap) = gap {
            self.stream.tell_gap(gap);
        }
        match taken {
            Taken::New => self.hand_over(events, message, unkept, stored),
            Taken::Held => {}
            Taken::Settled => events.tell(&message.reply, Ack::Done),
        }
        self.stream.state.changed.notify_one();
    }

    fn hand_over(
        &self,
        events: &Arc<Events>,
        message: &Message,
        unkept: Option<Unkept>,
        stored: Stored<'_>,
    ) {
        let settings = &events.settings;
        let event = match unkept {
            None => wire::stored_event(
                settings.dialect,
                message,
                &stored,
                settings.credence_of_events(),
            ),
            Some(unkept) => {
                let unusable = wire::unkept_event(message, unkept, settings.max_request);
                Err(crate::event::Unusable { id: wire::stored_id(&stored), ..unusable })
            }
        };
        let subject = String::from_utf8_lossy(&message.subject);
        let hold = Hold {
            place: Place { number: stored.number, time: stored.time },
            size: message.headers.len() + message.payload.len(),
            is_settled: false,
            stream: Arc::clone(&self.stream),
            events: Arc::clone(events),
        };
        let delivery = Delivery {
            event,
            captures: captures(&self.stream.filter, &subject).unwrap_or_default(),
            message: stored.mark(),
            receipt: Some(hold.receipt()),
        };
        if self.stream.source.taker.take(delivery).is_err() {
            self.end("the bridge had no room");
        }
    }

    /// Counts a message. False where nothing more is taken.
    fn counts(&self) -> bool {
        let mut pulls = self.pulls();
        pulls.heard = Instant::now();
        if let Some((_, left)) = pulls.open.front_mut() {
            *left -= 1;
            if *left == 0 {
                pulls.open.pop_front();
            }
        }
        pulls.over.is_none()
    }

    fn status(&self, subject: &[u8], status: PullStatus) {
        let number = subject.strip_prefix(self.inbox.as_bytes());
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        match status {
            PullStatus::Alive(looked) => {
                self.pulls().heard = Instant::now();
                self.stream.ledger().holes.rest(looked);
            }
            PullStatus::Ended => {
                let mut pulls = self.pulls();
                pulls.heard = Instant::now();
                pulls.open.retain(|(open, _)| Some(*open) != number);
            }
            PullStatus::Over(reason) => self.end(reason),
        }
        self.stream.state.changed.notify_one();
    }

    fn pulls(&self) -> MutexGuard<'_, Pulls> {
        // Every use leaves it whole.
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
