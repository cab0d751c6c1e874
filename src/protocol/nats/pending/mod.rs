//! The calls that wait for what comes into one inbox.
//!
//! An entry lives as long as its [`Seat`]: whoever stops waiting leaves nothing behind. The
//! table ends with its inbox, and every call in it ends then. What only the connection that made
//! the inbox can end, ends with that: what it has not sent, and notifications. The router bounds the
//! calls in flight; the bound here is the last resort.
//!
//! A key begins with a hash of the call's subject, and the table is sorted: the calls to a subject
//! that the server denies lie side by side, however many others wait.

mod seat;
#[cfg(test)]
mod tests;
mod waiter;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Message, Part};
use crate::call::Held;
use crate::token::{Token, Tokens};
pub(super) use seat::{Gathering, Seat};
pub(super) use waiter::Answer;
use waiter::{Sender, Stage, Waiter};

/// How many calls can wait.
const CAPACITY: usize = 65_536;
/// How many instances of a service are heard.
const MOST_ANSWERS: usize = 64;
/// A key's lower half counts; the 30 bits above it are the subject's.
const COUNT_BITS: u32 = 32;
const SUBJECT_BITS: u32 = 30;

/// Why a call cannot wait here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The generation has ended.
    Ended,
    /// Too many wait.
    Full,
}

#[derive(Default)]
struct Table {
    waiters: BTreeMap<u64, Waiter>,
    count: u32,
    ended: bool,
}

/// The table, and what proves that an answer belongs into it.
#[derive(Default)]
pub(super) struct Pending {
    table: Mutex<Table>,
    tokens: Tokens,
    subjects: RandomState,
}

impl Pending {
    /// Enters a call to `subject`, which `held` says has not left.
    pub(super) fn register<'a>(
        &'a self,
        subject: Arc<str>,
        held: Held<'a>,
    ) -> Result<Seat<'a>, Closed> {
        let (sender, receiver) = oneshot::channel();
        let key = self.enter(subject, Sender::One(sender))?;
        Ok(Seat::new(self, key, receiver, held))
    }

    /// The same for a call whose answer may have several values, of which the last counts.
    pub(super) fn register_stream<'a>(
        &'a self,
        subject: Arc<str>,
        held: Held<'a>,
    ) -> Result<Seat<'a>, Closed> {
        let (sender, receiver) = oneshot::channel();
        let key = self.enter(subject, Sender::Last(sender, None))?;
        Ok(Seat::new(self, key, receiver, held))
    }

    /// Enters an inquiry, which several may answer.
    pub(super) fn gather(&self, subject: Arc<str>) -> Result<Gathering<'_>, Closed> {
        let (sender, receiver) = mpsc::channel(MOST_ANSWERS);
        let key = self.enter(subject, Sender::Many(sender))?;
        Ok(Gathering::new(self, key, receiver))
    }

    fn enter(&self, subject: Arc<str>, sender: Sender) -> Result<u64, Closed> {
        let first = self.first_key(&subject);
        let mut table = self.table();
        if table.ended {
            return Err(Closed::Ended);
        }
        if table.waiters.len() >= CAPACITY {
            return Err(Closed::Full);
        }
        // Around the count once takes longer than any call may; if not, the next one is free.
        let key = loop {
            table.count = table.count.wrapping_add(1);
            let key = first | u64::from(table.count);
            if !table.waiters.contains_key(&key) {
                break key;
            }
        };
        table.waiters.insert(key, Waiter { subject, sender, stage: Stage::Held });
        Ok(key)
    }

    /// Notes that a message is about to be written. False where nobody waits any more: then it
    /// must not be.
    pub(super) fn sending(&self, key: u64, wants_reply: bool) -> bool {
        let stage = if wants_reply { Stage::AwaitsReply } else { Stage::AwaitsServer };
        let mut table = self.table();
        let waiter = table.waiters.get_mut(&key);
        waiter.map(|waiter| waiter.stage = stage).is_some()
    }

    /// The last part of a call's reply subject: nobody can guess another call's.
    pub(super) fn token(&self, key: u64) -> Token {
        self.tokens.issue(key)
    }

    /// Ends the wait that a token belongs to. False if nobody waits for that (any more), or
    /// nobody ever has: then the token is a forgery.
    pub(super) fn answer(&self, token: &[u8], answer: Answer) -> bool {
        let key = std::str::from_utf8(token).ok().and_then(|token| self.tokens.redeem(token));
        key.is_some_and(|key| match answer {
            Answer::Reply(message) if self.is_stream(key) => self.value_of(key, message),
            answer => self.answer_to(key, answer),
        })
    }

    fn is_stream(&self, key: u64) -> bool {
        let table = self.table();
        matches!(table.waiters.get(&key), Some(Waiter { sender: Sender::Last(..), .. }))
    }

    /// One of the values of an answer: the wait ends with the last of them.
    fn value_of(&self, key: u64, message: Message) -> bool {
        // Not under the lock: it reads all of the message.
        let part = wire::part(&message);
        let mut table = self.table();
        let Some(Waiter { sender: Sender::Last(_, last), .. }) = table.waiters.get_mut(&key) else {
            return false;
        };
        let message = match part {
            Part::More => {
                *last = Some(Box::new(message));
                return true;
            }
            Part::Last => message,
            Part::End => last.take().map_or(message, |last| *last),
        };
        drop(table);
        self.answer_to(key, Answer::Reply(message))
    }

    fn answer_to(&self, key: u64, answer: Answer) -> bool {
        let mut table = self.table();
        if let Some(Waiter { sender: Sender::Many(sender), .. }) = table.waiters.get(&key) {
            return sender.try_send(answer).is_ok();
        }
        let waiter = table.waiters.remove(&key);
        drop(table);
        waiter.is_some_and(|waiter| waiter.sender.send(answer))
    }

    /// Ends the wait for the server to take a notification.
    pub(super) fn taken(&self, key: u64) {
        // Who has stopped waiting, or has been denied, needs no answer.
        let _waited = self.answer_to(key, Answer::Taken);
    }

    /// The subject of the call that a token belongs to, and that goes on waiting.
    pub(super) fn subject(&self, token: &[u8]) -> Option<Arc<str>> {
        let key = self.tokens.redeem(std::str::from_utf8(token).ok()?)?;
        self.table().waiters.get(&key).map(|waiter| Arc::clone(&waiter.subject))
    }

    /// Ends the calls to a subject that the server does not let us publish to. False where there
    /// were none.
    pub(super) fn deny(&self, subject: &str) -> bool {
        let first = self.first_key(subject);
        let last = first | u64::from(u32::MAX);
        let mut table = self.table();
        let to_subject = table.waiters.range(first..=last).filter_map(|(key, waiter)| {
            (waiter.was_sent() && *waiter.subject == *subject).then_some(*key)
        });
        let keys: Vec<_> = to_subject.collect();
        let denied: Vec<_> = keys.iter().filter_map(|key| table.waiters.remove(key)).collect();
        drop(table);
        let any = !denied.is_empty();
        for waiter in denied {
            // Who has stopped waiting need not be told.
            let _told = waiter.sender.send(Answer::Denied);
        }
        any
    }

    /// Ends every call, and takes no more.
    pub(super) fn end(&self) {
        let mut table = self.table();
        table.ended = true;
        let waiters = std::mem::take(&mut table.waiters);
        drop(table);
        waiters.into_values().for_each(Waiter::end);
    }

    /// Ends what the connection that is gone had not sent, and what its server was to confirm; takes
    /// no more. Who waits for a reply goes on waiting.
    pub(super) fn disconnect(&self) {
        let mut table = self.table();
        table.ended = true;
        let (staying, ended): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut table.waiters)
            .into_iter()
            .partition(|(_, waiter)| waiter.stage == Stage::AwaitsReply);
        table.waiters = staying;
        drop(table);
        ended.into_values().for_each(Waiter::end);
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.table().waiters.is_empty()
    }

    fn first_key(&self, subject: &str) -> u64 {
        self.subjects.hash_one(subject) >> (u64::BITS - SUBJECT_BITS) << COUNT_BITS
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
