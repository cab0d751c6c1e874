//! The calls that wait for what comes into one inbox.
//!
//! An entry lives as long as its [`Seat`]: whoever stops waiting leaves nothing behind. The
//! table ends with its inbox, and every call in it ends then. What only the connection that made
//! the inbox can end, ends with that: what it has not sent, and notifications. The router bounds the
//! calls in flight; the bound here is the last resort.
//!
//! A key begins with a hash of the call's subject, and the table is sorted: the calls to a subject
//! that the server denies lie side by side, however many others wait.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Message, Part, Unkept};
use crate::call::Held;
use crate::token::{Token, Tokens};

/// How many calls can wait.
const CAPACITY: usize = 65_536;
/// How many instances of a service are heard.
const MOST_ANSWERS: usize = 64;
/// A key's lower half counts; the 30 bits above it are the subject's.
const COUNT_BITS: u32 = 32;
const SUBJECT_BITS: u32 = 30;

/// How a wait ends.
#[derive(Debug)]
pub(super) enum Answer {
    /// With a reply.
    Reply(Message),
    /// With a reply that was not taken in.
    Unkept(Unkept),
    /// The server has read the notification, and let it pass.
    Taken,
    /// The server does not let us publish to the subject.
    Denied,
    /// The generation has ended.
    Lost {
        /// Whether the message may have reached the server.
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
    subject: Arc<str>,
    sender: Sender,
    stage: Stage,
}

/// How far a message has got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It waits to be written.
    Held,
    /// It may have been, and a reply is waited for.
    AwaitsReply,
    /// It may have been, and the connection's server is to say that it has read it.
    AwaitsServer,
}

impl Waiter {
    fn was_sent(&self) -> bool {
        self.stage != Stage::Held
    }

    fn end(self) {
        let sent = self.was_sent();
        // Who has stopped waiting need not be told.
        let _told = self.sender.send(Answer::Lost { sent });
    }
}

enum Sender {
    /// For the one answer to a call.
    One(oneshot::Sender<Answer>),
    /// For as many answers to an inquiry as there is room for.
    Many(mpsc::Sender<Answer>),
    /// For the last value of an answer that has several.
    Last(oneshot::Sender<Answer>, Option<Box<Message>>),
}

impl Sender {
    /// False where nobody waits any more, or there is no room.
    fn send(self, answer: Answer) -> bool {
        match self {
            Sender::One(sender) => sender.send(answer).is_ok(),
            Sender::Many(sender) => sender.try_send(answer).is_ok(),
            Sender::Last(sender, _) => sender.send(answer).is_ok(),
        }
    }
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
        Ok(Seat { pending: self, key, receiver, held: Some(held) })
    }

    /// The same for a call whose answer may have several values, of which the last counts.
    pub(super) fn register_stream<'a>(
        &'a self,
        subject: Arc<str>,
        held: Held<'a>,
    ) -> Result<Seat<'a>, Closed> {
        let (sender, receiver) = oneshot::channel();
        let key = self.enter(subject, Sender::Last(sender, None))?;
        Ok(Seat { pending: self, key, receiver, held: Some(held) })
    }

    /// Enters an inquiry, which several may answer.
    pub(super) fn gather(&self, subject: Arc<str>) -> Result<Gathering<'_>, Closed> {
        let (sender, receiver) = mpsc::channel(MOST_ANSWERS);
        let key = self.enter(subject, Sender::Many(sender))?;
        Ok(Gathering { pending: self, key, receiver })
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

/// An inquiry's place in the table.
pub(super) struct Gathering<'a> {
    pending: &'a Pending,
    key: u64,
    receiver: mpsc::Receiver<Answer>,
}

impl Gathering<'_> {
    /// The inquiry's place in the table.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// The next answer; `None` after the end.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.pending.table().waiters.remove(&self.key);
    }
}

/// A call's place in the table.
pub(super) struct Seat<'a> {
    pending: &'a Pending,
    key: u64,
    receiver: oneshot::Receiver<Answer>,
    /// There until the end is known.
    held: Option<Held<'a>>,
}

impl Seat<'_> {
    /// The call's place in the table.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Waits for the end.
    pub(super) async fn answer(mut self) -> Answer {
        let answer = (&mut self.receiver).await;
        if let Some(held) = self.held.take() {
            held.release();
        }
        // The sender goes with an answer, always.
        answer.unwrap_or(Answer::Lost { sent: true })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let waiter = self.pending.table().waiters.remove(&self.key);
        // What was not written by now never will be.
        if waiter.is_none_or(|waiter| waiter.was_sent()) {
            held.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Departure;

    fn call_to<'a>(pending: &'a Pending, subject: &str) -> Result<Seat<'a>, Closed> {
        pending.register(subject.into(), Box::leak(Box::<Departure>::default()).hold())
    }

    fn token(seat: &Seat<'_>) -> Vec<u8> {
        let mut text = String::new();
        seat.pending.token(seat.key).push_hex(&mut text);
        text.into_bytes()
    }

    fn reply() -> Answer {
        Answer::Reply(Message::default())
    }

    #[tokio::test]
    async fn a_reply_reaches_its_call_once() {
        let pending = Pending::default();
        let first = call_to(&pending, "a.b").expect("open");
        let second = call_to(&pending, "a.b").expect("open");
        assert_ne!(token(&first), token(&second));
        let token = token(&second);
        assert!(pending.answer(&token, reply()));
        assert!(!pending.answer(&token, reply()), "a second reply has no call");
        assert!(matches!(second.answer().await, Answer::Reply(_)));
        assert_eq!(pending.table().waiters.len(), 1);
    }

    #[test]
    fn a_token_that_was_made_up_reaches_nobody() {
        let (pending, others) = (Pending::default(), Pending::default());
        let _seat = call_to(&pending, "a.b").expect("open");
        let forged = token(&call_to(&others, "a.b").expect("open"));
        for token in [&b"1"[..], b"", &[0xff; Token::HEX], &forged] {
            assert!(!pending.answer(token, reply()), "{token:?}");
        }
        assert_eq!(pending.table().waiters.len(), 1);
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_nothing_behind() {
        let pending = Pending::default();
        let seat = call_to(&pending, "a.b").expect("open");
        let (key, token) = (seat.key(), token(&seat));
        drop(seat);
        assert!(pending.is_empty() && !pending.sending(key, true));
        let mut wait = Box::pin(call_to(&pending, "a.b").expect("open").answer());
        assert!(futures_util::poll!(&mut wait).is_pending());
        drop(wait);
        assert!(pending.is_empty());
        assert!(!pending.answer(&token, reply()));
    }

    #[tokio::test]
    async fn the_end_ends_every_call_and_knows_which_were_sent() {
        let pending = Pending::default();
        let (sent, unsent) = (call_to(&pending, "a.b"), call_to(&pending, "a.b"));
        let (sent, unsent) = (sent.expect("open"), unsent.expect("open"));
        assert!(pending.sending(sent.key(), true));
        pending.end();
        assert!(matches!(sent.answer().await, Answer::Lost { sent: true }));
        assert!(matches!(unsent.answer().await, Answer::Lost { sent: false }));
        assert_eq!(call_to(&pending, "a.b").err(), Some(Closed::Ended));
    }

    #[tokio::test]
    async fn what_only_its_connection_can_end_ends_with_that() {
        let pending = Pending::default();
        let call = call_to(&pending, "a.b").expect("open");
        let notification = call_to(&pending, "a.b").expect("open");
        let unsent = call_to(&pending, "a.b").expect("open");
        assert!(pending.sending(call.key(), true) && pending.sending(notification.key(), false));
        pending.disconnect();
        assert!(matches!(notification.answer().await, Answer::Lost { sent: true }));
        assert!(matches!(unsent.answer().await, Answer::Lost { sent: false }));
        assert_eq!(call_to(&pending, "a.b").err(), Some(Closed::Ended));
        assert!(pending.answer(&token(&call), reply()));
        assert!(matches!(call.answer().await, Answer::Reply(_)));
    }

    #[test]
    fn whoever_goes_away_is_told_whether_the_call_had_left() {
        for sent in [false, true] {
            let (pending, departure) = (Pending::default(), Departure::default());
            let seat = pending.register("a.b".into(), departure.hold()).expect("open");
            assert!(!sent || pending.sending(seat.key(), true));
            drop(seat);
            assert_eq!(departure.was_held(), !sent);
        }
    }

    #[tokio::test]
    async fn an_inquiry_has_many_answers_and_one_end() {
        let pending = Pending::default();
        let mut inquiry = pending.gather("$SRV.INFO.x".into()).expect("open");
        let mut token = String::new();
        pending.token(inquiry.key()).push_hex(&mut token);
        for _ in 0..MOST_ANSWERS {
            assert!(pending.answer(token.as_bytes(), reply()));
        }
        assert!(!pending.answer(token.as_bytes(), reply()), "there is no more room");
        assert!(matches!(inquiry.next().await, Some(Answer::Reply(_))));
        drop(inquiry);
        assert!(!pending.answer(token.as_bytes(), reply()));
        assert!(pending.is_empty());
    }

    #[tokio::test]
    async fn of_a_stream_the_last_value_counts() {
        let pending = Pending::default();
        let value = |json: &'static str| {
            Answer::Reply(Message { payload: json.into(), ..Message::default() })
        };
        for (end, expected) in [
            (r#"{"isDisposed":true}"#, r#"{"response":2}"#),
            (r#"{"response":3,"isDisposed":true}"#, r#"{"response":3,"isDisposed":true}"#),
            (r#"{"err":"no"}"#, r#"{"err":"no"}"#),
        ] {
            let departure = Departure::default();
            let seat = pending.register_stream("a.b".into(), departure.hold()).expect("open");
            assert!(pending.sending(seat.key(), true));
            let token = token(&seat);
            assert!(pending.answer(&token, value(r#"{"response":1}"#)));
            assert!(pending.answer(&token, value(r#"{"response":2}"#)));
            assert!(pending.answer(&token, value(end)));
            assert!(!pending.answer(&token, value(end)), "it has ended");
            let Answer::Reply(message) = seat.answer().await else { panic!("a value") };
            assert_eq!(message.payload, expected);
        }
        assert!(pending.is_empty());
    }

    #[tokio::test]
    async fn a_denied_subject_ends_its_calls_alone() {
        let pending = Pending::default();
        let denied = call_to(&pending, "a.b").expect("open");
        let other = call_to(&pending, "a.c").expect("open");
        let notification = call_to(&pending, "a.b").expect("open");
        for seat in [&denied, &other, &notification] {
            assert!(pending.sending(seat.key(), true));
        }
        let unsent = call_to(&pending, "a.b").expect("open");
        assert!(pending.deny("a.b"));
        assert!(!pending.deny("a.b"), "nobody is left");
        assert!(matches!(denied.answer().await, Answer::Denied));
        assert!(matches!(notification.answer().await, Answer::Denied));
        assert!(pending.sending(other.key(), true) && pending.sending(unsent.key(), true));
    }

    #[test]
    fn the_table_is_bounded() {
        let pending = Pending::default();
        let seats: Vec<_> =
            (0..CAPACITY).map(|_| call_to(&pending, "a.b").expect("room")).collect();
        assert_eq!(call_to(&pending, "a.b").err(), Some(Closed::Full));
        drop(seats);
        assert!(pending.is_empty());
    }
}
