//! The wire format: no I/O. `incoming` and `outgoing` are NATS's own lines, `request` and `reply`
//! what a call and its answer look like in them.
//!
//! A call is a request on the subject `service.method`, with the message as its body. What the
//! body and the reply look like is the dialect's (WIRE, section 2; ADR-32 for micro).

mod endpoints;
mod headers;
mod incoming;
mod outgoing;
mod receipt;
mod reply;
mod request;
#[cfg(test)]
mod testing;

pub(super) use endpoints::{Endpoints, inquiry, split};
pub(super) use incoming::{Incoming, Info, Malformed, Message, Parser, Unkept};
pub(super) use outgoing::{Connect, Login, PING, PONG, publish, signature, subscribe};
pub(super) use receipt::receipt;
pub(super) use reply::{Violation, decode, is_no_responders, violation};
pub(super) use request::{NO_HEADERS, describe, headers, message, subject};

/// How the services behind an upstream speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Picom's `{"payload":…}` and `{"error":"…"}`.
    Picom,
    /// The JSON as it is.
    Plain,
    /// NATS micro services: like plain, with errors in headers.
    Micro,
}
