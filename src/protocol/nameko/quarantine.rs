//! Routing keys of which nobody knows whether they are permitted, once the broker has denied one:
//! they go out apart from the others.
//!
//! For each message that the user may not publish, RabbitMQ closes the channel and drops what was
//! published after it. Names come from callers, so a flood of denied ones, each of them new, would
//! hold everybody up. So after the first denial in a generation, a routing key on which the broker
//! has confirmed nothing yet goes over a connection of its own, one message at a time. Nothing is
//! queued behind it, so that a new channel of the same connection is enough to go on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Confirmation, ConnectionStatus};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::config::{Node, Settings};
use super::generation::{End, Host};
use super::outlet::Outlet;
use super::pauses::Pauses;
use super::pending::{Answer, Pending};
use super::publisher::{Message, STUCK, tell};
use super::refusal::{Refusal, Refusals};
use super::unconfirmed::{OnAck, Sent, fingerprint};

/// How many messages wait to be tried; what comes then is refused.
const QUEUE: usize = 256;
/// How many routing keys are known to be permitted and used lately; as many again, to be used.
const MOST_PROVEN: usize = 2_048;

/// The publisher's side: which messages have to go apart.
pub(super) struct Quarantine {
    /// Whether the broker has denied a topic.
    begun: bool,
    proven: Proven,
    unproven: mpsc::Sender<Message>,
    /// What has proven to be permitted there.
    released: mpsc::Receiver<u64>,
}

/// Makes one, and the task that publishes for it.
pub(super) fn new(host: &Host<'_>, pending: &Arc<Pending>) -> (Quarantine, Examiner) {
    let (unproven, queue) = mpsc::channel(QUEUE);
    let (release, released) = mpsc::channel(QUEUE);
    let quarantine = Quarantine { begun: false, proven: Proven::default(), unproven, released };
    let examiner = Examiner {
        settings: Arc::clone(host.settings),
        node: Arc::clone(host.node),
        exchange: host.settings.exchange.as_str().into(),
        queue,
        release,
        pending: Arc::clone(pending),
        outlet: None,
        pauses: Pauses::default(),
        refusals: Refusals::new(),
        end: host.end.clone(),
    };
    (quarantine, examiner)
}

impl Quarantine {
    /// Notes that the broker has taken a message with this routing key's fingerprint.
    pub(super) fn permitted(&mut self, key: u64) {
        self.proven.note(key);
    }

    /// Begins, with a topic that the broker has denied; `None` where it could be any.
    pub(super) fn denied(&mut self, topic: Option<&str>) {
        self.begun = true;
        match topic {
            Some(topic) => self.proven.forget(fingerprint(topic)),
            None => self.proven = Proven::default(),
        }
    }

    /// Whether a message has to go apart.
    pub(super) fn is_for(&mut self, message: &Message) -> bool {
        if !self.begun {
            return false;
        }
        while let Ok(key) = self.released.try_recv() {
            self.proven.note(key);
        }
        !self.proven.knows(fingerprint(message.routing_key.as_str()))
    }

    /// Takes a message that has to go apart.
    pub(super) fn take(&self, message: Message, pending: &Pending) {
        let (message, answer) = match self.unproven.try_send(message) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(message)) => (message, Answer::Crowded),
            Err(mpsc::error::TrySendError::Closed(message)) => {
                (message, Answer::Lost { sent: false })
            }
        };
        pending.end(message.id, answer);
    }
}

/// Fingerprints of routing keys that are permitted. Those that are used stay, of the others a
/// bounded number.
#[derive(Default)]
struct Proven {
    young: HashSet<u64, RandomState>,
    old: HashSet<u64, RandomState>,
}

impl Proven {
    fn note(&mut self, key: u64) {
        if self.young.contains(&key) {
            return;
        }
        if self.young.len() >= MOST_PROVEN {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }

    fn knows(&self, key: u64) -> bool {
        self.young.contains(&key) || self.old.contains(&key)
    }

    fn forget(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

/// The task that publishes what has to go apart. What happens to its connection ends no generation.
pub(super) struct Examiner {
    settings: Arc<Settings>,
    node: Arc<Node>,
    exchange: ShortString,
    queue: mpsc::Receiver<Message>,
    release: mpsc::Sender<u64>,
    pending: Arc<Pending>,
    /// There is none until something has to go apart.
    outlet: Option<Outlet>,
    pauses: Pauses,
    refusals: Refusals,
    end: End,
}

impl Examiner {
    /// Publishes until the generation ends, which answers what still waits.
    pub(super) async fn run(mut self) {
        let end = self.end.clone();
        tokio::select! {
            () = end.wait() => {}
            () = async {
                while let Some(message) = self.queue.recv().await {
                    self.examine(message).await;
                }
            } => {}
        }
        if let Some(outlet) = self.outlet.take() {
            outlet.close().await;
        }
    }

    /// Publishes a message, and waits until it is known whether that is permitted.
    async fn examine(&mut self, message: Message) {
        let Message { id, routing_key, properties, body, on_ack } = message;
        if let Some(refusal) = self.refusals.answer(routing_key.as_str(), body.len()) {
            self.pending.end(id, refusal);
            return;
        }
        let Some(outlet) = self.ready().await else {
            self.pending.end(id, Answer::Lost { sent: false });
            return;
        };
        if !self.pending.sending(id) {
            self.outlet = Some(outlet);
            return;
        }
        let key = fingerprint(routing_key.as_str());
        let sent = Sent { id, size: body.len(), key, on_ack };
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let exchange = self.exchange.clone();
        let publish = async {
            let published =
                outlet.channel.basic_publish(exchange, routing_key, options, &body, properties);
            published.await?.await
        };
        let outcome = tokio::select! {
            outcome = publish => outcome,
            answer = held_up(&outlet.status, self.settings.connect_timeout) => {
                // With the outlet goes what has not left yet.
                outlet.hold_back();
                self.pending.end(id, answer);
                return;
            }
        };
        match outcome {
            Ok(confirmation) => {
                self.outlet = Some(outlet);
                self.permitted(sent, confirmation);
            }
            Err(error) => {
                let refusal = Refusal::of(&error);
                if refusal.is_some() {
                    self.outlet = Some(outlet);
                }
                self.refused(sent, refusal);
            }
        }
    }

    /// A connection with a channel that takes messages.
    async fn ready(&mut self) -> Option<Outlet> {
        let limit = self.settings.connect_timeout;
        if let Some(outlet) = self.outlet.take()
            && let Ok(Ok(outlet)) = tokio::time::timeout(limit, outlet.renewed()).await
        {
            return Some(outlet);
        }
        tokio::time::sleep(self.pauses.next()).await;
        let node = self.settings.renewed(&self.node);
        let opened = tokio::time::timeout(limit, Outlet::open(&self.settings, &node)).await;
        opened.ok()?.ok()
    }

    fn permitted(&self, sent: Sent, confirmation: Confirmation) {
        // Where it has no room for the news, the key will be tried once more.
        self.release.try_send(sent.key).ok();
        let nacked = matches!(confirmation, Confirmation::Nack(_));
        if confirmation.take_message().is_some() {
            self.pending.end(sent.id, Answer::Unroutable);
        } else if nacked {
            self.pending.end(sent.id, Answer::Nacked);
        } else {
            match sent.on_ack {
                OnAck::Wait => {}
                OnAck::Tell(waiting) => waiting.notify_one(),
                OnAck::Confirmed => {
                    self.pending.end(sent.id, Answer::Confirmed);
                }
            }
        }
    }

    fn refused(&mut self, sent: Sent, refusal: Option<Refusal>) {
        let Some(refusal) = refusal else {
            self.pending.end(sent.id, Answer::Lost { sent: true });
            return;
        };
        let id = sent.id;
        // It was the only one on its channel.
        if let Some(Some(answer)) = refusal.answers(&[sent], false).pop() {
            self.pending.end(id, answer);
        }
        if self.refusals.remember(&refusal) {
            tell(&refusal);
        }
    }
}

/// Waits until the broker takes no messages, or for longer than it may need to take one.
async fn held_up(status: &ConnectionStatus, limit: Duration) -> Answer {
    let by = Instant::now() + limit;
    while !status.blocked() {
        if Instant::now() >= by {
            return Answer::Lost { sent: true };
        }
        tokio::time::sleep(STUCK).await;
    }
    Answer::Stuck
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;

    fn quarantine() -> (Quarantine, mpsc::Receiver<Message>, mpsc::Sender<u64>) {
        let (unproven, queue) = mpsc::channel(QUEUE);
        let (release, released) = mpsc::channel(QUEUE);
        let proven = Proven::default();
        (Quarantine { begun: false, proven, unproven, released }, queue, release)
    }

    fn message(id: u64, key: &str) -> Message {
        Message {
            id,
            routing_key: key.into(),
            properties: BasicProperties::default(),
            body: Vec::new(),
            on_ack: OnAck::Wait,
        }
    }

    #[test]
    fn only_what_is_not_known_to_be_permitted_goes_apart_and_only_after_a_denial() {
        let (mut quarantine, _queue, release) = quarantine();
        quarantine.permitted(fingerprint("a.a"));
        assert!(!quarantine.is_for(&message(1, "a.b")));
        quarantine.denied(Some("b.b"));
        assert!(quarantine.is_for(&message(1, "a.b")) && !quarantine.is_for(&message(1, "a.a")));
        release.try_send(fingerprint("a.b")).unwrap();
        assert!(!quarantine.is_for(&message(1, "a.b")));
        quarantine.denied(Some("a.a"));
        assert!(quarantine.is_for(&message(1, "a.a")) && !quarantine.is_for(&message(1, "a.b")));
        quarantine.denied(None);
        assert!(quarantine.is_for(&message(1, "a.b")));
    }

    #[tokio::test]
    async fn beyond_its_bound_the_queue_takes_nothing() {
        let (quarantine, queue, _release) = quarantine();
        let pending = Pending::new();
        for id in 0..QUEUE as u64 {
            quarantine.take(message(1_000 + id, "a.b"), &pending);
        }
        let (seat, wait) = pending.enter().unwrap();
        quarantine.take(message(seat.id(), "a.b"), &pending);
        assert!(matches!(wait.await, Ok(Answer::Crowded)));
        drop(queue);
        let (seat, wait) = pending.enter().unwrap();
        quarantine.take(message(seat.id(), "a.b"), &pending);
        assert!(matches!(wait.await, Ok(Answer::Lost { sent: false })));
    }

    #[test]
    fn what_is_used_stays_known_however_much_comes_and_goes() {
        let mut proven = Proven::default();
        for key in 1..20 * MOST_PROVEN as u64 {
            proven.note(0);
            proven.note(key);
            assert!(proven.knows(0) && proven.knows(key));
        }
        assert!(proven.young.len() + proven.old.len() <= 2 * MOST_PROVEN && !proven.knows(1));
    }
}
