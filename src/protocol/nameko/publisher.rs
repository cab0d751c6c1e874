//! The task that owns a generation's publish channel.
//!
//! Only one task may publish on a channel of lapin's: it numbers a message for its confirm and
//! queues its frames in two steps, so two tasks could swap them, and a nack would hit another
//! call than its own. The task also waits for the confirms, so that a caller who goes away
//! leaves nothing behind in lapin.
//!
//! lapin hangs a returned message on whichever confirm completes next (WIRE 7.1). So a return
//! ends the call that the returned message names, never the one whose confirm carried it; and
//! an ack ends a notification only after every confirm that was complete by then has been looked
//! at, because one of those may carry the notification's return.
//!
//! A message that the broker refuses closes the channel. Replies come over another connection, so
//! calls that wait for theirs need not know: the publisher sorts out what became of the messages
//! that were not confirmed ([`refusal`](super::refusal)), and goes on over a new connection. Not
//! over a new channel of the old one: lapin sends what was queued for the closed one after its
//! close has been agreed upon, which the broker takes for a broken connection. Who brings a name
//! after the other that is denied does not get there again ([`quarantine`](super::quarantine)).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation, Event};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::config::{Node, Settings};
use super::generation::{End, Host};
use super::outlet::Outlet;
use super::pauses::Pauses;
use super::pending::{Answer, Pending};
use super::pulse;
use super::quarantine::Quarantine;
use super::refusal::{Refusal, Refusals};
use super::transport::is_goodbye;
use super::unconfirmed::{OnAck, Sent, Unconfirmed, fingerprint};
use crate::batch::gather;
use crate::metrics::UpstreamMetrics;

/// How many messages wait for the publisher before their callers do.
pub(super) const QUEUE: usize = 256;
/// How many messages may be unconfirmed before the publisher takes no more.
const MOST_UNCONFIRMED: usize = 4_096;
/// How often the connection is looked at, besides its events.
const LOOK: Duration = Duration::from_secs(1);
/// How long after the broker has stopped to take messages those that it took are confirmed.
pub(super) const STUCK: Duration = Duration::from_millis(250);
/// How long a closed channel has to say so for each of its messages.
const SETTLE: Duration = Duration::from_secs(1);

/// A message that is ready to go.
pub(super) struct Message {
    pub(super) id: u64,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    pub(super) on_ack: OnAck,
}

/// A publish whose confirm has come.
struct Confirmed {
    place: usize,
    outcome: lapin::Result<Confirmation>,
}

/// The channel takes no more messages; why, where that is known.
struct Lost(Option<lapin::Error>);

/// What the publisher works with.
pub(super) struct Publisher {
    settings: Arc<Settings>,
    node: Arc<Node>,
    outlet: Outlet,
    exchange: ShortString,
    queue: mpsc::Receiver<Message>,
    pending: Arc<Pending>,
    unconfirmed: Unconfirmed,
    acked: Vec<(u64, OnAck)>,
    /// Whether this outlet has ever taken a message.
    has_taken: bool,
    refusals: Refusals,
    quarantine: Quarantine,
    pauses: Pauses,
    /// Whether the broker takes no messages, for want of memory or disk.
    blocked: Arc<AtomicBool>,
    look: Interval,
    /// Whether the broker is still there: it has been asked.
    asked: Option<BoxFuture<'static, bool>>,
    metrics: UpstreamMetrics,
    end: End,
}

impl Publisher {
    pub(super) fn new(
        host: &Host<'_>,
        outlet: Outlet,
        queue: mpsc::Receiver<Message>,
        pending: Arc<Pending>,
        blocked: Arc<AtomicBool>,
        quarantine: Quarantine,
    ) -> Self {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            exchange: host.settings.exchange.as_str().into(),
            settings: Arc::clone(host.settings),
            node: Arc::clone(host.node),
            outlet,
            queue,
            pending,
            unconfirmed: Unconfirmed::default(),
            acked: Vec::new(),
            has_taken: false,
            refusals: Refusals::new(),
            quarantine,
            pauses: Pauses::default(),
            blocked,
            look,
            asked: None,
            metrics: host.metrics.clone(),
            end: host.end.clone(),
        }
    }

    /// Publishes until the generation ends.
    pub(super) async fn run(mut self) {
        let mut confirms = FuturesUnordered::new();
        let mut batch = Vec::new();
        loop {
            let room = MOST_UNCONFIRMED.saturating_sub(confirms.len()).min(QUEUE);
            let lost = tokio::select! {
                biased;
                () = self.end.wait() => break,
                Some(confirmed) = confirms.next(), if !confirms.is_empty() => {
                    self.confirmed(confirmed)
                }
                // After two looks without a finding: `FuturesUnordered` may hold work back once.
                () = tokio::task::yield_now(), if !self.acked.is_empty() => {
                    self.acknowledge();
                    None
                }
                event = self.outlet.events.next() => self.event(event),
                _ = self.look.tick() => self.look(),
                answers = answer(&mut self.asked), if self.asked.is_some() => {
                    self.asked = None;
                    if !answers {
                        self.end.because("rabbitmq confirms nothing, and does not answer");
                    }
                    None
                }
                taken = self.queue.recv_many(&mut batch, room), if room > 0 => {
                    if taken == 0 {
                        self.end.because("its publisher has nobody left to publish for");
                    }
                    // lapin's thread is woken, and the broker reads, once for all of them.
                    gather(&mut batch, &mut self.queue, room).await;
                    for message in batch.drain(..) {
                        if self.refuses(&message) {
                            continue;
                        }
                        if self.quarantine.is_for(&message) {
                            self.quarantine.take(message, &self.pending);
                        } else if self.pending.sending(message.id) {
                            confirms.push(self.publish(message));
                        }
                    }
                    None
                }
            };
            if let Some(lost) = lost {
                self.lost(lost, &mut confirms).await;
            }
        }
        self.queue.close();
        while let Ok(message) = self.queue.try_recv() {
            self.pending.end(message.id, Answer::Lost { sent: false });
        }
        self.outlet.close().await;
    }

    /// Whether a message goes nowhere, because the broker would not take it.
    fn refuses(&self, message: &Message) -> bool {
        let refusal = if self.outlet.status.blocked() {
            Some(Answer::NotTaken)
        } else {
            self.refusals.answer(message.routing_key.as_str(), message.body.len())
        };
        let Some(refusal) = refusal else { return false };
        if matches!(refusal, Answer::TooLarge { .. }) {
            self.metrics.refused("large_message");
        }
        self.pending.end(message.id, refusal);
        true
    }

    /// Publishes a message, and waits for its confirm.
    fn publish(&mut self, message: Message) -> impl Future<Output = Confirmed> + use<> {
        let Message { id, routing_key, properties, body, on_ack } = message;
        let key = fingerprint(routing_key.as_str());
        let place = self.unconfirmed.put(Sent { id, size: body.len(), key, on_ack });
        let (channel, exchange) = (self.outlet.channel.clone(), self.exchange.clone());
        async move {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            let published =
                channel.basic_publish(exchange, routing_key, options, &body, properties).await;
            drop(body);
            let outcome = match published {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            Confirmed { place, outcome }
        }
    }

    fn confirmed(&mut self, confirmed: Confirmed) -> Option<Lost> {
        let Confirmed { place, outcome } = confirmed;
        let returned = match outcome {
            // It stays where it is, to be sorted out with the others.
            Err(error) => return Some(Lost(Some(error))),
            Ok(confirmation) => {
                self.has_taken = true;
                let sent = self.unconfirmed.take(place);
                if let Some(sent) = &sent {
                    self.quarantine.permitted(sent.key);
                }
                match (confirmation, sent) {
                    (Confirmation::Ack(returned), Some(Sent { on_ack: OnAck::Wait, .. })) => {
                        returned
                    }
                    (Confirmation::Ack(returned), Some(Sent { id, on_ack, .. })) => {
                        self.acked.push((id, on_ack));
                        returned
                    }
                    (Confirmation::Nack(returned), Some(Sent { id, .. })) => {
                        self.pending.end(id, Answer::Nacked);
                        returned
                    }
                    (confirmation, _) => confirmation.take_message(),
                }
            }
        };
        if let Some(returned) = returned {
            let correlation_id = returned.delivery.properties.correlation_id().as_ref();
            let correlation_id = correlation_id.map(ShortString::as_str);
            self.pending.end_by_correlation(correlation_id, Answer::Unroutable);
        }
        None
    }

    /// Acts upon acks, once no return can come any more for what was acked.
    fn acknowledge(&mut self) {
        for (id, on_ack) in self.acked.drain(..) {
            match on_ack {
                OnAck::Wait => {}
                OnAck::Tell(waiting) => waiting.notify_one(),
                OnAck::Confirmed => {
                    self.pending.end(id, Answer::Confirmed);
                }
            }
        }
    }

    fn event(&mut self, event: Option<Event>) -> Option<Lost> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(%reason, "rabbitmq takes no messages: calls are refused meanwhile");
                self.asked = None;
                self.metrics.set_up(false);
                self.blocked.store(true, Ordering::Relaxed);
                self.look.reset_after(STUCK);
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("rabbitmq takes messages again");
                if self.outlet.holds_back() {
                    return Some(Lost(None));
                }
                self.blocked.store(false, Ordering::Relaxed);
                self.metrics.set_up(true);
            }
            Some(Event::Error(error)) => return Some(Lost(Some(error))),
            Some(_) => return self.look(),
            None => return Some(Lost(None)),
        }
        None
    }

    /// Not every way to lose a connection makes an event.
    fn look(&mut self) -> Option<Lost> {
        if self.blocked.load(Ordering::Relaxed) {
            // RabbitMQ says that it is blocked when the next message has come. That one, and what
            // followed it, is taken only once the alarm is over. Then nobody waits for it any more, and
            // its expiration counts from there: what is still on this side is not to leave.
            for sent in self.unconfirmed.iter() {
                self.pending.end(sent.id, Answer::Stuck);
            }
            if !self.unconfirmed.is_empty() {
                self.outlet.hold_back();
            }
        }
        if self.asked.is_none() && !self.unconfirmed.is_empty() && self.outlet.heard().is_quiet() {
            // One that is blocked reads nothing: it says so, and is not asked.
            let blocked = self.blocked.load(Ordering::Relaxed);
            self.asked = (!blocked).then(|| pulse::answers(self.outlet.channel.clone()).boxed());
        }
        let open = self.outlet.status.connected() && self.outlet.channel.status().connected();
        (!open).then_some(Lost(None))
    }

    /// Ends the generation, or, where the broker has refused a message, no more than it must.
    async fn lost<F: Future<Output = Confirmed>>(
        &mut self,
        Lost(error): Lost,
        confirms: &mut FuturesUnordered<F>,
    ) {
        if self.outlet.holds_back() {
            // Everybody has been told.
            confirms.clear();
            self.unconfirmed.drain();
            self.reopen().await;
            return;
        }
        let mut refusal = error.as_ref().and_then(Refusal::of);
        let mut goodbye = error.as_ref().is_some_and(is_goodbye);
        let settle = async {
            while let Some(confirmed) = confirms.next().await {
                if let Some(Lost(Some(error))) = self.confirmed(confirmed) {
                    goodbye |= is_goodbye(&error);
                    refusal = refusal.take().or_else(|| Refusal::of(&error));
                }
            }
        };
        let settled = tokio::time::timeout(SETTLE, settle).await;
        tracing::debug!(settled = settled.is_ok(), ?refusal, "the publish channel is closed");
        confirms.clear();
        self.acknowledge();
        if refusal.is_none()
            && !goodbye
            && let Some(cause) = self.outlet.cause(SETTLE).await
        {
            goodbye = is_goodbye(&cause);
            refusal = Refusal::of(&cause);
        }
        let Some(refusal) = refusal else {
            if goodbye {
                self.part().await;
                return;
            }
            match error {
                Some(error) => self.end.because_of("messages cannot be published", &error),
                None => self.end.because("the publish connection is closed"),
            }
            return;
        };
        let sent = self.unconfirmed.drain();
        let answers = refusal.answers(&sent, self.has_taken);
        for (sent, answer) in sent.into_iter().zip(answers) {
            if let Some(answer) = answer {
                self.pending.end(sent.id, answer);
            }
        }
        if let Refusal::Topic(topic) = &refusal {
            self.quarantine.denied(topic.as_deref());
        }
        if self.refusals.remember(&refusal) {
            tell(&refusal);
        }
        self.reopen().await;
    }

    /// Goes on after an operator has closed this connection alone: replies come over another one.
    async fn part(&mut self) {
        let upstream = self.metrics.upstream();
        tracing::info!(
            upstream,
            "an operator closes the connection to publish on: opening another"
        );
        for sent in self.unconfirmed.drain() {
            self.pending.end(sent.id, Answer::Lost { sent: true });
        }
        self.reopen().await;
    }

    /// Goes on over a new connection.
    async fn reopen(&mut self) {
        let pause = self.pauses.next();
        let limit = self.settings.connect_timeout;
        let node = self.settings.renewed(&self.node);
        let open = async {
            tokio::time::sleep(pause).await;
            tokio::time::timeout(limit, Outlet::open(&self.settings, &node)).await
        };
        let opened = tokio::select! {
            () = self.end.wait() => return,
            opened = open => opened,
        };
        match opened {
            Ok(Ok(outlet)) => {
                std::mem::replace(&mut self.outlet, outlet).close().await;
                self.has_taken = false;
                self.asked = None;
                self.blocked.store(false, Ordering::Relaxed);
                self.metrics.set_up(true);
            }
            Ok(Err(error)) => self.end.because_of("no new connection to publish on", &error),
            Err(_) => {
                self.end.because(format!("no new connection to publish on within {limit:?}"));
            }
        }
    }
}

/// Waits for what was asked.
async fn answer(asked: &mut Option<BoxFuture<'static, bool>>) -> bool {
    match asked {
        Some(asked) => asked.await,
        None => true,
    }
}

/// Tells the operator what the broker refuses, once.
pub(super) fn tell(refusal: &Refusal) {
    match refusal {
        Refusal::TooLarge { size, limit } => tracing::warn!(
            size,
            limit,
            mend = "raise `max_message_size` in the broker's rabbitmq.conf, or lower `max_body`",
            "rabbitmq takes no messages of that size: their callers are told"
        ),
        Refusal::Topic(topic) => tracing::warn!(
            topic,
            mend = "let Genkan's user write to it with rabbitmqctl set_topic_permissions, or take \
                    it out of the routes",
            "rabbitmq does not let this user publish to a topic: its callers are told"
        ),
        Refusal::Exchange => tracing::warn!(
            mend = "let Genkan's user write to the exchange with rabbitmqctl set_permissions",
            "rabbitmq does not let this user publish: callers are told"
        ),
    }
}
