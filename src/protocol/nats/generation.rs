//! One connection and what belongs to it: the client, the inbox's name, the waiting calls.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::client::traits::Publisher;
use async_nats::message::OutboundMessage;
use async_nats::{Client, Event, HeaderMap, ServerError, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pending::{Answer, Pending, Ticket};
use super::wire::{self, Violation};
use crate::batch::gather;
use crate::metrics::UpstreamMetrics;
use crate::token::Token;

/// How many calls are published together at the most, and how many wait for that before their
/// callers do.
const BATCH: usize = 128;

/// How many denied subjects are remembered.
const MOST_DENIED: usize = 256;
/// How long the library has to tell of a denial that is expected.
const DENIAL: Duration = Duration::from_millis(100);

/// What the library's events and the generation share.
pub(super) struct Shared {
    pending: Pending,
    metrics: UpstreamMetrics,
    /// The server lets us publish to our own inbox.
    echoes: AtomicBool,
    /// Subjects that the server has denied.
    denied: Mutex<HashSet<String>>,
    /// It has denied a message that nobody waited for.
    unheard: AtomicBool,
    /// Fires when the generation is of no use any more.
    over: CancellationToken,
    /// Known once the client is.
    inbox: OnceLock<String>,
}

impl Shared {
    /// For a generation that is about to be made.
    pub(super) fn new(metrics: UpstreamMetrics) -> Arc<Self> {
        Arc::new(Self {
            pending: Pending::default(),
            metrics,
            echoes: AtomicBool::new(true),
            denied: Mutex::default(),
            unheard: AtomicBool::new(false),
            over: CancellationToken::new(),
            inbox: OnceLock::new(),
        })
    }

    /// Takes what the library reports. May lose some of it in a flood, so that nothing but speed
    /// may depend on it.
    pub(super) fn on_event(&self, event: &Event) {
        match event {
            // The library drops it, and says nothing to whoever waits.
            Event::SlowConsumer(_) => self.metrics.refused("inbox_full"),
            Event::LameDuckMode => info!("the NATS server is about to shut down"),
            Event::ServerError(ServerError::Other(error)) => self.on_server_error(error),
            _ => {}
        }
    }

    fn denied(&self) -> MutexGuard<'_, HashSet<String>> {
        // Every use leaves the set whole.
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_denied(&self, subject: &str) {
        let mut denied = self.denied();
        if denied.len() >= MOST_DENIED {
            denied.clear();
        }
        denied.insert(subject.to_owned());
    }

    fn on_server_error(&self, text: &str) {
        let inbox = self.inbox.get().map_or("", String::as_str);
        match wire::violation(text) {
            Some(Violation::Publish(subject)) if subject.starts_with(inbox) => {
                // Calls do without. The refusal is itself the sign of life that was asked for.
                self.echoes.store(false, Ordering::Relaxed);
                if let Some(token) = subject.strip_prefix(inbox) {
                    self.pending.answer(token, Answer::Denied);
                }
            }
            // Their own faults tell. Where nobody waits, as without echoes, there are none; and
            // the subjects are the callers', so that this is said once.
            Some(Violation::Publish(subject)) => {
                self.remember_denied(subject);
                if !self.pending.deny(subject) && !self.unheard.swap(true, Ordering::Relaxed) {
                    warn!(subject, "NATS does not permit to publish: allow it for Genkan's user");
                }
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
    /// Calls on their way to [`Generation::run`].
    outbox: mpsc::Sender<Outgoing>,
}

/// A call that is ready to be published.
struct Outgoing {
    key: u64,
    message: OutboundMessage,
}

/// What a generation receives from: replies from the server, calls from the gateway.
pub(super) struct Incoming {
    inbox: Subscriber,
    outbox: mpsc::Receiver<Outgoing>,
}

/// The connection has ended; nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("connection closed")]
pub(super) struct Gone;

impl Generation {
    /// A generation that receives what is sent to `inbox` and one more token.
    pub(super) fn new(
        client: Client,
        shared: Arc<Shared>,
        inbox: String,
        subscriber: Subscriber,
    ) -> (Self, Incoming) {
        shared.inbox.get_or_init(|| inbox.clone());
        let (sender, outbox) = mpsc::channel(BATCH);
        let generation = Self { client, shared, inbox, outbox: sender };
        (generation, Incoming { inbox: subscriber, outbox })
    }

    /// Whether it was given up because the server lets it have no inbox.
    pub(super) fn is_inbox_refused(&self) -> bool {
        self.shared.over.is_cancelled()
    }

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
        // With exact room: what has spare room costs another allocation to be shared.
        let mut subject = String::with_capacity(self.inbox.len() + Token::HEX);
        subject.push_str(&self.inbox);
        ticket.token().push_hex(&mut subject);
        subject.into()
    }

    /// Hands a call over to be published. Until it is, it can be taken back by dropping the
    /// ticket.
    pub(super) async fn publish_call(
        &self,
        ticket: &Ticket<'_>,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Gone> {
        let reply = Some(self.reply_subject(ticket));
        let message = OutboundMessage { subject, reply, payload, headers: Some(headers) };
        let outgoing = Outgoing { key: ticket.key(), message };
        self.outbox.send(outgoing).await.map_err(|_| Gone)
    }

    /// Hands a message to the connection. Waits while its queue is full, and until then can be
    /// taken back by dropping the future.
    pub(super) async fn publish(
        &self,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Gone> {
        let message = OutboundMessage { subject, reply: None, payload, headers: Some(headers) };
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
            Answer::Reply(_) | Answer::Denied => Ok(()),
            Answer::Lost { .. } => Err(Gone),
        }
    }

    /// Whether the server has denied a notification that it has [read](Self::confirm).
    ///
    /// It said so before its sign of life. But the library tells of that in a task of its own,
    /// which is given its turn, and more time where the same was denied before: only the first of
    /// its kind may pass for sent, and is logged then.
    pub(super) async fn is_denied(&self, subject: &str, ticket: Ticket<'_>) -> bool {
        tokio::task::yield_now().await;
        let known = self.shared.denied().contains(subject);
        let wait = if known { DENIAL } else { Duration::ZERO };
        let answer = tokio::time::timeout(wait, ticket.answer()).await;
        let denied = matches!(answer, Ok(Answer::Denied));
        if known && !denied {
            self.shared.denied().remove(subject);
        }
        denied
    }

    /// Publishes calls and hands every reply to its call, until the connection ends.
    pub(super) async fn run(&self, incoming: &mut Incoming) {
        let Incoming { inbox, outbox } = incoming;
        let both = async {
            tokio::select! {
                () = self.hand_out_replies(inbox) => {}
                () = self.publish_calls(outbox) => {}
            }
        };
        // `None` means that the connection was given up from here.
        let _ended = self.shared.over.run_until_cancelled(both).await;
    }

    async fn hand_out_replies(&self, inbox: &mut Subscriber) {
        while let Some(message) = inbox.next().await {
            let subject = message.subject.clone();
            let reply = Answer::Reply(message);
            let token = subject.strip_prefix(self.inbox.as_str());
            if !token.is_some_and(|token| self.pending().answer(token, reply)) {
                self.shared.metrics.late_reply();
            }
        }
    }

    async fn publish_calls(&self, outbox: &mut mpsc::Receiver<Outgoing>) {
        let mut batch = Vec::with_capacity(BATCH);
        while outbox.recv_many(&mut batch, BATCH).await > 0 {
            // The library writes what it has as soon as it is woken.
            gather(&mut batch, outbox, BATCH).await;
            for Outgoing { key, message } in batch.drain(..) {
                if self.pending().sending(key)
                    && self.client.publish_message(message).await.is_err()
                {
                    return;
                }
            }
        }
    }
}
