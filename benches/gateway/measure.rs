//! The plan of a run: what is started, in which order it is measured, and how one number is taken.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::args::{Args, Part};
use crate::backends::{NAMEKO_SERVICE, PICOM_SERVICE};
use crate::brokers::{self, Broker};
use crate::child::Copy;
use crate::gateway::Gateway;
use crate::process::{Cpu, Memory};
use crate::report;
use crate::role::Run;
use crate::setup::Setup;

/// The connections, or concurrent callers, that everything is measured at.
pub(crate) const CONNECTIONS: [usize; 2] = [16, 64];
const HTTP_CALLS: u64 = 40_000;
const AMQP_CALLS: u64 = 15_000;
/// The totals of calls after which memory is read.
const MEMORY_AFTER: [u64; 2] = [100_000, 500_000];
const IDLE: Duration = Duration::from_secs(3);

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

/// One measured load.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// The process's CPU per call, in microseconds.
    pub(crate) cpu: f64,
    /// RabbitMQ's CPU per call beyond its idling, in microseconds.
    pub(crate) broker: Option<f64>,
    #[serde(flatten)]
    pub(crate) run: Run,
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
    pub(crate) setup: Setup,
    pub(crate) rounds: u32,
    pub(crate) samples: BTreeMap<(What, usize), Vec<Sample>>,
    pub(crate) memory: Vec<MemoryPoint>,
}

/// A process under a load that `driver` makes.
struct Subject {
    what: What,
    driver: Copy,
    pid: u32,
    calls: u64,
    broker: Option<IdleBroker>,
}

/// A broker, and the share of a core that it uses for nothing.
#[derive(Clone, Copy)]
struct IdleBroker {
    pid: u32,
    idle: f64,
}

/// Starts, measures, prints.
pub(crate) fn all(args: &Args) -> Result<()> {
    note("starting the brokers");
    let nats = brokers::nats()?;
    let rabbit = brokers::rabbitmq()?;
    let setup = Setup::look(&nats.version, &rabbit.version);
    let _picom = Copy::start(&["picom-responder", &nats.url])?;
    let _nameko = Copy::start(&["nameko-responder", &rabbit.url])?;
    let measures_cpu = args.wants(Part::Nats) || args.wants(Part::Nameko);
    let samples = if measures_cpu { cpu(args, &nats, &rabbit)? } else { BTreeMap::new() };
    let measures_memory = args.wants(Part::Memory) && !args.floors;
    let memory = if measures_memory { resident(args, &nats, &rabbit)? } else { Vec::new() };
    note("");
    let results = Results { setup, rounds: args.rounds(), samples, memory };
    report::print(&results)?;
    if let Some(path) = &args.json {
        report::write_json(&results, path)?;
    }
    Ok(())
}

fn cpu(
    args: &Args,
    nats: &Broker,
    rabbit: &Broker,
) -> Result<BTreeMap<(What, usize), Vec<Sample>>> {
    let axum = Copy::start(&["axum-echo"])?;
    let gateway = match args.floors {
        true => None,
        false => Some(Gateway::start(&nats.url, &rabbit.url, "gateway")?),
    };
    let mut subjects = subjects(args, nats, rabbit, &axum, gateway.as_ref())?;
    let mut samples: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let rounds = args.rounds();
    for connections in CONNECTIONS {
        for round in 1..=rounds {
            for subject in &mut subjects {
                let what = subject.what;
                note(&format!("{what:?} at {connections}, round {round} of {rounds}"));
                let sample = subject.measure(connections)?;
                samples.entry((what, connections)).or_default().push(sample);
            }
        }
    }
    Ok(samples)
}

fn subjects(
    args: &Args,
    nats: &Broker,
    rabbit: &Broker,
    axum: &Copy,
    gateway: Option<&Gateway>,
) -> Result<Vec<Subject>> {
    let (http, amqp) = (args.calls(HTTP_CALLS), args.calls(AMQP_CALLS));
    let method = format!("{PICOM_SERVICE}.echo");
    let address = format!("127.0.0.1:{}", axum.port()?);
    let load = Copy::start(&["http-load", &address, &method, "echo"])?;
    let mut subjects = vec![Subject::new(What::AxumEcho, load, Some(axum.pid()), http)];
    if args.wants(Part::Nats) {
        let one = Copy::start(&["nats-client", &nats.url, &method, "--one-thread"])?;
        subjects.push(Subject::new(What::NatsClient, one, None, http));
        let threads = Copy::start(&["nats-client", &nats.url, &method])?;
        subjects.push(Subject::new(What::NatsClientThreads, threads, None, http));
        if let Some(gateway) = gateway {
            let address = gateway.address.to_string();
            let load = Copy::start(&["http-load", &address, &method, "result"])?;
            subjects.push(Subject::new(What::GatewayNats, load, Some(gateway.pid()), http));
        }
    }
    if args.wants(Part::Nameko) {
        let client = Copy::start(&["lapin-client", &rabbit.url])?;
        let persistent = Copy::start(&["lapin-client", &rabbit.url, "--persistent"])?;
        note("RabbitMQ idles");
        let broker = IdleBroker::watch(rabbit.pid())?;
        let mut add = |what, driver, pid, calls| {
            let subject = Subject::new(what, driver, pid, calls);
            subjects.push(Subject { broker: Some(broker), ..subject });
        };
        add(What::LapinClient, client, None, amqp);
        if let Some(gateway) = gateway {
            let method = format!("{NAMEKO_SERVICE}.echo");
            let load =
                Copy::start(&["http-load", &gateway.address.to_string(), &method, "result"])?;
            add(What::GatewayNameko, load, Some(gateway.pid()), amqp);
        }
        add(What::LapinPersistent, persistent, None, amqp / 2);
    }
    Ok(subjects)
}

fn resident(args: &Args, nats: &Broker, rabbit: &Broker) -> Result<Vec<MemoryPoint>> {
    let gateway = Gateway::start(&nats.url, &rabbit.url, "memory")?;
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

impl Subject {
    /// A process under load, `pid`, or else the driver itself.
    fn new(what: What, driver: Copy, pid: Option<u32>, calls: u64) -> Self {
        let pid = pid.unwrap_or_else(|| driver.pid());
        Self { what, driver, pid, calls, broker: None }
    }

    fn measure(&mut self, connections: usize) -> Result<Sample> {
        self.driver.open(connections)?;
        self.driver.run(self.calls / 5)?;
        let before = Cpu::read(self.pid)?;
        let broker_before = self.broker.map(|broker| Cpu::read(broker.pid)).transpose()?;
        let run = self.driver.run(self.calls)?;
        let (cpu, _) = Cpu::read(self.pid)?.since(&before);
        let per_call = |seconds: f64| seconds * 1e6 / self.calls as f64;
        let broker = match (self.broker, broker_before) {
            (Some(broker), Some(before)) => {
                let (cpu, wall) = Cpu::read(broker.pid)?.since(&before);
                Some(per_call(cpu.as_secs_f64() - broker.idle * wall.as_secs_f64()))
            }
            _ => None,
        };
        self.driver.close()?;
        Ok(Sample { cpu: per_call(cpu.as_secs_f64()), broker, run })
    }
}

impl IdleBroker {
    fn watch(pid: u32) -> Result<Self> {
        let before = Cpu::read(pid)?;
        sleep(IDLE);
        let (cpu, wall) = Cpu::read(pid)?.since(&before);
        Ok(Self { pid, idle: cpu.as_secs_f64() / wall.as_secs_f64() })
    }
}

/// Shows what goes on, on a terminal only, in one line that the next one replaces.
fn note(text: &str) {
    let mut out = stderr().lock();
    if out.is_terminal() {
        // Progress that cannot be shown is no reason to end a run.
        let _shown = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
    }
}
