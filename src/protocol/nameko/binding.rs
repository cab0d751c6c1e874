//! A queue's binding, and how it is kept.
//!
//! Nobody tells who consumes a queue that its binding has gone: by an exchange that was deleted and declared
//! anew, or by an operator's hand. So a queue is bound again and again, which changes nothing where it is. Where
//! there is no exchange any more, the broker closes the channel.

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueBindOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::time::sleep;

/// How often a queue of calls is bound again: their callers are told.
pub(super) const CALLS: Duration = Duration::from_secs(8);

/// By which key a queue hears of an exchange.
pub(super) struct Binding {
    pub(super) queue: ShortString,
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
}

impl Binding {
    pub(super) async fn bind(&self, channel: &Channel) -> lapin::Result<()> {
        let Self { queue, exchange, key } = self;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone(), exchange.clone(), key.clone(), options, none).await
    }

    /// Binds again after each pause, as long as it is by then, which is up to half as much longer at random: not all queues of all gateways at
    /// once, since it is a write that a cluster has to agree on. Ends where it fails: the channel is closed.
    pub(super) async fn keep(
        &self,
        channel: &Channel,
        pause: impl Fn() -> Duration,
    ) -> lapin::Error {
        loop {
            sleep(pause().mul_f64(1.0 + fastrand::f64() / 2.0)).await;
            if let Err(error) = self.bind(channel).await {
                return error;
            }
        }
    }
}
