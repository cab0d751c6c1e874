//! The calls of one generation that wait for a reply.
//!
//! An entry lives as long as its [`Ticket`]: whoever stops waiting leaves nothing behind. The
//! table ends with its generation, and every call in it ends then. The router bounds the calls
//! in flight; the bound here is the last resort, and the size of the inbox's queue.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::{Message, Subject};
use foldhash::fast::RandomState;
use tokio::sync::oneshot;

use crate::call::Held;
use crate::token::{Token, Tokens};

/// How many calls can wait. The inbox takes as many replies before it drops one.
pub(super) const CAPACITY: usize = 65_536;

/// How a wait ends.
#[derive(Debug)]
pub(super) enum Answer {
    /// With a reply.
    Reply(Message),
    /// The server does not let us publish to the subject.
    Denied,
    /// The generation has ended.
    Lost {
        /// Whether it may have been sent before.
        sent: bool,
    },
}

/// Why a call cannot wait here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The generation has ended.
    Ended,
    /// Too many wait.
    Full,
}

struct Waiter {
    subject: Subject,
    sender: oneshot::Sender<Answer>,
    sent: bool,
}

#[derive(Default)]
struct Table {
    waiters: HashMap<u64, Waiter, RandomState>,
    last_key: u64,
    ended: bool,
}

/// The table, and what proves that an answer belongs into it.
#[derive(Default)]
pub(super) struct Pending {
    table: Mutex<Table>,
    tokens: Tokens,
}

impl Pending {
    /// Enters a call to `subject`.
    pub(super) fn register(&self, subject: Subject) -> Result<Ticket<'_>, Closed> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        if table.ended {
            return Err(Closed::Ended);
        }
        if table.waiters.len() >= CAPACITY {
            return Err(Closed::Full);
        }
        table.last_key += 1;
        let key = table.last_key;
        table.waiters.insert(key, Waiter { subject, sender, sent: false });
        drop(table);
        Ok(Ticket { pending: self, key, receiver, answered: false, held: None })
    }

    /// Notes that a call is about to be sent. False where nobody waits any more: then it must not
    /// be.
    pub(super) fn sending(&self, key: u64) -> bool {
        self.table().waiters.get_mut(&key).map(|waiter| waiter.sent = true).is_some()
    }

    /// Ends the wait that a token belongs to. False if nobody waits for that (any more), or
    /// nobody ever has: then the token is a forgery.
    pub(super) fn answer(&self, token: &str, answer: Answer) -> bool {
        let Some(key) = self.tokens.redeem(token) else { return false };
        let waiter = self.table().waiters.remove(&key);
        waiter.is_some_and(|waiter| waiter.sender.send(answer).is_ok())
    }

    /// Ends the calls to a subject that the server does not let us publish to. False where there
    /// were none.
    pub(super) fn deny(&self, subject: &str) -> bool {
        let to_subject = |_: &u64, waiter: &mut Waiter| waiter.subject.as_str() == subject;
        let denied: Vec<_> = self.table().waiters.extract_if(to_subject).collect();
        let any = !denied.is_empty();
        for (_, waiter) in denied {
            // Who has stopped waiting need not be told.
            drop(waiter.sender.send(Answer::Denied));
        }
        any
    }

    /// Ends every call, and takes no more.
    pub(super) fn end(&self) {
        let mut table = self.table();
        table.ended = true;
        let waiters = std::mem::take(&mut table.waiters);
        drop(table);
        for Waiter { sender, sent, .. } in waiters.into_values() {
            // Who has stopped waiting need not be told.
            drop(sender.send(Answer::Lost { sent }));
        }
    }

    /// How many calls wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table().waiters.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place in the table.
pub(super) struct Ticket<'a> {
    pending: &'a Pending,
    key: u64,
    receiver: oneshot::Receiver<Answer>,
    answered: bool,
    held: Option<Held<'a>>,
}

impl<'a> Ticket<'a> {
    /// Holds the call back until it is [sent](Pending::sending).
    pub(super) fn hold(&mut self, held: Held<'a>) {
        self.held = Some(held);
    }

    /// The call's place in the table.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// The last part of the reply subject: nobody can guess another call's.
    pub(super) fn token(&self) -> Token {
        self.pending.tokens.issue(self.key)
    }

    /// Waits.
    pub(super) async fn answer(mut self) -> Answer {
        let answer = (&mut self.receiver).await;
        self.answered = true;
        if let Some(held) = self.held.take() {
            held.release();
        }
        answer.unwrap_or(Answer::Lost { sent: true })
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let waiter = self.pending.table().waiters.remove(&self.key);
        if let Some(held) = self.held.take()
            && waiter.is_none_or(|waiter| waiter.sent)
        {
            held.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Departure;

    fn token(ticket: &Ticket<'_>) -> String {
        let mut text = String::new();
        ticket.token().push_hex(&mut text);
        text
    }

    fn reply() -> Answer {
        Answer::Reply(Message {
            subject: "inbox.1".into(),
            reply: None,
            payload: bytes::Bytes::from_static(b"1"),
            headers: None,
            status: None,
            description: None,
            length: 1,
        })
    }

    #[tokio::test]
    async fn a_reply_reaches_its_call_once() {
        let pending = Pending::default();
        let first = pending.register("a.b".into()).expect("open");
        let second = pending.register("a.b".into()).expect("open");
        assert_ne!(first.token(), second.token());
        let token = token(&second);
        assert!(pending.answer(&token, reply()));
        assert!(!pending.answer(&token, reply()), "a second reply has no call");
        assert!(matches!(second.answer().await, Answer::Reply(_)));
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn a_token_that_was_made_up_reaches_nobody() {
        let (pending, others) = (Pending::default(), Pending::default());
        let _ticket = pending.register("a.b".into()).expect("open");
        let forged = token(&others.register("a.b".into()).expect("open"));
        for token in ["1", "", forged.as_str()] {
            assert!(!pending.answer(token, reply()), "{token:?}");
        }
        assert_eq!(pending.len(), 1);
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_nothing_behind() {
        let pending = Pending::default();
        let ticket = pending.register("a.b".into()).expect("open");
        let token = token(&ticket);
        drop(ticket);
        assert_eq!(pending.len(), 0);
        let mut wait = Box::pin(pending.register("a.b".into()).expect("open").answer());
        assert!(futures_util::poll!(&mut wait).is_pending());
        drop(wait);
        assert_eq!(pending.len(), 0);
        assert!(!pending.answer(&token, reply()));
    }

    #[test]
    fn a_call_that_is_given_up_before_it_is_sent_was_held() {
        for (sends, held) in [(false, true), (true, false)] {
            let (pending, departure) = (Pending::default(), Departure::default());
            let mut ticket = pending.register("a.b".into()).expect("open");
            ticket.hold(departure.hold());
            let key = ticket.key();
            if sends {
                assert!(pending.sending(key));
            }
            drop(ticket);
            assert_eq!(departure.was_held(), held);
            assert!(!pending.sending(key), "nobody waits");
        }
    }

    #[tokio::test]
    async fn the_end_ends_every_call_and_tells_the_sent_from_the_unsent() {
        let pending = Pending::default();
        let sent = pending.register("a.b".into()).expect("open");
        let unsent = pending.register("a.b".into()).expect("open");
        assert!(pending.sending(sent.key()));
        pending.end();
        assert!(!pending.sending(unsent.key()), "it has been told that it is not");
        assert!(matches!(sent.answer().await, Answer::Lost { sent: true }));
        assert!(matches!(unsent.answer().await, Answer::Lost { sent: false }));
        assert_eq!(pending.register("a.b".into()).err(), Some(Closed::Ended));
    }

    #[tokio::test]
    async fn a_denied_subject_ends_its_calls_alone() {
        let pending = Pending::default();
        let denied = pending.register("a.b".into()).expect("open");
        let other = pending.register("a.c".into()).expect("open");
        let notification = pending.register("a.b".into()).expect("open");
        assert!(pending.deny("a.b"));
        assert!(!pending.deny("a.b"), "nobody is left");
        assert!(matches!(denied.answer().await, Answer::Denied));
        assert!(matches!(notification.answer().await, Answer::Denied));
        assert_eq!(pending.len(), 1);
        drop(other);
    }

    #[test]
    fn the_table_is_bounded() {
        let pending = Pending::default();
        let tickets: Vec<_> =
            (0..CAPACITY).map(|_| pending.register("a.b".into()).expect("room")).collect();
        assert_eq!(pending.register("a.b".into()).err(), Some(Closed::Full));
        drop(tickets);
        assert_eq!(pending.len(), 0);
    }
}
