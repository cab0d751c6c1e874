//! Nameko's events into a JetStream stream, at least once: who publishes and counts them, and the bare
//! bridge that is the floor.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::support::role::{Answer, Command, Run, take_orders};

/// The service whose events they are.
pub(crate) const SERVICE: &str = "bench";
/// The stream, and its one subject.
pub(crate) const STREAM: &str = "BENCH";
/// Where the stream's messages come from.
pub(crate) const SUBJECT: &str = "bench.carried";
/// How long an event's data is.
const SIZE: usize = 1024;
/// How many events are published before the first is confirmed.
const UNCONFIRMED: usize = 200;
/// How many the bare bridge has under way.
const PREFETCH: u16 = 100;
/// How often the stream is asked how far it is.
const LOOK: Duration = Duration::from_millis(20);

/// The exchange of a Nameko service's events (WIRE 1.5).
pub(crate) fn exchange() -> String {
    format!("{SERVICE}.events")
}

/// Declares [`exchange`].
pub(crate) async fn declare_exchange(channel: &Channel) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (kind, arguments) = (ExchangeKind::Topic, FieldTable::default());
    Ok(channel.exchange_declare(exchange().into(), kind, options, arguments).await?)
}

/// The role of who publishes. Told to open, it empties the stream and publishes so many events of that
/// type, which wait in a queue; told to run, it waits until so many are in the stream, and tells how long it took from the
/// first to the last by the server's own clock.
pub(crate) fn source(rabbit: &str, nats: &str, event: &str) -> Result<()> {
    let runtime = Runtime::new()?;
    let source = runtime.block_on(Source::connect(rabbit, nats, event))?;
    take_orders(|command| {
        runtime.block_on(async {
            match command {
                Command::Open(events) => source.publish(events).await?,
                Command::Run(events) => return Ok(Answer::Ran(source.carried(events).await?)),
                Command::Close => {}
            }
            Ok(Answer::Done)
        })
    })
}

struct Source {
    channel: Channel,
    nats: async_nats::Client,
    event: String,
    _connection: Connection,
}

#[derive(Deserialize)]
struct Info {
    state: State,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    first_ts: String,
    last_ts: String,
}

impl Source {
    async fn connect(rabbit: &str, nats: &str, event: &str) -> Result<Self> {
        let connection = Connection::connect(rabbit, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        declare_exchange(&channel).await?;
        let nats = async_nats::connect(nats).await?;
        let stream = json!({"name": STREAM, "subjects": [SUBJECT], "storage": "file"});
        let source = Self { channel, nats, event: event.to_owned(), _connection: connection };
        source.ask("CREATE", &stream.to_string()).await?;
        Ok(source)
    }

    async fn ask(&self, what: &str, body: &str) -> Result<Bytes> {
        let subject = format!("$JS.API.STREAM.{what}.{STREAM}");
        let answer = self.nats.request(subject, body.to_owned().into()).await?;
        Ok(answer.payload)
    }

    async fn publish(&self, events: usize) -> Result<()> {
        self.ask("PURGE", "").await?;
        let data = json!({"text": "x".repeat(SIZE)}).to_string();
        let data = data.as_bytes();
        let publish = |_| async move {
            loop {
                let properties = BasicProperties::default()
                    .with_content_type("application/json".into())
                    .with_content_encoding("utf-8".into())
                    .with_delivery_mode(2);
                let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                let (exchange, key) = (exchange().into(), self.event.as_str().into());
                let published =
                    self.channel.basic_publish(exchange, key, options, data, properties).await?;
                if published.await? == Confirmation::Ack(None) {
                    return anyhow::Ok(());
                }
                // A gateway that has just begun may not have bound its queue yet.
                tokio::time::sleep(LOOK).await;
            }
        };
        stream::iter(0..events).map(publish).buffered(UNCONFIRMED).try_collect::<()>().await
    }

    async fn carried(&self, events: u64) -> Result<Run> {
        loop {
            let info: Info = serde_json::from_slice(&self.ask("INFO", "").await?)?;
            ensure!(info.state.messages <= events, "more events came than were published");
            if info.state.messages == events {
                let (first, last) = (seconds(&info.state.first_ts)?, seconds(&info.state.last_ts)?);
                // Midnight may be between them.
                let took = (last - first).rem_euclid(86_400.0);
                return Ok(Run { calls: events, seconds: took, p50: 0, p99: 0 });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The seconds since midnight of `2026-11-29T09:00:00.123456789Z`.
fn seconds(time: &str) -> Result<f64> {
    let (_, time) = time.trim_end_matches('Z').split_once('T').context("a time has a T")?;
    time.split(':').try_fold(0.0, |sum, part| Ok(sum * 60.0 + part.parse::<f64>()?))
}

/// The role of the bare bridge: a lapin consumer that feeds a JetStream publisher, in order, and acks what
/// the stream has. It begins when it is told to open.
pub(crate) fn bare(rabbit: &str, nats: &str, event: &str) -> Result<()> {
    let runtime = Runtime::new()?;
    let queue = format!("bare-bridge-{event}");
    let (_connection, channel, nats) = runtime.block_on(async {
        let connection = Connection::connect(rabbit, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        declare_exchange(&channel).await?;
        let (options, none) =
            (QueueDeclareOptions { durable: true, ..Default::default() }, FieldTable::default());
        channel.queue_declare(queue.as_str().into(), options, none.clone()).await?;
        let (exchange, bind) = (exchange().into(), QueueBindOptions::default());
        channel.queue_bind(queue.as_str().into(), exchange, event.into(), bind, none).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        anyhow::Ok((connection, channel, async_nats::connect(nats).await?))
    })?;
    let mut tasks = JoinSet::new();
    take_orders(|command| {
        match command {
            Command::Open(_) => {
                let (channel, nats, queue) = (channel.clone(), nats.clone(), queue.clone());
                let carrying = async move {
                    if let Err(error) = carry(&channel, &nats, &queue).await {
                        eprintln!("the bare bridge has ended: {error:#}");
                    }
                };
                tasks.spawn_on(carrying, runtime.handle());
            }
            Command::Run(_) => {}
            Command::Close => tasks.abort_all(),
        }
        Ok(Answer::Done)
    })
}

async fn carry(channel: &Channel, nats: &async_nats::Client, queue: &str) -> Result<()> {
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let events = channel.basic_consume(queue.into(), "bare".into(), options, none).await?;
    let carried = events
        .map(|event| async {
            let event = event?;
            let receipt = nats.request(SUBJECT, event.data.clone().into()).await?;
            ensure!(receipt.payload.starts_with(b"{\"stream\":"), "the stream refused an event");
            event.ack(BasicAckOptions::default()).await?;
            anyhow::Ok(())
        })
        .buffered(usize::from(PREFETCH));
    carried.try_collect::<()>().await
}
