//! The supervisor: one connection after the other, for ever, each a generation of its own.
//!
//! async-nats would reconnect by itself, and then send what was asked for while it was away,
//! long after those callers were told `unavailable` (WIRE, section 7.2). So a generation's client
//! is made unable to reconnect: once it is connected, the only server it may turn to is one that
//! refuses at once. It ends, its inbox ends with it, and what it had not written is gone.

use std::error::Error;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_nats::client::traits::Publisher;
use async_nats::message::OutboundMessage;
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, ServerError, Subject, Subscriber,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::config::{Auth, Server, Settings};
use super::pending::{Answer, CAPACITY, Pending, Ticket};
use super::wire::{self, Violation};
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// Nothing can listen on port 0, so connecting to it is refused at once.
const NOWHERE: &str = "nats://127.0.0.1:0";
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(3);
/// A generation that lived shorter is a failed attempt: the delay goes on growing.
const SHORT_LIFE: Duration = Duration::from_secs(1);
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
            generation.shared.pending.end();
        }
    }
}

/// What the library's events and the generation share.
struct Shared {
    pending: Pending,
    metrics: UpstreamMetrics,
    /// The server lets us publish to our own inbox.
    echoes: AtomicBool,
    /// Fires when the generation is of no use any more.
    over: CancellationToken,
    inbox: OnceLock<String>,
}

impl Shared {
    fn on_event(&self, event: &Event) {
        match event {
            // The library drops it, and says nothing to whoever waits.
            Event::SlowConsumer(_) => self.metrics.refused("inbox_full"),
            Event::LameDuckMode => info!("the NATS server is about to shut down"),
            Event::ServerError(ServerError::Other(error)) => self.on_server_error(error),
            _ => {}
        }
    }

    fn on_server_error(&self, text: &str) {
        let inbox = self.inbox.get().map_or("", String::as_str);
        match wire::violation(text) {
            Some(Violation::Publish(subject)) if subject.starts_with(inbox) => {
                // Calls do without. The refusal is itself the sign of life that was asked for.
                self.echoes.store(false, Ordering::Relaxed);
                if let Some(token) = token(inbox, subject) {
                    self.pending.answer(token, Answer::Denied);
                }
            }
            Some(Violation::Publish(subject)) => {
                warn!(subject, "NATS does not permit to publish: allow it for Genkan's user");
                self.pending.deny(subject);
            }
            // Without an inbox the generation is useless; the next one says what to do.
            Some(Violation::Subscription(_)) => self.over.cancel(),
            None => warn!(error = text, "NATS reports an error"),
        }
    }
}

/// One connection and what belongs to it.
pub(super) struct Generation {
    client: Client,
    shared: Arc<Shared>,
    /// The reply subjects' common part, which ends in a dot. Nobody can guess it.
    inbox: String,
}

fn token(inbox: &str, subject: &str) -> Option<u64> {
    subject.strip_prefix(inbox)?.parse().ok()
}

/// The connection has ended; nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("connection closed")]
pub(super) struct Gone;

impl Generation {
    /// The calls that wait.
    pub(super) fn pending(&self) -> &Pending {
        &self.shared.pending
    }

    /// The largest message, headers included, that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Where the reply to a call is to be sent.
    pub(super) fn reply_subject(&self, ticket: &Ticket<'_>) -> Subject {
        // A u64 has at most 20 digits.
        let mut subject = String::with_capacity(self.inbox.len() + 20);
        subject.push_str(&self.inbox);
        let written = write!(subject, "{}", ticket.token());
        debug_assert!(written.is_ok(), "a String takes everything");
        subject.into()
    }

    /// Hands a message to the connection. Waits while its queue is full, and until then can be
    /// taken back by dropping the future.
    pub(super) async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Gone> {
        let message = OutboundMessage { subject, reply, payload, headers: Some(headers) };
        self.client.publish_message(message).await.map_err(|_| Gone)
    }

    /// Waits until the server has read what was published before: a message to ourselves goes
    /// the same way, and comes back. Where that is not permitted, until it has been written.
    pub(super) async fn confirm(&self) -> Result<(), Gone> {
        if !self.shared.echoes.load(Ordering::Relaxed) {
            return self.client.flush().await.map_err(|_| Gone);
        }
        let ticket = self.pending().register(Subject::from_static("")).map_err(|_| Gone)?;
        let subject = self.reply_subject(&ticket);
        self.client.publish(subject, Bytes::new()).await.map_err(|_| Gone)?;
        match ticket.answer().await {
            Some(Answer::Reply(_) | Answer::Denied) => Ok(()),
            None => Err(Gone),
        }
    }

    /// Hands every reply to its call, until the connection ends.
    async fn drain(&self, inbox: &mut Subscriber) {
        let replies = async {
            while let Some(message) = inbox.next().await {
                let token = token(&self.inbox, message.subject.as_str());
                let reply = Answer::Reply(message);
                if !token.is_some_and(|token| self.pending().answer(token, reply)) {
                    self.shared.metrics.late_reply();
                }
            }
        };
        // `None` means that the connection was given up from here.
        let _ended = self.shared.over.run_until_cancelled(replies).await;
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
        backoff: Backoff::default(),
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
            match open(&settings, server, &self.metrics).await {
                Ok((generation, mut inbox)) => {
                    info!(%server, "connected to NATS");
                    if connected_before {
                        self.metrics.reconnected();
                    }
                    connected_before = true;
                    failures = 0;
                    self.last_failures.fill(None);
                    self.live(&generation, &mut inbox).await;
                }
                Err(failure) => {
                    failures += 1;
                    self.report(next, server, failure);
                }
            }
            next = (next + 1) % count;
            // The other servers are tried at once, the same one after a pause.
            if failures % count == 0 {
                tokio::time::sleep(self.backoff.next()).await;
            }
        }
    }

    /// Lets calls use the generation until it ends.
    async fn live(&mut self, generation: &Arc<Generation>, inbox: &mut Subscriber) {
        let born = Instant::now();
        self.link.0.store(Arc::new(State::Up(Arc::clone(generation))));
        self.metrics.set_up(true);
        generation.drain(inbox).await;
        self.link.take_down("the connection to NATS was lost");
        self.metrics.set_up(false);
        warn!("the connection to NATS was lost; connecting again");
        if born.elapsed() >= SHORT_LIFE {
            self.backoff = Backoff::default();
        }
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

/// Delays that grow from one attempt to the next, each a little different from everybody else's.
#[derive(Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let grown = FIRST_DELAY.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        grown.min(LONGEST_DELAY).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Why there is no connection.
struct Failure {
    /// For everybody: no address, no credentials.
    reason: &'static str,
    /// For the log.
    detail: String,
    /// What the operator has to do, where it does not pass by itself.
    mend: Option<&'static str>,
}

impl Failure {
    fn passing(reason: &'static str, detail: impl ToString) -> Self {
        Self { reason, detail: detail.to_string(), mend: None }
    }
}

/// Connects once, and proves that replies can be received.
async fn open(
    settings: &Settings,
    server: &Server,
    metrics: &UpstreamMetrics,
) -> Result<(Arc<Generation>, Subscriber), Failure> {
    let attempt = async {
        let shared = Arc::new(Shared {
            pending: Pending::default(),
            metrics: metrics.clone(),
            echoes: AtomicBool::new(true),
            over: CancellationToken::new(),
            inbox: OnceLock::new(),
        });
        let options = options(settings, server, &shared).await?;
        let connected = options.connect(&server.address).await;
        let client = connected.map_err(|error| connect_failure(server, &error))?;
        client.set_server_pool(NOWHERE).await.map_err(|error| lost(&error))?;
        let inbox = format!("{}.", client.new_inbox());
        shared.inbox.get_or_init(|| inbox.clone());
        let subscribed = client.subscribe(format!("{inbox}*")).await;
        let mut subscriber = subscribed.map_err(|error| lost(&error))?;
        let generation = Arc::new(Generation { client, shared, inbox });
        prove(&generation, &mut subscriber).await?;
        Ok((generation, subscriber))
    };
    tokio::time::timeout(settings.connect_timeout, attempt).await.unwrap_or_else(|_| {
        Err(Failure::passing("the server does not answer", "`connect_timeout` has passed"))
    })
}

fn lost(error: &dyn Error) -> Failure {
    Failure::passing("the connection broke while it was being made", error)
}

/// Waits for an echo: then the server has taken the subscription, and replies arrive.
async fn prove(generation: &Generation, inbox: &mut Subscriber) -> Result<(), Failure> {
    tokio::select! {
        confirmed = generation.confirm() => confirmed.map_err(|_| lost(&Gone)),
        () = generation.drain(inbox) => {
            if generation.shared.over.is_cancelled() {
                return Err(Failure {
                    reason: "NATS does not permit to subscribe to the replies' inbox",
                    detail: "permissions violation".to_owned(),
                    mend: Some("allow Genkan's user to subscribe to the inbox, or set \
                        `inbox_prefix` to what is allowed"),
                });
            }
            Err(lost(&Gone))
        }
    }
}

async fn options(
    settings: &Settings,
    server: &Server,
    shared: &Arc<Shared>,
) -> Result<ConnectOptions, Failure> {
    let options = ConnectOptions::new();
    let options = match &server.auth {
        Auth::None => options,
        Auth::User(user, password) => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        Auth::Token(token) => options.token(token.expose().to_owned()),
        Auth::Nkey(seed) => options.nkey(seed.expose().to_owned()),
        Auth::Credentials(file) => {
            options.credentials_file(file).await.map_err(|error| Failure {
                reason: "the credentials file cannot be used",
                detail: error.to_string(),
                mend: Some("make `credentials_file` readable, with a user's JWT and seed in it"),
            })?
        }
    };
    let shared = Arc::clone(shared);
    let mut options = options
        .name("genkan")
        .connection_timeout(settings.connect_timeout)
        .ping_interval(settings.ping_interval)
        .subscription_capacity(CAPACITY)
        .custom_inbox_prefix(&settings.inbox_prefix)
        // Subjects are checked where they are made.
        .skip_subject_validation(true)
        .ignore_discovered_servers()
        // One attempt, at a server that is nowhere; see the top of this file.
        .max_reconnects(1)
        .require_tls(settings.tls)
        .event_callback(move |event| {
            shared.on_event(&event);
            std::future::ready(())
        });
    if let Some(file) = &settings.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((cert, key)) = &settings.identity {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn connect_failure(server: &Server, error: &async_nats::ConnectError) -> Failure {
    let (reason, mend) = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            match server.auth {
                Auth::None => (
                    "NATS asks for credentials",
                    Some(
                        "set `user` and `password`, `token`, `nkey` or `credentials_file` in the \
                         upstream's table",
                    ),
                ),
                _ => (
                    "NATS refuses the credentials",
                    Some("check the upstream's credentials against the server's users"),
                ),
            }
        }
        _ if is_tls(error) => (
            "TLS with NATS failed",
            Some(
                "check `ca_file`, `cert_file` and `key_file`, and that the server's certificate \
                 is for the name in `servers`",
            ),
        ),
        ConnectErrorKind::Dns => ("the server's name cannot be resolved", None),
        ConnectErrorKind::TimedOut => ("the server does not answer", None),
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ("the server cannot be reached", None),
    };
    Failure { reason, detail: error.to_string(), mend }
}

fn is_tls(error: &async_nats::ConnectError) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        source = error.source();
    }
    false
}
