//! Nameko's wire format as pure functions: what a call and its reply look like on AMQP,
//! whichever way they go.
//!
//! Nothing here does I/O. AMQP's own types are used because Nameko's headers are AMQP tables;
//! they go no further than this folder.

pub(super) mod answer;
mod baggage;
pub(super) mod compression;
pub(super) mod content_header;
pub(super) mod context;
pub(super) mod event;
pub(super) mod exception;
pub(super) mod frames;
pub(super) mod header_size;
pub(super) mod incoming;
pub(super) mod reply;
pub(super) mod request;
mod table;
pub(super) mod tagged;
