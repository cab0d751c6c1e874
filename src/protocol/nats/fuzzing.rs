//! What is fuzzed of NATS: what a server sends, replies, and calls of exposed services.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::wire::{self, Dialect, Intake, Message, Parser};
use crate::budget::Budget;
use crate::call::{Context, Deadline, Params, Request};
use crate::fuzzing::{Target, halves};
use crate::trace::TraceParent;

pub(in crate::protocol) const TARGETS: [Target; 3] =
    [("nats_stream", stream), ("nats_reply", reply), ("nats_call", call)];

const DIALECTS: [Dialect; 4] = [Dialect::Picom, Dialect::Plain, Dialect::Micro, Dialect::Nest];

/// However it is cut in pieces, the same comes of it.
fn stream(data: &[u8]) {
    let read = |piece: usize| {
        let intake = || Intake { largest: 1 << 16, account: Budget::new(1 << 20).upstream() };
        let mut parser = Parser::new(intake(), intake(), intake());
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for piece in data.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match parser.next(&mut buffer) {
                    Ok(Some(operation)) => found.push(format!("{operation:?}")),
                    Ok(None) => break,
                    Err(_) => return found,
                }
            }
        }
        found
    };
    assert_eq!(read(data.len().max(1)), read(7));
}

fn reply(data: &[u8]) {
    let (headers, body) = halves(data);
    let context = Context::new(TraceParent::generate());
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
    let request = Request::new(("mailer", "send"), &Params::None, &context, deadline);
    for dialect in DIALECTS {
        let message = Message {
            headers: Bytes::copy_from_slice(headers),
            payload: Bytes::copy_from_slice(body),
            ..Message::default()
        };
        if let Ok(reply) = wire::decode(dialect, &request, message, &mut false) {
            crate::fuzzing::is_json(reply.payload.as_bytes());
        }
    }
}

fn call(data: &[u8]) {
    for dialect in DIALECTS {
        if let Ok(read) = wire::read(dialect, &Bytes::copy_from_slice(data)) {
            crate::fuzzing::are_json(&read.params);
        }
    }
}
