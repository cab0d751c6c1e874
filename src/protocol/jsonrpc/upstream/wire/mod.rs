//! JSON-RPC 2.0 over HTTP as a service speaks it: pure.
//!
//! - `request`: the body of a call, and the headers that travel with it.
//! - `answer`: the reply or the fault that an answer is, by its status and its body.
//! - `offered`: what a service says can be called.
//! - `error`: the fault that an `error` object is.

mod answer;
mod error;
mod offered;
mod request;

pub(super) use answer::{Received, decode, decode_receipt};
pub(super) use offered::{QUESTIONS, offers};
pub(super) use request::{context, message};
