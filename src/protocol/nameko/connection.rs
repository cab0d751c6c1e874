//! The supervisor: one generation of connections after the other, for ever.
//!
//! A generation is a connection to publish on, a connection to receive on, and what belongs to
//! them: the exchange, a reply queue of its own, the table of waiting calls, three tasks. When
//! any part fails, all of it ends: waiting calls get their answer at once, and a new generation
//! is built by the one code path that built the first. Nothing is carried over.
//!
//! Only a message that the broker refuses, and closes the channel for, costs no more than the
//! connection that it was published on: the publisher makes itself another one.
//!
//! The reply queue is exclusive to its connection, transient, and has a new name each time. So
//! the broker removes it with the connection, a half-open old connection locks nothing that is
//! needed, and RabbitMQ 4.3, which refuses transient queues that are not exclusive, takes it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, Consumer, ErrorKind, ExchangeKind};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::Settings;
use super::outlet::Outlet;
use super::pending::Pending;
use super::probe::{Prober, Services};
use super::publisher::{self, Outgoing, Publisher};
use super::replies;
use super::transport::{self, Transport};
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long a generation has to live for the next failure to count as the first.
const STABLE: Duration = Duration::from_secs(10);
/// How long a generation's tasks have to end.
const GRACE: Duration = Duration::from_secs(3);

/// Why a generation ends: the first reason that one of its parts gives.
#[derive(Clone)]
pub(super) struct End {
    token: CancellationToken,
    reason: Arc<OnceLock<Reason>>,
}

#[derive(Clone)]
struct Reason {
    /// For whoever asks whether the upstream is ready: no address, no user.
    shown: Cow<'static, str>,
    /// What the broker or the system said, for the log.
    said: String,
}

impl End {
    fn new(token: CancellationToken) -> Self {
        Self { token, reason: Arc::default() }
    }

    /// Ends the generation.
    pub(super) fn because(&self, reason: impl Into<Cow<'static, str>>) {
        self.with(reason.into(), String::new());
    }

    /// The same, because something failed. The broker's own words name its users.
    pub(super) fn because_of(&self, what: &str, error: &lapin::Error) {
        let said = error.to_string();
        let shown = match error.kind() {
            ErrorKind::ProtocolError(refusal) => {
                format!("{what}: rabbitmq refuses with code {}", refusal.get_id())
            }
            _ => format!("{what}: {said}"),
        };
        self.with(shown.into(), said);
    }

    fn with(&self, shown: Cow<'static, str>, said: String) {
        self.reason.get_or_init(|| Reason { shown, said });
        self.token.cancel();
    }

    /// Waits for the end.
    pub(super) async fn wait(&self) {
        self.token.cancelled().await;
    }

    fn reason(&self) -> Reason {
        let unknown = || Reason { shown: "one of its tasks ended".into(), said: String::new() };
        self.reason.get().cloned().unwrap_or_else(unknown)
    }
}

/// What calls use of a generation.
pub(super) struct Generation {
    pub(super) publish: mpsc::Sender<Outgoing>,
    pub(super) pending: Arc<Pending>,
    pub(super) services: Services,
    /// The routing key on which replies come back.
    pub(super) reply_key: String,
    /// The largest frame that the broker and we have agreed upon.
    pub(super) frame_max: usize,
    pub(super) end: End,
    blocked: Arc<AtomicBool>,
}

impl Generation {
    /// Whether the broker takes no messages, for want of memory or disk.
    pub(super) fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }
}

/// Where calls find the living generation.
pub(super) struct Link {
    current: ArcSwapOption<Generation>,
    down: ArcSwap<String>,
}

impl Link {
    pub(super) fn new() -> Self {
        let down = ArcSwap::from_pointee("not connected to rabbitmq yet".to_owned());
        Self { current: ArcSwapOption::empty(), down }
    }

    /// The living generation.
    pub(super) fn current(&self) -> Option<Arc<Generation>> {
        self.current.load_full()
    }

    /// Why there is none, for the operator.
    pub(super) fn why_down(&self) -> String {
        self.down.load().as_ref().clone()
    }
}

/// Keeps a generation alive until `tasks` shuts down.
pub(super) async fn supervise(
    settings: Arc<Settings>,
    link: Arc<Link>,
    metrics: UpstreamMetrics,
    shutdown: CancellationToken,
) {
    let mut failures = Failures::default();
    let mut built = false;
    while !shutdown.is_cancelled() {
        let build = tokio::time::timeout(settings.connect_timeout, Parts::build(&settings));
        let build = tokio::select! {
            () = shutdown.cancelled() => break,
            build = build => build.unwrap_or_else(|_| Err(Failure::slow(settings.connect_timeout))),
        };
        match build {
            Ok(parts) => {
                if std::mem::replace(&mut built, true) {
                    metrics.reconnected();
                }
                let since = Instant::now();
                run(parts, &settings, &link, &metrics, &shutdown).await;
                failures.ended(since.elapsed());
            }
            Err(failure) => {
                link.down.store(Arc::new(failure.reason.to_string()));
                failures.report(&failure, &settings.address);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(failures.pause()) => {}
        }
    }
}

/// Runs a generation to its end.
async fn run(
    parts: Parts,
    settings: &Arc<Settings>,
    link: &Link,
    metrics: &UpstreamMetrics,
    shutdown: &CancellationToken,
) {
    let tasks = Tasks::new();
    let end = End::new(tasks.shutdown().clone());
    let (generation, receiving) = parts.start(settings, metrics, &tasks, &end);
    let generation = Arc::new(generation);
    link.current.store(Some(Arc::clone(&generation)));
    metrics.set_up(true);
    tracing::info!(address = settings.address, "connected to rabbitmq");
    tokio::select! {
        () = end.wait() => {}
        () = shutdown.cancelled() => end.because("genkan is shutting down"),
    }
    link.current.store(None);
    metrics.set_up(false);
    generation.pending.close();
    let Reason { shown: reason, said } = end.reason();
    link.down.store(Arc::new(format!("the connection to rabbitmq was lost: {reason}")));
    if shutdown.is_cancelled() {
        tracing::info!(address = settings.address, "disconnecting from rabbitmq");
    } else {
        tracing::warn!(address = settings.address, %reason, said, "connection to rabbitmq lost");
    }
    if !tasks.end(GRACE).await {
        tracing::warn!(address = settings.address, "a task of the lost connection does not end");
    }
    receiving.close().await;
}

/// The pauses between attempts, and what has been said about them.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    reported: Option<Cow<'static, str>>,
}

impl Failures {
    fn ended(&mut self, lived: Duration) {
        self.reported = None;
        if lived >= STABLE {
            self.in_a_row = 0;
        }
    }

    /// Each new reason is said once, at a level that fits who must act; repetitions at debug.
    fn report(&mut self, failure: &Failure, address: &str) {
        let Failure { reason, said, mend } = failure;
        if self.reported.as_ref() == Some(reason) {
            tracing::debug!(address, %reason, "rabbitmq still cannot be used");
            return;
        }
        self.reported = Some(reason.clone());
        match mend {
            Some(mend) => tracing::error!(address, %reason, said, mend, "rabbitmq cannot be used"),
            None => {
                tracing::warn!(address, %reason, said, "rabbitmq cannot be reached, trying again")
            }
        }
    }

    fn pause(&mut self) -> Duration {
        let grown = FIRST_PAUSE.saturating_mul(1 << self.in_a_row.min(16)).min(LONGEST_PAUSE);
        self.in_a_row = self.in_a_row.saturating_add(1);
        // Between half and all of it, so that many gateways do not come back in step.
        grown.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Why a generation could not be built.
struct Failure {
    /// For whoever asks whether the upstream is ready: no address, no user.
    reason: Cow<'static, str>,
    /// What the broker or the system said, for the log.
    said: String,
    /// What an operator has to do; `None` where waiting may be enough.
    mend: Option<&'static str>,
}

/// What was tried when it failed: the broker's code means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Exchange,
    ReplyQueue,
}

impl Failure {
    fn slow(limit: Duration) -> Self {
        let reason = format!("no connection within {limit:?}").into();
        Self { reason, said: String::new(), mend: None }
    }

    fn new(step: Step, error: &lapin::Error) -> Self {
        let ErrorKind::ProtocolError(refusal) = error.kind() else {
            let said = error.to_string();
            return Self { reason: said.clone().into(), said, mend: transport::tls_mend(error) };
        };
        let said = refusal.to_string();
        let (reason, mend) = match (step, refusal.get_id()) {
            (Step::Connect, 403) => (
                "rabbitmq refuses the user name or the password",
                "check both in `url`; `guest` may only connect from the broker's own machine",
            ),
            (Step::Connect, 530) => (
                "rabbitmq has no such virtual host, or not for this user",
                "check the virtual host at the end of `url` (`%2f` is the default one), or create \
                 it and give the user permissions on it with rabbitmqctl",
            ),
            (Step::Exchange, 406) => (
                "the exchange exists with another type or durability",
                "Nameko's is a durable topic exchange: delete the other one, or name the right \
                 one in `exchange`",
            ),
            (Step::Exchange | Step::ReplyQueue, 403) => (
                "rabbitmq does not let this user declare what replies need",
                "give the user permissions to configure, write and read with rabbitmqctl \
                 set_permissions",
            ),
            (_, code) => {
                let reason = format!("rabbitmq refuses with code {code}").into();
                return Self { reason, said, mend: None };
            }
        };
        Self { reason: reason.into(), said, mend: Some(mend) }
    }
}

/// A generation before its tasks run.
struct Parts {
    outlet: Outlet,
    receiving: Transport,
    consumer: Consumer,
    reply_key: String,
}

impl Parts {
    /// The one code path by which generations come into being.
    async fn build(settings: &Settings) -> Result<Self, Failure> {
        let at = |step: Step| move |error: lapin::Error| Failure::new(step, &error);
        let opened = tokio::try_join!(Outlet::open(settings), Transport::open(settings, "receive"));
        let (outlet, receiving) = opened.map_err(at(Step::Connect))?;
        let exchange = ShortString::from(settings.exchange.as_str());
        declare_exchange(&receiving.connection, &exchange).await.map_err(at(Step::Exchange))?;
        let reply_key = random_uuid();
        let consumer = consume_replies(&receiving.connection, exchange, &reply_key)
            .await
            .map_err(at(Step::ReplyQueue))?;
        Ok(Self { outlet, receiving, consumer, reply_key })
    }

    /// Starts the generation's tasks. Each ends the generation when it ends, whatever the reason.
    /// The transport comes back to be closed at the end.
    fn start(
        self,
        settings: &Arc<Settings>,
        metrics: &UpstreamMetrics,
        tasks: &Tasks,
        end: &End,
    ) -> (Generation, Transport) {
        let Self { outlet, receiving, consumer, reply_key } = self;
        let (publish, queue) = mpsc::channel(publisher::QUEUE);
        let (services, requests) = Services::new(settings.probe_interval);
        let (pending, blocked) = (Pending::new(), Arc::<AtomicBool>::default());
        let frame_max = outlet.frame_max();
        let publisher = Publisher::new(
            Arc::clone(settings),
            outlet,
            queue,
            Arc::clone(&pending),
            Arc::clone(&blocked),
            metrics.clone(),
            end.clone(),
        );
        let replies = replies::run(consumer, Arc::clone(&pending), metrics.clone(), end.clone());
        let prober = Prober::new(Arc::clone(settings), services.clone(), requests, end.clone());
        let guard = || end.token.clone().drop_guard();
        tasks.spawn("nameko publisher", guarded(guard(), publisher.run()));
        tasks.spawn("nameko replies", guarded(guard(), replies));
        tasks.spawn("nameko prober", guarded(guard(), prober.run()));
        let end = end.clone();
        let generation =
            Generation { publish, pending, services, reply_key, frame_max, end, blocked };
        (generation, receiving)
    }
}

async fn guarded(_guard: DropGuard, task: impl Future<Output = ()>) {
    task.await;
}

/// Declares Nameko's exchange as Nameko does. Where the user may not, it has to be there.
async fn declare_exchange(connection: &Connection, exchange: &ShortString) -> lapin::Result<()> {
    let declare = async |passive| {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
        let arguments = FieldTable::default();
        channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, options, arguments).await
    };
    match declare(false).await {
        Err(error) if refused_with(&error, 403) => declare(true).await,
        declared => declared,
    }
}

fn refused_with(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == code)
}

async fn consume_replies(
    connection: &Connection,
    exchange: ShortString,
    reply_key: &str,
) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let queue = ShortString::from(format!("rpc.reply-genkan-{reply_key}"));
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), exclusive, FieldTable::default()).await?;
    let (binding, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.clone(), exchange, reply_key.into(), binding, none).await?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
    channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await
}

/// A random (version 4) UUID's text.
pub(super) fn random_uuid() -> String {
    let random = fastrand::u128(..);
    let version = random & !(0xf << 76) | (0x4 << 76);
    let hex = format!("{:032x}", version & !(0x3 << 62) | (0x2 << 62));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_version_4() {
        for _ in 0..100 {
            let uuid = random_uuid();
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], "4", "{uuid}");
            assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        }
    }

    #[test]
    fn pauses_grow_stay_bounded_and_start_over() {
        let mut failures = Failures::default();
        let mut pauses: Vec<_> = (0..40).map(|_| failures.pause()).collect();
        assert!(pauses[0] >= FIRST_PAUSE / 2 && pauses[0] <= FIRST_PAUSE);
        assert!(pauses[10..].iter().all(|pause| *pause >= LONGEST_PAUSE / 2));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        failures.ended(Duration::from_millis(5));
        assert!(
            failures.pause() >= LONGEST_PAUSE / 2,
            "a connection that dies at once is a failure"
        );
        failures.ended(STABLE);
        pauses.push(failures.pause());
        assert!(pauses[40] <= FIRST_PAUSE);
    }
}
