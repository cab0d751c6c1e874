//! Echo services that speak the wire of Picom (WIRE 2.1) and of Nameko (WIRE 1.1 to 1.3). In
//! Rust, so that they are not what is measured; with a real service's habits where these load
//! the broker: Nameko's prefetch of 10, a confirmed reply before the ack.

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::support::role::serve;

/// The Picom service's name.
pub(crate) const PICOM_SERVICE: &str = "echo";
/// The Nameko service's name.
pub(crate) const NAMEKO_SERVICE: &str = "echo_service";
/// The exchange of all Nameko calls and replies.
pub(crate) const EXCHANGE: &str = "nameko-rpc";

const MAX_WORKERS: u16 = 10;

/// The Picom service's role.
pub(crate) fn picom(server: &str) -> Result<()> {
    let mut tasks = JoinSet::new();
    serve(async {
        let client = async_nats::connect(server).await?;
        let subject = format!("{PICOM_SERVICE}.>");
        let mut calls = client.queue_subscribe(subject, PICOM_SERVICE.to_owned()).await?;
        client.flush().await?;
        tasks.spawn(async move {
            while let Some(call) = calls.next().await {
                let Some(inbox) = call.reply else { continue };
                if let Err(error) = client.publish(inbox, picom_reply(&call.payload)).await {
                    eprintln!("the picom responder cannot reply: {error}");
                }
            }
        });
        Ok(None)
    })
}

fn picom_reply(message: &[u8]) -> Bytes {
    let mut reply = BytesMut::with_capacity(message.len() + 12);
    reply.put_slice(br#"{"payload":"#);
    reply.put_slice(if message.is_empty() { b"null" } else { message });
    reply.put_slice(b"}");
    reply.freeze()
}

/// The Nameko service's role.
pub(crate) fn nameko(url: &str) -> Result<()> {
    let mut tasks = JoinSet::new();
    serve(async {
        let options = || ConnectionProperties::default();
        let consume = Connection::connect(url, options()).await?;
        let publish = Connection::connect(url, options()).await?;
        let requests = consume.create_channel().await?;
        let replies = publish.create_channel().await?;
        replies.confirm_select(ConfirmSelectOptions::default()).await?;
        declare_service(&requests).await?;
        requests.basic_qos(MAX_WORKERS, BasicQosOptions::default()).await?;
        let mut calls = requests
            .basic_consume(
                format!("rpc-{NAMEKO_SERVICE}").into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        tasks.spawn(async move {
            let _connections = (consume, publish);
            let mut workers = JoinSet::new();
            while let Some(Ok(call)) = calls.next().await {
                let replies = replies.clone();
                workers.spawn(async move {
                    if let Err(error) = nameko_reply(&replies, &call).await {
                        eprintln!("the nameko responder cannot reply: {error:#}");
                    }
                });
                while workers.try_join_next().is_some() {}
            }
        });
        Ok(None)
    })
}

async fn declare_service(channel: &Channel) -> Result<()> {
    let queue = format!("rpc-{NAMEKO_SERVICE}");
    declare_exchange(channel).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
    channel
        .queue_bind(
            queue.into(),
            EXCHANGE.into(),
            format!("{NAMEKO_SERVICE}.*").into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(())
}

/// Makes sure of the exchange that calls and replies go through.
pub(crate) async fn declare_exchange(channel: &Channel) -> Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default())
        .await?;
    Ok(())
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    kwargs: &'a RawValue,
}

async fn nameko_reply(replies: &Channel, call: &Delivery) -> Result<()> {
    let request: Request<'_> = serde_json::from_slice(&call.data)?;
    let body = format!(r#"{{"result": {}, "error": null}}"#, request.kwargs);
    let reply_to = call.properties.reply_to().clone().context("a call has a reply_to")?;
    let id = call.properties.correlation_id().clone().context("a call has a correlation id")?;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(0)
        .with_headers(FieldTable::default())
        .with_correlation_id(id);
    let options = BasicPublishOptions::default();
    replies
        .basic_publish(EXCHANGE.into(), reply_to, options, body.as_bytes(), properties)
        .await?
        .await?;
    call.ack(BasicAckOptions::default()).await?;
    Ok(())
}
