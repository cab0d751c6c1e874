//! One connection's life: what it hosts, and its end.
//!
//! A generation is a connection to publish on, a connection to receive on, and what its roles make
//! of them: for calls the exchange, a reply queue, the table of those that wait, three tasks; for
//! exposed services and for events connections of their own. When any part of the first fails, all of it ends. Only a message that the broker refuses, and closes the channel
//! for, costs no more than the connection that it was published on.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::{Channel, ErrorKind};
use tokio_util::sync::CancellationToken;

use super::binding::{Binding, CALLS};
use super::calls::Calls;
use super::config::{Node, Settings};
use super::events::{self, Events};
use super::expose::{self, Exposes};
use super::open::{Opened, refused_with};
use super::pulse;
use super::transport::Transport;
use crate::metrics::UpstreamMetrics;
use crate::redact::scrub;
use crate::tasks::Tasks;

/// How long a generation's tasks have to end.
const GRACE: Duration = Duration::from_secs(3);

/// A generation, as its supervisor sees it.
pub(super) struct Generation {
    /// What the upstream uses of it.
    pub(super) calls: Arc<Calls>,
    /// What the replies come over.
    receiving: Transport,
    tasks: Tasks,
    end: End,
}

impl Generation {
    /// Starts the roles over what was opened. Each of their tasks ends the generation when it
    /// ends, whatever the reason.
    pub(super) fn start(
        opened: Opened,
        settings: &Arc<Settings>,
        metrics: &UpstreamMetrics,
        hosted: &Hosted,
    ) -> Self {
        let Opened { node, outlet, receiving, intake, channel, consumer, binding, probing } =
            opened;
        let reply_key = binding.key.to_string();
        let tasks = Tasks::new();
        let end = End(Arc::new(Inner { token: tasks.shutdown().clone(), reason: OnceLock::new() }));
        let host = Host { settings, node: &node, metrics, tasks: &tasks, end: &end };
        let calls = Arc::new(Calls::start(&host, outlet, (consumer, intake), reply_key, probing));
        let (heard, pending) = (Arc::clone(&receiving.heard), Arc::clone(&calls.pending));
        host.spawn("nameko reply binding", keep_bound(channel.clone(), binding, end.clone()));
        host.spawn("nameko pulse", pulse::watch(channel, heard, pending, end.clone()));
        let Hosted { exposes, events } = hosted;
        let exposing = expose::role::run(Arc::clone(exposes), Arc::clone(&node), end.clone());
        host.spawn("nameko exposes", exposing);
        let carrying = events::role::run(Arc::clone(events), Arc::clone(&node), end.clone());
        host.spawn("nameko events", carrying);
        Self { calls, receiving, tasks, end }
    }

    /// Waits until one of its parts ends it.
    pub(super) async fn ended(&self) {
        self.end.wait().await;
    }

    /// Ends it, if nothing has, and all calls that wait. Tells why it ended.
    pub(super) fn over(&self, unless_ended: &'static str) -> Reason {
        self.end.because(unless_ended);
        self.calls.pending.close();
        self.end.reason()
    }

    /// Waits for its tasks, and closes what it received from. False where a task does not end.
    pub(super) async fn clear_away(self) -> bool {
        let ended = self.tasks.end(GRACE).await;
        self.receiving.close().await;
        ended
    }
}

/// Keeps the reply queue bound, for as long as the generation lives. Without an exchange no reply comes, and
/// the next generation declares it.
async fn keep_bound(channel: Channel, binding: Binding, end: End) {
    tokio::select! {
        () = end.wait() => {}
        error = binding.keep(&channel, || CALLS) => match refused_with(&error, 404) {
            true => end.because("the exchange was deleted"),
            false => end.because_of("the reply queue cannot be bound again", &error),
        }
    }
}

/// What is hosted by one generation after the other.
pub(super) struct Hosted {
    pub(super) exposes: Arc<Exposes>,
    pub(super) events: Arc<Events>,
}

/// What a generation gives to its roles.
pub(super) struct Host<'a> {
    pub(super) settings: &'a Arc<Settings>,
    pub(super) node: &'a Arc<Node>,
    pub(super) metrics: &'a UpstreamMetrics,
    pub(super) end: &'a End,
    tasks: &'a Tasks,
}

impl Host<'_> {
    /// Starts a task that ends the generation when it ends.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let guard = self.tasks.shutdown().clone().drop_guard();
        self.tasks.spawn(name, async move {
            task.await;
            drop(guard);
        });
    }
}

/// Why a generation ends: the first reason that one of its parts gives.
#[derive(Clone)]
pub(super) struct End(Arc<Inner>);

struct Inner {
    token: CancellationToken,
    reason: OnceLock<Reason>,
}

/// What ended it.
#[derive(Clone)]
pub(super) struct Reason {
    /// For whoever asks whether the upstream is ready: no address, no user.
    pub(super) shown: Cow<'static, str>,
    /// What the broker or the system said, for the log.
    pub(super) said: String,
}

impl End {
    /// Ends the generation.
    pub(super) fn because(&self, reason: impl Into<Cow<'static, str>>) {
        self.with(reason.into(), String::new());
    }

    /// The same, because something failed. The broker's own words name its users.
    pub(super) fn because_of(&self, what: &str, error: &lapin::Error) {
        let said = scrub(&error.to_string()).into_owned();
        let shown = match error.kind() {
            ErrorKind::ProtocolError(refusal) => {
                format!("{what}: rabbitmq refuses with code {}", refusal.get_id())
            }
            _ => format!("{what}: {said}"),
        };
        self.with(shown.into(), said);
    }

    fn with(&self, shown: Cow<'static, str>, said: String) {
        self.0.reason.get_or_init(|| Reason { shown, said });
        self.0.token.cancel();
    }

    /// Waits for the end.
    pub(super) async fn wait(&self) {
        self.0.token.cancelled().await;
    }

    fn reason(&self) -> Reason {
        let unknown = || Reason { shown: "one of its tasks ended".into(), said: String::new() };
        self.0.reason.get().cloned().unwrap_or_else(unknown)
    }
}
