//! The supervisor: one connection after the other, for ever, each a generation of its own.
//!
//! It owns the inbox of the generation that lives, and hands every reply on; what a call sees is
//! the [`Link`].

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::config::{Server, Settings};
use super::generation::{Generation, Incoming};
use super::open::{self, Failure};
use crate::backoff::Backoff;
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A generation that lived shorter is a failed attempt.
const STABLE: Duration = Duration::from_secs(1);
/// How often the same failure is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// The way to NATS, as calls see it: up, with the generation to use, or down.
pub(super) struct Link(ArcSwap<State>);

/// Whether there is a generation.
pub(super) enum State {
    /// There is one.
    Up(Arc<Generation>),
    /// There is none; why, without addresses.
    Down(&'static str),
}

impl Link {
    /// The state now.
    pub(super) fn state(&self) -> Arc<State> {
        self.0.load_full()
    }

    /// Takes the generation away from new calls, and ends those that wait.
    fn take_down(&self, why: &'static str) {
        if let State::Up(generation) = &*self.0.swap(Arc::new(State::Down(why))) {
            generation.pending().end();
        }
    }
}

/// Starts the supervisor. It ends, and the connection with it, when `tasks` are told to.
pub(super) fn start(settings: Arc<Settings>, metrics: UpstreamMetrics, tasks: &Tasks) -> Arc<Link> {
    let state = State::Down("there has been no connection to NATS yet");
    let link = Arc::new(Link(ArcSwap::from_pointee(state)));
    let mut supervisor = Supervisor {
        last_failures: vec![None; settings.servers.len()],
        settings,
        link: Arc::clone(&link),
        metrics,
        backoff: Backoff::new(FIRST_PAUSE, STABLE),
    };
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("nats connection", async move {
        // `None` means that the shutdown came; the supervisor itself does not end.
        let _stopped = shutdown.run_until_cancelled(supervisor.run()).await;
        supervisor.link.take_down("Genkan is shutting down");
        supervisor.metrics.set_up(false);
    });
    link
}

struct Supervisor {
    settings: Arc<Settings>,
    link: Arc<Link>,
    metrics: UpstreamMetrics,
    backoff: Backoff,
    /// By server, for the log: what failed, and when that was last said.
    last_failures: Vec<Option<(String, Instant)>>,
}

impl Supervisor {
    async fn run(&mut self) {
        let settings = Arc::clone(&self.settings);
        let count = settings.servers.len();
        let mut next = fastrand::usize(..count.max(1));
        let mut failures = 0;
        let mut connected_before = false;
        // Without a server, which `check` refuses, there is nothing to do.
        while let Some(server) = settings.servers.get(next) {
            match open::open(&settings, server, &self.metrics).await {
                Ok((generation, mut incoming)) => {
                    info!(%server, "connected to NATS");
                    if connected_before {
                        self.metrics.reconnected();
                    }
                    connected_before = true;
                    failures = 0;
                    self.last_failures.fill(None);
                    self.live(server, &generation, &mut incoming).await;
                }
                Err(failure) => {
                    failures += 1;
                    self.report(next, server, failure);
                }
            }
            next = (next + 1) % count;
            // The other servers are tried at once, the same one after a pause.
            if failures % count == 0 {
                tokio::time::sleep(self.backoff.failed()).await;
            }
        }
    }

    /// Lets calls use the generation until it ends.
    async fn live(
        &mut self,
        server: &Server,
        generation: &Arc<Generation>,
        incoming: &mut Incoming,
    ) {
        let born = Instant::now();
        self.link.0.store(Arc::new(State::Up(Arc::clone(generation))));
        self.metrics.set_up(true);
        generation.run(incoming).await;
        self.link.take_down("the connection to NATS was lost");
        self.metrics.set_up(false);
        warn!(%server, "the connection to NATS was lost; connecting again");
        self.backoff.lived(born.elapsed());
    }

    /// Tells the operator of a failure: once, and then now and again while it lasts.
    fn report(&mut self, index: usize, server: &Server, failure: Failure) {
        self.link.take_down(failure.reason);
        let last = &mut self.last_failures[index];
        let known = last
            .as_ref()
            .is_some_and(|(text, at)| *text == failure.detail && at.elapsed() < REMINDER);
        if known {
            return;
        }
        let (reason, detail) = (failure.reason, failure.detail.as_str());
        match failure.mend {
            Some(mend) => error!(%server, detail, mend, "no connection to NATS: {reason}"),
            None => warn!(%server, detail, "no connection to NATS: {reason}; trying again"),
        }
        *last = Some((failure.detail, Instant::now()));
    }
}
