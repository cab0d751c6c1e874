//! What a test needs beside the broker: an upstream on an exchange of its own, and a
//! fake Nameko service that can answer anything.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use genkan::call::{Context, Deadline, Params, Payload, Reply, Request};
use genkan::fault::{Fault, FaultKind, Outcome};
use genkan::trace::TraceParent;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::time::Instant;

use crate::harness::{Linked, RabbitMq};

/// Long enough for anything that happens, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// An upstream on an exchange of its own.
pub struct World {
    pub linked: Linked,
    pub exchange: String,
    url: String,
}

impl World {
    /// Makes an upstream and waits until it is ready.
    pub async fn new(rabbit: &RabbitMq, keys: &str) -> Self {
        let world = Self::not_waiting(&rabbit.url(), keys);
        world.linked.ready().await;
        world
    }

    /// Makes an upstream whatever its state.
    pub fn not_waiting(url: &str, keys: &str) -> Self {
        Self::make(url, &format!("nameko-{:x}", fastrand::u64(..)), keys)
    }

    /// Makes an upstream on an exchange that may be there already.
    pub fn on_exchange(url: &str, exchange: &str) -> Self {
        Self::make(url, exchange, "")
    }

    fn make(url: &str, exchange: &str, keys: &str) -> Self {
        let linked = Linked::start(&format!(
            "protocol = \"nameko\"\nurl = \"{url}\"\nexchange = \"{exchange}\"\n{keys}"
        ));
        Self { linked, exchange: exchange.to_owned(), url: url.to_owned() }
    }

    pub async fn call(&self, service: &str, method: &str, params: Params) -> Result<Reply, Fault> {
        self.call_within(PATIENCE, service, method, params).await
    }

    /// Calls with a user agent in the context.
    pub async fn call_as(
        &self,
        user_agent: &str,
        service: &str,
        method: &str,
    ) -> Result<Reply, Fault> {
        let mut context = Context::new(TraceParent::generate());
        context.user_agent = Some(user_agent.to_owned());
        let deadline = Deadline::after(Instant::now(), PATIENCE);
        let params = &Params::None;
        let request = Request::new((service, method), params, &context, deadline);
        self.linked.upstream.call(&request).await
    }

    /// Calls as the router does: the deadline drops the call.
    pub async fn call_within(
        &self,
        timeout: Duration,
        service: &str,
        method: &str,
        params: Params,
    ) -> Result<Reply, Fault> {
        let context = Context::new(TraceParent::generate());
        let deadline = Deadline::after(Instant::now(), timeout);
        let params = &params;
        let request = Request::new((service, method), params, &context, deadline);
        let call = tokio::time::timeout_at(deadline.at(), self.linked.upstream.call(&request));
        call.await.unwrap_or_else(|_| {
            Err(Fault::new(FaultKind::Timeout, Outcome::Unknown, "the deadline has passed"))
        })
    }

    pub async fn notify(&self, service: &str, method: &str) -> Result<(), Fault> {
        let context = Context::new(TraceParent::generate());
        let deadline = Deadline::after(Instant::now(), PATIENCE);
        let params = &Params::None;
        let request = Request::new((service, method), params, &context, deadline);
        self.linked.upstream.notify(&request).await
    }

    /// A connection beside Genkan's.
    pub async fn connect(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap()
    }
}

pub fn array(json: &str) -> Params {
    Params::Array(payload(json))
}

pub fn object(json: &str) -> Params {
    Params::Object(payload(json))
}

fn payload(json: &str) -> Payload {
    Payload::from_validated(Bytes::copy_from_slice(json.as_bytes()))
}

pub fn kind_and_outcome<T: std::fmt::Debug>(result: Result<T, Fault>) -> (FaultKind, Outcome) {
    let fault = result.expect_err("a fault");
    (fault.kind(), fault.outcome())
}

/// What a fake service sends for a request. Each part stands for what Nameko would send unless set.
#[derive(Clone, Default)]
pub struct Answer {
    pub body: Vec<u8>,
    pub correlation_id: Option<String>,
    pub properties: Option<BasicProperties>,
}

impl Answer {
    pub fn body(body: impl Into<Vec<u8>>) -> Vec<Self> {
        vec![Self { body: body.into(), ..Self::default() }]
    }
}

/// A fake Nameko service.
pub struct Service {
    pub name: String,
    connection: Connection,
}

impl Service {
    /// Makes a service's queue as Nameko does, and leaves it without a consumer.
    pub async fn queue(world: &World) -> String {
        let name = format!("svc{:x}", fastrand::u64(..));
        let connection = world.connect().await;
        let channel = connection.create_channel().await.unwrap();
        declare(&channel, &world.exchange, &name).await;
        connection.close(200, "OK".into()).await.unwrap();
        name
    }

    /// Starts a new service.
    pub async fn start<F>(world: &World, answer: F) -> Self
    where
        F: Fn(&Delivery) -> Vec<Answer> + Send + 'static,
    {
        let name = Self::queue(world).await;
        Self::serve(world, &name, answer).await
    }

    /// Starts a service by its name.
    pub async fn serve<F>(world: &World, name: &str, answer: F) -> Self
    where
        F: Fn(&Delivery) -> Vec<Answer> + Send + 'static,
    {
        let connection = world.connect().await;
        let channel = connection.create_channel().await.unwrap();
        declare(&channel, &world.exchange, name).await;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let queue = format!("rpc-{name}").into();
        let consumer =
            channel.basic_consume(queue, "".into(), options, FieldTable::default()).await;
        let (mut consumer, exchange) = (consumer.unwrap(), world.exchange.clone());
        world.linked.tasks.spawn_session(async move {
            while let Some(Ok(request)) = consumer.next().await {
                for reply in answer(&request) {
                    publish(&channel, &exchange, &request, reply).await;
                }
            }
        });
        Self { name: name.to_owned(), connection }
    }

    /// Stops it; its queue remains.
    pub async fn stop(self) {
        self.connection.close(200, "OK".into()).await.unwrap();
    }
}

async fn declare(channel: &Channel, exchange: &str, name: &str) {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let none = FieldTable::default;
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none()).await.unwrap();
    let queue = format!("rpc-{name}");
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, none()).await.unwrap();
    let key = format!("{name}.*").into();
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key, options, none()).await.unwrap();
}

async fn publish(channel: &Channel, exchange: &str, request: &Delivery, answer: Answer) {
    let asked = &request.properties;
    let correlation = asked.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default();
    let properties = answer.properties.unwrap_or_else(|| {
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
    });
    let properties =
        properties.with_correlation_id(answer.correlation_id.unwrap_or(correlation).into());
    let reply_to = asked.reply_to().clone().unwrap();
    let options = BasicPublishOptions::default();
    // A broker that has been killed takes no replies, and that is meant.
    drop(channel.basic_publish(exchange.into(), reply_to, options, &answer.body, properties).await);
}
