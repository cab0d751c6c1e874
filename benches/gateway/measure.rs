//! The plan of a run in front of brokers: what is started, and in which order it is measured.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::backends::{NAMEKO_SERVICE, PICOM_SERVICE};
use super::brokers::{self, Broker};
use super::peers::{self, Peer};
use super::scale::{self, MANY, Scale};
use super::{exposed, jsonrpc, trust};
use crate::args::{Args, Part};
use crate::support::child::Copy;
use crate::support::gateway::Gateway;
use crate::support::note::note;
use crate::support::process::Memory;
use crate::support::subject::{IdleBroker, Sample, Subject};

/// The connections, or concurrent callers, that everything is measured at.
pub(crate) const CONNECTIONS: [usize; 2] = [16, 64];
pub(super) const HTTP_CALLS: u64 = 40_000;
pub(super) const AMQP_CALLS: u64 = 15_000;
const NODE_CALLS: u64 = 7_500;
const LARGE_CALLS: u64 = 3_000;
const MANY_CALLS: u64 = 10_000;
/// In how many turns a round's calls are made. They are short, and those that are compared follow each other: what
/// else the machine does for a second or two hits both.
const TURNS: u32 = 5;
/// Everything that is also measured at one call in flight.
const ALL: [usize; 3] = [ALONE, CONNECTIONS[0], CONNECTIONS[1]];
/// One call in flight: what a caller waits.
pub(crate) const ALONE: usize = 1;
/// How many times fewer calls are made at one in flight.
const FEWER_ALONE: u64 = 8;
/// The connections that calls of the last of many routes come over.
pub(crate) const MANY_AT: usize = CONNECTIONS[0];
/// The totals of calls after which memory is read.
const MEMORY_AFTER: [u64; 2] = [100_000, 1_000_000];

/// What is measured. Each names a process and a load on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    AxumEcho,
    NatsClient,
    NatsClientThreads,
    Nginx,
    GatewayNats,
    GatewayWebSocket,
    GatewayManyRoutes,
    NginxLarge,
    GatewayLarge,
    LapinClient,
    LapinPersistent,
    GatewayNameko,
    NodeNameko,
    JsonRpcService,
    NginxJsonRpc,
    HaproxyJsonRpc,
    GatewayJsonRpc,
    LapinService,
    NatsService,
    GatewayFromNameko,
    GatewayFromPicom,
    GatewayKeyed,
    GatewayToken,
    GatewayNewTokens,
    Verification,
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
    /// What stood behind and beside the gateway, with versions.
    pub(crate) versions: String,
    pub(crate) samples: BTreeMap<(What, usize), Vec<Sample>>,
    pub(crate) memory: Vec<MemoryPoint>,
    pub(crate) scale: Scale,
}

/// What takes its turn in each round, at some numbers of connections.
struct Turn {
    what: What,
    at: &'static [usize],
    subject: Subject,
    calls: u64,
}

/// The brokers with a service behind each.
pub(super) struct World {
    pub(super) nats: Broker,
    /// Only where a call goes there: it takes its time to start.
    pub(super) rabbit: Option<Broker>,
    pub(super) picom: Copy,
    pub(super) nameko: Option<Copy>,
}

/// Starts and measures.
pub(crate) fn all(args: &Args) -> Result<Results> {
    let on_rabbit = [Part::Nameko, Part::Memory, Part::Exposed, Part::Alone];
    let world = World::start(on_rabbit.into_iter().any(|part| args.wants(part)))?;
    let samples = if args.wants_calls() { calls(args, &world)? } else { BTreeMap::new() };
    let scale = scale::all(args, &world.nats.url)?;
    let measures_memory = args.wants(Part::Memory) && !args.floors;
    let memory = if measures_memory { resident(args, &world)? } else { Vec::new() };
    Ok(Results { versions: world.versions(), samples, memory, scale })
}

impl World {
    fn start(with_rabbit: bool) -> Result<Self> {
        note("starting the brokers");
        let nats = brokers::nats()?;
        let rabbit = if with_rabbit { Some(brokers::rabbitmq()?) } else { None };
        let picom = Copy::start(&["picom-responder", &nats.url])?;
        let responder = |rabbit: &Broker| Copy::start(&["nameko-responder", &rabbit.url]);
        let nameko = rabbit.as_ref().map(responder).transpose()?;
        Ok(Self { nats, rabbit, picom, nameko })
    }

    fn versions(&self) -> String {
        let rabbit = self.rabbit.as_ref().map(|rabbit| format!("RabbitMQ {}, ", rabbit.version));
        let (nats, rabbit) = (&self.nats.version, rabbit.unwrap_or_default());
        format!("nats-server {nats}, {rabbit}{}", peers::versions())
    }
}

fn calls(args: &Args, world: &World) -> Result<BTreeMap<(What, usize), Vec<Sample>>> {
    let mut stage = Stage::set(args, world)?;
    let mut samples: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let turns = args.rounds() * TURNS;
    for connections in ALL {
        for turn in 1..=turns {
            for Turn { what, at, subject, calls } in &mut stage.turns {
                if !at.contains(&connections) {
                    continue;
                }
                note(&format!("{what:?} at {connections}, turn {turn} of {turns}"));
                let fewer = if connections == ALONE { FEWER_ALONE } else { 1 };
                let sample = subject.measure(connections, *calls / fewer / u64::from(TURNS))?;
                samples.entry((*what, connections)).or_default().push(sample);
            }
        }
    }
    Ok(samples)
}

/// What the turns are played on. The turns come first, so that loads end before what they load.
pub(super) struct Stage {
    turns: Vec<Turn>,
    axum: Copy,
    gateway: Option<Gateway>,
    pub(super) more: Vec<Gateway>,
    pub(super) peers: Vec<Peer>,
    pub(super) services: Vec<Copy>,
}

impl Stage {
    fn set(args: &Args, world: &World) -> Result<Self> {
        let axum = Copy::start(&["axum-echo"])?;
        let gateway = match args.floors {
            true => None,
            false => Some(start_gateway("gateway", world)?),
        };
        let (turns, more, peers, services) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut stage = Self { turns, axum, gateway, more, peers, services };
        if args.wants(Part::Nats) || args.wants(Part::Nameko) {
            stage.axum(args)?;
        }
        if args.wants(Part::Nats) || args.wants(Part::Large) {
            stage.nginx(args)?;
        }
        stage.nats(args, world)?;
        if let Some(rabbit) = &world.rabbit {
            stage.nameko(args, rabbit)?;
            exposed::set(&mut stage, args, world, rabbit)?;
        }
        jsonrpc::set(&mut stage, args)?;
        trust::set(&mut stage, args, world)?;
        Ok(stage)
    }

    pub(super) fn add(&mut self, what: What, at: &'static [usize], subject: Subject, calls: u64) {
        self.turns.push(Turn { what, at, subject, calls });
    }

    fn axum(&mut self, args: &Args) -> Result<()> {
        let address = format!("127.0.0.1:{}", self.axum.port()?);
        let subject = Subject::new(load(&address, PICOM_SERVICE, "echo")?, Some(self.axum.pid()));
        self.add(What::AxumEcho, &CONNECTIONS, subject, args.calls(HTTP_CALLS));
        Ok(())
    }

    fn nginx(&mut self, args: &Args) -> Result<()> {
        let Some(nginx) = peers::nginx(&self.axum)? else { return Ok(()) };
        if args.wants(Part::Nats) {
            let subject =
                Subject::of(load(&nginx.address, PICOM_SERVICE, "echo")?, nginx.pids.clone());
            self.add(What::Nginx, &CONNECTIONS, subject, args.calls(HTTP_CALLS));
        }
        if args.wants(Part::Large) {
            let subject =
                Subject::of(large_load(&nginx.address, PICOM_SERVICE, "echo")?, nginx.pids.clone());
            self.add(What::NginxLarge, &CONNECTIONS, subject, args.calls(LARGE_CALLS));
        }
        self.peers.push(nginx);
        Ok(())
    }

    fn nats(&mut self, args: &Args, world: &World) -> Result<()> {
        let (url, method) = (&world.nats.url, format!("{PICOM_SERVICE}.echo"));
        let http = args.calls(HTTP_CALLS);
        let points = points(args, &[Part::Nats, Part::Exposed]);
        if !points.is_empty() {
            let one = Copy::start(&["nats-client", url, &method, "--one-thread"])?;
            self.add(What::NatsClient, points, Subject::new(one, None), http);
        }
        if args.wants(Part::Nats) {
            let threads = Copy::start(&["nats-client", url, &method])?;
            self.add(What::NatsClientThreads, &CONNECTIONS, Subject::new(threads, None), http);
        }
        let Some(gateway) = &self.gateway else { return Ok(()) };
        let (address, pid) = (gateway.address.to_string(), gateway.pid());
        let mut at = self::points(args, &[Part::Nats, Part::Trust]);
        if args.wants(Part::Routes) && !args.wants(Part::Nats) && !args.wants(Part::Trust) {
            at = if args.wants(Part::Alone) { &ALL[..2] } else { &CONNECTIONS[..1] };
        }
        if !at.is_empty() {
            let subject = Subject::new(load(&address, PICOM_SERVICE, "result")?, Some(pid));
            self.add(What::GatewayNats, at, subject, http);
        }
        if args.wants(Part::Nats) {
            let load = Copy::start(&["web-socket-load", &address, &method])?;
            let subject = Subject::new(load, Some(pid));
            self.add(What::GatewayWebSocket, &CONNECTIONS, subject, http);
        }
        if args.wants(Part::Large) {
            let subject = Subject::new(large_load(&address, PICOM_SERVICE, "result")?, Some(pid));
            self.add(What::GatewayLarge, &CONNECTIONS, subject, args.calls(LARGE_CALLS));
        }
        if args.wants(Part::Routes) {
            note(&format!("starting a gateway with {MANY} routes"));
            let many = Gateway::start("many-routes", &scale::configuration(MANY, url))?;
            let load = load(&many.address.to_string(), PICOM_SERVICE, "result")?;
            let subject = Subject::new(load, Some(many.pid()));
            self.add(What::GatewayManyRoutes, &[MANY_AT], subject, args.calls(MANY_CALLS));
            self.more.push(many);
        }
        Ok(())
    }

    fn nameko(&mut self, args: &Args, rabbit: &Broker) -> Result<()> {
        let at = points(args, &[Part::Nameko, Part::Exposed]);
        if at.is_empty() {
            return Ok(());
        }
        let calls = args.calls(AMQP_CALLS);
        let client = Copy::start(&["lapin-client", &rabbit.url])?;
        let node = match args.floors || !args.wants(Part::Nameko) {
            true => None,
            false => peers::node(&rabbit.url)?,
        };
        note("RabbitMQ idles");
        let broker = IdleBroker::watch(rabbit.pid())?;
        let client = Subject::new(client, None).before(broker);
        self.add(What::LapinClient, at, client, calls);
        if let Some(gateway) = &self.gateway {
            let load = load(&gateway.address.to_string(), NAMEKO_SERVICE, "result")?;
            let subject = Subject::new(load, Some(gateway.pid())).before(broker);
            self.add(What::GatewayNameko, points(args, &[Part::Nameko]), subject, calls);
        }
        if !args.wants(Part::Nameko) {
            return Ok(());
        }
        let persistent = Copy::start(&["lapin-client", &rabbit.url, "--persistent"])?;
        let persistent = Subject::new(persistent, None).before(broker);
        self.add(What::LapinPersistent, &CONNECTIONS, persistent, calls / 2);
        if let Some(node) = node {
            let load = load(&node.address, NAMEKO_SERVICE, "result")?;
            let subject = Subject::of(load, node.pids.clone()).before(broker);
            self.add(What::NodeNameko, &CONNECTIONS, subject, args.calls(NODE_CALLS));
            self.peers.push(node);
        }
        Ok(())
    }
}

/// Where something is measured that those parts want, and the one for one call in flight.
pub(super) fn points(args: &Args, parts: &[Part]) -> &'static [usize] {
    match (parts.iter().any(|part| args.wants(*part)), args.wants(Part::Alone)) {
        (true, true) => &ALL,
        (true, false) => &CONNECTIONS,
        (false, true) => &ALL[..1],
        (false, false) => &[],
    }
}

/// A load of small calls of a service's `echo`.
pub(super) fn load(address: &str, service: &str, expect: &str) -> Result<Copy> {
    Copy::start(&["http-load", address, &format!("{service}.echo"), expect])
}

/// A load of 100 KiB each.
fn large_load(address: &str, service: &str, expect: &str) -> Result<Copy> {
    Copy::start(&["http-load", address, &format!("{service}.echo"), expect, "--large"])
}

/// A gateway in front of the responders.
fn start_gateway(name: &str, world: &World) -> Result<Gateway> {
    let mut rest = scale::configuration(1, &world.nats.url);
    if let Some(rabbit) = &world.rabbit {
        rest.push_str(&format!(
            r#"
[upstreams.rabbit]
protocol = "nameko"
url = "{}"

[[routes]]
match = "{NAMEKO_SERVICE}.*"
upstream = "rabbit"
"#,
            rabbit.url
        ));
    }
    Gateway::start(name, &rest)
}

fn resident(args: &Args, world: &World) -> Result<Vec<MemoryPoint>> {
    let gateway = start_gateway("memory", world)?;
    let mut load = load(&gateway.address.to_string(), PICOM_SERVICE, "result")?;
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
