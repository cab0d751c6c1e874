//! The composition root: configuration → upstreams → router → ingresses → run → drain.
//!
//! Everything that runs is started here and ended here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::admin::{Admin, Watched};
use crate::config::problem::Severity;
use crate::config::{self, Config, Origin, Stamp};
use crate::metrics::{Exporter, UpstreamMetrics};
use crate::protocol::jsonrpc::{self, HttpIngress};
use crate::protocol::juno::{JunoHub, RunningHub};
use crate::router::Router;
use crate::router::pattern::Pattern;
use crate::router::slot::Slot;
use crate::router::table::{HUB, NO_ROUTE, Row, Rule, Table};
use crate::tasks::Tasks;

/// How often the file is looked at, histograms are folded and floods of faults summed up.
const UPKEEP: Duration = Duration::from_secs(1);
/// What tasks get to end once nothing is left for them to wait for.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the gateway until SIGTERM or SIGINT, then drains it.
pub async fn run(config: Config, origin: Origin) -> anyhow::Result<()> {
    let stamp = stamp(&origin);
    let exporter = Exporter::install().context("metrics are set up already")?;
    let mut signals = Signals::listen()?;
    let (hub, hub_slot) = bind_hub(&config).await?;
    let mut upstreams = Upstreams::new(hub_slot);
    let table = upstreams.connect(&config);
    let router = Arc::new(Router::new(table));
    let hub = hub.serve(&router).context("cannot tell where the hub listens")?;
    let watched = Arc::new(Watched {
        router: Arc::clone(&router),
        hub: hub.clone(),
        exporter: exporter.clone(),
        draining: AtomicBool::new(false),
    });
    let (ingresses, pages) = (Tasks::new(), Tasks::new());
    let http =
        HttpIngress::bind(config.http.clone(), Arc::clone(&router), ingresses.clone()).await?;
    let admin = Admin::bind(config.admin, Arc::clone(&watched)).await?;
    info!(config = origin.name(), version = env!("CARGO_PKG_VERSION"), "starting");
    info!(ingress = jsonrpc::INGRESS, address = %http.address()?, "listening");
    info!(ingress = "admin", address = %admin.address()?, "listening");
    ingresses.spawn("http", http.run());
    pages.spawn("admin", admin.run(pages.clone()));

    let mut reload = Reload { running: config, origin, stamp };
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reason = loop {
        tokio::select! {
            _ = upkeep.tick() => {
                exporter.upkeep();
                router.sum_up_faults(false);
                upstreams.end_retired();
                if reload.file_changed() {
                    reload.apply("the file changed", &router, &mut upstreams, &hub);
                }
            }
            _ = signals.hangup.recv() => reload.apply("SIGHUP", &router, &mut upstreams, &hub),
            _ = signals.terminate.recv() => break "SIGTERM",
            _ = signals.interrupt.recv() => break "SIGINT",
        }
    };

    let patience = reload.running.drain_timeout;
    info!(reason, in_flight = upstreams.in_flight(), "draining: no new calls");
    watched.draining.store(true, Ordering::Relaxed);
    let drained = tokio::select! {
        (served, answered) = async { tokio::join!(ingresses.end(patience), hub.drain(patience)) } => {
            served && answered
        }
        _ = signals.terminate.recv() => false,
        _ = signals.interrupt.recv() => false,
    };
    if !drained {
        let in_flight = upstreams.in_flight();
        warn!(in_flight, "drain_timeout has passed, or a second signal came: ending what is left");
    }
    // The end of an upstream ends the calls that wait for it, each with a fault.
    upstreams.end().await;
    if !hub.end(GRACE).await {
        warn!("some modules' connections did not end in time");
    }
    if !ingresses.end(GRACE).await {
        warn!(sessions = ingresses.running(), "some clients did not take their answers");
    }
    router.sum_up_faults(true);
    pages.end(GRACE).await;
    info!("stopped");
    Ok(())
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}

/// Binds the hub, and places it as the upstream that is always there.
async fn bind_hub(config: &Config) -> anyhow::Result<(JunoHub, Arc<Slot>)> {
    let metrics = UpstreamMetrics::new(HUB);
    let hub = JunoHub::bind(config.hub.clone(), metrics.clone()).await?;
    let slot = Slot::new(HUB, hub.upstream(), config.hub.max_in_flight, metrics);
    Ok((hub, Arc::new(slot)))
}

/// The upstreams that run.
struct Upstreams {
    hub: Arc<Slot>,
    running: Vec<Running>,
    retired: Vec<Running>,
}

struct Running {
    slot: Arc<Slot>,
    fingerprint: u64,
    metrics: UpstreamMetrics,
    tasks: Tasks,
}

impl Upstreams {
    /// The hub alone.
    fn new(hub: Arc<Slot>) -> Self {
        Self { hub, running: Vec::new(), retired: Vec::new() }
    }

    /// Connects what is new in the configuration, retires what is gone or has changed, and
    /// compiles the routing table over the rest.
    fn connect(&mut self, config: &Config) -> Table {
        let mut before = std::mem::take(&mut self.running);
        for upstream in &config.upstreams {
            let same = before.iter().position(|running| {
                running.slot.name == upstream.name && running.fingerprint == upstream.fingerprint
            });
            self.running.push(match same {
                Some(index) => before.swap_remove(index),
                None => start(upstream),
            });
        }
        for retired in &before {
            info!(upstream = retired.slot.name, "retiring: its last calls get their answers");
            if !config.upstreams.iter().any(|upstream| upstream.name == retired.slot.name) {
                // No other one by that name will say so.
                retired.metrics.set_up(false);
            }
            retired.metrics.retire();
        }
        self.retired.extend(before);
        self.table(config)
    }

    /// Ends the retired upstreams that nobody waits for any more.
    fn end_retired(&mut self) {
        self.retired.retain(|retired| {
            let idle = retired.slot.in_flight() == 0;
            if idle {
                retired.tasks.shutdown().cancel();
            }
            !idle
        });
    }

    fn table(&self, config: &Config) -> Table {
        let slot = |name: &str| {
            if name == HUB {
                return Some(Arc::clone(&self.hub));
            }
            let running = self.running.iter().find(|running| running.slot.name == name);
            running.map(|running| Arc::clone(&running.slot))
        };
        let rows = config.routes.iter().map(|rule| {
            let slot = slot(&rule.upstream);
            let label = if slot.is_some() { rule.pattern.as_str() } else { NO_ROUTE };
            Row::new(rule.clone(), label, slot)
        });
        let last = Rule {
            pattern: Pattern::new("*"),
            upstream: HUB.to_owned(),
            service: None,
            method: None,
            params: Vec::new(),
            timeout: config.hub.timeout,
        };
        Table::new(rows.collect(), Row::implicit(last, Arc::clone(&self.hub)))
    }

    fn in_flight(&self) -> usize {
        let others = self.running.iter().chain(&self.retired);
        self.hub.in_flight() + others.map(|running| running.slot.in_flight()).sum::<usize>()
    }

    async fn end(&mut self) {
        for running in self.running.drain(..).chain(self.retired.drain(..)) {
            if !running.tasks.end(GRACE).await {
                warn!(upstream = running.slot.name, "the connection did not end in time");
            }
        }
    }
}

fn start(config: &config::UpstreamConfig) -> Running {
    let metrics = UpstreamMetrics::new(&config.name);
    let tasks = Tasks::new();
    info!(
        upstream = config.name,
        protocol = config.connector.protocol(),
        address = config.connector.address(),
        "connecting"
    );
    let upstream = config.connector.connect(metrics.clone(), &tasks);
    let slot = Slot::new(&config.name, upstream, config.max_in_flight, metrics.clone());
    Running { slot: Arc::new(slot), fingerprint: config.fingerprint, metrics, tasks }
}

/// The configuration in force, and what tells that there is another one.
struct Reload {
    running: Config,
    origin: Origin,
    stamp: Option<Stamp>,
}

fn stamp(origin: &Origin) -> Option<Stamp> {
    match origin {
        Origin::File(path) => Stamp::of(path),
        Origin::Embedded => None,
    }
}

impl Reload {
    /// Whether the file is another one than at the last look. A file that is gone is being
    /// replaced: it is looked at again.
    fn file_changed(&mut self) -> bool {
        let now = stamp(&self.origin);
        if now.is_none() || now == self.stamp {
            return false;
        }
        self.stamp = now;
        true
    }

    /// Reads the configuration again and puts it in force, or refuses it whole.
    fn apply(
        &mut self,
        reason: &'static str,
        router: &Router,
        upstreams: &mut Upstreams,
        hub: &RunningHub,
    ) {
        self.stamp = stamp(&self.origin);
        let (config, problems) = match config::load(&self.origin).into_valid() {
            Ok(valid) => valid,
            Err(problems) => {
                for problem in problems.iter().filter(|p| p.severity == Severity::Error) {
                    error!(place = %problem.place, problem = problem.message, "bad configuration");
                }
                error!(reason, "reload refused: the old routing table stays in force");
                return;
            }
        };
        for problem in &problems {
            warn!(place = %problem.place, problem = problem.message, "dubious configuration");
        }
        let fixed = [
            ("[http]", config.http != self.running.http),
            ("[hub]", config.hub != self.running.hub),
            ("[admin]", config.admin != self.running.admin),
            ("[log]", config.log != self.running.log),
            ("workers", config.workers != self.running.workers),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            warn!(key, "the change takes effect at the next start");
        }
        router.replace(upstreams.connect(&config));
        hub.routes_changed();
        info!(reason, routes = config.routes.len(), "reloaded: the new routing table is in force");
        self.running = config;
    }
}
