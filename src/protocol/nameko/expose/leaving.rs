//! What becomes of the queue of a service that is not to be exposed any more.
//!
//! Left as it is, it would go on taking calls, and their callers wait for ever where they would else learn at
//! once that there is no such service. So it is deleted, where nobody consumes it and nothing waits in it: a real
//! instance that starts makes it again. Else somebody has to look at it, and is told.

use lapin::Connection;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::time::timeout;

use super::super::open::refused_with;
use super::super::transport::Transport;
use super::service::{CANCEL, Service};
use crate::redact::scrub;

const PRECONDITION_FAILED: u16 = 406;

/// What was found.
enum Queue {
    Deleted,
    /// Somebody else serves it.
    Consumed,
    /// Nobody does, and it stays; why.
    Left(String),
}

fn left(error: &lapin::Error) -> Queue {
    Queue::Left(scrub(&error.to_string()).into_owned())
}

impl Service {
    /// Deletes the queue, or tells that it is left. Nobody consumes it here.
    pub(super) async fn leave_queue(&self) {
        let silent = |_| Queue::Left("rabbitmq does not answer".to_owned());
        let found = timeout(CANCEL, self.delete_queue()).await.unwrap_or_else(silent);
        let (upstream, service) = (self.desk.exposes.metrics.upstream(), &self.desk.expose.service);
        let queue = self.queue();
        match found {
            Queue::Deleted => {
                tracing::info!(
                    upstream,
                    service,
                    queue,
                    "not exposed any more: its queue is deleted"
                );
            }
            Queue::Consumed => {
                tracing::info!(upstream, service, queue, "not exposed any more: others serve it");
            }
            Queue::Left(reason) => self.desk.exposes.tell_left(&self.desk.expose, &reason),
        }
    }

    /// Over a connection of its own: what RabbitMQ cannot do, to delete a quorum queue if it is empty, ends the
    /// connection, and with it all that others take over theirs.
    async fn delete_queue(&self) -> Queue {
        let settings = &self.desk.exposes.settings;
        let node = settings.renewed(&self.node);
        match Transport::open(settings, &node, "leave").await {
            Ok(transport) => {
                let found = self.delete_over(&transport.connection).await;
                transport.close().await;
                found.unwrap_or_else(|error| left(&error))
            }
            Err(error) => left(&error),
        }
    }

    async fn delete_over(&self, connection: &Connection) -> lapin::Result<Queue> {
        let name = ShortString::from(self.queue());
        let channel = connection.create_channel().await?;
        let options = QueueDeleteOptions { if_unused: true, if_empty: true, ..Default::default() };
        let Err(error) = channel.queue_delete(name.clone(), options).await else {
            return Ok(Queue::Deleted);
        };
        if !refused_with(&error, PRECONDITION_FAILED) {
            return Err(error);
        }
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = channel.queue_declare(name, passive, FieldTable::default()).await?;
        Ok(match queue.consumer_count() {
            0 => Queue::Left(format!("{} calls wait in it", queue.message_count())),
            _ => Queue::Consumed,
        })
    }
}
