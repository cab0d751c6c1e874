//! JSON-RPC 2.0 over WebSocket: `GET /api` and `GET /api/{service}` with Upgrade.
//!
//! A text message holds what a body holds over HTTP, a request or a batch, and is answered by one
//! message, as soon as its answer is there. What was said in the opening request holds for every
//! call.
//!
//! - `opening`: the handshake (RFC 6455, section 4.2).
//! - `frame` is the wire, pure; `incoming` puts messages together, within what the connection may
//!   hold; `reading` gets it its bytes; `outgoing` is what waits to be written.
//! - `closing`, why a connection ends; `patience`, how long it may take for what.
//! - `calls`: what a message asks for, carried out.
//! - `socket`: the loop of one connection. It goes on in the connection's own task, and nothing
//!   else runs for it.
//!
//! No extension is spoken: nothing is compressed (RFC 7692), which would take a window of memory
//! a connection and tell of secrets by lengths.

mod calls;
mod closing;
mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod incoming;
mod opening;
mod outgoing;
mod patience;
mod reading;
mod socket;

pub(super) use opening::{Opening, is_asked, open};
pub(super) use socket::run;

/// The label of calls that come in so.
pub(in crate::protocol::jsonrpc) const LABEL: &str = "websocket";
