//! Black-box tests: the real binary, configured as an operator would, between real clients and
//! real services on real brokers. A module per behaviour; what they stand on is in `harness`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]
#![expect(clippy::disallowed_methods, reason = "the harness is no part of the gateway")]
#![expect(unreachable_pub, reason = "the harness's own interface")]

mod bare_calls;
mod certificates;
mod client_lines;
mod clients;
mod command_line;
mod configuration;
mod connections;
mod demo;
mod draining;
mod envelope;
mod faults;
mod harness;
mod http;
mod hub;
mod limits;
mod listeners;
mod log;
mod logins;
mod memory;
mod nameko;
mod nameko_brokers;
mod nameko_egress;
mod nameko_peers;
mod nameko_refusals;
mod nameko_wire;
mod nats;
mod nats_egress;
mod nats_goodbyes;
mod nats_micro;
mod nats_peers;
mod nats_streams;
mod operators_port;
mod outages;
mod params;
mod payloads;
mod readers;
mod reloading;
mod rows;
mod secrets;
mod specification;
mod unsent;
mod uploads;
mod watching;
mod web_pages;
