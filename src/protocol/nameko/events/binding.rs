//! A source's queue: how it is made, bound to its exchange, and kept bound.
//!
//! Nobody tells who listens that an exchange was deleted: its queues stay, and hear nothing any more. So they are
//! bound again and again, which changes nothing where they are. Where there is no exchange, the broker closes the
//! channel, and the queue is set up anew.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Queue};

use super::super::binding::Binding;
use super::super::open::{Sort, declare_over, refused_with};
use super::complaint::{Complaint, Step};
use super::source::{Listening, Open};
use crate::event_port::REPLACED;
use crate::token::random_uuid;

/// How often a queue is bound again: what is published meanwhile is lost.
const AGAIN: Duration = Duration::from_secs(2);
/// How much later for each source that the upstream has: it is work for the broker, and nobody else's.
const EACH: Duration = Duration::from_millis(20);
const NOT_FOUND: u16 = 404;

/// What a queue is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// All that is published.
    All,
    /// What waits in it, and nothing new: it is left unbound, and is not made.
    Rest,
}

impl Listening {
    /// Sets the queue up, and consumes it.
    pub(super) async fn open(&self, prefetch: u16, purpose: Purpose) -> Result<Open, Complaint> {
        let at = |step: Step| move |error: lapin::Error| Complaint::new(step, &error);
        let place = &self.wanted.place;
        let keeps = self.wanted.keeps();
        let queue = match keeps {
            true => place.queue(&self.wanted.source.name),
            false => place.own_queue(&random_uuid()),
        };
        let name = ShortString::from(queue.as_str());
        let mut channel = self.channel().await?;
        if purpose == Purpose::All {
            let was_bound = self.wanted.was_bound.load(Ordering::Acquire);
            let is_anew = keeps && was_bound && self.is_missing(&mut channel, &name).await?;
            channel = self.bind(channel, &queue).await?;
            if !was_bound {
                self.wanted.was_bound.store(true, Ordering::Release);
                if !keeps && self.wanted.source.resumes {
                    self.wanted.source.taker.gap(REPLACED);
                }
                // Who goes waits for that.
                self.events.wanted.send_modify(|_| {});
            }
            if is_anew {
                let reason =
                    "its queue, or its exchange, was deleted: what was published meanwhile is lost";
                self.wanted.source.taker.gap(reason);
            }
        } else {
            passive(&channel, &name).await.map_err(at(Step::Queue))?;
        }
        if keeps {
            let limited = channel.basic_qos(prefetch, BasicQosOptions::default()).await;
            limited.map_err(at(Step::Consume))?;
        }
        let intake = self.intakes.open(channel.id());
        let options = BasicConsumeOptions { no_ack: !keeps, ..Default::default() };
        let consume =
            channel.basic_consume(name, ShortString::default(), options, FieldTable::default());
        match consume.await {
            Ok(consumer) => Ok(Open { channel, consumer, intake, queue }),
            Err(error) => {
                self.intakes.close(channel.id(), &intake);
                Err(Complaint::new(Step::Consume, &error))
            }
        }
    }

    /// Makes the exchange and the queue, and binds it. Gives a channel that is whole.
    async fn bind(&self, mut channel: Channel, queue: &str) -> Result<Channel, Complaint> {
        let at = |step: Step| move |error: lapin::Error| Complaint::new(step, &error);
        let keeps = self.wanted.keeps();
        let (kind, exchange) = self.wanted.place.exchange();
        let exchange = ShortString::from(exchange);
        let connection = &self.transport.connection;
        let sort = kind.declared(self.transport.auto_delete_events);
        let declared = declare_over(connection, channel, &exchange, sort).await;
        channel = declared.map_err(at(Step::Exchange))?;
        let options = match keeps {
            true => QueueDeclareOptions { durable: true, ..Default::default() },
            false => {
                QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() }
            }
        };
        let name = ShortString::from(queue);
        let declared = channel.queue_declare(name.clone(), options, FieldTable::default()).await;
        match declared {
            Ok(_) => {}
            // One that an operator has made, of another type for one, is as good.
            Err(error) if keeps && (refused_with(&error, 403) || refused_with(&error, 406)) => {
                channel = self.channel().await?;
                let found = passive(&channel, &name).await;
                found.map_err(|_| Complaint::new(Step::Queue, &error))?;
                if is_quorum(&error) {
                    self.tell_quorum(queue);
                }
            }
            Err(error) => return Err(Complaint::new(Step::Queue, &error)),
        }
        self.binding(queue).bind(&channel).await.map_err(at(Step::Bind))?;
        Ok(channel)
    }

    fn tell_quorum(&self, queue: &str) {
        tracing::warn!(
            upstream = self.events.metrics.upstream(),
            queue,
            mend = "set `delivery-limit` to -1 for it by a policy (rabbitmqctl set_policy), or delete it when nothing \
                    waits in it: Genkan makes a classic one",
            "a bridge's queue is a quorum queue: rabbitmq may throw away events that it has delivered too often"
        );
    }

    /// How the source's queue hears of its exchange.
    fn binding(&self, queue: &str) -> Binding {
        let place = &self.wanted.place;
        let (exchange, key) = (place.exchange().1.into(), place.binding(queue).into());
        Binding { queue: queue.into(), exchange, key }
    }

    /// Binds the queue again and again. Ends where that fails: the channel is closed.
    pub(super) async fn keep_bound(&self, channel: &Channel, queue: &str) -> Complaint {
        let sources = || u32::try_from(self.events.wanted.borrow().len()).unwrap_or(u32::MAX);
        let pause = || AGAIN.max(EACH.saturating_mul(sources()));
        let error = self.binding(queue).keep(channel, pause).await;
        match refused_with(&error, NOT_FOUND) {
            true => Complaint::plain("its exchange was deleted"),
            false => Complaint::new(Step::Bind, &error),
        }
    }

    /// Whether the queue or its exchange is not there. A channel that is refused is replaced.
    async fn is_missing(
        &self,
        channel: &mut Channel,
        queue: &ShortString,
    ) -> Result<bool, Complaint> {
        let is_missing = match passive(channel, queue).await {
            Ok(_) => false,
            Err(error) => {
                *channel = self.channel().await?;
                refused_with(&error, NOT_FOUND)
            }
        };
        if is_missing {
            return Ok(true);
        }
        let (kind, exchange) = self.wanted.place.exchange();
        let Sort { kind, durable, .. } = kind.declared(self.transport.auto_delete_events);
        let options = ExchangeDeclareOptions { passive: true, durable, ..Default::default() };
        let declare =
            channel.exchange_declare(exchange.into(), kind, options, FieldTable::default());
        let Err(error) = declare.await else { return Ok(false) };
        *channel = self.channel().await?;
        Ok(refused_with(&error, NOT_FOUND))
    }

    pub(super) async fn channel(&self) -> Result<Channel, Complaint> {
        let opened = self.transport.connection.create_channel().await;
        opened.map_err(|error| Complaint::new(Step::Open, &error))
    }
}

/// Whether a queue is refused because there is one of that type.
fn is_quorum(error: &lapin::Error) -> bool {
    let said = error.to_string();
    said.contains("'x-queue-type'") && said.contains("'quorum'")
}

/// What is known of a queue that is there.
pub(super) async fn passive(channel: &Channel, queue: &ShortString) -> lapin::Result<Queue> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await
}
