//! Events on RabbitMQ, in both directions: real Nameko services and dispatchers, Gemstone's, and what no
//! library would do.

mod bindings;
mod delivery;
mod gemstone;
mod leaving;
mod lifecycle;
mod limits;
mod names;
mod odd;
mod peers;
mod replaced;

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer, ExchangeKind};
use serde_json::Value;
use tokio::time::timeout;

use crate::harness::process::PATIENCE;
use crate::harness::responder::connect;
use crate::harness::{Gateway, eventually};

/// A row.
pub fn bridge(from: &str, to: &str, more: &str) -> String {
    format!("[[bridges]]\nfrom = \"{from}\"\nto = [\"{to}\"]\n{more}\n")
}

/// Waits until so many sources have been listened to.
pub async fn listened(gateway: &Gateway, times: usize) {
    eventually(&format!("events are taken ({times})"), async || {
        (gateway.logged("taking events").len() >= times).then_some(())
    })
    .await;
}

/// What is published where a library would not be so odd, and what arrives.
pub struct Peer {
    _connection: Connection,
    pub channel: Channel,
}

/// An event as it arrived.
#[derive(Debug)]
pub struct Arrived {
    pub body: Value,
    pub properties: BasicProperties,
    pub tag: u64,
}

impl Arrived {
    /// The id that it carries.
    #[track_caller]
    pub fn id(&self) -> String {
        let id = self.properties.message_id().as_ref();
        id.unwrap_or_else(|| panic!("no id: {self:?}")).to_string()
    }
}

impl Peer {
    pub async fn connect(url: &str) -> Self {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { _connection: connection, channel }
    }

    /// Declares an exchange as Nameko does its events', unless `kind` says otherwise.
    pub async fn exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declare =
            self.channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        declare.await.expect("an exchange");
    }

    /// Publishes to an exchange, and waits for the confirm.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8]) {
        self.publish_with(exchange, key, body, BasicProperties::default()).await;
    }

    pub async fn publish_with(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) {
        let properties = properties.with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sent =
            self.channel.basic_publish(exchange.into(), key.into(), options, body, properties);
        sent.await.expect("sent").await.expect("confirmed");
    }

    /// A durable queue that is bound to an exchange and consumed.
    pub async fn consume(&self, queue: &str, exchange: &str, key: &str) -> Consumer {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let none = FieldTable::default;
        self.channel.queue_declare(queue.into(), durable, none()).await.expect("a queue");
        if !exchange.is_empty() {
            let bind = QueueBindOptions::default();
            let bound =
                self.channel.queue_bind(queue.into(), exchange.into(), key.into(), bind, none());
            bound.await.expect("a binding");
        }
        let options = BasicConsumeOptions::default();
        let consumer =
            self.channel.basic_consume(queue.into(), ShortString::default(), options, none());
        consumer.await.expect("a consumer")
    }

    /// The next event, acked.
    pub async fn next(&self, consumer: &mut Consumer) -> Arrived {
        let arrived = arrived(consumer, PATIENCE).await.expect("an event in time");
        let acked = self.channel.basic_ack(arrived.tag, BasicAckOptions::default()).await;
        acked.expect("acked");
        arrived
    }
}

/// The next event, if there is one soon.
pub async fn arrived(consumer: &mut Consumer, limit: Duration) -> Option<Arrived> {
    let delivery = timeout(limit, consumer.next()).await.ok()??.ok()?;
    let body = serde_json::from_slice(&delivery.data).expect("JSON");
    Some(Arrived { body, properties: delivery.properties, tag: delivery.delivery_tag })
}
