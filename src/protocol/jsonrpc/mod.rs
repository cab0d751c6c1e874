//! JSON-RPC 2.0: the HTTP ingress.
//!
//! - `envelope`, `name`, `answer`: the wire, pure. Requests are cut out of the body, answers are
//!   written around the payload.
//! - `http`: the server, and the two ways of calling: with the envelope (`/api`) and without
//!   (`/call`).
//!
//! The only folder beside `admin` that knows axum.

mod answer;
mod config;
mod envelope;
mod http;
mod name;

use crate::ingress::IngressKind;

pub use config::{CorsConfig, HttpConfig, TlsConfig};

/// HTTP, as an ingress.
pub const INGRESS: IngressKind =
    IngressKind { name: http::NAME, read: config::read, bind: http::bind };
