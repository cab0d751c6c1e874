//! The composition root: configuration → upstreams → router → ingresses → run → drain.
//!
//! Everything that runs is started here and ended here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
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
use crate::upstream::Readiness;

/// How often the file is looked at, histograms are folded and floods of faults summed up.
const UPKEEP: Duration = Duration::from_secs(1);
/// What tasks get to end once nothing is left for them to wait for.
const GRACE: Duration = Duration::from_secs(2);
/// How long a new table waits for the upstreams that it brings to connect.
const TURNOVER: Duration = Duration::from_secs(5);
/// How often it looks whether they have.
const TURNOVER_LOOK: Duration = Duration::from_millis(10);

/// Runs the gateway until SIGTERM or SIGINT, then drains it.
pub async fn run(config: Config, origin: Origin) -> anyhow::Result<()> {
    let stamp = stamp(&origin);
    let exporter = Exporter::install().context("metrics are set up already")?;
    let mut signals = Signals::listen()?;
    let (hub, hub_slot) = bind_hub(&config).await?;
    let mut upstreams = Upstreams::new(hub_slot);
    let first = upstreams.prepare(&config);
    let table = upstreams.turn_over(&config, first);
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

    let mut reload = Reload { running: config, origin, stamp, next: None };
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reason = loop {
        tokio::select! {
            _ = upkeep.tick() => {
                exporter.upkeep();
                router.sum_up_faults(false);
                hub.sum_up_log(false);
                upstreams.end_retired();
                if reload.file_changed() {
                    reload.begin("the file changed", &mut upstreams);
                }
            }
            _ = signals.hangup.recv() => reload.begin("SIGHUP", &mut upstreams),
            () = reload.is_due() => reload.complete(&router, &mut upstreams, &hub),
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
    if let Some(next) = reload.next.take() {
        upstreams.give_up(next.upstreams);
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
    hub.sum_up_log(true);
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
    metrics.take_over();
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

#[derive(Clone)]
struct Running {
    slot: Arc<Slot>,
    fingerprint: u64,
    metrics: UpstreamMetrics,
    tasks: Tasks,
}

impl Running {
    fn is(&self, other: &Running) -> bool {
        Arc::ptr_eq(&self.slot, &other.slot)
    }

    fn is_ready(&self) -> bool {
        self.slot.upstream.readiness() == Readiness::Ready
    }
}

impl Upstreams {
    /// The hub alone.
    fn new(hub: Arc<Slot>) -> Self {
        Self { hub, running: Vec::new(), retired: Vec::new() }
    }

    /// The upstreams of a configuration: those that run already, and new ones that begin to
    /// connect. [`Upstreams::turn_over`] or [`Upstreams::give_up`] must follow.
    fn prepare(&self, config: &Config) -> Vec<Running> {
        let prepared = config.upstreams.iter().map(|upstream| {
            let same = self.running.iter().find(|running| {
                running.slot.name == upstream.name && running.fingerprint == upstream.fingerprint
            });
            same.cloned().unwrap_or_else(|| start(upstream))
        });
        prepared.collect()
    }

    /// Puts prepared upstreams in the place of those that run, retires what is gone or has
    /// changed, and compiles the routing table over the rest.
    fn turn_over(&mut self, config: &Config, next: Vec<Running>) -> Table {
        let before = std::mem::replace(&mut self.running, next);
        let gone = before.into_iter().filter(|old| !self.running.iter().any(|new| new.is(old)));
        for retired in gone {
            info!(upstream = retired.slot.name, "retiring: its last calls get their answers");
            if !config.upstreams.iter().any(|upstream| upstream.name == retired.slot.name) {
                // No other one by that name will say so.
                retired.metrics.set_up(false);
            }
            retired.metrics.retire();
            self.retired.push(retired);
        }
        for (running, upstream) in self.running.iter().zip(&config.upstreams) {
            running.metrics.take_over();
            running.slot.set_max_in_flight(upstream.max_in_flight);
        }
        self.table(config)
    }

    /// Ends prepared upstreams that are not needed after all.
    fn give_up(&mut self, prepared: Vec<Running>) {
        let new = prepared.into_iter().filter(|new| !self.running.iter().any(|old| old.is(new)));
        self.retired.extend(new);
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
    let connected = config.connector.connect(metrics.clone(), &tasks);
    let slot = Slot::new(&config.name, connected.upstream, config.max_in_flight, metrics.clone());
    Running { slot: Arc::new(slot), fingerprint: config.fingerprint, metrics, tasks }
}

/// The configuration in force, what tells that there is another one, and that one while the
/// upstreams that it brings connect.
struct Reload {
    running: Config,
    origin: Origin,
    stamp: Option<Stamp>,
    next: Option<Next>,
}

/// A configuration that is about to be in force.
struct Next {
    reason: &'static str,
    config: Config,
    upstreams: Vec<Running>,
    /// When it is put in force at the latest.
    by: Instant,
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

    /// Reads the configuration again, and refuses it whole or prepares to put it in force: calls
    /// keep to the old upstreams until the new ones are connected.
    fn begin(&mut self, reason: &'static str, upstreams: &mut Upstreams) {
        if self.origin == Origin::Embedded {
            // There may be a file by now.
            self.origin = Origin::find(None);
        }
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
        if let Some(overtaken) = self.next.take() {
            upstreams.give_up(overtaken.upstreams);
        }
        let by = Instant::now() + TURNOVER;
        self.next = Some(Next { reason, upstreams: upstreams.prepare(&config), config, by });
    }

    /// Waits until a configuration can be put in force, for ever where there is none.
    async fn is_due(&self) {
        let Some(next) = &self.next else { return std::future::pending().await };
        while Instant::now() < next.by && !next.upstreams.iter().all(Running::is_ready) {
            sleep(TURNOVER_LOOK).await;
        }
    }

    /// Puts it in force.
    fn complete(&mut self, router: &Router, upstreams: &mut Upstreams, hub: &RunningHub) {
        let Some(Next { reason, config, upstreams: next, .. }) = self.next.take() else { return };
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
        router.replace(upstreams.turn_over(&config, next));
        hub.routes_changed();
        let (name, routes) = (self.origin.name(), config.routes.len());
        info!(reason, config = name, routes, "reloaded: the new routing table is in force");
        self.running = config;
    }
}
