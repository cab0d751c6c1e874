//! The plan of a run with the hub: what is started, and in which order it is measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::daemon::Daemon;
use super::pair::{CALLED, SUM};
use crate::args::{Args, Part};
use crate::support::child::Copy;
use crate::support::gateway::Gateway;
use crate::support::http::PAYLOAD;
use crate::support::note::note;
use crate::support::place::free_port;
use crate::support::process::Memory;
use crate::support::subject::{Sample, Subject};

/// The calls in flight that are measured, and how many calls a round makes.
pub(crate) const IN_FLIGHT: [(usize, u64); 3] = [(1, 20_000), (16, 60_000), (64, 80_000)];
/// The listeners that a hook is measured with, and how many hooks a round triggers.
pub(crate) const LISTENERS: [(usize, u64); 4] = [(10, 2_000), (100, 400), (1_000, 60), (2_000, 30)];
/// The keep-alive connections over HTTP.
pub(crate) const CONNECTIONS: usize = 64;
const HTTP_CALLS: u64 = 40_000;
/// The modules whose memory is measured.
pub(crate) const IDLE_MODULES: usize = 5_000;
/// How long memory is left to settle.
const SETTLE: Duration = Duration::from_secs(1);

/// What is measured. Each names a process and a load on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    RelayCalls,
    HubCalls,
    JunoCalls,
    AxumEcho,
    HubHttp,
    RelayHooks,
    HubHooks,
}

/// Everything that a run has found.
#[derive(Debug)]
pub(crate) struct Results {
    /// By what, and by how many calls in flight, connections or listeners.
    pub(crate) samples: BTreeMap<(What, usize), Vec<Sample>>,
    /// Resident for each idle module, in KiB.
    pub(crate) memory: Option<f64>,
}

/// Programs that a run needs and does not measure itself, and those that it measures.
#[derive(Default)]
struct Plan {
    copies: Vec<Copy>,
    hubs: Vec<Gateway>,
    daemon: Option<Daemon>,
    subjects: Vec<Subject>,
    turns: Vec<Turn>,
}

/// What takes its turn in each round.
struct Turn {
    what: What,
    at: usize,
    subject: usize,
    calls: u64,
}

/// Starts and measures.
pub(crate) fn all(args: &Args) -> Result<Results> {
    note("starting hub and relays");
    let mut plan = Plan::default();
    let http = args.wants(Part::HubHttp);
    if args.wants(Part::HubCalls) || http {
        plan.calls(args, http)?;
    }
    if args.wants(Part::HubHooks) {
        plan.hooks(args)?;
    }
    let samples = plan.run(args.rounds())?;
    drop(plan);
    let measures_memory = args.wants(Part::HubMemory) && !args.floors;
    let memory = measures_memory.then(idle_memory).transpose()?;
    Ok(Results { samples, memory })
}

impl Plan {
    /// Calls between two modules; `http` adds those that come over HTTP, of which the relay's
    /// calls are a floor.
    fn calls(&mut self, args: &Args, http: bool) -> Result<()> {
        let relay = Copy::start(&["relay-pair"])?;
        let address = format!("127.0.0.1:{}", relay.port()?);
        self.copies.push(Copy::start(&["callee", &address, SUM])?);
        let subject = Subject::new(Copy::start(&["caller", &address])?, Some(relay.pid()));
        self.copies.push(relay);
        let relay = self.add(subject);
        let mut hub = None;
        if !args.floors {
            let (gateway, address) = start_hub("hub-calls")?;
            let address = address.to_string();
            hub = Some(self.modules(&address, gateway.pid())?);
            if http {
                self.http(args, &gateway, &address)?;
            }
            self.hubs.push(gateway);
        } else if http {
            self.axum(args)?;
        }
        let all = args.wants(Part::HubCalls);
        let juno = args.juno.as_deref().filter(|_| all).map(Daemon::start).transpose()?;
        if let Some(daemon) = juno {
            let subject = self.modules(&daemon.address.to_string(), daemon.pid())?;
            self.daemon = Some(daemon);
            for (at, calls) in IN_FLIGHT {
                let calls = args.calls(calls);
                self.turns.push(Turn { what: What::JunoCalls, at, subject, calls });
            }
        }
        for (at, calls) in IN_FLIGHT.into_iter().filter(|(at, _)| all || *at == CONNECTIONS) {
            let calls = args.calls(calls);
            self.turns.push(Turn { what: What::RelayCalls, at, subject: relay, calls });
            if let Some(subject) = hub {
                self.turns.push(Turn { what: What::HubCalls, at, subject, calls });
            }
        }
        Ok(())
    }

    /// A module that calls another, and the process between them.
    fn modules(&mut self, address: &str, pid: u32) -> Result<usize> {
        let (id, function) = CALLED;
        self.copies.push(start_callee(address, SUM, id, function)?);
        let caller = Copy::start(&["caller", address, "--module", "rcaller"])?;
        Ok(self.add(Subject::new(caller, Some(pid))))
    }

    fn http(&mut self, args: &Args, gateway: &Gateway, hub: &str) -> Result<()> {
        self.axum(args)?;
        self.copies.push(start_callee(hub, PAYLOAD, "echo", "echo")?);
        let address = gateway.address.to_string();
        let load = Copy::start(&["http-load", &address, "echo.echo", "result"])?;
        let subject = self.add(Subject::new(load, Some(gateway.pid())));
        let calls = args.calls(HTTP_CALLS);
        self.turns.push(Turn { what: What::HubHttp, at: CONNECTIONS, subject, calls });
        Ok(())
    }

    fn axum(&mut self, args: &Args) -> Result<()> {
        let axum = Copy::start(&["axum-echo"])?;
        let address = format!("127.0.0.1:{}", axum.port()?);
        let load = Copy::start(&["http-load", &address, "echo.echo", "echo"])?;
        let subject = self.add(Subject::new(load, Some(axum.pid())));
        self.copies.push(axum);
        let calls = args.calls(HTTP_CALLS);
        self.turns.push(Turn { what: What::AxumEcho, at: CONNECTIONS, subject, calls });
        Ok(())
    }

    /// One hook to so many listeners; each number has a relay of its own, all share a hub.
    fn hooks(&mut self, args: &Args) -> Result<()> {
        let hub = if args.floors { None } else { Some(start_hub("hub-hooks")?) };
        for (at, hooks) in LISTENERS {
            let (count, calls) = (at.to_string(), args.calls(hooks));
            let relay = Copy::start(&["relay-fan", &count])?;
            let address = format!("127.0.0.1:{}", relay.port()?);
            let crowd = Copy::start(&["listeners", &address, &count, "--bare"])?;
            let subject = self.add(Subject::new(crowd, Some(relay.pid())));
            self.copies.push(relay);
            self.turns.push(Turn { what: What::RelayHooks, at, subject, calls });
            if let Some((gateway, address)) = &hub {
                let crowd = Copy::start(&["listeners", &address.to_string(), &count])?;
                let subject = self.add(Subject::new(crowd, Some(gateway.pid())));
                self.turns.push(Turn { what: What::HubHooks, at, subject, calls });
            }
        }
        self.hubs.extend(hub.map(|(gateway, _)| gateway));
        Ok(())
    }

    fn add(&mut self, subject: Subject) -> usize {
        self.subjects.push(subject);
        self.subjects.len() - 1
    }

    fn run(&mut self, rounds: u32) -> Result<BTreeMap<(What, usize), Vec<Sample>>> {
        let mut samples: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for round in 1..=rounds {
            for Turn { what, at, subject, calls } in &self.turns {
                note(&format!("{what:?} at {at}, round {round} of {rounds}"));
                let sample = self.subjects[*subject].measure(*at, *calls)?;
                samples.entry((*what, *at)).or_default().push(sample);
            }
        }
        Ok(samples)
    }
}

/// What is resident for each idle module, in KiB.
fn idle_memory() -> Result<f64> {
    note("idle modules");
    let (gateway, address) = start_hub("hub-memory")?;
    let address = address.to_string();
    // What the first module makes the hub load is not for the others to pay.
    let mut first = Copy::start(&["crowd", &address])?;
    first.open(1)?;
    sleep(SETTLE);
    let before = Memory::read(gateway.pid())?.resident;
    let mut crowd = Copy::start(&["crowd", &address])?;
    crowd.open(IDLE_MODULES)?;
    sleep(SETTLE);
    let after = Memory::read(gateway.pid())?.resident;
    Ok((after - before) * 1024.0 / IDLE_MODULES as f64)
}

fn start_callee(address: &str, answer: &str, id: &str, function: &str) -> Result<Copy> {
    Copy::start(&["callee", address, answer, "--module", id, "--function", function])
}

/// A gateway with nothing but its hub, and where modules reach it.
fn start_hub(name: &str) -> Result<(Gateway, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let gateway = Gateway::start(name, &format!("[hub]\nlisten = [\"tcp://{address}\"]\n"))?;
    Ok((gateway, address))
}
