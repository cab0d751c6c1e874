//! The supervisor: one connection after the other, for ever, each a generation of its own.
//!
//! What a call sees is the [`Link`]. A server that says goodbye (lame duck mode) stays in service
//! until the next generation is connected; then it serves its last calls to their end, and the next
//! one those for which it has no time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::config::{Server, Settings};
use super::events::Events;
use super::expose::Exposes;
use super::generation::{End, Generation, Io};
use super::open::{self, Accounts, Failure};
use super::pool::Pool;
use crate::backoff::Backoff;
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A generation that lived shorter is a failed attempt.
const STABLE: Duration = Duration::from_secs(1);
/// How often the same failure is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// The way to NATS: up, with the generation to use, or down.
pub(super) struct Link {
    state: ArcSwap<State>,
    changed: Notify,
}

/// Whether there is a generation.
pub(super) enum State {
    /// There is one.
    Up(Arc<Generation>),
    /// There is none; why, without addresses, and the mend.
    Down(Cow<'static, str>),
}

impl Link {
    /// Down, until [`start`] has connected.
    pub(super) fn new() -> Arc<Self> {
        let state = State::Down("there has been no connection to NATS yet".into());
        Arc::new(Self { state: ArcSwap::from_pointee(state), changed: Notify::new() })
    }

    /// The state now.
    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The generation that there is, as soon as it is another one.
    pub(super) async fn generation_after(&self, before: &Arc<Generation>) -> Arc<Generation> {
        loop {
            let changed = self.changed.notified();
            if let State::Up(next) = &*self.state()
                && !Arc::ptr_eq(next, before)
            {
                return Arc::clone(next);
            }
            changed.await;
        }
    }

    fn set(&self, state: State) {
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }

    /// Takes the generation away from new calls, and ends those that wait.
    fn take_down(&self, why: &'static str) {
        if let State::Up(generation) = &*self.state.swap(Arc::new(State::Down(why.into()))) {
            generation.end();
        }
    }
}

/// Starts the supervisor. It ends, and the connection with it, when `tasks` are told to.
pub(super) fn start(
    settings: Arc<Settings>,
    link: &Arc<Link>,
    accounts: Accounts,
    (exposes, events): (Arc<Exposes>, Arc<Events>),
    metrics: UpstreamMetrics,
    tasks: &Tasks,
) {
    let mut supervisor = Supervisor {
        last_failures: HashMap::new(),
        pool: Pool::new(settings.servers.clone(), settings.discover),
        settings,
        link: Arc::clone(link),
        accounts,
        exposes,
        events,
        metrics,
        tasks: tasks.clone(),
        backoff: Backoff::new(FIRST_PAUSE, STABLE),
    };
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("nats connection", async move {
        // Nothing else than the shutdown ends it.
        let _stopped = shutdown.run_until_cancelled(supervisor.run()).await;
        supervisor.link.take_down("Genkan is shutting down");
        supervisor.metrics.set_up(false);
    });
}

struct Supervisor {
    settings: Arc<Settings>,
    link: Arc<Link>,
    accounts: Accounts,
    exposes: Arc<Exposes>,
    events: Arc<Events>,
    metrics: UpstreamMetrics,
    tasks: Tasks,
    backoff: Backoff,
    pool: Pool,
    /// By server, for the log: what failed, and when that was last said.
    last_failures: HashMap<String, (String, Instant)>,
}

/// A generation whose task runs: it ends with that, whatever ends that.
struct Running(Arc<Generation>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A generation in service.
struct Living {
    generation: Arc<Generation>,
    server: Arc<Server>,
    born: Instant,
    ended: oneshot::Receiver<End>,
}

impl Supervisor {
    async fn run(&mut self) {
        // Without a server, which `check` refuses, there is nothing to do.
        if self.pool.is_empty() {
            return std::future::pending().await;
        }
        let mut living = self.connect().await;
        loop {
            let next = tokio::select! {
                end = &mut living.ended => {
                    // Its task may have heard of the shutdown first: nothing was lost.
                    if self.tasks.shutdown().is_cancelled() {
                        return;
                    }
                    let lived = self.lost(&living, end);
                    if lived < STABLE {
                        // Whatever ends it at once would end the next one too.
                        tokio::time::sleep(self.backoff.failed()).await;
                    }
                    self.connect().await
                }
                next = self.successor(&living.generation, &living.server) => {
                    let (upstream, server) = (self.metrics.upstream(), &living.server);
                    info!(upstream, %server, "the server that is about to go serves its last calls");
                    next.generation.take_over(&living.generation);
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
    async fn successor(&mut self, generation: &Generation, server: &Server) -> Living {
        loop {
            tokio::select! {
                () = generation.news() => self.learn(generation, server),
                () = generation.goodbye() => break,
            }
        }
        self.learn(generation, server);
        let upstream = self.metrics.upstream();
        info!(upstream, "the NATS server is about to shut down: connecting to the next one");
        self.connect().await
    }

    /// Takes in what a server has told of the others in its cluster.
    fn learn(&mut self, generation: &Generation, server: &Server) {
        let info = generation.info();
        let tls = self.settings.tls || info.tls_required;
        if let Some(servers) = self.pool.learn(server, &info.connect_urls, tls) {
            let upstream = self.metrics.upstream();
            info!(upstream, %server, servers, "NATS names other servers of its cluster");
        }
    }

    /// Connects, and puts the generation in service, however long that takes. Whoever waits for
    /// something else may drop the future.
    async fn connect(&mut self) -> Living {
        let settings = Arc::clone(&self.settings);
        let mut nth = 0;
        loop {
            let Some(server) = self.pool.turn(nth) else {
                // The other servers are tried at once, the same one after a pause.
                tokio::time::sleep(self.backoff.failed()).await;
                nth = 0;
                continue;
            };
            nth += 1;
            let Self { accounts, exposes, events, metrics, .. } = &*self;
            match open::open(&settings, &server, accounts, (exposes, events), metrics).await {
                Ok(opened) => {
                    self.last_failures.clear();
                    return self.put_in_service(server, opened);
                }
                Err(failure) => self.report(&server, failure),
            }
        }
    }

    fn put_in_service(
        &self,
        server: Arc<Server>,
        (generation, io): (Arc<Generation>, Io),
    ) -> Living {
        info!(upstream = self.metrics.upstream(), %server, "connected to NATS");
        let (sender, ended) = oneshot::channel();
        let (running, shutdown) = (Running(Arc::clone(&generation)), self.tasks.shutdown().clone());
        self.tasks.spawn("nats generation", async move {
            let end = shutdown.run_until_cancelled(running.0.run(io)).await;
            drop(running);
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
        self.learn(&living.generation, &living.server);
        let (reason, said) = match &end {
            Ok(End { reason, said }) => (*reason, said.as_str()),
            Err(_) => ("its task has failed", ""),
        };
        let (upstream, server, lived) =
            (self.metrics.upstream(), &living.server, living.born.elapsed());
        warn!(upstream, %server, reason, said, "the connection to NATS was lost; connecting again");
        self.backoff.lived(lived);
        lived
    }

    /// Tells the operator of a failure: once, and then now and again while it lasts.
    fn report(&mut self, server: &Server, failure: Failure) {
        // A generation in service stays there: it is its successor that fails.
        if let State::Down(_) = &*self.link.state() {
            self.link.set(State::Down(failure.told()));
        }
        let name = server.to_string();
        let is_known = self
            .last_failures
            .get(&name)
            .is_some_and(|(text, at)| *text == failure.detail && at.elapsed() < REMINDER);
        if is_known {
            return;
        }
        let upstream = self.metrics.upstream();
        let (reason, detail) = (&failure.reason, failure.detail.as_str());
        match failure.mend.as_deref() {
            Some(mend) => {
                error!(upstream, %server, detail, mend, "no connection to NATS: {reason}")
            }
            None => {
                warn!(upstream, %server, detail, "no connection to NATS: {reason}; trying again")
            }
        }
        self.last_failures.insert(name, (failure.detail, Instant::now()));
    }
}
