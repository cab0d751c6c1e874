//! The plan of a run in front of brokers: what is started, and in which order it is measured.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::backends::{NAMEKO_SERVICE, PICOM_SERVICE};
use super::brokers::{self, Broker};
use crate::args::{Args, Part};
use crate::support::child::Copy;
use crate::support::gateway::Gateway;
use crate::support::note::note;
use crate::support::process::Memory;
use crate::support::subject::{IdleBroker, Sample, Subject};

/// The connections, or concurrent callers, that everything is measured at.
pub(crate) const CONNECTIONS: [usize; 2] = [16, 64];
const HTTP_CALLS: u64 = 40_000;
const AMQP_CALLS: u64 = 15_000;
/// The totals of calls after which memory is read.
const MEMORY_AFTER: [u64; 2] = [100_000, 500_000];

/// What is measured. Each names a process and a load on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    AxumEcho,
    NatsClient,
    NatsClientThreads,
    GatewayNats,
    LapinClient,
    LapinPersistent,
    GatewayNameko,
}

/// What was resident after a total of calls.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryPoint {
    pub(crate) calls: u64,
    #[serde(flatten)]
    pub(crate) memory: Memory,
}

/// Everything that a run has found.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) nats_server: String,
    pub(crate) rabbitmq: String,
    pub(crate) samples: BTreeMap<(What, usize), Vec<Sample>>,
    pub(crate) memory: Vec<MemoryPoint>,
}

/// What takes its turn in each round.
struct Turn {
    what: What,
    subject: Subject,
    calls: u64,
}

/// Starts and measures.
pub(crate) fn all(args: &Args) -> Result<Results> {
    note("starting the brokers");
    let nats = brokers::nats()?;
    let rabbit = brokers::rabbitmq()?;
    let _picom = Copy::start(&["picom-responder", &nats.url])?;
    let _nameko = Copy::start(&["nameko-responder", &rabbit.url])?;
    let measures_cpu = args.wants(Part::Nats) || args.wants(Part::Nameko);
    let samples = if measures_cpu { cpu(args, &nats, &rabbit)? } else { BTreeMap::new() };
    let measures_memory = args.wants(Part::Memory) && !args.floors;
    let memory = if measures_memory { resident(args, &nats, &rabbit)? } else { Vec::new() };
    Ok(Results { nats_server: nats.version, rabbitmq: rabbit.version, samples, memory })
}

fn cpu(
    args: &Args,
    nats: &Broker,
    rabbit: &Broker,
) -> Result<BTreeMap<(What, usize), Vec<Sample>>> {
    let axum = Copy::start(&["axum-echo"])?;
    let gateway = match args.floors {
        true => None,
        false => Some(start_gateway("gateway", nats, rabbit)?),
    };
    let mut turns = turns(args, nats, rabbit, &axum, gateway.as_ref())?;
    let mut samples: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let rounds = args.rounds();
    for connections in CONNECTIONS {
        for round in 1..=rounds {
            for Turn { what, subject, calls } in &mut turns {
                note(&format!("{what:?} at {connections}, round {round} of {rounds}"));
                let sample = subject.measure(connections, *calls)?;
                samples.entry((*what, connections)).or_default().push(sample);
            }
        }
    }
    Ok(samples)
}

fn turns(
    args: &Args,
    nats: &Broker,
    rabbit: &Broker,
    axum: &Copy,
    gateway: Option<&Gateway>,
) -> Result<Vec<Turn>> {
    let (http, amqp) = (args.calls(HTTP_CALLS), args.calls(AMQP_CALLS));
    let method = format!("{PICOM_SERVICE}.echo");
    let address = format!("127.0.0.1:{}", axum.port()?);
    let mut turns = Vec::new();
    let mut add = |what, subject, calls| turns.push(Turn { what, subject, calls });
    let load = Copy::start(&["http-load", &address, &method, "echo"])?;
    add(What::AxumEcho, Subject::new(load, Some(axum.pid())), http);
    if args.wants(Part::Nats) {
        let one = Copy::start(&["nats-client", &nats.url, &method, "--one-thread"])?;
        add(What::NatsClient, Subject::new(one, None), http);
        let threads = Copy::start(&["nats-client", &nats.url, &method])?;
        add(What::NatsClientThreads, Subject::new(threads, None), http);
        if let Some(gateway) = gateway {
            let address = gateway.address.to_string();
            let load = Copy::start(&["http-load", &address, &method, "result"])?;
            add(What::GatewayNats, Subject::new(load, Some(gateway.pid())), http);
        }
    }
    if args.wants(Part::Nameko) {
        let client = Copy::start(&["lapin-client", &rabbit.url])?;
        let persistent = Copy::start(&["lapin-client", &rabbit.url, "--persistent"])?;
        note("RabbitMQ idles");
        let broker = IdleBroker::watch(rabbit.pid())?;
        let subject = |driver, pid| Subject::new(driver, pid).before(broker);
        add(What::LapinClient, subject(client, None), amqp);
        if let Some(gateway) = gateway {
            let method = format!("{NAMEKO_SERVICE}.echo");
            let address = gateway.address.to_string();
            let load = Copy::start(&["http-load", &address, &method, "result"])?;
            add(What::GatewayNameko, subject(load, Some(gateway.pid())), amqp);
        }
        add(What::LapinPersistent, subject(persistent, None), amqp / 2);
    }
    Ok(turns)
}

/// A gateway in front of both responders.
fn start_gateway(name: &str, nats: &Broker, rabbit: &Broker) -> Result<Gateway> {
    let (nats, rabbit) = (&nats.url, &rabbit.url);
    let rest = format!(
        r#"
[hub]
listen = []

[upstreams.nats]
protocol = "nats"
servers = ["{nats}"]
dialect = "picom"

[upstreams.rabbit]
protocol = "nameko"
url = "{rabbit}"

[[routes]]
match = "{PICOM_SERVICE}.*"
upstream = "nats"

[[routes]]
match = "{NAMEKO_SERVICE}.*"
upstream = "rabbit"
"#
    );
    Gateway::start(name, &rest)
}

fn resident(args: &Args, nats: &Broker, rabbit: &Broker) -> Result<Vec<MemoryPoint>> {
    let gateway = start_gateway("memory", nats, rabbit)?;
    let method = format!("{PICOM_SERVICE}.echo");
    let mut load = Copy::start(&["http-load", &gateway.address.to_string(), &method, "result"])?;
    let mut points = Vec::new();
    let read = |calls| Memory::read(gateway.pid()).map(|memory| MemoryPoint { calls, memory });
    load.open(CONNECTIONS[1])?;
    points.push(read(0)?);
    let mut made = 0;
    for total in MEMORY_AFTER {
        let total = args.calls(total);
        while made < total {
            note(&format!("memory: {made} of {total} calls"));
            let calls = (total - made).min(HTTP_CALLS);
            load.run(calls)?;
            made += calls;
        }
        points.push(read(total)?);
    }
    Ok(points)
}
