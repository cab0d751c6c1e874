//! The supervisor: one generation of connections after the other, for ever; and the link that calls
//! see of it.
//!
//! When a generation ends, what waits gets its answer at once, and a new generation is opened by
//! the one code path that opened the first. Nothing is carried over.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use super::calls::Calls;
use super::config::Settings;
use super::generation::{Generation, Hosted, Reason};
use super::open::{self, Failure, Opened};
use crate::backoff::Backoff;
use crate::budget::Account;
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long a generation has to live for the next one to be opened at once.
const STABLE: Duration = Duration::from_secs(1);

/// The way to RabbitMQ, as calls see it: the living generation, or why there is none.
pub(super) struct Link {
    current: ArcSwapOption<Calls>,
    down: ArcSwap<Down>,
}

/// Why there is no generation.
struct Down {
    /// For the operator.
    why: String,
    /// For callers, where they are told.
    told: Option<String>,
}

impl Link {
    fn new() -> Self {
        let why = "not connected to rabbitmq yet".to_owned();
        let down = ArcSwap::from_pointee(Down { why, told: None });
        Self { current: ArcSwapOption::empty(), down }
    }

    /// The living generation's calls.
    pub(super) fn current(&self) -> Option<Arc<Calls>> {
        self.current.load_full()
    }

    /// Why there is none, for the operator.
    pub(super) fn why_down(&self) -> String {
        self.down.load().why.clone()
    }

    /// The same for callers; nothing where it may pass by itself.
    pub(super) fn told_of_down(&self) -> Option<String> {
        self.down.load().told.clone()
    }

    fn set_down(&self, why: String, told: Option<String>) {
        self.down.store(Arc::new(Down { why, told }));
    }
}

/// Starts the supervisor. It ends, and the connections with it, when `tasks` are told to.
pub(super) fn start(
    settings: Arc<Settings>,
    account: Account,
    metrics: UpstreamMetrics,
    hosted: Hosted,
    tasks: &Tasks,
) -> Arc<Link> {
    let link = Arc::new(Link::new());
    let (tasks, own) = (tasks.clone(), tasks);
    let supervisor =
        Supervisor { settings, link: Arc::clone(&link), account, metrics, hosted, tasks };
    own.spawn("nameko connection", supervise(supervisor));
    link
}

struct Supervisor {
    settings: Arc<Settings>,
    link: Arc<Link>,
    /// What replies hold of the memory.
    account: Account,
    metrics: UpstreamMetrics,
    hosted: Hosted,
    tasks: Tasks,
}

/// Keeps a generation alive until the tasks are told to end.
async fn supervise(supervisor: Supervisor) {
    let Supervisor { settings, link, account, metrics, tasks, .. } = &supervisor;
    let shutdown = tasks.shutdown();
    let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
    let mut reports = Reports::default();
    let (mut built, mut failures) = (false, 0);
    let mut turn = fastrand::usize(..1 << 16);
    while !shutdown.is_cancelled() {
        let nodes = settings.nodes();
        // Without a node, which `check` refuses, there is nothing to do.
        let Some(node) = nodes.get(turn % nodes.len().max(1)) else { return };
        turn += 1;
        let limit = settings.connect_timeout;
        let opened = tokio::time::timeout(limit, open::open(settings, node, account));
        let opened = tokio::select! {
            () = shutdown.cancelled() => break,
            opened = opened => opened.unwrap_or_else(|_| Err(Failure::slow(limit))),
        };
        let pause = match opened {
            Ok(opened) => {
                if std::mem::replace(&mut built, true) {
                    metrics.reconnected();
                }
                reports.connected();
                failures = 0;
                let since = Instant::now();
                supervisor.run(opened).await;
                let life = since.elapsed();
                backoff.lived(life);
                life < STABLE
            }
            Err(failure) => {
                link.set_down(failure.told(), failure.told_to_callers());
                reports.failed(&failure, metrics.upstream(), &node.address);
                failures += 1;
                // The other nodes are tried at once, the same one after a pause.
                failures % nodes.len() == 0
            }
        };
        if pause {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(backoff.failed()) => {}
            }
        }
    }
}

impl Supervisor {
    /// Runs a generation to its end.
    async fn run(&self, opened: Opened) {
        let Self { settings, link, metrics, hosted, tasks, .. } = self;
        let shutdown = tasks.shutdown();
        let node = Arc::clone(&opened.node);
        let generation = Generation::start(opened, settings, metrics, hosted);
        link.current.store(Some(Arc::clone(&generation.calls)));
        metrics.set_up(true);
        let (upstream, address) = (metrics.upstream(), node.address.as_str());
        tracing::info!(upstream, address, "connected to rabbitmq");
        tokio::select! {
            () = generation.ended() => {}
            () = shutdown.cancelled() => {}
        }
        link.current.store(None);
        metrics.set_up(false);
        let Reason { shown: reason, said } = generation.over("genkan is shutting down");
        link.set_down(format!("the connection to rabbitmq was lost: {reason}"), None);
        if shutdown.is_cancelled() {
            tracing::info!(upstream, address, "disconnecting from rabbitmq");
        } else {
            tracing::warn!(upstream, address, %reason, said, "connection to rabbitmq lost");
        }
        // The next one does not wait for a peer that may not answer any more.
        let upstream = upstream.to_owned();
        tasks.spawn("nameko clearing", async move {
            if !generation.clear_away().await {
                tracing::warn!(upstream, "a task of the lost connection does not end");
            }
        });
    }
}

/// What has been said about failures to connect.
#[derive(Default)]
struct Reports {
    /// By node.
    last: HashMap<String, Cow<'static, str>>,
}

impl Reports {
    fn connected(&mut self) {
        self.last.clear();
    }

    /// Each new reason is said once, at a level that fits who must act; repetitions at debug.
    fn failed(&mut self, failure: &Failure, upstream: &str, address: &str) {
        let Failure { reason, said, mend } = failure;
        if self.last.get(address) == Some(reason) {
            tracing::debug!(upstream, address, %reason, "rabbitmq still cannot be used");
            return;
        }
        self.last.insert(address.to_owned(), reason.clone());
        match mend.as_deref() {
            Some(mend) => {
                tracing::error!(upstream, address, %reason, said, mend, "rabbitmq cannot be used");
            }
            None => {
                tracing::warn!(
                    upstream, address, %reason, said,
                    "rabbitmq cannot be reached, trying again"
                );
            }
        }
    }
}
