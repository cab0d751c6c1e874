//! NATS: calls leave as requests with a reply inbox, in one of four dialects; calls of exposed services
//! come in (`expose`), events come and go (`events`).
//!
//! ```text
//! Request → wire (subject, message, headers) → egress → generation (write) → nats-server
//! Reply   ← wire (dialect's reply)           ← pending ← generation (read)  ←
//! ```
//!
//! A connection is a *generation*: an open socket with an inbox and a table of waiting calls of
//! its own. What ends a generation ends its calls, and what was handed to it is never sent by the
//! next one. Where its server has said goodbye, the next one carries its inbox too, and the calls
//! live on. NATS's protocol is spoken here, without a client library (docs/decisions.md).

mod again;
mod ask;
mod config;
mod connection;
mod connector;
mod directory;
mod egress;
mod events;
mod expose;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod generation;
mod inboxes;
mod login;
mod look;
mod mailbox;
mod offers;
mod open;
mod outbox;
mod pen;
mod pending;
mod pool;
mod pulse;
mod streams;
mod transport;
mod wire;

use crate::config::section::Section;
use crate::upstream::Connector;

/// Reads an `[upstreams.NAME]` table with `protocol = "nats"`. The keys that every upstream has
/// are left to the caller.
pub fn read_connector(section: &mut Section<'_>) -> Box<dyn Connector> {
    Box::new(connector::NatsConnector::new(config::read(section)))
}
