//! A caller that no library would be: it sends what a test says, and reads what comes back.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use serde_json::Value;
use tokio::time::timeout;

use crate::harness::process::PATIENCE;
use crate::harness::responder::connect;

/// No params.
pub const NONE: &str = r#"{"args": [], "kwargs": {}}"#;

pub struct Caller {
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
    exchange: String,
    /// Its reply queue's routing key.
    pub key: String,
}

/// A reply as it arrived.
#[derive(Debug)]
pub struct Reply {
    pub properties: BasicProperties,
    pub body: Value,
}

impl Reply {
    /// Where the exception lives.
    #[track_caller]
    pub fn exc_path(&self) -> &str {
        self.body["error"]["exc_path"].as_str().unwrap_or_else(|| panic!("no exception: {self:?}"))
    }

    pub fn id(&self) -> Option<&str> {
        self.properties.correlation_id().as_ref().map(ShortString::as_str)
    }
}

impl Caller {
    /// One with a reply queue as `node-nameko-client` makes it (WIRE 5).
    pub async fn connect(url: &str, key: &str) -> Self {
        Self::on(url, "nameko-rpc", key).await
    }

    /// The same where calls go by another exchange.
    pub async fn on(url: &str, exchange: &str, key: &str) -> Self {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let none = FieldTable::default;
        channel.queue_declare(key.into(), own, none()).await.expect("a queue");
        let bind = QueueBindOptions::default();
        let bound = channel.queue_bind(key.into(), exchange.into(), key.into(), bind, none()).await;
        bound.expect("a binding");
        let consumer = consume(&channel, key).await;
        let (exchange, key) = (exchange.to_owned(), key.to_owned());
        Self { _connection: connection, channel, consumer, exchange, key }
    }

    /// One that is answered by the broker's direct replies.
    pub async fn direct(url: &str) -> Self {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        let key = "amq.rabbitmq.reply-to".to_owned();
        let consumer = consume(&channel, &key).await;
        let exchange = "nameko-rpc".to_owned();
        Self { _connection: connection, channel, consumer, exchange, key }
    }

    /// What a well-behaved client says.
    pub fn properties(&self, id: &str) -> BasicProperties {
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_reply_to(self.key.as_str().into())
            .with_correlation_id(id.into())
    }

    /// Sends a message to `service.method`.
    pub async fn send(&self, to: &str, properties: BasicProperties, body: impl AsRef<[u8]>) {
        self.send_by(&self.exchange, to, properties, body).await;
    }

    /// The same by an exchange.
    pub async fn send_by(
        &self,
        exchange: &str,
        to: &str,
        properties: BasicProperties,
        body: impl AsRef<[u8]>,
    ) {
        let options = BasicPublishOptions::default();
        let (exchange, body) = (exchange.into(), body.as_ref());
        let sent = self.channel.basic_publish(exchange, to.into(), options, body, properties).await;
        sent.expect("the broker is there");
    }

    /// The next reply.
    pub async fn reply(&mut self) -> Reply {
        let delivery = timeout(PATIENCE, self.consumer.next()).await.expect("a reply in time");
        let delivery = delivery.expect("a consumer").expect("a reply");
        let body = serde_json::from_slice(&delivery.data).expect("JSON");
        Reply { properties: delivery.properties, body }
    }

    /// The next reply, if there is one soon.
    pub async fn reply_within(&mut self, limit: Duration) -> Option<Reply> {
        let delivery = timeout(limit, self.consumer.next()).await.ok()??.expect("a reply");
        let body = serde_json::from_slice(&delivery.data).expect("JSON");
        Some(Reply { properties: delivery.properties, body })
    }

    /// Sends a call and waits for its reply.
    pub async fn call(&mut self, to: &str, properties: BasicProperties, body: &str) -> Reply {
        self.send(to, properties, body).await;
        self.reply().await
    }
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let none = FieldTable::default();
    channel.basic_consume(queue.into(), "".into(), no_ack, none).await.expect("a consumer")
}
