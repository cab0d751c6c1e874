//! The upstreams: which run, which take over at a reload, which have had their time; and the
//! routing table over them.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::drain::Leaving;
use super::exposes::Exposes;
use super::limits::LimitsAtWork;
use crate::budget::Budget;
use crate::config::{Config, UpstreamConfig};
use crate::event_port::EventPort;
use crate::events::bridges::Ports;
use crate::exposer::board::{Board, Unexposed};
use crate::exposer::{Entrance, Exposer, Trouble};
use crate::metrics::UpstreamMetrics;
use crate::route::Rule;
use crate::route::access::Access;
use crate::route::expose::Expose;
use crate::route::idempotency::Room;
use crate::router::Router;
use crate::router::answers::Answers;
use crate::router::breaker::Breaker;
use crate::router::entrance::RouterEntrance;
use crate::router::ledger::Ledger;
use crate::router::retries::RetryBudget;
use crate::router::table::{NO_ROUTE, Row, Table};
use crate::router::target::Target;
use crate::tasks::Tasks;
use crate::upstream::Readiness;

/// What a connection gets to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long an upstream that has gone from the configuration goes on taking calls, at the most, for
/// others to take them.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// The upstreams that run.
pub(super) struct Upstreams {
    /// The one that is always there.
    resident: Option<Arc<Target>>,
    resident_events: Option<Arc<dyn EventPort>>,
    running: Vec<Running>,
    retired: Vec<Retired>,
    exposes: Exposes,
    board: Arc<Board>,
    limits: LimitsAtWork,
    /// Of the upstreams that have one, by their names.
    breakers: HashMap<String, (Arc<Target>, Arc<Breaker>)>,
    /// What retries are taken from, by the names of the upstreams.
    retry_budgets: HashMap<String, Arc<RetryBudget>>,
    /// What is known of calls that have keys.
    answers: Arc<Answers>,
    ledger: Arc<Ledger>,
    budget: Budget,
    tasks: Tasks,
}

/// An upstream that serves its last calls.
struct Retired {
    running: Running,
    /// Until when what is exposed over it stays, where its successor has not taken over before.
    stays: Option<Instant>,
    /// Until when it is waited for what its events leave behind.
    until: Instant,
}

/// An upstream, and what is needed to end it.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) target: Arc<Target>,
    exposer: Option<Arc<dyn Exposer>>,
    events: Option<Arc<dyn EventPort>>,
    pub(super) protocol: &'static str,
    fingerprint: u64,
    metrics: UpstreamMetrics,
    tasks: Tasks,
}

impl Running {
    fn is(&self, other: &Running) -> bool {
        Arc::ptr_eq(&self.target, &other.target)
    }

    pub(super) fn expose(
        &self,
        services: &[Arc<Expose>],
        router: &Arc<Router>,
        doubts: &Arc<Notify>,
    ) {
        if let Some(exposer) = &self.exposer {
            let entrance = RouterEntrance::new(router, self.protocol, doubts);
            let entrance: Arc<dyn Entrance> = Arc::new(entrance);
            exposer.expose(services, &entrance);
        }
    }

    /// Whether it takes calls of what is exposed over it.
    fn is_settled(&self) -> bool {
        self.exposer.as_ref().is_none_or(|exposer| exposer.is_settled())
    }

    /// How many calls that came in over it are still to be answered.
    pub(super) fn owed(&self) -> usize {
        self.exposer.as_ref().map_or(0, |exposer| exposer.owed())
    }

    /// Whether calls can be sent to it.
    pub(super) fn is_ready(&self) -> bool {
        self.target.upstream.readiness() == Readiness::Ready
    }
}

impl Upstreams {
    /// The one that is always there alone.
    pub(super) fn new(
        resident: Option<(Target, Option<Arc<dyn EventPort>>)>,
        ledger: Arc<Ledger>,
        budget: &Budget,
        tasks: Tasks,
    ) -> Self {
        let (resident, resident_events) = resident.unzip();
        let (resident, resident_events) = (resident.map(Arc::new), resident_events.flatten());
        Self {
            resident,
            resident_events,
            running: Vec::new(),
            retired: Vec::new(),
            exposes: Exposes::default(),
            board: Arc::default(),
            limits: LimitsAtWork::default(),
            breakers: HashMap::new(),
            retry_budgets: HashMap::new(),
            answers: Answers::new(Room::default(), tasks.subgroup()),
            ledger,
            budget: budget.clone(),
            tasks,
        }
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

    /// Those of prepared upstreams that do not run yet. One that does is what it was, up or down: a new table has
    /// nothing to wait for.
    pub(super) fn brought(&self, prepared: &[Running]) -> Vec<Running> {
        let is_new = |new: &&Running| !self.running.iter().any(|old| old.is(new));
        prepared.iter().filter(is_new).cloned().collect()
    }

    /// Puts prepared upstreams in the place of those that run, retires what is gone or has
    /// changed, and compiles the routing table over the rest.
    pub(super) fn turn_over(&mut self, config: &Config, next: Vec<Running>) -> Table {
        let before = std::mem::replace(&mut self.running, next);
        let gone = before.into_iter().filter(|old| !self.running.iter().any(|new| new.is(old)));
        for retired in gone {
            info!(upstream = retired.target.name, "retiring: its last calls get their answers");
            if config.upstreams.iter().any(|upstream| upstream.name == retired.target.name) {
                retired.metrics.retire();
            } else {
                retired.metrics.leave();
            }
            let until = Instant::now() + TAKE_OVER;
            self.retired.push(Retired { running: retired, stays: Some(until), until });
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
        let new = self.brought(&prepared);
        let until = Instant::now();
        self.retired.extend(new.into_iter().map(|running| Retired { running, stays: None, until }));
    }

    /// Forgets what is to be forgotten by now of calls that have keys.
    pub(super) fn forget(&self) {
        self.answers.upkeep(Instant::now());
    }

    /// Shows how many services each breaker leaves alone.
    pub(super) fn show_breakers(&self) {
        self.breakers.values().for_each(|(_, breaker)| breaker.show());
    }

    /// Ends them, which whatever they wait for has let go.
    pub(super) async fn end_keyed(&self) {
        if !self.answers.end(GRACE).await {
            warn!("calls that have idempotency keys did not end in time");
        }
    }

    /// Ends the retired upstreams that nobody waits for any more. What is exposed over one is left when
    /// the others take its calls.
    pub(super) fn end_retired(&mut self, router: &Arc<Router>) {
        let taken_over = self.running.iter().all(Running::is_settled);
        self.retired.retain_mut(|Retired { running: retired, stays, until }| {
            if stays.is_some_and(|stays| taken_over || Instant::now() >= stays) {
                *stays = None;
                retired.expose(&[], router, self.exposes.doubts());
            }
            if stays.is_some() {
                return true;
            }
            if retired.tasks.shutdown().is_cancelled() {
                return retired.tasks.running() > 0;
            }
            let leaves = retired.events.as_ref().is_some_and(|events| events.is_leaving());
            let idle = retired.target.owed() == 0 && retired.owed() == 0;
            let idle = idle && !(leaves && Instant::now() < *until);
            if idle {
                // Its tasks are this list's until the last one has ended.
                retired.tasks.shutdown().cancel();
            }
            true
        });
    }

    /// Exposes what a configuration says where it says, and nothing else: to be called when its
    /// table is in force. A service of which nobody can be called waits.
    pub(super) fn expose(&mut self, config: &Config, router: &Arc<Router>) {
        for Running { target, exposer, .. } in &self.running {
            let gone = self.exposes.gone(&target.name, &config.exposes);
            if let Some(exposer) = exposer.as_ref().filter(|_| !gone.is_empty()) {
                exposer.abandon(&gone);
            }
        }
        self.exposes.apply(&config.exposes, &router.table());
        self.expose_what_is_ready(router);
    }

    /// Waits until it is to be looked whether what is exposed can be called.
    pub(super) async fn is_time_to_look(&self) {
        self.exposes.is_time_to_look().await;
    }

    /// Leaves services that nobody can call, and takes up those that somebody can again.
    pub(super) fn look_at_exposes(&mut self, router: &Arc<Router>) {
        if self.exposes.look() {
            self.expose_what_is_ready(router);
        }
    }

    /// Shows operators what is not exposed, and why.
    pub(super) fn show_exposes(&self) {
        let mut unexposed = self.exposes.waiting();
        for Running { target, exposer, .. } in &self.running {
            let troubles = exposer.as_ref().map(|exposer| exposer.troubles()).unwrap_or_default();
            unexposed.extend(troubles.into_iter().map(|Trouble { name, extent, what }| {
                Unexposed { on: target.name.clone(), name, extent, why: what }
            }));
        }
        self.board.show(unexposed);
    }

    /// What operators are shown of that.
    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    fn expose_what_is_ready(&self, router: &Arc<Router>) {
        for running in &self.running {
            let services = self.exposes.on(&running.target.name);
            running.expose(&services, router, self.exposes.doubts());
        }
        self.show_exposes();
    }

    /// Where events come from and go to.
    pub(super) fn ports(&self) -> Ports {
        let port = |running: &Running| Some((running.target.name.clone(), running.events.clone()?));
        let resident = self.resident.iter().zip(&self.resident_events);
        let resident = resident.map(|(target, port)| (target.name.clone(), Arc::clone(port)));
        self.running.iter().filter_map(port).chain(resident).collect()
    }

    /// All of them, for the drain.
    pub(super) fn leaving(&self) -> Leaving {
        let retired = self.retired.iter().map(|it| &it.running);
        Leaving {
            resident: self.resident.clone(),
            others: self.running.iter().chain(retired).cloned().collect(),
            answers: Arc::clone(&self.answers),
            doubts: Arc::clone(self.exposes.doubts()),
            ports: self.ports(),
        }
    }

    /// Keeps the breakers of upstreams that stay as they are, with what they know.
    fn turn_breakers_over(&mut self, config: &Config) {
        let before = std::mem::take(&mut self.breakers);
        for (running, upstream) in self.running.iter().zip(&config.upstreams) {
            let Some(rule) = upstream.breaker else { continue };
            let (name, target) = (&upstream.name, &running.target);
            let same = before
                .get(name)
                .filter(|(place, breaker)| Arc::ptr_eq(place, target) && *breaker.rule() == rule);
            let new = || Arc::new(Breaker::new(name, rule));
            let breaker = same.map_or_else(new, |(_, breaker)| Arc::clone(breaker));
            self.breakers.insert(name.clone(), (Arc::clone(target), breaker));
        }
    }

    /// Keeps what retries are taken from, of the upstreams to which calls are tried again.
    fn turn_budgets_over(&mut self, config: &Config) {
        let before = std::mem::take(&mut self.retry_budgets);
        for rule in config.routes.iter().filter(|rule| rule.retries > 0) {
            let same = || before.get(&rule.upstream).cloned().unwrap_or_default();
            self.retry_budgets.entry(rule.upstream.clone()).or_insert_with(same);
        }
    }

    fn table(&mut self, config: &Config) -> Table {
        self.turn_breakers_over(config);
        self.turn_budgets_over(config);
        self.answers.set_room(config.idempotency);
        let limits = self.limits.turn_over(config);
        let gateway = &self.limits.gateway;
        let running = self.running.iter().map(|running| &running.target);
        let targets = running.chain(&self.resident).map(|target| (target.name.as_str(), target));
        let targets: HashMap<&str, &Arc<Target>> = targets.collect();
        let target = |name: &str| targets.get(name).copied().map(Arc::clone);
        let rows = config.routes.iter().zip(limits).map(|(rule, limits)| {
            let target = target(&rule.upstream);
            let label = if target.is_some() { rule.pattern.as_str() } else { NO_ROUTE };
            let row = Row::new(rule.clone(), label, target, &self.ledger);
            let breaker = self.breakers.get(&rule.upstream).map(|(_, breaker)| Arc::clone(breaker));
            let budget = self.retry_budgets.get(&rule.upstream).filter(|_| rule.retries > 0);
            let row = row.limited(limits, Arc::clone(gateway)).guarded(breaker);
            let answers = rule.idempotency.map(|_| Arc::clone(&self.answers));
            row.retrying(budget.map(Arc::clone)).remembering(answers)
        });
        let places = config.exposes.iter().flat_map(|row| &row.on).filter_map(|on| target(on));
        Table::new(
            rows.collect(),
            self.last_row(config).limited(Arc::default(), Arc::clone(gateway)),
        )
        .with_places(places.collect())
        .limiting(Arc::clone(&self.limits.keys))
    }

    /// The row that takes what no other one takes.
    fn last_row(&self, config: &Config) -> Row {
        let resident = config.resident();
        let upstream = resident.map_or(NO_ROUTE, |resident| resident.name);
        let timeout = resident.map_or(config.timeout, |resident| resident.timeout);
        let mut rule = Rule::new("*", upstream, timeout);
        if config.guarded {
            rule.access = Access::Closed;
        }
        match &self.resident {
            Some(target) => Row::implicit(rule, Arc::clone(target), &self.ledger),
            None => Row::new(rule, NO_ROUTE, None, &self.ledger),
        }
    }

    /// Ends all of them at once, and with each the calls that wait for it, or for their turn.
    pub(super) async fn end(&mut self, router: &Router) {
        router.close_queues();
        let retired = self.retired.drain(..).map(|it| it.running);
        let ended = self.running.drain(..).chain(retired).map(|running| async move {
            if !running.tasks.end(GRACE).await {
                warn!(upstream = running.target.name, "the connection did not end in time");
            }
        });
        join_all(ended).await;
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
    Running {
        target: Arc::new(target),
        exposer: connected.exposer,
        events: connected.events,
        protocol: config.connector.protocol(),
        fingerprint: config.fingerprint,
        metrics,
        tasks,
    }
}
