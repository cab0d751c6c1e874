//! Nameko's wire format as pure functions: what a call looks like on AMQP, what a reply means.
//!
//! Nothing here does I/O. AMQP's own types are used because Nameko's headers are AMQP tables;
//! they go no further than this folder.

pub(super) mod compression;
pub(super) mod exception;
pub(super) mod frames;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod tagged;
