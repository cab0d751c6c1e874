//! The calls that wait for an answer, by correlation id.
//!
//! One table for a generation. Whoever waits holds a [`Seat`]; when its future is dropped the
//! entry goes with it, so the table is bounded by the router's limit on calls in flight. A
//! mutex, never held over an await: each use is one look-up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wire::reply::Delivered;
use crate::budget::Exceeded;
use crate::call::Held;
use crate::fault::Outcome;
use crate::token::Tokens;

/// How a wait ends.
#[derive(Debug)]
pub(super) enum Answer {
    /// The service's reply.
    Replied(Box<Delivered>),
    /// The service's reply, for which there was no room.
    Overfull(Exceeded),
    /// The broker has taken a notification over.
    Confirmed,
    /// The service's queue is there, and nobody consumes it: nothing was sent.
    Deserted {
        /// When that was first seen.
        since: Instant,
        /// How many messages wait in it.
        waiting: u32,
    },
    /// The broker had nowhere to send it.
    Unroutable,
    /// The broker had nowhere to send it but to an exchange for what nobody takes.
    Diverted,
    /// The publisher did not give it to the broker, which takes none.
    NotTaken,
    /// The broker could not take it over, and it may be in a queue all the same.
    Nacked,
    /// The broker dropped it, because it had refused another message before.
    Dropped,
    /// Too many others wait to be tried whether they are permitted.
    Crowded,
    /// The broker takes no message of that size.
    TooLarge {
        /// The message's size.
        size: usize,
        /// The broker's limit.
        limit: usize,
        /// Whether the broker or the publisher before it refused it.
        outcome: Outcome,
    },
    /// The broker does not let this user publish there.
    Denied {
        /// Whether the broker or the publisher before it refused it.
        outcome: Outcome,
    },
    /// It was sent, and the broker has stopped to take messages before it confirmed this one.
    Stuck,
    /// The connection is gone.
    Lost {
        /// Whether the message may have reached the broker.
        sent: bool,
    },
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    sent: bool,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<u64, Waiting, RandomState>,
    closed: bool,
}

/// How long a UUID is.
const UUID: usize = 36;

/// The table.
pub(super) struct Pending {
    /// Makes correlation ids that no service can guess, so that it answers no call but those that
    /// it got; and no other generation's reply is taken for one of ours.
    tokens: Tokens,
    next: AtomicU64,
    table: Mutex<Table>,
}

impl Pending {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { tokens: Tokens::new(), next: AtomicU64::new(1), table: Mutex::default() })
    }

    /// Enters a wait. `None` once the table is closed.
    pub(super) fn enter(&self) -> Option<(Seat<'_>, oneshot::Receiver<Answer>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, wait) = oneshot::channel();
        let mut table = self.lock();
        if table.closed {
            return None;
        }
        table.waiting.insert(id, Waiting { answer, sent: false });
        Some((Seat { id, pending: self, held: None }, wait))
    }

    /// Notes that a message is about to be published. False where nobody waits any more: then it
    /// must not be.
    pub(super) fn sending(&self, id: u64) -> bool {
        let mut table = self.lock();
        let waiting = table.waiting.get_mut(&id);
        waiting.map(|waiting| waiting.sent = true).is_some()
    }

    /// Whether anybody waits for an answer to what has been sent.
    pub(super) fn someone_waits(&self) -> bool {
        self.lock().waiting.values().any(|waiting| waiting.sent)
    }

    /// Ends a wait. False where nobody waited.
    pub(super) fn end(&self, id: u64, answer: Answer) -> bool {
        let waiting = self.lock().waiting.remove(&id);
        waiting.is_some_and(|waiting| waiting.answer.send(answer).is_ok())
    }

    /// The id of the wait that a correlation id belongs to, if it is one of ours.
    pub(super) fn id_of(&self, correlation_id: &str) -> Option<u64> {
        self.tokens.redeem(correlation_id)
    }

    /// Ends the wait that a correlation id belongs to. False where there is none.
    pub(super) fn end_by_correlation(&self, correlation_id: Option<&str>, answer: Answer) -> bool {
        let id = correlation_id.and_then(|correlation_id| self.id_of(correlation_id));
        id.is_some_and(|id| self.end(id, answer))
    }

    /// Ends every wait, and lets no new one in.
    pub(super) fn close(&self) {
        let waiting = {
            let mut table = self.lock();
            table.closed = true;
            std::mem::take(&mut table.waiting)
        };
        for (_, Waiting { answer, sent }) in waiting {
            // Who has stopped waiting needs no answer.
            drop(answer.send(Answer::Lost { sent }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every use leaves the table whole, so a panic elsewhere has not broken it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seat in the table, given up when it is dropped.
pub(super) struct Seat<'a> {
    id: u64,
    pending: &'a Pending,
    held: Option<Held<'a>>,
}

impl<'a> Seat<'a> {
    /// Holds the call back until it is [sent](Pending::sending).
    pub(super) fn hold(&mut self, held: Held<'a>) {
        self.held = Some(held);
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The id that the message carries and its reply repeats.
    pub(super) fn correlation_id(&self) -> String {
        let mut text = String::with_capacity(UUID);
        self.pending.tokens.issue(self.id).push_uuid(&mut text);
        text
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let waiting = self.pending.lock().waiting.remove(&self.id);
        if let Some(held) = self.held.take()
            && waiting.is_none_or(|waiting| waiting.sent)
        {
            held.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Departure;

    #[tokio::test]
    async fn an_answer_finds_its_call_and_no_other() {
        let pending = Pending::new();
        let (first, wait_first) = pending.enter().unwrap();
        let (second, mut wait_second) = pending.enter().unwrap();
        let id = first.correlation_id();
        assert_ne!(id, second.correlation_id());
        assert_eq!((id.len(), &id[14..15], &id[23..24]), (36, "4", "-"), "a UUID's form: {id}");
        assert!(pending.end_by_correlation(Some(&id), Answer::Unroutable));
        assert!(matches!(wait_first.await, Ok(Answer::Unroutable)));
        assert!(wait_second.try_recv().is_err());
        assert!(!pending.end_by_correlation(Some(&id), Answer::Unroutable), "twice");
    }

    #[test]
    fn foreign_correlation_ids_find_nobody() {
        let (pending, other) = (Pending::new(), Pending::new());
        let (_seat, _wait) = pending.enter().unwrap();
        let (foreign, _wait) = other.enter().unwrap();
        let foreign = foreign.correlation_id();
        for id in [None, Some(""), Some("1"), Some("zz"), Some(foreign.as_str())] {
            assert!(!pending.end_by_correlation(id, Answer::Confirmed), "{id:?}");
        }
    }

    #[test]
    fn a_dropped_call_leaves_no_trace_and_is_not_sent() {
        let pending = Pending::new();
        let (seat, wait) = pending.enter().unwrap();
        let id = seat.id();
        assert!(pending.sending(id));
        drop((seat, wait));
        assert!(!pending.sending(id));
        assert!(pending.lock().waiting.is_empty());
    }

    #[test]
    fn a_call_that_is_given_up_before_it_is_sent_was_held() {
        for (sends, held) in [(false, true), (true, false)] {
            let (pending, departure) = (Pending::new(), Departure::default());
            let (mut seat, _wait) = pending.enter().unwrap();
            seat.hold(departure.hold());
            assert!(!sends || pending.sending(seat.id()));
            drop(seat);
            assert_eq!(departure.was_held(), held);
        }
    }

    #[tokio::test]
    async fn closing_tells_the_sent_from_the_unsent() {
        let pending = Pending::new();
        let (sent, wait_sent) = pending.enter().unwrap();
        let (_unsent, wait_unsent) = pending.enter().unwrap();
        pending.sending(sent.id());
        pending.close();
        assert!(matches!(wait_sent.await, Ok(Answer::Lost { sent: true })));
        assert!(matches!(wait_unsent.await, Ok(Answer::Lost { sent: false })));
        assert!(pending.enter().is_none());
    }
}
