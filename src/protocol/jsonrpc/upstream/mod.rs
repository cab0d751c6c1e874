//! JSON-RPC 2.0 over HTTP, as an upstream.
//!
//! ```text
//! Request → wire (body, headers) → egress → roster (which instance) → instance (which connection) → service
//! Reply   ← wire (answer)        ←        ←                         ← exchange (status, body)     ←
//! ```
//!
//! A call goes over a connection of HTTP/1.1 that is its own meanwhile, or over a stream of an
//! HTTP/2 one. What has certainly not left goes to the next connection, or the next instance; what
//! may have arrived ends with its connection.

mod balance;
mod config;
mod connect;
mod connector;
mod egress;
mod exchange;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod headers;
mod http1;
mod http2;
mod instance;
mod knock;
mod line;
mod load;
mod look;
pub(super) mod once;
mod parts;
pub(super) mod place;
mod pool;
mod roster;
mod socket;
mod streams;
mod url_file;
mod wire;

use std::sync::Arc;

use super::registry::Registry;
use crate::config::section::Section;
use crate::upstream::Connector;

/// Reads an `[upstreams.NAME]` table with `protocol = "jsonrpc"`. The keys that every upstream has
/// are left to the caller.
pub(super) fn read_connector(
    registry: &Arc<Registry>,
    section: &mut Section<'_>,
) -> Box<dyn Connector> {
    Box::new(connector::JsonRpcConnector::new(config::read(section), Arc::clone(registry)))
}
