//! One connection and what lives and dies with it: the inbox, the waiting calls, the subscriptions of
//! exposed services, and loops that read, write (`outbox`), watch and subscribe.
//!
//! Nothing that a service sends ends a generation: what cannot be read is the fault of the call
//! that it answers. It ends when the server closes the connection, breaks the protocol or falls
//! silent, and when it is retired and nobody waits any more. Its successor may carry its inbox on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::events::{self, letter::Vouched};
use super::expose::{Hosted, Owed, role};
use super::inboxes::Inboxes;
use super::mailbox::Mailbox;
use super::outbox::{Outbox, Publication, Queued};
use super::pending::{Answer, Pending};
use super::pulse::{Pulse, Verdict};
use super::transport::{Reader, Writer};
use super::wire::{
    self, FIRST_EVENT, FIRST_EXPOSED, Incoming, Info, Message, Parser, RECEIPTS, Violation,
};
use crate::metrics::UpstreamMetrics;

/// How much room there is for what comes in.
const READ: usize = 64 * 1024;
/// How often the server's life is thought of, and a retired generation's calls are counted.
const TICK: Duration = Duration::from_millis(250);

/// What an operator has to do where the server takes no more subscriptions.
pub(super) const MORE_SUBSCRIPTIONS: &str = "raise `max_subscriptions` in the server's configuration, or let less be exposed and listened to";

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

/// The three things that [`Generation::run`] works with.
pub(super) struct Io {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) parser: Parser,
    pub(super) buffer: BytesMut,
    queue: mpsc::Receiver<Queued>,
}

/// One connection and what belongs to it.
pub(super) struct Generation {
    inboxes: Inboxes,
    /// What the server has said of itself last.
    info: Mutex<Info>,
    /// It has said something.
    news: Notify,
    max_payload: AtomicUsize,
    ping_interval: Duration,
    outbox: Outbox,
    pulse: Mutex<Pulse>,
    /// The server has said that it is about to go.
    goodbye: CancellationToken,
    /// Another generation has taken over.
    retired: CancellationToken,
    /// The services that are called over it.
    hosted: Hosted,
    /// The events that come by it.
    events: events::Hosted,
    /// What the server complained of last.
    complaint: Mutex<String>,
    metrics: UpstreamMetrics,
    /// The server has denied a message that nobody waited for.
    unheard: AtomicBool,
    /// The subjects whose streams have been told of.
    streamed: Mutex<HashSet<Arc<str>>>,
}

impl Generation {
    /// A generation on a connection that is open, and has subscribed to `inbox`.
    pub(super) fn new(
        inbox: Arc<Mailbox>,
        (hosted, events): (Hosted, events::Hosted),
        (info, ping_interval): (Info, Duration),
        (reader, writer): (Reader, Writer),
        (parser, buffer): (Parser, BytesMut),
        metrics: UpstreamMetrics,
    ) -> (Self, Io) {
        let (outbox, queue) = Outbox::new(events.inbox_prefix());
        let news = Notify::new();
        news.notify_one();
        let generation = Self {
            inboxes: Inboxes::new(inbox),
            max_payload: AtomicUsize::new(info.max_payload),
            info: Mutex::new(info),
            news,
            ping_interval,
            outbox,
            pulse: Mutex::new(Pulse::new(Instant::now())),
            goodbye: CancellationToken::new(),
            retired: CancellationToken::new(),
            hosted,
            events,
            complaint: Mutex::default(),
            metrics,
            unheard: AtomicBool::new(false),
            streamed: Mutex::default(),
        };
        (generation, Io { reader, writer, parser, buffer, queue })
    }

    /// The calls that wait.
    pub(super) fn pending(&self) -> &Pending {
        self.inboxes.own().pending()
    }

    /// The services that are called over it.
    pub(super) fn hosted(&self) -> &Hosted {
        &self.hosted
    }

    /// The subjects that the server does not let events come from.
    pub(super) fn refused_events(&self) -> Vec<String> {
        self.events.refused_subjects()
    }

    /// What the server has said of itself last.
    pub(super) fn info(&self) -> Info {
        lock(&self.info).clone()
    }

    /// Waits until the server has said more of itself; at first what it has said at the start.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// The largest message, headers included, that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    /// Waits until the server says that it is about to go.
    pub(super) async fn goodbye(&self) {
        self.goodbye.cancelled().await;
    }

    /// Lets it end as soon as its last call has its answer, and those that came in over it have theirs.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    /// Brings what is still to come for a predecessor, also when that one's connection has ended, if
    /// both servers are in one cluster: a reply that is published anywhere in it comes here too.
    pub(super) fn take_over(&self, predecessor: &Self) {
        let (ours, theirs) = (self.info().cluster, predecessor.info().cluster);
        if !ours.is_empty() && ours == theirs {
            self.outbox.say(self.inboxes.inherit(&predecessor.inboxes));
        }
    }

    /// Ends the calls that wait for this connection alone.
    pub(super) fn end(&self) {
        self.inboxes.end();
    }

    /// Hands a message over to be written. Until it is, it can be taken back by dropping the place
    /// in the table that `key` stands for. False where the connection has ended.
    pub(super) async fn send(&self, key: u64, publication: Publication, wants_reply: bool) -> bool {
        self.outbox.send(key, publication, wants_reply).await
    }

    /// Hands an answer to a call that came in over to be written; gives it back where the connection
    /// has ended.
    pub(super) async fn answer(
        &self,
        publication: Publication,
        owed: Owed,
    ) -> Result<(), (Publication, Owed)> {
        self.outbox.answer(publication, owed).await
    }

    /// The same of who may not wait: nothing is read while many such answers are to be written. False where the
    /// connection has ended.
    pub(super) fn answer_at_once(&self, publication: Publication, owed: Owed) -> bool {
        self.outbox.answer_at_once(publication, owed)
    }

    /// Hands an event over to be written, behind those that were handed over before; to a stream, which is to
    /// confirm it, where one is named.
    pub(super) fn publish(&self, publication: Publication, stream: Option<Arc<str>>) -> Vouched {
        self.outbox.publish(publication, stream)
    }

    /// Writes lines, behind those that were said before.
    pub(super) fn say(&self, lines: Vec<u8>) {
        self.outbox.say(lines);
    }

    /// Writes lines, of which so many subscribe. How many of those, the last ones, the server does not take
    /// because there are too many; `None` where it never reads them.
    pub(super) async fn subscribe(&self, lines: Vec<u8>, subscriptions: usize) -> Option<usize> {
        self.outbox.subscribe(lines, subscriptions).await
    }

    /// Waits until the server has read the lines that were said before. False where it never will.
    pub(super) async fn flush(&self) -> bool {
        self.outbox.flush().await
    }

    /// Reads, writes and watches until the end, which every call that waits gets to know.
    pub(super) async fn run(self: &Arc<Self>, io: Io) -> End {
        let Io { reader, writer, parser, buffer, mut queue } = io;
        // One task: a thread that has read replies need not wake another one to write calls.
        let mut end = tokio::select! {
            end = self.read(reader, parser, buffer) => end,
            error = self.outbox.write(writer, &mut queue, self.inboxes.own(), &self.pulse) => {
                End { reason: "it broke", said: error.to_string() }
            }
            end = self.watch() => end,
            never = role::run(self, &self.outbox, &self.retired) => match never {},
            never = events::role::run(&self.events, self, &self.retired) => match never {},
        };
        // Whoever waits for a place has not been sent.
        for _ in 0..self.outbox.end(&mut queue) {
            self.metrics.unsent_reply();
        }
        self.hosted.end();
        self.events.end();
        self.end();
        let complaint = std::mem::take(&mut *lock(&self.complaint));
        if !complaint.is_empty() {
            end.said = complaint;
        }
        end
    }

    async fn read(
        self: &Arc<Self>,
        mut reader: Reader,
        mut parser: Parser,
        mut buffer: BytesMut,
    ) -> End {
        loop {
            loop {
                match parser.next(&mut buffer) {
                    Ok(Some(operation)) => {
                        if let Some(end) = self.take(operation) {
                            return end;
                        }
                        self.outbox.room().await;
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

    fn take(self: &Arc<Self>, operation: Incoming) -> Option<End> {
        match operation {
            Incoming::Message(message) if message.sid == RECEIPTS => self.outbox.receipt(&message),
            Incoming::Message(message) if message.sid >= FIRST_EVENT => {
                self.events.take(&message, None);
            }
            Incoming::Unkept { message, why } if message.sid >= FIRST_EVENT => {
                self.events.take(&message, Some(why));
            }
            Incoming::Message(message) if message.sid >= FIRST_EXPOSED => {
                self.hosted.take(self, message, None);
            }
            Incoming::Message(message) => self.reply(message),
            Incoming::Unkept { message, why } if message.sid >= FIRST_EXPOSED => {
                self.hosted.take(self, message, Some(why));
            }
            Incoming::Unkept { message, why } => {
                self.hand_out(&message.subject, Answer::Unkept(why));
            }
            Incoming::Ping => self.outbox.answer_ping(),
            Incoming::Pong => {
                for key in self.outbox.pong() {
                    self.pending().taken(key);
                }
            }
            Incoming::Info(info) => {
                self.max_payload.store(info.max_payload, Ordering::Relaxed);
                let is_going = info.ldm;
                *lock(&self.info) = *info;
                self.news.notify_one();
                if is_going {
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
            && let Some(subject) = self.inboxes.called(&message.subject)
        {
            self.receipt(subject, &stream);
            return;
        }
        let subject = message.subject.clone();
        self.hand_out(&subject, Answer::Reply(message));
    }

    fn hand_out(&self, subject: &[u8], answer: Answer) {
        if !self.inboxes.deliver(subject, answer) {
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
                let is_heard = self.pending().deny(subject) || self.outbox.deny(subject);
                if !is_heard && self.hosted.has_taken() {
                    self.metrics.unsent_reply();
                }
                if !is_heard && !self.unheard.swap(true, Ordering::Relaxed) {
                    warn!(
                        upstream = self.metrics.upstream(),
                        subject, "NATS does not permit to publish: allow it for Genkan's user"
                    );
                }
                None
            }
            // It costs the calls of a predecessor, where that one's connection ends before them.
            Some(Violation::Subscription(subject)) if self.inboxes.refused(subject) => {
                let upstream = self.metrics.upstream();
                warn!(upstream, said = text, "an older connection's replies cannot be taken over");
                None
            }
            Some(Violation::Subscription(subject)) if self.hosted.refused(subject) => None,
            Some(Violation::Subscription(subject)) if self.events.refused(subject) => None,
            Some(Violation::TooMany) => {
                if !self.outbox.too_many() {
                    let upstream = self.metrics.upstream();
                    warn!(upstream, mend = MORE_SUBSCRIPTIONS, "NATS takes no more subscriptions");
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

    async fn watch(&self) -> End {
        let (mut is_idle, mut is_gone) = (false, false);
        loop {
            tokio::time::sleep(TICK).await;
            let verdict = lock(&self.pulse).check(self.ping_interval, Instant::now());
            match verdict {
                Verdict::Fine => is_gone = false,
                Verdict::Ask => self.outbox.ping(),
                // Twice: it may be this process that slept, and what it has said is still unread.
                Verdict::Gone if is_gone => return End::new("the server has fallen silent"),
                Verdict::Gone => is_gone = true,
            }
            self.outbox.say(self.inboxes.prune());
            // Twice: a call may be about to enter that saw this generation before it was retired.
            let is_done = self.inboxes.are_empty()
                && self.hosted.is_idle()
                && self.events.is_idle()
                && self.outbox.has_no_letters();
            if is_done && self.retired.is_cancelled() {
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
