//! The supervisor: one connection after the other, for ever, each a generation of its own.
//!
//! What a call sees is the [`Link`]. A server that says goodbye (lame duck mode) stays in service
//! until the next generation is connected; then it serves its last calls to their end.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::config::Settings;
use super::generation::{End, Generation, Io};
use super::open::{self, Failure};
use crate::backoff::Backoff;
use crate::budget::Account;
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A generation that lived shorter is a failed attempt.
const STABLE: Duration = Duration::from_secs(1);
/// How often the same failure is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// The way to NATS: up, with the generation to use, or down.
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

    fn set(&self, state: State) {
        self.0.store(Arc::new(state));
    }

    /// Takes the generation away from new calls, and ends those that wait.
    fn take_down(&self, why: &'static str) {
        if let State::Up(generation) = &*self.0.swap(Arc::new(State::Down(why))) {
            generation.pending().end();
        }
    }
}

/// Starts the supervisor. It ends, and the connection with it, when `tasks` are told to.
pub(super) fn start(
    settings: Arc<Settings>,
    account: Account,
    metrics: UpstreamMetrics,
    tasks: &Tasks,
) -> Arc<Link> {
    let state = State::Down("there has been no connection to NATS yet");
    let link = Arc::new(Link(ArcSwap::from_pointee(state)));
    let mut supervisor = Supervisor {
        last_failures: vec![None; settings.servers.len()],
        next: fastrand::usize(..settings.servers.len().max(1)),
        settings,
        link: Arc::clone(&link),
        account,
        metrics,
        tasks: tasks.clone(),
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
    /// What replies hold of the memory.
    account: Account,
    metrics: UpstreamMetrics,
    tasks: Tasks,
    backoff: Backoff,
    /// The server to try next.
    next: usize,
    /// By server, for the log: what failed, and when that was last said.
    last_failures: Vec<Option<(String, Instant)>>,
}

/// A generation in service.
struct Living {
    generation: Arc<Generation>,
    /// Its server, for the log.
    server: String,
    born: Instant,
    ended: oneshot::Receiver<End>,
}

impl Supervisor {
    async fn run(&mut self) {
        // Without a server, which `check` refuses, there is nothing to do.
        if self.settings.servers.is_empty() {
            return std::future::pending().await;
        }
        let mut living = self.connect().await;
        loop {
            let next = tokio::select! {
                end = &mut living.ended => {
                    let lived = self.lost(&living, end);
                    if lived < STABLE {
                        // Whatever ends it at once would end the next one too.
                        tokio::time::sleep(self.backoff.failed()).await;
                    }
                    self.connect().await
                }
                next = self.successor(&living.generation) => {
                    let (upstream, server) = (self.metrics.upstream(), &living.server);
                    info!(upstream, server, "the server that is about to go serves its last calls");
                    living.generation.retire();
                    self.backoff.lived(living.born.elapsed());
                    next
                }
            };
            self.metrics.reconnected();
            living = next;
        }
    }

    /// Waits until the server says goodbye, and connects to another one meanwhile.
    async fn successor(&mut self, generation: &Generation) -> Living {
        generation.goodbye().await;
        let upstream = self.metrics.upstream();
        info!(upstream, "the NATS server is about to shut down: connecting to the next one");
        self.connect().await
    }

    /// Connects, and puts the generation in service, however long that takes. Whoever waits for
    /// something else may drop the future.
    async fn connect(&mut self) -> Living {
        let settings = Arc::clone(&self.settings);
        let count = settings.servers.len();
        let mut failures = 0;
        loop {
            let (index, server) = (self.next, &settings.servers[self.next]);
            self.next = (self.next + 1) % count;
            match open::open(&settings, server, &self.account, &self.metrics).await {
                Ok(opened) => {
                    self.last_failures.fill(None);
                    return self.put_in_service(server.to_string(), opened);
                }
                Err(failure) => self.report(index, failure),
            }
            failures += 1;
            // The other servers are tried at once, the same one after a pause.
            if failures % count == 0 {
                tokio::time::sleep(self.backoff.failed()).await;
            }
        }
    }

    fn put_in_service(&self, server: String, (generation, io): (Arc<Generation>, Io)) -> Living {
        info!(upstream = self.metrics.upstream(), server, "connected to NATS");
        let (sender, ended) = oneshot::channel();
        let (running, shutdown) = (Arc::clone(&generation), self.tasks.shutdown().clone());
        self.tasks.spawn("nats generation", async move {
            let end = shutdown.run_until_cancelled(running.run(io)).await;
            running.pending().end();
            if let Some(end) = end {
                // A retired generation's end is nobody's concern any more.
                drop(sender.send(end));
            }
        });
        self.link.set(State::Up(Arc::clone(&generation)));
        self.metrics.set_up(true);
        Living { generation, server, born: Instant::now(), ended }
    }

    /// Takes a generation that has ended out of service. Says how long it lived.
    fn lost(&mut self, living: &Living, end: Result<End, oneshot::error::RecvError>) -> Duration {
        self.link.take_down("the connection to NATS was lost");
        self.metrics.set_up(false);
        let (reason, said) = match &end {
            Ok(End { reason, said }) => (*reason, said.as_str()),
            Err(_) => ("its task has failed", ""),
        };
        let (upstream, server, lived) =
            (self.metrics.upstream(), &living.server, living.born.elapsed());
        warn!(upstream, server, reason, said, "the connection to NATS was lost; connecting again");
        self.backoff.lived(lived);
        lived
    }

    /// Tells the operator of a failure: once, and then now and again while it lasts.
    fn report(&mut self, index: usize, failure: Failure) {
        // A generation in service stays there: it is its successor that fails.
        if let State::Down(_) = &*self.link.state() {
            self.link.set(State::Down(failure.reason));
        }
        let last = &mut self.last_failures[index];
        let known = last
            .as_ref()
            .is_some_and(|(text, at)| *text == failure.detail && at.elapsed() < REMINDER);
        if known {
            return;
        }
        let (upstream, server) = (self.metrics.upstream(), &self.settings.servers[index]);
        let (reason, detail) = (failure.reason, failure.detail.as_str());
        match failure.mend {
            Some(mend) => {
                error!(upstream, %server, detail, mend, "no connection to NATS: {reason}")
            }
            None => {
                warn!(upstream, %server, detail, "no connection to NATS: {reason}; trying again")
            }
        }
        *last = Some((failure.detail, Instant::now()));
    }
}
