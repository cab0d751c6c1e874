//! The upstreams: which run, which take over at a reload, which have had their time; and the
//! routing table over them.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::budget::Budget;
use crate::config::{Config, UpstreamConfig};
use crate::metrics::UpstreamMetrics;
use crate::route::Rule;
use crate::router::ledger::Ledger;
use crate::router::table::{NO_ROUTE, Row, Table};
use crate::router::target::Target;
use crate::tasks::Tasks;
use crate::upstream::Readiness;

/// What a connection gets to end.
const GRACE: Duration = Duration::from_secs(2);

/// The upstreams that run.
pub(super) struct Upstreams {
    /// The one that is always there.
    resident: Option<Arc<Target>>,
    running: Vec<Running>,
    retired: Vec<Running>,
    ledger: Arc<Ledger>,
    budget: Budget,
    tasks: Tasks,
}

/// An upstream, and what is needed to end it.
#[derive(Clone)]
pub(super) struct Running {
    target: Arc<Target>,
    fingerprint: u64,
    metrics: UpstreamMetrics,
    tasks: Tasks,
}

impl Running {
    fn is(&self, other: &Running) -> bool {
        Arc::ptr_eq(&self.target, &other.target)
    }

    /// Whether calls can be sent to it.
    pub(super) fn is_ready(&self) -> bool {
        self.target.upstream.readiness() == Readiness::Ready
    }
}

impl Upstreams {
    /// The one that is always there alone.
    pub(super) fn new(
        resident: Option<Target>,
        ledger: Arc<Ledger>,
        budget: Budget,
        tasks: Tasks,
    ) -> Self {
        let resident = resident.map(Arc::new);
        Self { resident, running: Vec::new(), retired: Vec::new(), ledger, budget, tasks }
    }

    /// The upstreams of a configuration: those that run already or were begun for one that this
    /// one overtakes, and new ones that begin to connect. [`Upstreams::turn_over`] or
    /// [`Upstreams::give_up`] must follow.
    pub(super) fn prepare(&mut self, config: &Config, begun: Vec<Running>) -> Vec<Running> {
        let prepared = config.upstreams.iter().map(|upstream| {
            let same = self.running.iter().chain(&begun).find(|running| {
                running.target.name == upstream.name && running.fingerprint == upstream.fingerprint
            });
            same.cloned().unwrap_or_else(|| start(upstream, &self.budget, self.tasks.subgroup()))
        });
        let prepared: Vec<Running> = prepared.collect();
        let needed = |begun: &Running| prepared.iter().any(|running| running.is(begun));
        self.give_up(begun.into_iter().filter(|begun| !needed(begun)).collect());
        prepared
    }

    /// Puts prepared upstreams in the place of those that run, retires what is gone or has
    /// changed, and compiles the routing table over the rest.
    pub(super) fn turn_over(&mut self, config: &Config, next: Vec<Running>) -> Table {
        let before = std::mem::replace(&mut self.running, next);
        let gone = before.into_iter().filter(|old| !self.running.iter().any(|new| new.is(old)));
        for retired in gone {
            info!(upstream = retired.target.name, "retiring: its last calls get their answers");
            if !config.upstreams.iter().any(|upstream| upstream.name == retired.target.name) {
                // No other one by that name will say so.
                retired.metrics.set_up(false);
            }
            retired.metrics.retire();
            self.retired.push(retired);
        }
        if let (Some(target), Some(resident)) = (&self.resident, config.resident()) {
            target.set_max_in_flight(resident.max_in_flight);
        }
        for (running, upstream) in self.running.iter().zip(&config.upstreams) {
            running.metrics.take_over();
            running.target.set_max_in_flight(upstream.max_in_flight);
        }
        self.table(config)
    }

    /// Ends prepared upstreams that are not needed after all.
    pub(super) fn give_up(&mut self, prepared: Vec<Running>) {
        let new = prepared.into_iter().filter(|new| !self.running.iter().any(|old| old.is(new)));
        self.retired.extend(new);
    }

    /// Ends the retired upstreams that nobody waits for any more.
    pub(super) fn end_retired(&mut self) {
        self.retired.retain(|retired| {
            let idle = retired.target.in_flight() == 0;
            if idle {
                retired.tasks.shutdown().cancel();
            }
            !idle
        });
    }

    fn table(&self, config: &Config) -> Table {
        let target = |name: &str| {
            let running = self.running.iter().map(|running| &running.target);
            running.chain(&self.resident).find(|target| target.name == name).map(Arc::clone)
        };
        let rows = config.routes.iter().map(|rule| {
            let target = target(&rule.upstream);
            let label = if target.is_some() { rule.pattern.as_str() } else { NO_ROUTE };
            Row::new(rule.clone(), label, target, &self.ledger)
        });
        Table::new(rows.collect(), self.last_row(config))
    }

    /// The row that takes what no other one takes.
    fn last_row(&self, config: &Config) -> Row {
        let resident = config.resident();
        let upstream = resident.map_or(NO_ROUTE, |resident| resident.name);
        let timeout = resident.map_or(config.timeout, |resident| resident.timeout);
        let rule = Rule::new("*", upstream, timeout);
        match &self.resident {
            Some(target) => Row::implicit(rule, Arc::clone(target), &self.ledger),
            None => Row::new(rule, NO_ROUTE, None, &self.ledger),
        }
    }

    /// How many calls wait.
    pub(super) fn in_flight(&self) -> usize {
        let others = self.running.iter().chain(&self.retired);
        let resident = self.resident.as_ref().map_or(0, |target| target.in_flight());
        resident + others.map(|running| running.target.in_flight()).sum::<usize>()
    }

    /// Ends all of them, and with each the calls that wait for it.
    pub(super) async fn end(&mut self) {
        for running in self.running.drain(..).chain(self.retired.drain(..)) {
            if !running.tasks.end(GRACE).await {
                warn!(upstream = running.target.name, "the connection did not end in time");
            }
        }
    }
}

fn start(config: &UpstreamConfig, budget: &Budget, tasks: Tasks) -> Running {
    let metrics = UpstreamMetrics::new(&config.name);
    info!(
        upstream = config.name,
        protocol = config.connector.protocol(),
        address = config.connector.address(),
        "connecting"
    );
    let connected = config.connector.connect(metrics.clone(), budget, &tasks);
    let target =
        Target::new(&config.name, connected.upstream, config.max_in_flight, metrics.clone());
    Running { target: Arc::new(target), fingerprint: config.fingerprint, metrics, tasks }
}
