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

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, FuturesUnordered};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, ConnectionStatus, Event};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::connection::End;
use super::pending::{Answer, Pending};
use crate::metrics::UpstreamMetrics;

/// How many messages wait for the publisher before their callers do.
pub(super) const QUEUE: usize = 256;
/// How many messages may be unconfirmed before the publisher takes no more.
const MOST_UNCONFIRMED: usize = 4_096;
/// How often the connection is looked at, besides its events.
const LOOK: Duration = Duration::from_secs(1);

/// A message that is ready to go.
pub(super) struct Outgoing {
    pub(super) id: u64,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    /// Whether somebody waits for the confirm, not for a reply.
    pub(super) notification: bool,
}

/// A publish whose confirm has come.
struct Confirmed {
    id: u64,
    notification: bool,
    outcome: lapin::Result<Confirmation>,
}

/// What the publisher works with.
pub(super) struct Publisher {
    pub(super) events: BoxStream<'static, Event>,
    pub(super) connection: ConnectionStatus,
    pub(super) channel: Channel,
    pub(super) exchange: ShortString,
    pub(super) queue: mpsc::Receiver<Outgoing>,
    pub(super) pending: Arc<Pending>,
    pub(super) metrics: UpstreamMetrics,
    pub(super) end: End,
}

impl Publisher {
    /// Publishes until the generation ends.
    pub(super) async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unconfirmed = FuturesUnordered::new();
        let mut acked = Vec::new();
        let mut batch = Vec::new();
        loop {
            let room = MOST_UNCONFIRMED.saturating_sub(unconfirmed.len()).min(QUEUE);
            tokio::select! {
                biased;
                () = self.end.wait() => break,
                Some(confirmed) = unconfirmed.next(), if !unconfirmed.is_empty() => {
                    self.confirmed(confirmed, &mut acked);
                }
                // After two looks without a finding: `FuturesUnordered` may hold work back once.
                () = tokio::task::yield_now(), if !acked.is_empty() => {
                    for id in acked.drain(..) {
                        self.pending.end(id, Answer::Confirmed);
                    }
                }
                event = self.events.next() => self.event(event),
                _ = look.tick() => self.look(),
                taken = self.queue.recv_many(&mut batch, room), if room > 0 => {
                    if taken == 0 {
                        self.end.because("its publisher has nobody left to publish for");
                    }
                    // Whoever else is about to call gets its turn first: lapin's thread is woken
                    // once for all of them.
                    tokio::task::yield_now().await;
                    while batch.len() < room && let Ok(message) = self.queue.try_recv() {
                        batch.push(message);
                    }
                    for message in batch.drain(..) {
                        if self.may_go(message.id) {
                            let channel = self.channel.clone();
                            unconfirmed.push(publish(channel, self.exchange.clone(), message));
                        }
                    }
                }
            }
        }
        self.queue.close();
        while let Ok(message) = self.queue.try_recv() {
            self.pending.end(message.id, Answer::Lost { sent: false });
        }
    }

    /// Whether a message still has somebody who waits for it, and a broker that would take it.
    fn may_go(&self, id: u64) -> bool {
        if self.connection.blocked() {
            self.pending.end(id, Answer::Refused);
            return false;
        }
        self.pending.sending(id)
    }

    fn confirmed(&self, confirmed: Confirmed, acked: &mut Vec<u64>) {
        let Confirmed { id, notification, outcome } = confirmed;
        let returned = match outcome {
            Ok(Confirmation::Ack(returned)) => {
                if notification {
                    acked.push(id);
                }
                returned
            }
            Ok(Confirmation::Nack(returned)) => {
                self.pending.end(id, Answer::Refused);
                returned
            }
            Ok(Confirmation::NotRequested) => None,
            Err(error) => {
                self.end.because(format!("a message could not be published: {error}"));
                None
            }
        };
        if let Some(returned) = returned {
            let correlation_id = returned.delivery.properties.correlation_id().as_ref();
            let correlation_id = correlation_id.map(ShortString::as_str);
            self.pending.end_by_correlation(correlation_id, Answer::Unroutable);
        }
    }

    fn event(&self, event: Option<Event>) {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(%reason, "rabbitmq takes no messages: calls are refused meanwhile");
                self.metrics.set_up(false);
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("rabbitmq takes messages again");
                self.metrics.set_up(true);
            }
            // The only channel of this connection is ours: without it there is no publishing.
            Some(Event::Error(error)) => self.end.because(error.to_string()),
            Some(_) => self.look(),
            None => self.end.because("the publish connection is gone"),
        }
    }

    /// Not every way to lose a connection makes an event.
    fn look(&self) {
        if !self.connection.connected() || !self.channel.status().connected() {
            self.end.because("the publish connection is closed");
        }
    }
}

async fn publish(channel: Channel, exchange: ShortString, message: Outgoing) -> Confirmed {
    let Outgoing { id, routing_key, properties, body, notification } = message;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let published = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
    drop(body);
    let outcome = match published {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    Confirmed { id, notification, outcome }
}
