//! One reload: the configuration is read again, and refused whole or put in force in one step, once
//! the upstreams that it brings are connected.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::ingresses::Ingresses;
use super::upstreams::{Running, Upstreams};
use crate::admin::Admin;
use crate::config::problem::Severity;
use crate::config::{self, Config, Origin, Stamp};
use crate::protocol;
use crate::router::Router;

/// How long a new table waits for the upstreams that it brings to connect.
const TURNOVER: Duration = Duration::from_secs(5);
/// How often it looks whether they have.
const TURNOVER_LOOK: Duration = Duration::from_millis(10);

/// The configuration in force, what tells that there is another one, and that one while the
/// upstreams that it brings connect.
pub(super) struct Reload {
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

/// The file's stamp as it is now.
pub(super) fn stamp(origin: &Origin) -> Option<Stamp> {
    match origin {
        Origin::File(path) => Stamp::of(path),
        Origin::Embedded => None,
    }
}

impl Reload {
    /// Nothing to do yet: `running` is what was read of `origin`, whose stamp was taken before.
    pub(super) fn new(running: Config, origin: Origin, stamp: Option<Stamp>) -> Self {
        Self { running, origin, stamp, next: None }
    }

    /// The configuration in force.
    pub(super) fn running(&self) -> &Config {
        &self.running
    }

    /// Leaves off.
    pub(super) fn give_up(&mut self, upstreams: &mut Upstreams) {
        if let Some(next) = self.next.take() {
            upstreams.give_up(next.upstreams);
        }
    }

    /// Whether the file is another one than at the last look. A file that is gone is being
    /// replaced: it is looked at again.
    pub(super) fn file_changed(&mut self) -> bool {
        let now = stamp(&self.origin);
        if now.is_none() || now == self.stamp {
            return false;
        }
        self.stamp = now;
        true
    }

    /// Reads the configuration again, and refuses it whole or prepares to put it in force: calls
    /// keep to the old upstreams until the new ones are connected.
    pub(super) fn begin(&mut self, reason: &'static str, upstreams: &mut Upstreams) {
        if self.origin == Origin::Embedded {
            // There may be a file by now.
            self.origin = Origin::find(None);
        }
        self.stamp = stamp(&self.origin);
        let (config, problems) = match config::load(&self.origin, &protocol::readers()).into_valid()
        {
            Ok(valid) => valid,
            Err(problems) => {
                for problem in problems.iter().filter(|p| p.severity == Severity::Error) {
                    error!(place = %problem.place, problem = problem.message, "bad configuration");
                }
                error!(reason, "reload refused: the old configuration stays in force");
                return;
            }
        };
        for problem in &problems {
            warn!(place = %problem.place, problem = problem.message, "dubious configuration");
        }
        self.give_up(upstreams);
        let by = Instant::now() + TURNOVER;
        self.next = Some(Next { reason, upstreams: upstreams.prepare(&config), config, by });
    }

    /// Waits until a configuration can be put in force, for ever where there is none.
    pub(super) async fn is_due(&self) {
        let Some(next) = &self.next else { return std::future::pending().await };
        while Instant::now() < next.by && !next.upstreams.iter().all(Running::is_ready) {
            sleep(TURNOVER_LOOK).await;
        }
    }

    /// Puts it in force.
    pub(super) fn complete(
        &mut self,
        router: &Router,
        upstreams: &mut Upstreams,
        ingresses: &Ingresses,
        admin: &Admin,
    ) {
        let Some(Next { reason, config, upstreams: next, .. }) = self.next.take() else { return };
        let applied = ingresses.apply(&config).and_then(|change| {
            let admin = admin.apply(&config.admin)?;
            Ok((change, admin))
        });
        match applied {
            Ok((ingresses, admin)) => {
                ingresses();
                admin();
            }
            Err(problem) => {
                upstreams.give_up(next);
                let problem = format!("{problem:#}");
                error!(reason, problem, "reload refused: the old configuration stays in force");
                return;
            }
        }
        let fixed = [
            ("[log]", config.log != self.running.log),
            ("workers", config.workers != self.running.workers),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            warn!(key, "the change takes effect at the next start");
        }
        router.budget().set_limit(config.max_memory);
        router.replace(upstreams.turn_over(&config, next));
        ingresses.routes_changed();
        let (name, routes) = (self.origin.name(), config.routes.len());
        info!(reason, config = name, routes, "reloaded: the new routing table is in force");
        self.running = config;
    }
}
