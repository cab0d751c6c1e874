//! The floors of the way to a broker: its client without HTTP, with the runtime that a program
//! makes that sets nothing unless another is cheaper. No gateway built of these parts can be
//! cheaper than their sum with the bare HTTP server's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::backends::{EXCHANGE, declare_exchange};
use crate::support::http::PAYLOAD;
use crate::support::role::{Session, Threads, client};

/// The role of a Picom caller: `request` of async-nats, as its documentation shows it. It is
/// cheapest on one thread, where its connection's task wakes nobody; a floor is the least.
pub(crate) fn nats(server: &str, subject: String, one_thread: bool) -> Result<()> {
    let threads = if one_thread { Threads::One } else { Threads::Default };
    client(threads, async { Ok(async_nats::connect(server).await?) }, async |client| {
        Ok(PicomCaller { client: client.clone(), subject: subject.clone() })
    })
}

struct PicomCaller {
    client: async_nats::Client,
    subject: String,
}

impl Session for PicomCaller {
    async fn call(&mut self, number: u64) -> Result<()> {
        let message = Bytes::from_static(PAYLOAD.as_bytes());
        let reply = self.client.request(self.subject.clone(), message).await?;
        let body = reply.payload.strip_prefix(br#"{"payload":"#);
        let body = body.and_then(|body| body.strip_suffix(b"}"));
        ensure!(body == Some(PAYLOAD.as_bytes()), "call {number} got a wrong reply");
        Ok(())
    }
}

/// The role of a Nameko caller: mandatory and confirmed requests, replies from a queue of its own
/// with `no_ack`, on two connections, as WIRE 7.1 has it.
pub(crate) fn lapin(url: &str, persistent: bool, service: &str) -> Result<()> {
    let mut tasks = JoinSet::new();
    let connect = NamekoCaller::connect(url, persistent, service, &mut tasks);
    client(Threads::Default, connect, async |caller| Ok(caller.clone()))
}

type Pending = Mutex<HashMap<ShortString, oneshot::Sender<Vec<u8>>>>;

#[derive(Clone)]
struct NamekoCaller {
    channel: Channel,
    pending: Arc<Pending>,
    key: ShortString,
    reply_to: ShortString,
    delivery_mode: u8,
    _connections: Arc<(Connection, Connection)>,
}

impl NamekoCaller {
    async fn connect(
        url: &str,
        persistent: bool,
        service: &str,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self> {
        let publish = Connection::connect(url, ConnectionProperties::default()).await?;
        let consume = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = publish.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        declare_exchange(&channel).await?;
        let reply_to = format!("bench-{}", std::process::id());
        let pending = Arc::new(Pending::default());
        let replies = reply_consumer(&consume.create_channel().await?, &reply_to).await?;
        tasks.spawn(hand_out(replies, Arc::clone(&pending)));
        let delivery_mode = if persistent { 2 } else { 1 };
        let (key, reply_to) = (format!("{service}.echo").into(), reply_to.into());
        let _connections = Arc::new((publish, consume));
        Ok(Self { channel, pending, key, reply_to, delivery_mode, _connections })
    }
}

async fn reply_consumer(channel: &Channel, reply_to: &str) -> Result<lapin::Consumer> {
    let queue = ShortString::from(format!("rpc.reply-{reply_to}"));
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(queue.clone(), own, FieldTable::default()).await?;
    channel
        .queue_bind(
            queue.clone(),
            EXCHANGE.into(),
            reply_to.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let unacknowledged = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(queue, "".into(), unacknowledged, FieldTable::default()).await?)
}

async fn hand_out(mut replies: lapin::Consumer, pending: Arc<Pending>) {
    while let Some(Ok(reply)) = replies.next().await {
        let Some(id) = reply.properties.correlation_id() else { continue };
        let waiting = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if waiting.is_none_or(|waiting| waiting.send(reply.data).is_err()) {
            eprintln!("the bare Nameko client got a reply that nobody waits for");
        }
    }
}

impl Session for NamekoCaller {
    async fn call(&mut self, number: u64) -> Result<()> {
        let id = ShortString::from(format!("{number:032x}"));
        let (sender, reply) = oneshot::channel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(self.delivery_mode)
            .with_priority(0)
            .with_headers(FieldTable::default())
            .with_correlation_id(id)
            .with_reply_to(self.reply_to.clone());
        let body = format!(r#"{{"args": [], "kwargs": {PAYLOAD}}}"#);
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let key = self.key.clone();
        let confirm = self
            .channel
            .basic_publish(EXCHANGE.into(), key, mandatory, body.as_bytes(), properties)
            .await?
            .await?;
        ensure!(matches!(confirm, Confirmation::Ack(None)), "call {number} was returned");
        let reply = reply.await.context("the reply consumer has ended")?;
        let result = reply.strip_prefix(br#"{"result": "#.as_slice());
        let result = result.and_then(|rest| rest.strip_suffix(br#", "error": null}"#.as_slice()));
        ensure!(result == Some(PAYLOAD.as_bytes()), "call {number} got a wrong reply");
        Ok(())
    }
}
