//! Genkan: one daemon in front of services that live in several worlds.
//!
//! The path of a call:
//!
//! ```text
//! bytes → protocol/X ingress → Call → Router → Request → Upstream (protocol/Y egress)
//!       ← X's wire table     ←          Reply | Fault        ←
//! ```

pub mod admin;
pub mod auth;
pub mod backoff;
pub mod batch;
pub mod budget;
pub mod call;
pub mod caller;
pub mod cli;
pub mod config;
mod der;
mod dial;
pub mod event;
pub mod event_port;
pub mod events;
pub mod exposer;
pub mod fault;
pub mod flood;
mod fnv;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gateway;
mod hex;
pub mod idempotency_key;
pub mod ingress;
mod json;
mod listener;
pub mod log;
pub mod metrics;
pub mod networks;
pub mod offer;
pub mod params;
pub mod pem;
pub mod printable;
pub mod protocol;
pub mod redact;
pub mod route;
pub mod router;
pub mod tasks;
pub mod tls;
pub mod token;
pub mod trace;
pub mod units;
pub mod upstream;
mod validity;
pub mod web;
