//! NATS: calls leave as requests with a reply inbox, in one of three dialects.
//!
//! ```text
//! Request → wire (subject, message, headers) → egress → the generation's client → nats-server
//! Reply   ← wire (dialect's reply)           ← pending ← the generation's inbox  ←
//! ```
//!
//! A connection is a *generation*: a client that never connects a second time, with an inbox
//! and a table of waiting calls of its own. What ends a generation ends its calls, and what was
//! handed to it is never sent by the next one (WIRE, section 7.2). async-nats's types do not
//! leave this folder.

mod config;
mod connection;
mod egress;
mod generation;
mod open;
mod pending;
mod wire;

use crate::config::section::Section;
use crate::upstream::Connector;

/// Reads an `[upstreams.NAME]` table with `protocol = "nats"`. The keys that every upstream has
/// are left to the caller.
pub fn read_connector(section: &mut Section<'_>) -> Box<dyn Connector> {
    Box::new(egress::NatsConnector::new(config::read(section)))
}
