//! A request, and replies to it, for the wire's tests.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Dialect, Message, decode};
use crate::call::{Context, Deadline, Params, Reply, Request};
use crate::fault::Fault;
use crate::trace::TraceParent;

/// Owns what a [`Request`] borrows.
pub(super) struct Sample {
    pub(super) service: String,
    pub(super) method: String,
    pub(super) params: Params,
    pub(super) param_names: Vec<String>,
    pub(super) context: Context,
}

impl Sample {
    pub(super) fn new(params: Params) -> Self {
        Self {
            service: "mailer".to_owned(),
            method: "send".to_owned(),
            params,
            param_names: Vec::new(),
            context: Context::new(TraceParent::generate()),
        }
    }

    pub(super) fn request(&self) -> Request<'_> {
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
        let name = (self.service.as_str(), self.method.as_str());
        let request = Request::new(name, &self.params, &self.context, deadline);
        Request { param_names: &self.param_names, ..request }
    }
}

pub(super) fn reply_with(body: &[u8], headers: &[(&'static str, &str)]) -> Message {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let block = format!("NATS/1.0\r\n{}\r\n", lines.collect::<String>());
    Message {
        subject: "_INBOX.x.1".into(),
        headers: if headers.is_empty() { Bytes::new() } else { block.into() },
        payload: Bytes::copy_from_slice(body),
        ..Message::default()
    }
}

pub(super) fn decoded(dialect: Dialect, message: Message) -> Result<Reply, Fault> {
    decode(dialect, &Sample::new(Params::None).request(), message, &mut false)
}

pub(super) fn result(dialect: Dialect, body: &str) -> Result<String, Fault> {
    let reply = decoded(dialect, reply_with(body.as_bytes(), &[]))?;
    Ok(reply.payload.as_str().to_owned())
}
