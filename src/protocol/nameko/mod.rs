//! Nameko: Python services behind RabbitMQ (WIRE 1).
//!
//! ```text
//! egress ─ checks ─ probe ──► pending ──► publisher ──► exchange nameko-rpc ──► rpc-SERVICE
//!    ▲                           ▲            │ confirms and returns
//!    └── wire::reply ────────────┴─ replies ◄─┴──── rpc.reply-genkan-UUID
//! ```
//!
//! Callers come in by `expose`, events come and go by `events`, beside that.
//!
//! `connection` keeps one `generation` of all that alive, and `open` makes the next. `wire/` is pure. lapin's types stay in
//! this folder, and lapin's own logging belongs switched off (target `lapin`): it writes whole
//! returned messages, payload included.

mod binding;
mod calls;
mod config;
mod connection;
mod connector;
mod egress;
mod events;
mod expose;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod generation;
mod intake;
mod look;
mod open;
mod outlet;
mod pauses;
mod pending;
mod probe;
mod publisher;
mod pulse;
mod quarantine;
mod raw;
mod refusal;
mod replies;
mod stream;
mod transport;
mod unconfirmed;
mod wire;

use std::sync::Arc;

use crate::config::section::Section;
use crate::upstream::Connector;

/// Reads an `[upstreams.NAME]` table. Problems are reported to the section; a connector comes
/// back in any case.
pub fn read_connector(section: &mut Section<'_>) -> Box<dyn Connector> {
    Box::new(connector::NamekoConnector(Arc::new(config::read(section))))
}
