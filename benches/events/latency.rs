//! How long after a Nameko service has published an event it is heard: by a browser through the gateway, and by a
//! client on the broker itself.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::runtime::Runtime;

use super::bridge::{declare_exchange, exchange};
use super::subscribers::{DATA, Subscriber, Way};
use crate::support::role::{Answer, Command, Run, take_orders};

/// The type of the events that each hears: nobody hears another's.
const FOR_BROWSER: &str = "made";
const FOR_CONSUMER: &str = "heard";

/// The role: publishes as many events as it is told to run, each when the one before was heard: by a WebSocket
/// at `gateway`, or else by a consumer of its own.
pub(crate) fn latency(rabbit: &str, gateway: Option<SocketAddr>) -> Result<()> {
    let runtime = Runtime::new()?;
    let event = if gateway.is_some() { FOR_BROWSER } else { FOR_CONSUMER };
    let (_connection, channel, mut hearer) = runtime.block_on(async {
        let connection = Connection::connect(rabbit, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        declare_exchange(&channel).await?;
        let hearer = match gateway {
            Some(address) => Hearer::Browser(Subscriber::open(address, Way::WebSocket).await?),
            None => Hearer::Consumer(consumer(&connection).await?),
        };
        anyhow::Ok((connection, channel, hearer))
    })?;
    take_orders(|command| match command {
        Command::Run(events) => runtime.block_on(async {
            let (start, mut latencies) = (std::time::Instant::now(), Vec::new());
            for _ in 0..events {
                let begin = std::time::Instant::now();
                publish(&channel, event).await?;
                hearer.hear().await?;
                latencies.push(begin.elapsed());
            }
            Ok(Answer::Ran(Run::new(start, latencies)))
        }),
        Command::Open(_) | Command::Close => Ok(Answer::Done),
    })
}

enum Hearer {
    Browser(Subscriber),
    Consumer(Consumer),
}

impl Hearer {
    async fn hear(&mut self) -> Result<()> {
        match self {
            Self::Browser(subscriber) => {
                subscriber.event().await?;
            }
            Self::Consumer(consumer) => {
                let event = consumer.next().await.context("the consumer has ended")??;
                ensure!(event.data == DATA.as_bytes(), "another event");
            }
        }
        Ok(())
    }
}

async fn consumer(connection: &Connection) -> Result<Consumer> {
    let channel = connection.create_channel().await?;
    let (own, none) = (
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() },
        FieldTable::default(),
    );
    let queue = channel.queue_declare("".into(), own, none.clone()).await?;
    let name = queue.name().clone();
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(name.clone(), exchange().into(), FOR_CONSUMER.into(), bind, none.clone())
        .await?;
    let unacknowledged = BasicConsumeOptions { no_ack: true, ..Default::default() };
    Ok(channel.basic_consume(name, "".into(), unacknowledged, none).await?)
}

async fn publish(channel: &Channel, event: &str) -> Result<()> {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(1);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(exchange().into(), event.into(), options, DATA.as_bytes(), properties)
        .await?;
    Ok(())
}
