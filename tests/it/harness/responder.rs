//! Services written by the tests: they see the bytes of each request, and answer whatever bytes
//! the test says, when it says, as often as it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub body: String,
    pub headers: BTreeMap<String, String>,
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub delivery_mode: Option<u8>,
    pub expiration: Option<String>,
}

/// One answer. A service may give none, or several.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub body: Vec<u8>,
    pub after: Duration,
    pub headers: Vec<(String, String)>,
    /// Nameko only: instead of the request's.
    pub correlation_id: Option<String>,
    /// Nameko only: instead of `application/json`.
    pub content_type: Option<String>,
}

impl Answer {
    /// At once, with that body.
    pub fn new(body: impl Into<Vec<u8>>) -> Vec<Self> {
        vec![Self { body: body.into(), ..Self::default() }]
    }

    /// The same, later.
    pub fn after(body: impl Into<Vec<u8>>, after: Duration) -> Vec<Self> {
        vec![Self { body: body.into(), after, ..Self::default() }]
    }
}

/// What a service was asked.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<Vec<Seen>>>);

impl Requests {
    /// All requests so far.
    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The last one.
    pub fn last(&self) -> Seen {
        self.all().pop().expect("a request")
    }

    fn add(&self, seen: &Seen) {
        self.0.lock().unwrap().push(seen.clone());
    }
}

/// A service that speaks Nameko's protocol. It ends with its test.
pub struct NamekoResponder {
    pub requests: Requests,
    connection: Connection,
    channel: Channel,
}

impl NamekoResponder {
    /// Serves `service` until it is dropped.
    pub async fn serve(
        url: &str,
        service: &str,
        handle: impl Fn(&Seen) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Self {
        let connection = connect(url).await;
        let channel = connection.create_channel().await.expect("a channel");
        declare_service(&channel, service).await;
        let queue = format!("rpc-{service}");
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await;
        let mut consumer = consumer.expect("a consumer");
        let requests = Requests::default();
        let (log, replies, handle) = (requests.clone(), channel.clone(), Arc::new(handle));
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let seen = seen(&delivery);
                log.add(&seen);
                for answer in handle(&seen) {
                    tokio::spawn(reply(replies.clone(), seen.clone(), answer));
                }
            }
        });
        Self { requests, connection, channel }
    }

    /// Ends it: its queue stays, without a consumer.
    pub async fn stop(self) {
        self.connection.close(200, "done".into()).await.expect("the broker is there");
    }

    /// Sends a reply out of the blue.
    pub async fn say(&self, to: &Seen, answer: Answer) {
        reply(self.channel.clone(), to.clone(), answer).await;
    }
}

/// A connection to a broker.
pub async fn connect(url: &str) -> Connection {
    let connected = Connection::connect(url, ConnectionProperties::default()).await;
    connected.expect("the broker accepts")
}

/// Declares what a Nameko service declares at its start (WIRE, section 1.1).
pub async fn declare_service(channel: &Channel, service: &str) {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    let exchange = "nameko-rpc";
    let kind = ExchangeKind::Topic;
    channel.exchange_declare(exchange.into(), kind, durable, none()).await.expect("an exchange");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = format!("rpc-{service}");
    channel.queue_declare(queue.as_str().into(), durable, none()).await.expect("a queue");
    let key = format!("{service}.*");
    let bind = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), bind, none()).await;
    bound.expect("a binding");
}

/// How many consumers and messages a queue has; `None` where there is no such queue.
pub async fn queue_state(url: &str, queue: &str) -> Option<(u32, u32)> {
    let connection = connect(url).await;
    let channel = connection.create_channel().await.expect("a channel");
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    let state = declared.ok().map(|queue| (queue.consumer_count(), queue.message_count()));
    drop(connection.close(200, "done".into()).await);
    state
}

fn seen(delivery: &lapin::message::Delivery) -> Seen {
    let properties = &delivery.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    let headers = properties.headers().iter().flat_map(|table| table.inner());
    Seen {
        method: delivery.routing_key.as_str().rsplit('.').next().unwrap_or_default().to_owned(),
        body: String::from_utf8_lossy(&delivery.data).into_owned(),
        headers: headers.map(|(name, value)| (name.to_string(), show(value))).collect(),
        reply_to: text(properties.reply_to()),
        correlation_id: text(properties.correlation_id()),
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        delivery_mode: *properties.delivery_mode(),
        expiration: text(properties.expiration()),
    }
}

/// Strings as they are; arrays in brackets, so that they can be told from a string.
fn show(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::FieldArray(items) => {
            format!("[{}]", items.as_slice().iter().map(show).collect::<Vec<_>>().join(","))
        }
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::Double(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

async fn reply(channel: Channel, to: Seen, answer: Answer) {
    tokio::time::sleep(answer.after).await;
    let Some(key) = to.reply_to else { return };
    let content_type = answer.content_type.unwrap_or_else(|| "application/json".to_owned());
    let mut headers = FieldTable::default();
    for (name, value) in answer.headers {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let mut properties =
        BasicProperties::default().with_content_type(content_type.into()).with_headers(headers);
    if let Some(id) = answer.correlation_id.or(to.correlation_id) {
        properties = properties.with_correlation_id(id.into());
    }
    let options = BasicPublishOptions::default();
    let published =
        channel.basic_publish("nameko-rpc".into(), key.into(), options, &answer.body, properties);
    // A broker that is gone ends the test elsewhere.
    drop(published.await);
}

/// A NATS service. It ends with its test.
pub struct NatsResponder {
    pub requests: Requests,
    client: async_nats::Client,
}

impl NatsResponder {
    /// Serves `service.>` in the queue group `service` until it is dropped.
    pub async fn serve(
        client: async_nats::Client,
        service: &str,
        handle: impl Fn(&Seen) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Self {
        let subscribed = client.queue_subscribe(format!("{service}.>"), service.to_owned()).await;
        let mut messages = subscribed.expect("a subscription");
        // A message to ourselves comes back once the server has taken what went before it.
        let inbox = client.new_inbox();
        let mut echo = client.subscribe(inbox.clone()).await.expect("a subscription");
        client.publish(inbox, Bytes::new()).await.expect("a connection");
        echo.next().await.expect("the server has it");
        let requests = Requests::default();
        let (log, replies, handle) = (requests.clone(), client.clone(), Arc::new(handle));
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let seen = seen_on_nats(&message);
                log.add(&seen);
                for answer in handle(&seen) {
                    tokio::spawn(reply_on_nats(replies.clone(), seen.clone(), answer));
                }
            }
        });
        Self { requests, client }
    }

    /// Sends a reply out of the blue.
    pub async fn say(&self, to: &Seen, answer: Answer) {
        reply_on_nats(self.client.clone(), to.clone(), answer).await;
    }
}

fn seen_on_nats(message: &async_nats::Message) -> Seen {
    let headers = message.headers.iter().flat_map(|headers| headers.iter());
    Seen {
        method: message.subject.rsplit('.').next().unwrap_or_default().to_owned(),
        body: String::from_utf8_lossy(&message.payload).into_owned(),
        headers: headers
            .map(|(name, values)| {
                let values = values.iter().map(|value| value.as_str()).collect::<Vec<_>>();
                (name.to_string(), values.join(","))
            })
            .collect(),
        reply_to: message.reply.as_ref().map(ToString::to_string),
        ..Seen::default()
    }
}

async fn reply_on_nats(client: async_nats::Client, to: Seen, answer: Answer) {
    tokio::time::sleep(answer.after).await;
    let Some(inbox) = to.reply_to else { return };
    let sent = if answer.headers.is_empty() {
        client.publish(inbox, answer.body.into()).await
    } else {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in &answer.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        client.publish_with_headers(inbox, headers, answer.body.into()).await
    };
    // A server that is gone ends the test elsewhere.
    drop(sent);
}
