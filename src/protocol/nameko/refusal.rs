//! What it means when the broker refuses a message: it closes the channel, says why, and drops
//! what was published after. Must not: do I/O.
//!
//! A channel is worked off in order. So what was published before the refused message has been
//! taken, and what came after has not. The broker does not say which message it was; its words
//! tell its size, or its routing key.

use std::collections::HashMap;
use std::time::Duration;

use lapin::ErrorKind;
use tokio::time::Instant;

use super::pending::Answer;
use super::unconfirmed::{OnAck, Sent, fingerprint};
use crate::fault::Outcome;

/// For how long what was denied once is denied without asking the broker. Each time costs a
/// connection, and permissions are given rarely.
const DENIED_FOR: Duration = Duration::from_secs(10);
/// How many topics are remembered as denied.
const MOST_TOPICS: usize = 256;

/// Why the broker refused a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is larger than the broker's `max_message_size`.
    TooLarge {
        /// The message's size.
        size: usize,
        /// The broker's limit.
        limit: usize,
    },
    /// The user may not write to the topic; `None` where the broker's words were cut off.
    Topic(Option<String>),
    /// The user may not write to the exchange.
    Exchange,
}

impl Refusal {
    /// Reads why a channel was closed; `None` for all but a refused message.
    pub(super) fn of(error: &lapin::Error) -> Option<Self> {
        let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
        Self::read(refusal.get_id(), refusal.get_message().as_str())
    }

    fn read(code: u16, text: &str) -> Option<Self> {
        match code {
            406 => {
                let (_, rest) = text.split_once("message size ")?;
                let (size, rest) = rest.split_once(' ')?;
                let limit = rest.rsplit(' ').next()?;
                Some(Self::TooLarge { size: size.parse().ok()?, limit: limit.parse().ok()? })
            }
            403 => match text.split_once("access to topic '") {
                Some((_, rest)) => {
                    let topic = rest.split_once("' in exchange").map(|(topic, _)| topic.to_owned());
                    Some(Self::Topic(topic))
                }
                None => text.contains("access to exchange '").then_some(Self::Exchange),
            },
            _ => None,
        }
    }

    /// What becomes of the messages that were not confirmed, in the order in which they were
    /// published. `None` for a call that was taken, and goes on waiting for its reply.
    /// `confirmed_before` is whether the channel ever took a message.
    pub(super) fn answers(&self, sent: &[Sent], confirmed_before: bool) -> Vec<Option<Answer>> {
        if *self == Self::Exchange {
            // Each was refused, or dropped after the first that was: unless the permission was
            // taken away while messages were on their way.
            let outcomes = std::iter::once(Outcome::Rejected)
                .chain(std::iter::repeat(Outcome::NotSent))
                .map(|outcome| if confirmed_before { Outcome::Unknown } else { outcome });
            return sent.iter().zip(outcomes).map(|(_, outcome)| self.answer(outcome)).collect();
        }
        let refused = sent.iter().position(|sent| self.is_about(sent.size, sent.key));
        let Some(refused) = refused.or((sent.len() == 1).then_some(0)) else {
            return sent.iter().map(|_| Some(Answer::Lost { sent: true })).collect();
        };
        let fate = |(index, sent): (usize, &Sent)| match index.cmp(&refused) {
            std::cmp::Ordering::Less => match sent.on_ack {
                OnAck::Wait | OnAck::Tell(_) => None,
                OnAck::Confirmed => Some(Answer::Lost { sent: true }),
            },
            std::cmp::Ordering::Equal => self.answer(Outcome::Rejected),
            std::cmp::Ordering::Greater if self.is_about(sent.size, sent.key) => {
                self.answer(Outcome::NotSent)
            }
            std::cmp::Ordering::Greater => Some(Answer::Dropped),
        };
        sent.iter().enumerate().map(fate).collect()
    }

    fn is_about(&self, size: usize, key: u64) -> bool {
        match self {
            Self::TooLarge { size: refused, .. } => size == *refused,
            Self::Topic(topic) => topic.as_deref().is_some_and(|topic| fingerprint(topic) == key),
            Self::Exchange => true,
        }
    }

    fn answer(&self, outcome: Outcome) -> Option<Answer> {
        Some(match *self {
            Self::TooLarge { size, limit } => Answer::TooLarge { size, limit, outcome },
            Self::Topic(_) | Self::Exchange => Answer::Denied { outcome },
        })
    }
}

/// What the broker has refused, so that it is not tried again at once.
pub(super) struct Refusals {
    largest: usize,
    exchange: Option<Instant>,
    topics: HashMap<String, Instant>,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self { largest: usize::MAX, exchange: None, topics: HashMap::new() }
    }

    /// Remembers what was refused. True if it was not known before.
    pub(super) fn remember(&mut self, refusal: &Refusal) -> bool {
        let until = Instant::now() + DENIED_FOR;
        match refusal {
            Refusal::TooLarge { limit, .. } => {
                std::mem::replace(&mut self.largest, *limit) != *limit
            }
            Refusal::Exchange => self.exchange.replace(until).is_none(),
            Refusal::Topic(Some(topic)) => {
                if self.topics.len() >= MOST_TOPICS && !self.topics.contains_key(topic) {
                    self.topics.clear();
                }
                self.topics.insert(topic.clone(), until).is_none()
            }
            Refusal::Topic(None) => true,
        }
    }

    /// The answer for a message that the broker would refuse.
    pub(super) fn answer(&self, routing_key: &str, size: usize) -> Option<Answer> {
        let outcome = Outcome::NotSent;
        if size > self.largest {
            return Some(Answer::TooLarge { size, limit: self.largest, outcome });
        }
        if self.exchange.is_none() && self.topics.is_empty() {
            return None;
        }
        let until = self.topics.get(routing_key).copied().max(self.exchange)?;
        (Instant::now() < until).then_some(Answer::Denied { outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "ACCESS_REFUSED - access to topic 'a.b' in exchange 'nameko-rpc' in vhost '/' refused for user 'now'";

    fn sent(key: &str, size: usize, on_ack: OnAck) -> Sent {
        Sent { id: 0, size, key: fingerprint(key), on_ack }
    }

    #[test]
    fn the_brokers_words() {
        let large = Some(Refusal::TooLarge { size: 102_400, limit: 65_536 });
        let exchange = "access to exchange 'nameko-rpc' in vhost '/' refused for user 'now'";
        let cut_off = format!("ACCESS_REFUSED - access to topic 'a.{}", "x".repeat(200));
        for (code, text, expected) in [
            (
                406,
                "PRECONDITION_FAILED - message size 102400 is larger than configured max size 65536",
                large.clone(),
            ),
            (406, "message size 102400 is larger than max size 65536", large),
            (406, "PRECONDITION_FAILED - invalid expiration", None),
            (406, "message size x is larger than max size y", None),
            (403, TOPIC, Some(Refusal::Topic(Some("a.b".to_owned())))),
            (403, cut_off.as_str(), Some(Refusal::Topic(None))),
            (403, exchange, Some(Refusal::Exchange)),
            (403, &format!("ACCESS_REFUSED - write {exchange}"), Some(Refusal::Exchange)),
            (403, "ACCESS_REFUSED - Login was refused", None),
            (404, "NOT_FOUND - no exchange 'nameko-rpc' in vhost '/'", None),
        ] {
            assert_eq!(Refusal::read(code, text), expected, "{text}");
        }
    }

    #[test]
    fn each_message_gets_what_is_known_about_it() {
        let refusal = Refusal::TooLarge { size: 9, limit: 5 };
        let sent = [
            sent("a.a", 1, OnAck::Wait),
            sent("a.a", 2, OnAck::Confirmed),
            sent("a.b", 9, OnAck::Wait),
            sent("a.a", 3, OnAck::Wait),
            sent("a.a", 9, OnAck::Confirmed),
        ];
        let answers = refusal.answers(&sent, true);
        assert!(answers[0].is_none(), "it was taken, and is answered");
        assert!(matches!(answers[1], Some(Answer::Lost { sent: true })));
        let large = |answer: &Option<Answer>| match answer {
            Some(Answer::TooLarge { size: 9, limit: 5, outcome }) => Some(*outcome),
            _ => None,
        };
        assert_eq!(large(&answers[2]), Some(Outcome::Rejected));
        assert!(matches!(answers[3], Some(Answer::Dropped)));
        assert_eq!(large(&answers[4]), Some(Outcome::NotSent));
    }

    #[test]
    fn a_denied_topic_is_known_by_its_key_or_by_being_alone() {
        let refusal = Refusal::Topic(Some("a.b".to_owned()));
        let two = [sent("a.a", 1, OnAck::Wait), sent("a.b", 1, OnAck::Wait)];
        let answers = refusal.answers(&two, true);
        assert!(answers[0].is_none());
        assert!(matches!(answers[1], Some(Answer::Denied { outcome: Outcome::Rejected })));
        let unnamed = Refusal::Topic(None);
        let answers = unnamed.answers(&two, true);
        assert!(answers.iter().all(|answer| matches!(answer, Some(Answer::Lost { sent: true }))));
        let answers = unnamed.answers(&two[..1], true);
        assert!(matches!(answers[0], Some(Answer::Denied { outcome: Outcome::Rejected })));
    }

    #[test]
    fn a_denied_exchange_denies_all() {
        let two = [sent("a.a", 1, OnAck::Wait), sent("a.b", 1, OnAck::Confirmed)];
        for (before, outcomes) in [
            (false, [Outcome::Rejected, Outcome::NotSent]),
            (true, [Outcome::Unknown, Outcome::Unknown]),
        ] {
            for (answer, expected) in Refusal::Exchange.answers(&two, before).iter().zip(outcomes) {
                let Some(Answer::Denied { outcome }) = answer else { panic!("{answer:?}") };
                assert_eq!(*outcome, expected);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_remembered_for_a_while() {
        let mut refusals = Refusals::new();
        assert!(refusals.answer("a.b", usize::MAX).is_none());
        let topic = Refusal::Topic(Some("a.b".to_owned()));
        assert!(refusals.remember(&topic));
        assert!(refusals.answer("a.b", 1).is_some() && refusals.answer("a.c", 1).is_none());
        tokio::time::advance(DENIED_FOR).await;
        assert!(refusals.answer("a.b", 1).is_none());
        assert!(!refusals.remember(&topic), "it has been said");
        assert!(refusals.remember(&Refusal::Exchange));
        assert!(refusals.answer("a.c", 1).is_some());
        assert!(refusals.remember(&Refusal::TooLarge { size: 9, limit: 5 }));
        assert!(matches!(refusals.answer("a.c", 6), Some(Answer::TooLarge { size: 6, .. })));
        for n in 0..3 * MOST_TOPICS {
            refusals.remember(&Refusal::Topic(Some(n.to_string())));
            assert!(refusals.topics.len() <= MOST_TOPICS);
        }
    }
}
