//! The plan of a run with events: what is started, and in which order it is measured.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::bridge::{STREAM, SUBJECT};
use super::subscribers::Way;
use crate::args::{Args, Part};
use crate::gateway::brokers::{self, Broker};
use crate::support::child::Copy;
use crate::support::gateway::Gateway;
use crate::support::note::note;
use crate::support::process::Memory;
use crate::support::role::Run;
use crate::support::subject::{Sample, Subject};

/// The subscribers that hear each event.
pub(crate) const SUBSCRIBERS: usize = 5_000;
/// How many events a round brings to all of them.
const FANNED: u64 = 60;
/// How many events a bridge carries in a round.
const CARRIED: u64 = 20_000;
/// How many events a round publishes one by one.
const HEARD: u64 = 4_000;
/// How long memory is left to settle.
const SETTLE: Duration = Duration::from_secs(15);
/// The types of the events that each bridge carries.
const BY_GATEWAY: &str = "by_gateway";
const BY_BARE: &str = "by_bare";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    LoopWebSocket,
    GatewayWebSocket,
    LoopSse,
    GatewaySse,
    LapinEvents,
    GatewayEvents,
}

/// Everything that a run has found.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) samples: BTreeMap<What, Vec<Sample>>,
    /// How long the bare bridge and the gateway's took.
    pub(crate) bare: Vec<Run>,
    pub(crate) bridge: Vec<Run>,
    /// Resident for each idle subscriber, in KiB, by its way.
    pub(crate) memory: BTreeMap<Way, f64>,
}

/// Starts and measures.
pub(crate) fn all(args: &Args) -> Result<Results> {
    let mut results = Results::default();
    let nats = brokers::nats()?;
    for way in [Way::WebSocket, Way::Sse] {
        if args.wants(Part::EventsFan) {
            fan(args, &nats, way, &mut results)?;
        }
        if args.wants(Part::EventsMemory) && !args.floors {
            results.memory.insert(way, idle(&nats, way)?);
        }
    }
    if args.wants(Part::EventsBridge) || args.wants(Part::EventsLatency) {
        note("starting the brokers");
        let rabbit = brokers::rabbitmq()?;
        if args.wants(Part::EventsLatency) {
            latency(args, &rabbit, &nats, &mut results)?;
        }
        if args.wants(Part::EventsBridge) {
            bridge(args, &rabbit, &nats, &mut results)?;
        }
    }
    Ok(results)
}

fn name(way: Way) -> String {
    way.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A gateway whose topics come from NATS.
fn from_nats(nats: &Broker) -> Result<Gateway> {
    let rest = format!(
        r#"
[hub]
listen = []

[upstreams.bus]
protocol = "nats"
servers = ["{}"]

[[topics]]
match = "bench.*"
from = "bus:bench.*"
"#,
        nats.url
    );
    Gateway::start("events", &rest)
}

fn fan(args: &Args, nats: &Broker, way: Way, results: &mut Results) -> Result<()> {
    let gateway = from_nats(nats)?;
    let (address, way_name) = (gateway.address.to_string(), name(way));
    let bare = Copy::start(&["event-fan", &address, &way_name, &nats.url])?;
    let bare_address = format!("127.0.0.1:{}", bare.port()?);
    let crowd = |address: &str| Copy::start(&["subscribers", address, &way_name, &nats.url]);
    let whats = match way {
        Way::WebSocket => (What::LoopWebSocket, What::GatewayWebSocket),
        Way::Sse => (What::LoopSse, What::GatewaySse),
    };
    let mut turns = vec![(whats.0, Subject::new(crowd(&bare_address)?, Some(bare.pid())))];
    if !args.floors {
        turns.push((whats.1, Subject::new(crowd(&address)?, Some(gateway.pid()))));
    }
    for round in 1..=args.rounds() {
        for (what, subject) in &mut turns {
            note(&format!("{what:?}, round {round} of {}", args.rounds()));
            let sample = subject.measure(SUBSCRIBERS, args.calls(FANNED))?;
            results.samples.entry(*what).or_default().push(sample);
        }
    }
    Ok(())
}

/// What is resident for each subscriber that hears nothing, in KiB.
fn idle(nats: &Broker, way: Way) -> Result<f64> {
    note("idle subscribers");
    let gateway = from_nats(nats)?;
    let address = gateway.address.to_string();
    // What the first one makes the gateway load is not for the others to pay.
    let mut first = Copy::start(&["subscribers", &address, &name(way), &nats.url])?;
    first.open(1)?;
    sleep(SETTLE);
    let before = Memory::read(gateway.pid())?.resident;
    let mut crowd = Copy::start(&["subscribers", &address, &name(way), &nats.url])?;
    crowd.open(SUBSCRIBERS)?;
    sleep(SETTLE);
    let after = Memory::read(gateway.pid())?.resident;
    Ok((after - before) * 1024.0 / SUBSCRIBERS as f64)
}

fn latency(args: &Args, rabbit: &Broker, nats: &Broker, results: &mut Results) -> Result<()> {
    let mut turns = vec![(
        What::LapinEvents,
        Subject::new(Copy::start(&["event-latency", &rabbit.url])?, None),
    )];
    let gateway = (!args.floors).then(|| from_rabbit(rabbit, nats)).transpose()?;
    if let Some(gateway) = &gateway {
        let address = gateway.address.to_string();
        let browser = Copy::start(&["event-latency", &rabbit.url, "--gateway", &address])?;
        turns.push((What::GatewayEvents, Subject::new(browser, Some(gateway.pid()))));
    }
    for round in 1..=args.rounds() {
        for (what, subject) in &mut turns {
            note(&format!("{what:?}, round {round} of {}", args.rounds()));
            let sample = subject.measure(1, args.calls(HEARD))?;
            results.samples.entry(*what).or_default().push(sample);
        }
    }
    Ok(())
}

/// A gateway that brings a Nameko service's events to browsers.
fn from_rabbit(rabbit: &Broker, nats: &Broker) -> Result<Gateway> {
    let topics = "[[topics]]\nmatch = \"bench.*\"\nfrom = \"rabbit:bench.*\"\n";
    Gateway::start("browser", &format!("{}{topics}", upstreams(rabbit, nats)))
}

fn upstreams(rabbit: &Broker, nats: &Broker) -> String {
    format!(
        r#"
[hub]
listen = []

[upstreams.rabbit]
protocol = "nameko"
url = "{}"

[upstreams.bus]
protocol = "nats"
servers = ["{}"]

"#,
        rabbit.url, nats.url
    )
}

/// Fills the queue of each bridge while it is away, and has it emptied into the stream.
fn bridge(args: &Args, rabbit: &Broker, nats: &Broker, results: &mut Results) -> Result<()> {
    let source = |event| Copy::start(&["event-source", &rabbit.url, &nats.url, event]);
    let (mut to_bare, mut to_gateway) = (source(BY_BARE)?, source(BY_GATEWAY)?);
    let mut bare = Copy::start(&["bare-bridge", &rabbit.url, &nats.url, BY_BARE])?;
    let row = format!(
        "[[bridges]]\nfrom = \"rabbit:bench.{BY_GATEWAY}\"\nto = [\"bus:stream/{STREAM}/{SUBJECT}\"]\n"
    );
    let configuration = format!("{}{row}", upstreams(rabbit, nats));
    if !args.floors {
        let first = Gateway::start("bridge", &configuration)?;
        to_gateway.open(1)?;
        drop(first);
    }
    let (events, rounds) = (args.calls(CARRIED), args.rounds());
    for round in 1..=rounds {
        note(&format!("the bare bridge, round {round} of {rounds}"));
        to_bare.open(usize::try_from(events)?)?;
        bare.open(1)?;
        results.bare.push(to_bare.run(events)?);
        bare.close()?;
        if args.floors {
            continue;
        }
        note(&format!("the gateway's bridge, round {round} of {rounds}"));
        to_gateway.open(usize::try_from(events)?)?;
        let gateway = Gateway::start("bridge", &configuration)?;
        results.bridge.push(to_gateway.run(events)?);
        drop(gateway);
    }
    Ok(())
}
