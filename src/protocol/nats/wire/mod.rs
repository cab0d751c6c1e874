//! The wire format: no I/O. `incoming` and `outgoing` are NATS's own lines, `subject`, `block`, `request`
//! and `reply` what a call that leaves and its answer look like in them, `call` and `answer` those that come in;
//! `headers` reads what `block` writes.
//!
//! A call is a request on the subject `service.method`, with the message as its body. What the
//! body and the reply look like is the dialect's (WIRE, section 2; ADR-32 for micro).

mod answer;
mod block;
mod call;
mod confirm;
mod consumer;
mod discovery;
mod endpoints;
mod event;
mod headers;
mod incoming;
mod message;
mod micro;
mod nest;
mod offered;
mod outgoing;
mod picom;
mod receipt;
mod reply;
mod request;
mod stored;
mod stream;
mod subject;
mod subscription;
#[cfg(test)]
mod testing;
mod told;
mod violation;

pub(super) use answer::{Answer, Asked, REPLAYED, fault, last_error, result};
pub(super) use block::{NO_HEADERS, describe, headers};
pub(super) use call::{context, idempotency_key, limit, method, read};
pub(super) use confirm::{Confirmed, Unstored, confirmed};
#[cfg(test)]
pub(super) use consumer::StreamConfig;
pub(super) use consumer::{
    ApiFailure, ConsumerConfig, ConsumerInfo, ConsumerName, NewConsumer, Position, Start,
    StreamInfo, StreamState, api_answer, consumer_info, create_consumer, delete_consumer, pull,
    stream_info,
};
pub(super) use discovery::{Described, EndpointStats, Verb, described};
pub(super) use endpoints::{Endpoints, inquiry, split};
pub(super) use event::{
    event, event_body, event_headers, publishable, stored_event, stored_id, unkept_event,
};
pub(super) use incoming::{
    FIRST_EVENT, FIRST_EXPOSED, FIRST_STREAM, Incoming, Info, Intake, Malformed, Parser, RECEIPTS,
    Unkept,
};
pub(super) use message::Message;
pub(super) use nest::{Part, packet, part};
pub(super) use offered::{inquiry_of_all, offers};
pub(super) use outgoing::{Connect, Login, PING, PONG, publish, signature, subscribe, unsubscribe};
pub(super) use receipt::receipt;
pub(super) use reply::{decode, is_no_responders};
pub(super) use request::message;
pub(super) use stored::{
    Ack, PullStatus, Stored, ack_subject, pull_status, push_ack, push_pull, stored,
};
pub(super) use stream::{Flaw, ShownStream};
pub(super) use subject::{subject, written};
pub(super) use subscription::{Subscription, Taken, endpoint, objections, reached, subscriptions};
pub(super) use violation::{Violation, violation};

/// How the services behind an upstream speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Picom's `{"payload":…}` and `{"error":"…"}`.
    Picom,
    /// The JSON as it is.
    Plain,
    /// NATS micro services: like plain, with errors in headers.
    Micro,
    /// NestJS's `{"pattern":…,"data":…,"id":…}` and `{"response":…}`.
    Nest,
}

impl Dialect {
    /// The words for them.
    pub(super) const WORDS: [(&str, Self); 4] = [
        ("picom", Self::Picom),
        ("plain", Self::Plain),
        ("micro", Self::Micro),
        ("nest", Self::Nest),
    ];

    /// The one that a word names.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find_map(|(known, dialect)| (known == word).then_some(dialect))
    }
}
