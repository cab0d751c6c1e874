//! One connection and what lives and dies with it: the inbox's name, the waiting calls, and three
//! loops that read, write and watch.
//!
//! Nothing that a service sends ends a generation: what cannot be read is the fault of the call
//! that it answers. It ends when the server closes the connection, breaks the protocol or falls
//! silent, and when it is retired and nobody waits any more.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pending::{Answer, Pending};
use super::pulse::{Pulse, Verdict};
use super::transport::{Reader, Writer};
use super::wire::{self, Incoming, Message, Parser, Violation};
use crate::batch::gather;
use crate::metrics::UpstreamMetrics;
use crate::token::Token;

/// How many calls are written together at the most, and how many wait for that before their
/// callers do.
const BATCH: usize = 128;
/// What is gathered before it is written.
const WRITE: usize = 64 * 1024;
/// From this size on a payload is written as it is, not copied.
const LARGE: usize = 16 * 1024;
/// How much room there is for what comes in.
const READ: usize = 64 * 1024;
/// How often the server's life is thought of, and a retired generation's calls are counted.
const TICK: Duration = Duration::from_millis(250);

/// How many subjects are told of that a stream stores.
const MOST_STREAMED: usize = 64;

/// Why a generation has ended.
#[derive(Debug)]
pub(super) struct End {
    /// For the operator: no address, no user.
    pub(super) reason: &'static str,
    /// What the server or the system said, for the log.
    pub(super) said: String,
}

impl End {
    fn new(reason: &'static str) -> Self {
        Self { reason, said: String::new() }
    }
}

/// A message to publish, but for its reply subject.
pub(super) struct Publication {
    pub(super) subject: Arc<str>,
    /// The block of headers.
    pub(super) headers: String,
    pub(super) payload: Bytes,
}

/// A message on its way to the writer.
struct Queued {
    /// Who waits for it.
    key: u64,
    publication: Publication,
    /// Whether a reply is asked for; else the server's word that it has read it.
    wants_reply: bool,
}

/// The three things that [`Generation::run`] works with.
pub(super) struct Io {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) parser: Parser,
    pub(super) buffer: BytesMut,
    outbox: mpsc::Receiver<Queued>,
}

/// One connection and what belongs to it.
pub(super) struct Generation {
    /// The reply subjects' common part, which ends in a dot.
    inbox: String,
    pending: Pending,
    max_payload: AtomicUsize,
    ping_interval: Duration,
    /// Messages on their way to the writer.
    outbox: mpsc::Sender<Queued>,
    /// The notifications that each `PING` under way stands for.
    pings: Mutex<VecDeque<Vec<u64>>>,
    pulse: Mutex<Pulse>,
    /// The server asks whether we live.
    is_asked: AtomicBool,
    /// The server is to be asked.
    asks: AtomicBool,
    /// One of both.
    control: Notify,
    /// The server has said that it is about to go.
    goodbye: CancellationToken,
    /// Another generation has taken over.
    retired: AtomicBool,
    /// What the server complained of last.
    complaint: Mutex<String>,
    metrics: UpstreamMetrics,
    /// The server has denied a message that nobody waited for.
    unheard: AtomicBool,
    /// The subjects whose streams have been told of.
    streamed: Mutex<HashSet<Arc<str>>>,
}

impl Generation {
    /// A generation on a connection that is open, and has subscribed to `inbox` and one more token.
    pub(super) fn new(
        inbox: String,
        (max_payload, ping_interval): (usize, Duration),
        (reader, writer): (Reader, Writer),
        (parser, buffer): (Parser, BytesMut),
        metrics: UpstreamMetrics,
    ) -> (Self, Io) {
        let (sender, outbox) = mpsc::channel(BATCH);
        let generation = Self {
            inbox,
            pending: Pending::default(),
            max_payload: AtomicUsize::new(max_payload),
            ping_interval,
            outbox: sender,
            pings: Mutex::default(),
            pulse: Mutex::new(Pulse::new(Instant::now())),
            is_asked: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            control: Notify::new(),
            goodbye: CancellationToken::new(),
            retired: AtomicBool::new(false),
            complaint: Mutex::default(),
            metrics,
            unheard: AtomicBool::new(false),
            streamed: Mutex::default(),
        };
        (generation, Io { reader, writer, parser, buffer, outbox })
    }

    /// The calls that wait.
    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// The largest message, headers included, that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    /// Waits until the server says that it is about to go.
    pub(super) async fn goodbye(&self) {
        self.goodbye.cancelled().await;
    }

    /// Lets it end as soon as its last call has its answer.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Hands a message over to be written. Until it is, it can be taken back by dropping the place
    /// in the table that `key` stands for. False where the connection has ended.
    pub(super) async fn send(&self, key: u64, publication: Publication, wants_reply: bool) -> bool {
        self.outbox.send(Queued { key, publication, wants_reply }).await.is_ok()
    }

    /// Reads, writes and watches until the end, which every call that waits gets to know.
    pub(super) async fn run(&self, io: Io) -> End {
        let Io { reader, writer, parser, buffer, mut outbox } = io;
        // One task: a thread that has read replies need not wake another one to write calls.
        let mut end = tokio::select! {
            end = self.read(reader, parser, buffer) => end,
            end = self.write(writer, &mut outbox) => end,
            end = self.watch() => end,
        };
        // Whoever waits for a place has not been sent.
        outbox.close();
        self.pending.end();
        let complaint = std::mem::take(&mut *lock(&self.complaint));
        if !complaint.is_empty() {
            end.said = complaint;
        }
        end
    }

    async fn read(&self, mut reader: Reader, mut parser: Parser, mut buffer: BytesMut) -> End {
        loop {
            loop {
                match parser.next(&mut buffer) {
                    Ok(Some(operation)) => {
                        if let Some(end) = self.take(operation) {
                            return end;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        let said = error.to_string();
                        return End { reason: "it does not speak NATS's protocol", said };
                    }
                }
            }
            if buffer.capacity() - buffer.len() < READ / 8 {
                buffer.reserve(READ);
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return End::new("the server closed it"),
                Ok(_) => lock(&self.pulse).heard(Instant::now()),
                Err(error) => return End { reason: "it broke", said: error.to_string() },
            }
        }
    }

    fn take(&self, operation: Incoming) -> Option<End> {
        match operation {
            Incoming::Message(message) => self.reply(message),
            Incoming::Unkept { subject, why } => {
                self.hand_out(&subject, Answer::Unkept(why));
            }
            Incoming::Ping => {
                self.is_asked.store(true, Ordering::Relaxed);
                self.control.notify_one();
            }
            Incoming::Pong => {
                for key in lock(&self.pings).pop_front().unwrap_or_default() {
                    self.pending.taken(key);
                }
            }
            Incoming::Info(info) => {
                self.max_payload.store(info.max_payload, Ordering::Relaxed);
                if info.ldm {
                    self.goodbye.cancel();
                }
            }
            Incoming::Error(text) => return self.complain(text),
            Incoming::Ok => {}
        }
        None
    }

    fn reply(&self, message: Message) {
        if let Some(stream) = wire::receipt(&message)
            && let Some(token) = message.subject.strip_prefix(self.inbox.as_bytes())
            && let Some(subject) = self.pending.subject(token)
        {
            self.receipt(subject, &stream);
            return;
        }
        let subject = message.subject.clone();
        self.hand_out(&subject, Answer::Reply(message));
    }

    fn hand_out(&self, subject: &[u8], answer: Answer) {
        let token = subject.strip_prefix(self.inbox.as_bytes());
        if !token.is_some_and(|token| self.pending.answer(token, answer)) {
            self.metrics.late_reply();
        }
    }

    /// A stream has stored the call. That is no answer: the service's is waited for.
    fn receipt(&self, subject: Arc<str>, stream: &str) {
        self.metrics.receipt();
        let mut told = lock(&self.streamed);
        if told.len() < MOST_STREAMED && told.insert(Arc::clone(&subject)) {
            warn!(
                upstream = self.metrics.upstream(),
                %subject,
                stream,
                mend = "take the subject out of the stream's subjects, or set its `no_ack`",
                "a JetStream stream stores the calls to this subject, and answers them with receipts"
            );
        }
    }

    fn complain(&self, text: String) -> Option<End> {
        match wire::violation(&text) {
            // Its callers are told, in faults of their own. Where nobody waits there are none, and
            // the subjects are the callers': this is said once.
            Some(Violation::Publish(subject)) => {
                if !self.pending.deny(subject) && !self.unheard.swap(true, Ordering::Relaxed) {
                    warn!(
                        upstream = self.metrics.upstream(),
                        subject, "NATS does not permit to publish: allow it for Genkan's user"
                    );
                }
                None
            }
            // Without an inbox the generation is useless; the next one says what to do.
            Some(Violation::Subscription(_)) => {
                Some(End { reason: "its inbox is not permitted any more", said: text })
            }
            None => {
                info!(upstream = self.metrics.upstream(), said = text, "NATS reports an error");
                *lock(&self.complaint) = text;
                None
            }
        }
    }

    async fn write(&self, mut writer: Writer, outbox: &mut mpsc::Receiver<Queued>) -> End {
        let mut batch = Vec::with_capacity(BATCH);
        let mut out = Vec::with_capacity(WRITE);
        loop {
            tokio::select! {
                _ = outbox.recv_many(&mut batch, BATCH) => {
                    gather(&mut batch, outbox, BATCH).await;
                }
                () = self.control.notified() => {}
            }
            if let Err(error) = self.write_all(&mut writer, &mut batch, &mut out).await {
                return End { reason: "it broke", said: error.to_string() };
            }
        }
    }

    async fn write_all(
        &self,
        writer: &mut Writer,
        batch: &mut Vec<Queued>,
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let mut notifications = Vec::new();
        for Queued { key, publication, wants_reply } in batch.drain(..) {
            if !self.pending.sending(key) {
                continue;
            }
            self.encode(wants_reply.then_some(key), &publication, out);
            if publication.payload.len() >= LARGE {
                self.put(writer, out).await?;
                out.clear();
                self.put(writer, &publication.payload).await?;
            } else {
                out.extend_from_slice(&publication.payload);
            }
            out.extend_from_slice(b"\r\n");
            if !wants_reply {
                notifications.push(key);
            }
            if out.len() >= WRITE / 2 {
                self.put(writer, out).await?;
                out.clear();
            }
        }
        if self.is_asked.swap(false, Ordering::Relaxed) {
            out.extend_from_slice(wire::PONG);
        }
        if self.asks.swap(false, Ordering::Relaxed) || !notifications.is_empty() {
            lock(&self.pings).push_back(notifications);
            out.extend_from_slice(wire::PING);
        }
        self.put(writer, out).await?;
        out.clear();
        writer.flush().await
    }

    fn encode(&self, reply_to: Option<u64>, publication: &Publication, out: &mut Vec<u8>) {
        let Publication { subject, headers, payload } = publication;
        let reply = reply_to.map(|key| {
            let mut reply = String::with_capacity(self.inbox.len() + Token::HEX);
            reply.push_str(&self.inbox);
            self.pending.token(key).push_hex(&mut reply);
            reply
        });
        wire::publish(out, subject, reply.as_deref(), headers, payload.len());
    }

    async fn put(&self, writer: &mut Writer, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let written = writer.write(bytes).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            lock(&self.pulse).wrote(written, Instant::now());
            bytes = &bytes[written..];
        }
        Ok(())
    }

    async fn watch(&self) -> End {
        let (mut is_idle, mut is_gone) = (false, false);
        loop {
            tokio::time::sleep(TICK).await;
            let verdict = lock(&self.pulse).check(self.ping_interval, Instant::now());
            match verdict {
                Verdict::Fine => is_gone = false,
                Verdict::Ask => {
                    self.asks.store(true, Ordering::Relaxed);
                    self.control.notify_one();
                }
                // Twice: it may be this process that slept, and what it has said is still unread.
                Verdict::Gone if is_gone => return End::new("the server has fallen silent"),
                Verdict::Gone => is_gone = true,
            }
            // Twice: a call may be about to enter that saw this generation before it was retired.
            if self.retired.load(Ordering::Relaxed) && self.pending.is_empty() {
                if is_idle {
                    return End::new("its last call has its answer");
                }
                is_idle = true;
            } else {
                is_idle = false;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every use leaves what is inside whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
