//! One reload: the configuration is read again, and refused whole or put in force in one step, once
//! the upstreams that it brings are connected.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{JoinHandle, coop};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::certificates::Certificates;
use super::ingresses::Ingresses;
use super::upstreams::{Running, Upstreams};
use super::wanted_headers;
use super::watch::{Step, Watch};
use crate::admin::{Admin, LastReload};
use crate::auth::Auth;
use crate::auth::tokens::Tokens;
use crate::config::log::LogConfig;
use crate::config::problem::{Problem, Severity};
use crate::config::{self, Config, Origin, Readers};
use crate::events::bridges::Bridges;
use crate::router::Router;

/// How long a new table waits for the upstreams that it brings to connect.
const TURNOVER: Duration = Duration::from_secs(5);
/// How often it looks whether they have, and whether a file has been read.
const TURNOVER_LOOK: Duration = Duration::from_millis(10);

/// What the log says of a configuration that is not put in force.
const REFUSED: &str = "reload refused: the old configuration stays in force";

/// The configuration in force, what tells that there is another one, and that one while the
/// upstreams that it brings connect.
pub(super) struct Reload {
    running: Config,
    origin: Origin,
    readers: Arc<Readers>,
    watch: Watch,
    certificates: Certificates,
    reading: Option<Reading>,
    next: Option<Next>,
    /// How many reloads have ended, and how the last one did, in a few words.
    ended: (u64, String),
    last: Arc<LastReload>,
}

/// A configuration that is being read, beside the calls: a large one takes its time.
struct Reading {
    reason: &'static str,
    found: JoinHandle<Found>,
}

/// A configuration that is valid, with what is dubious about it; else what is wrong.
type Found = Result<(Config, Vec<Problem>), Vec<Problem>>;

/// Puts the settings of the log in force that replace others. False where some take a new start.
pub(super) type ApplyLog<'a> = dyn Fn(LogConfig, LogConfig) -> bool + 'a;

/// What a reload changes, beside the upstreams.
pub(super) struct House<'a> {
    pub(super) router: &'a Arc<Router>,
    pub(super) ingresses: &'a Ingresses,
    pub(super) admin: &'a Admin,
    pub(super) auth: &'a Auth,
    pub(super) log: &'a ApplyLog<'a>,
}

/// A configuration that is about to be in force.
struct Next {
    reason: &'static str,
    config: Config,
    upstreams: Vec<Running>,
    /// Those of them that do not run yet.
    brought: Vec<Running>,
    /// What makes its tokens known, where the issuer is another one.
    tokens: Option<Arc<Tokens>>,
    /// When it is put in force at the latest.
    by: Instant,
}

impl Reload {
    /// Nothing to do yet: `running` is what was read of `origin`.
    pub(super) fn new(
        running: Config,
        origin: Origin,
        readers: Readers,
        last: Arc<LastReload>,
    ) -> Self {
        let watch = Watch::new(origin.read_again());
        let certificates = Certificates::new(running.certificates.clone());
        let (readers, ended) = (Arc::new(readers), Default::default());
        last.is_in_force();
        let (reading, next) = (None, None);
        Self { running, origin, readers, watch, certificates, reading, next, ended, last }
    }

    /// How many reloads have ended, and how the last one did: for whoever supervises the process.
    pub(super) fn ended(&self) -> (u64, &str) {
        (self.ended.0, &self.ended.1)
    }

    fn end(&mut self, how: String) {
        self.ended = (self.ended.0.wrapping_add(1), how);
    }

    fn refuse(&mut self) {
        self.last.is_refused();
        self.end(format!("{REFUSED}; the log says why"));
    }

    /// Looks at the certificates that the configuration in force names.
    pub(super) fn look_at_certificates(&mut self) {
        self.certificates.look();
    }

    /// The configuration in force.
    pub(super) fn running(&self) -> &Config {
        &self.running
    }

    /// Leaves off.
    pub(super) fn give_up(&mut self, upstreams: &mut Upstreams) {
        self.reading = None;
        if let Some(next) = self.next.take() {
            upstreams.give_up(next.upstreams);
        }
    }

    /// Waits until the file is to be looked at: not before what was seen last has been read.
    pub(super) async fn is_time_to_look(&self) {
        self.is_read().await;
        self.watch.is_time().await;
    }

    /// Waits until what is being read has been; not at all where nothing is.
    async fn is_read(&self) {
        while self.reading.as_ref().is_some_and(|reading| !reading.found.is_finished()) {
            sleep(TURNOVER_LOOK).await;
        }
    }

    /// Whether nothing that was asked for is still to be done.
    pub(super) fn is_over(&self) -> bool {
        self.reading.is_none() && self.next.is_none() && !self.watch.is_asked()
    }

    /// SIGHUP came.
    pub(super) fn ask(&mut self) {
        if self.origin == Origin::Embedded {
            // There may be a file by now.
            self.origin = Origin::find(None);
        }
        self.watch.ask();
    }

    /// Looks at the file, and begins to read what is to be read.
    pub(super) fn look(&mut self) {
        match self.watch.look(self.origin.read_again()) {
            Step::Wait => {}
            Step::Load(reason, text) => {
                let (origin, readers) = (self.origin.clone(), Arc::clone(&self.readers));
                let read = move || config::load_text(&origin, &text, &readers).into_valid();
                self.reading = Some(Reading { reason, found: tokio::task::spawn_blocking(read) });
            }
            Step::Tell(reason) => {
                let config = self.origin.name();
                warn!(config, reason, "the configuration is not read yet");
            }
            Step::Refuse(problem) => {
                let config = self.origin.name();
                error!(config, problem, "{REFUSED}");
                self.refuse();
            }
        }
    }

    /// Waits until there is a configuration that has been read, for ever where there is none.
    pub(super) async fn has_read(&self) {
        match &self.reading {
            Some(_) => self.is_read().await,
            None => std::future::pending().await,
        }
    }

    /// Refuses whole what has been read, or prepares to put it in force: calls keep to the old upstreams
    /// until the new ones are connected.
    pub(super) fn take_up(&mut self, upstreams: &mut Upstreams, auth: &Auth) {
        let Some(Reading { reason, found }) = self.reading.take() else { return };
        let Some(found) = outcome(found) else {
            error!(reason, "{REFUSED}: reading it has failed, which is a fault of Genkan");
            self.refuse();
            return;
        };
        let (config, problems) = match found {
            Ok(valid) => valid,
            Err(problems) => {
                for problem in problems.iter().filter(|p| p.severity == Severity::Error) {
                    error!(place = %problem.place, problem = problem.message, "bad configuration");
                }
                error!(reason, "{REFUSED}");
                self.refuse();
                return;
            }
        };
        for problem in &problems {
            warn!(place = %problem.place, problem = problem.message, "dubious configuration");
        }
        // Changes that overtake each other do not put off for ever what they bring.
        let overtaken = self.next.take();
        let by = overtaken.as_ref().map_or_else(|| Instant::now() + TURNOVER, |next| next.by);
        let begun = overtaken.map(|next| (next.upstreams, next.tokens)).unwrap_or_default();
        let prepared = upstreams.prepare(&config, begun.0);
        let brought = upstreams.brought(&prepared);
        let tokens = auth.prepare(&config.auth, begun.1);
        self.next = Some(Next { reason, config, upstreams: prepared, brought, tokens, by });
    }

    /// Waits until a configuration can be put in force, for ever where there is none.
    pub(super) async fn is_due(&self) {
        let Some(next) = &self.next else { return std::future::pending().await };
        let is_ready = || {
            let has_keys = next.tokens.as_ref().is_none_or(|tokens| tokens.have_keys());
            has_keys && next.brought.iter().all(Running::is_ready)
        };
        while Instant::now() < next.by && !is_ready() {
            sleep(TURNOVER_LOOK).await;
        }
    }

    /// Puts it in force.
    pub(super) fn complete(
        &mut self,
        house: &House<'_>,
        upstreams: &mut Upstreams,
        bridges: &mut Bridges,
    ) {
        let House { router, ingresses, admin, auth, log } = house;
        let Some(next) = self.next.take() else { return };
        let Next { reason, config, upstreams: next, tokens, .. } = next;
        let applied = ingresses.apply(&config).and_then(|change| {
            let admin = admin.apply(&config.admin)?;
            Ok((change, admin))
        });
        match applied {
            Ok((put_in_force, put_admin_in_force)) => {
                put_in_force();
                put_admin_in_force();
                ingresses.tell_where(&admin.address().1);
            }
            Err(problem) => {
                upstreams.give_up(next);
                let problem = format!("{problem:#}");
                error!(reason, problem, "{REFUSED}");
                self.refuse();
                return;
            }
        }
        let fixed = [
            ("[log] format", !log(self.running.log, config.log)),
            ("workers", config.workers != self.running.workers),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            warn!(key, "the change takes effect at the next start");
        }
        auth.apply(&config.auth, tokens);
        router.budget().set_limit(config.max_memory);
        router.want_headers(wanted_headers(&config));
        router.replace(upstreams.turn_over(&config, next));
        upstreams.expose(&config, router);
        bridges.apply(&config.bridges, &config.topics, &upstreams.ports());
        ingresses.routes_changed();
        let (name, routes) = (self.origin.name(), config.routes.len());
        info!(reason, config = name, routes, "reloaded: the new routing table is in force");
        self.certificates.apply(&config.certificates);
        self.running = config;
        self.last.is_in_force();
        self.end(format!("reloaded: calls are taken, by {routes} rows"));
    }
}

/// What a task that has ended has found; `None` where it panicked. It is known, so that it is told however much
/// whoever asks has done before in its turn.
fn outcome(found: JoinHandle<Found>) -> Option<Found> {
    coop::unconstrained(found).now_or_never()?.ok()
}

#[cfg(test)]
mod tests {
    use tokio::task::spawn_blocking;

    use super::*;

    #[tokio::test]
    async fn what_was_read_is_found_by_a_task_that_has_had_its_time() {
        let found = spawn_blocking(|| Err(Vec::new()));
        while !found.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        while coop::has_budget_remaining() {
            coop::consume_budget().now_or_never().unwrap_or_default();
        }
        assert!(outcome(found).is_some());
    }
}
