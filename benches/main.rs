//! What the gateway costs beside the parts it is made of, measured in one run: `make bench`.
//!
//! ```text
//!   load ──HTTP──> axum echo                                floor: HTTP
//!   async-nats client ──nats-server──> picom responder      floor: NATS
//!   lapin client ──RabbitMQ──> Nameko responder             floor: AMQP
//!   load ──HTTP──> genkan serve ──> the same two responders
//!   load ──one WebSocket──> genkan serve ──> the picom responder
//!   load ──HTTP──> nginx ──HTTP──> axum echo                what proxying takes
//!   load ──HTTP──> genkan serve, nginx, HAProxy ──HTTP──> a JSON-RPC service
//!   lapin client ──RabbitMQ──> genkan serve ──> the picom responder
//!   async-nats client ──nats-server──> genkan serve ──> the Nameko responder
//!   load ──HTTP──> Fastify and amqplib ──RabbitMQ──> …      what a gateway in Node.js takes
//!
//!   module ──> relay of lines ──> module                    floor: the hub
//!   module ──> genkan serve ──> module
//!   load ──HTTP──> genkan serve ──> module
//!
//!   NATS ──> a loop over sockets ──> 5,000 browsers         floor: events
//!   NATS ──> genkan serve ──> 5,000 browsers
//!   RabbitMQ ──> lapin, async-nats ──> JetStream            floor: a bridge
//!   RabbitMQ ──> genkan serve ──> JetStream
//! ```
//!
//! Every box is a process of its own, so that its CPU can be told apart: this program starts
//! itself again with a role as its argument. Floors and gateway take turns, round by round,
//! because a machine's speed drifts; what is built here runs on the gateway's allocator, with its
//! flags. nginx and the Node.js peer are as their packages ship them. Every answer is checked: a
//! gateway that fails fast is an error here, not a record. It measures and prints; it judges only
//! against the targets in each `report.rs` and `glance.rs`, and leaves no process and no file behind.

mod args;
mod events;
mod gateway;
mod hub;
mod support;

use std::fs;
use std::io::{Write, stdout};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use tikv_jemallocator::Jemalloc;

use args::{Args, Role};
use events::{bridge, fan, latency, subscribers};
use gateway::{backends, clients};
use hub::pair::Known;
use hub::{crowd, pair, relay};
use support::note::note;
use support::setup::Setup;
use support::{axum, http, websocket};

/// The gateway's own, so that floors differ from it in what they do alone.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> Result<()> {
    let mut args = Args::parse();
    match args.role.take() {
        Some(role) => play(role),
        None if !args.bench => {
            println!("nothing measured: run `make bench`");
            Ok(())
        }
        None => measure(&args),
    }
}

fn play(role: Role) -> Result<()> {
    match role {
        Role::AxumEcho => axum::echo(),
        Role::AxumJsonRpc => axum::json_rpc(),
        Role::HttpLoad { address, method, expect, large, bearer, bearers } => {
            let bearers = http::Bearers::read(bearer, bearers.as_deref())?;
            http::load(address, &method, expect, large, bearers)
        }
        Role::VerifyTokens { file, key } => gateway::trust::verify(&file, &key),
        Role::WebSocketLoad { address, method } => websocket::load(address, &method),
        Role::NatsClient { server, subject, one_thread } => {
            clients::nats(&server, subject, one_thread)
        }
        Role::LapinClient { url, persistent, service } => {
            clients::lapin(&url, persistent, &service)
        }
        Role::PicomResponder { server } => backends::picom(&server),
        Role::NamekoResponder { url } => backends::nameko(&url),
        Role::RelayPair => relay::pair(),
        Role::RelayFan { listeners } => relay::fan(listeners),
        Role::Callee { address, answer, module, function } => {
            pair::callee(address, answer, module.map(|id| Known { id, function }))
        }
        Role::Caller { address, module } => {
            pair::caller(address, module.map(|id| Known { id, function: None }))
        }
        Role::Subscribers { address, way, nats } => subscribers::subscribers(address, way, &nats),
        Role::EventFan { gateway, way, nats } => fan::fan(gateway, way, &nats),
        Role::EventSource { rabbit, nats, event } => bridge::source(&rabbit, &nats, &event),
        Role::BareBridge { rabbit, nats, event } => bridge::bare(&rabbit, &nats, &event),
        Role::EventLatency { rabbit, gateway } => latency::latency(&rabbit, gateway),
        Role::Crowd { address } => crowd::idle(address),
        Role::Listeners { address, count, bare } => crowd::listeners(address, count, bare),
    }
}

/// Starts, measures, prints.
fn measure(args: &Args) -> Result<()> {
    let gateway = args.wants_gateway().then(|| gateway::measure::all(args)).transpose()?;
    let hub = args.wants_hub().then(|| hub::measure::all(args)).transpose()?;
    let events = args.wants_events().then(|| events::measure::all(args)).transpose()?;
    note("");
    let setup = Setup::look();
    let mut out = setup.line(args.rounds());
    if let Some(results) = &gateway {
        gateway::report::tables(results, &mut out);
    }
    if let Some(results) = &hub {
        hub::report::tables(results, &mut out);
    }
    if let Some(results) = &events {
        events::report::tables(results, &mut out);
    }
    stdout().lock().write_all(out.as_bytes())?;
    let Some(path) = &args.json else { return Ok(()) };
    let all = json!({
        "setup": setup,
        "gateway": gateway.as_ref().map(gateway::report::json),
        "hub": hub.as_ref().map(hub::report::json),
        "events": events.as_ref().map(events::report::json),
    });
    let text = serde_json::to_string_pretty(&all)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
