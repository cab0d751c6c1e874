//! JSON-RPC 2.0: the HTTP ingress, and services over HTTP as upstreams.
//!
//! - `envelope`, `name`, `answer`: the wire, pure. Requests are cut out of the body, answers are
//!   written around the payload.
//! - `http`: the server, and the two ways of calling: with the envelope (`/api`) and without
//!   (`/call`); WebSocket, with it.
//! - `mark`: how a gateway knows what another says of its very call.
//! - `upstream`: the other way, calls of JSON-RPC services.
//! - `registry`: where such services announce themselves; `guard` is where nobody is taken for it.
//!
//! The only folder beside `admin` that knows axum.

mod answer;
mod config;
mod discovery;
mod envelope;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod guard;
mod http;
mod mark;
mod name;
mod registry;
mod upstream;

use std::sync::Arc;

use crate::config::ReadConnector;
use crate::ingress::IngressKind;

pub use config::{ClientCerts, CorsConfig, HttpConfig, TlsConfig, WebSocketConfig};

/// In `protocol = "…"`.
pub(crate) const WORD: &str = "jsonrpc";

/// What JSON-RPC has in one process: its parts share a registry of services.
pub(crate) struct Parts {
    /// Services over HTTP, as upstreams.
    pub(crate) read_connector: ReadConnector,
    /// HTTP, and the registry, which is asked over it.
    pub(crate) ingresses: [IngressKind; 2],
}

/// Makes them.
pub(crate) fn parts() -> Parts {
    let registry = registry::Registry::new();
    let (for_http, for_upstreams) = (Arc::clone(&registry), Arc::clone(&registry));
    Parts {
        read_connector: Arc::new(move |section| upstream::read_connector(&for_upstreams, section)),
        ingresses: [
            IngressKind {
                name: http::NAME,
                labels: &[http::NAME, http::WEBSOCKET],
                open_for: Some(WORD),
                read: config::read,
                bind: Box::new(move |settings, tasks| http::bind(&for_http, settings, tasks)),
            },
            IngressKind {
                name: registry::NAME,
                // What it is asked comes in by HTTP.
                labels: &[],
                open_for: None,
                read: registry::read,
                bind: Box::new(move |settings, tasks| registry::bind(&registry, settings, tasks)),
            },
        ],
    }
}
