//! Juno: the hub that modules connect to over a socket (WIRE, section 3), ingress and upstream in
//! one.
//!
//! - `wire`: the frames, pure. Lines are read without being parsed, and written from raw text.
//! - `version`: versions and their ranges, pure.
//! - `hub`: the state machine, pure: modules, dependencies, functions, hooks, calls.
//! - `lines`, `outbox`: what has come in of a line, and what waits to be sent, pure.
//! - `stranger`: who speaks to the hub and is no module, pure.
//! - `shadow`: which modules the routing table takes calls from, pure.
//! - `peer`, `halves`, `connection`, `patience`, `socket`, `closing`: connections; `give_way`: when their other ends run
//!   first.
//! - `shared`: the hub behind its lock; `world`: what it does to the world; `leaving`: its modules'
//!   calls to other upstreams; `journal`: its log lines.
//! - `ingress`, `open_sockets`, `deadlines`, `egress`: the hub's life, and the upstream by the name
//!   `hub`.
//! - `page`: the modules for operators.
//!
//! Beyond the protocol: `message` and `data` beside an error's number; `token` in a register
//! frame, where `[hub.tokens]` asks for one; a result `{"error": …}` in the place of an error
//! frame, where `[hub] errors = "data"` asks for it; several instances of one module, where
//! `instances = "share"` allows it. No module may be called `genkan`: callees are told that name of
//! callers from outside of the hub.

mod closing;
mod config;
mod connection;
mod deadlines;
mod egress;
mod events;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod give_way;
mod halves;
mod hub;
mod ingress;
mod journal;
mod late;
mod leaving;
mod lines;
mod open_sockets;
mod origin;
mod outbox;
mod page;
mod patience;
mod peer;
mod shadow;
mod shared;
mod socket;
mod stranger;
mod token_files;
mod version;
mod wire;
mod world;

use crate::ingress::IngressKind;

/// The hub's name, as an ingress and as an upstream.
const NAME: &str = "hub";

/// The hub, as an ingress.
pub fn ingress_kind() -> IngressKind {
    let (read, bind) = (config::read, Box::new(ingress::bind));
    IngressKind { name: NAME, labels: &[NAME], open_for: None, read, bind }
}
