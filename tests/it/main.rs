//! Black-box tests: the real binary, configured as an operator would, between real clients and
//! real services on real brokers. A module per behaviour; what they stand on is in `harness`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]
#![expect(clippy::disallowed_methods, reason = "the harness is no part of the gateway")]
#![expect(unreachable_pub, reason = "the harness's own interface")]

mod amqp_1_0;
mod auth;
mod bare_calls;
mod breaking;
mod browser;
mod certificates;
mod check_live;
mod client_lines;
mod clients;
mod command_line;
mod configuration;
mod connections;
mod demo;
mod deploying;
mod discovery;
mod draining;
mod envelope;
mod ethereum;
mod events;
mod faults;
mod forwarding;
mod harness;
mod http;
mod http2_resets;
mod hub;
mod javascript_client;
mod jsonrpc_upstream;
mod limiting;
mod limits;
mod listeners;
mod log;
mod logins;
mod memory;
mod mesh;
mod nameko;
mod nameko_brokers;
mod nameko_egress;
mod nameko_events;
mod nameko_exposes;
mod nameko_peers;
mod nameko_refusals;
mod nameko_wire;
mod nats;
mod nats_clusters;
mod nats_egress;
mod nats_events;
mod nats_exposes;
mod nats_goodbyes;
mod nats_micro;
mod nats_peers;
mod nats_streams;
mod nest;
mod operators_port;
mod outages;
mod pages;
mod params;
mod payloads;
mod queueing;
mod readers;
mod registry;
mod reloading;
mod retrying;
mod rows;
mod secrets;
mod series;
mod specification;
mod unsent;
mod uploads;
mod watching;
mod web_pages;
mod websocket;
