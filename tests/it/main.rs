//! Black-box tests: the real binary, configured as an operator would, between real clients and
//! real services on real brokers. A module per behaviour; what they stand on is in `harness`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]
#![allow(clippy::disallowed_methods, reason = "the harness is no part of the gateway")]
#![allow(unreachable_pub, reason = "the harness's own interface")]
#![allow(clippy::let_underscore_must_use, reason = "tests drop what they do not look at")]

mod bare_calls;
mod clients;
mod command_line;
mod configuration;
mod demo;
mod draining;
mod envelope;
mod faults;
mod harness;
mod http;
mod hub;
mod limits;
mod logins;
mod nameko;
mod nameko_wire;
mod nats;
mod outages;
mod params;
mod payloads;
mod reloading;
mod specification;
mod watching;
