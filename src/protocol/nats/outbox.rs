//! What is written to one connection: messages in batches, subscriptions, and the words by which
//! both sides prove that they live.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{Notify, mpsc, oneshot};

use super::events::letter::{Letter, Seat, Vouched};
use super::events::receipts::Receipts;
use super::expose::Owed;
use super::mailbox::Mailbox;
use super::pen::Pen;
use super::pulse::Pulse;
use super::transport::Writer;
use super::wire::{self, Message, RECEIPTS};
use crate::batch::gather;

/// How many messages are written together at the most, and how many wait for that before their
/// senders do.
const BATCH: usize = 128;

/// A message to publish, but for its reply subject.
#[derive(Clone)]
pub(super) struct Publication {
    pub(super) subject: Arc<str>,
    /// The block of headers.
    pub(super) headers: String,
    pub(super) payload: Bytes,
}

/// A message on its way to the writer.
pub(super) enum Queued {
    /// A call or a notification.
    Call {
        /// Who waits for it.
        key: u64,
        publication: Publication,
        /// Whether a reply is asked for; else the server's word that it has read it.
        wants_reply: bool,
    },
    /// The answer to a call of an exposed service, which is owed until it is written.
    Answer(Publication, Owed),
}

/// What a `PING` under way stands for.
#[derive(Default)]
struct Asked {
    notifications: Vec<u64>,
    /// Who waits until the server has read what was written before.
    flushes: Vec<oneshot::Sender<()>>,
    answers: Vec<Owed>,
    events: Vec<Seat>,
    /// What was subscribed to before it, in order.
    batches: Vec<Batch>,
    /// How much of that the server has refused as too many.
    too_many: usize,
}

/// Subscriptions that were written together.
struct Batch {
    subscriptions: usize,
    /// Told how many of them, the last ones, are too many.
    told: oneshot::Sender<usize>,
}

/// Lines that wait to be written.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    batches: Vec<Batch>,
}

/// What waits to be written.
pub(super) struct Outbox {
    messages: mpsc::Sender<Queued>,
    /// What each `PING` under way stands for.
    pings: Mutex<VecDeque<Asked>>,
    /// The server asks whether we live.
    is_asked: AtomicBool,
    /// The server is to be asked.
    asks: AtomicBool,
    /// Subscriptions that begin and end.
    lines: Mutex<Lines>,
    /// Events; `None` when the connection has ended.
    letters: Mutex<Option<Vec<Letter>>>,
    /// Events that streams are to confirm.
    receipts: Receipts,
    /// Answers of those who may not wait; `None` when the connection has ended.
    answers: Mutex<Option<Vec<(Publication, Owed)>>>,
    /// They are many.
    is_crowded: AtomicBool,
    /// They have been taken to be written.
    taken: Notify,
    /// Who waits until the server has read them.
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
    /// One of these six.
    control: Notify,
    /// Answers are owed until the server has read them.
    confirms: AtomicBool,
}

impl Outbox {
    /// An empty one, and the queue that [`Outbox::write`] takes messages from.
    pub(super) fn new(inbox_prefix: &str) -> (Self, mpsc::Receiver<Queued>) {
        let (messages, queue) = mpsc::channel(BATCH);
        let outbox = Self {
            messages,
            pings: Mutex::default(),
            is_asked: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            lines: Mutex::default(),
            letters: Mutex::new(Some(Vec::new())),
            receipts: Receipts::new(inbox_prefix),
            answers: Mutex::new(Some(Vec::new())),
            is_crowded: AtomicBool::new(false),
            taken: Notify::new(),
            flushes: Mutex::default(),
            control: Notify::new(),
            confirms: AtomicBool::new(false),
        };
        (outbox, queue)
    }

    /// Hands a message over to be written. Until it is, it can be taken back by dropping the place
    /// in the table that `key` stands for. False where the connection has ended.
    pub(super) async fn send(&self, key: u64, publication: Publication, wants_reply: bool) -> bool {
        self.messages.send(Queued::Call { key, publication, wants_reply }).await.is_ok()
    }

    /// Hands an answer over to be written; gives it back where the connection has ended.
    pub(super) async fn answer(
        &self,
        publication: Publication,
        owed: Owed,
    ) -> Result<(), (Publication, Owed)> {
        match self.messages.send(Queued::Answer(publication, owed)).await {
            Err(SendError(Queued::Answer(publication, owed))) => Err((publication, owed)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The same of who may not wait, and has [`Outbox::room`] wait before the next one. False where the connection
    /// has ended.
    pub(super) fn answer_at_once(&self, publication: Publication, owed: Owed) -> bool {
        let mut answers = lock(&self.answers);
        let Some(answers) = &mut *answers else { return false };
        answers.push((publication, owed));
        self.is_crowded.store(answers.len() >= BATCH, Ordering::Relaxed);
        self.control.notify_one();
        true
    }

    /// Waits until there is room for more answers of those who may not wait. One may.
    pub(super) async fn room(&self) {
        while self.is_crowded.load(Ordering::Relaxed) {
            self.taken.notified().await;
        }
    }

    /// Whether answers are owed until the server has read them: whoever is about to go waits for that.
    pub(super) fn confirm_answers(&self, confirms: bool) {
        self.confirms.store(confirms, Ordering::Relaxed);
    }

    /// Waits until the server has read the lines that were said before. False where it never will.
    pub(super) async fn flush(&self) -> bool {
        let (sender, flushed) = oneshot::channel();
        lock(&self.flushes).push(sender);
        self.control.notify_one();
        flushed.await.is_ok()
    }

    /// Writes lines that subscribe and unsubscribe.
    pub(super) fn say(&self, mut lines: Vec<u8>) {
        if !lines.is_empty() {
            lock(&self.lines).text.append(&mut lines);
            self.control.notify_one();
        }
    }

    /// Writes lines, of which so many subscribe, and waits until the server has read them. How many of
    /// those, the last ones, it does not take because there are too many; `None` where it never reads them.
    pub(super) async fn subscribe(
        &self,
        mut lines: Vec<u8>,
        subscriptions: usize,
    ) -> Option<usize> {
        let (told, refused) = oneshot::channel();
        {
            let mut waiting = lock(&self.lines);
            waiting.text.append(&mut lines);
            waiting.batches.push(Batch { subscriptions, told });
        }
        self.control.notify_one();
        refused.await.ok()
    }

    /// The server takes no more subscriptions. It says so in the order of what it reads: before it answers
    /// the `PING` behind them. False where nobody waits for that.
    pub(super) fn too_many(&self) -> bool {
        let mut pings = lock(&self.pings);
        let Some(asked) = pings.front_mut().filter(|asked| !asked.batches.is_empty()) else {
            return false;
        };
        asked.too_many += 1;
        true
    }

    /// Hands an event over to be written, behind those that were handed over before.
    pub(super) fn publish(&self, publication: Publication, stream: Option<Arc<str>>) -> Vouched {
        let (letter, vouched) = Letter::new(publication, stream);
        if let Some(letters) = &mut *lock(&self.letters) {
            letters.push(letter);
            self.control.notify_one();
        }
        vouched
    }

    /// The server does not permit to publish to this subject: the oldest event that was is told. False
    /// where there is none.
    pub(super) fn deny(&self, subject: &str) -> bool {
        let mut pings = lock(&self.pings);
        let mut seats = pings.iter_mut().flat_map(|asked| &mut asked.events);
        seats.any(|seat| seat.deny(subject)) || self.receipts.deny(subject)
    }

    /// A stream says what became of an event.
    pub(super) fn receipt(&self, message: &Message) {
        self.receipts.take(message);
    }

    /// Whether no event waits to be written, to be read by the server, or to be confirmed.
    pub(super) fn has_no_letters(&self) -> bool {
        let waits = lock(&self.letters).as_ref().is_some_and(|letters| !letters.is_empty());
        let is_read = lock(&self.pings).iter().all(|asked| asked.events.is_empty());
        !waits && is_read && self.receipts.are_empty()
    }

    /// Tells the server that we live.
    pub(super) fn answer_ping(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
        self.control.notify_one();
    }

    /// Asks the server whether it lives.
    pub(super) fn ping(&self) {
        self.asks.store(true, Ordering::Relaxed);
        self.control.notify_one();
    }

    /// The server has read what was written before the oldest `PING`: the notifications among it.
    pub(super) fn pong(&self) -> Vec<u64> {
        let asked = lock(&self.pings).pop_front().unwrap_or_default();
        for flushed in asked.flushes {
            // Who has stopped waiting need not be told.
            let _told = flushed.send(());
        }
        asked.answers.into_iter().for_each(Owed::tell_read);
        // From the limit on it has refused all of them.
        let mut too_many = asked.too_many;
        for Batch { subscriptions, told } in asked.batches.into_iter().rev() {
            let of_these = too_many.min(subscriptions);
            too_many -= of_these;
            let _told = told.send(of_these);
        }
        asked.notifications
    }

    /// The connection has ended. How many answers are not written now, and nobody gets to know.
    pub(super) fn end(&self, queue: &mut mpsc::Receiver<Queued>) -> usize {
        queue.close();
        lock(&self.pings).clear();
        lock(&self.flushes).clear();
        lock(&self.lines).batches.clear();
        drop(lock(&self.letters).take());
        self.receipts.end();
        let answers = lock(&self.answers).take().unwrap_or_default();
        let left = std::iter::from_fn(|| queue.try_recv().ok());
        let left =
            left.filter(|left| matches!(left, Queued::Answer(_, owed) if !owed.is_watched()));
        answers.len() + left.count()
    }

    /// Writes until that fails: why.
    pub(super) async fn write(
        &self,
        writer: Writer,
        queue: &mut mpsc::Receiver<Queued>,
        inbox: &Mailbox,
        pulse: &Mutex<Pulse>,
    ) -> std::io::Error {
        let mut batch = Vec::with_capacity(BATCH);
        let mut pen = Pen::new(writer, pulse);
        loop {
            tokio::select! {
                _ = queue.recv_many(&mut batch, BATCH) => gather(&mut batch, queue, BATCH).await,
                () = self.control.notified() => {}
            }
            if let Err(error) = self.write_all(&mut pen, &mut batch, inbox).await {
                return error;
            }
        }
    }

    async fn write_all(
        &self,
        pen: &mut Pen<'_>,
        batch: &mut Vec<Queued>,
        inbox: &Mailbox,
    ) -> std::io::Result<()> {
        // First, because who flushes has said its lines before.
        let mut asked =
            Asked { flushes: std::mem::take(&mut lock(&self.flushes)), ..Asked::default() };
        let mut answers = Vec::new();
        let at_once = lock(&self.answers).as_mut().map(std::mem::take).unwrap_or_default();
        self.is_crowded.store(false, Ordering::Relaxed);
        self.taken.notify_one();
        for (publication, owed) in at_once {
            pen.publish(&publication, None).await?;
            answers.push(owed);
        }
        for queued in batch.drain(..) {
            let (key, publication, wants_reply) = match queued {
                Queued::Call { key, publication, wants_reply } => (key, publication, wants_reply),
                Queued::Answer(publication, owed) => {
                    pen.publish(&publication, None).await?;
                    match owed.is_watched() {
                        true => asked.answers.push(owed),
                        false => answers.push(owed),
                    }
                    continue;
                }
            };
            if !inbox.pending().sending(key, wants_reply) {
                continue;
            }
            let reply = wants_reply.then(|| inbox.reply_subject(key));
            pen.publish(&publication, reply.as_deref()).await?;
            if !wants_reply {
                asked.notifications.push(key);
            }
        }
        let letters = lock(&self.letters).as_mut().map(std::mem::take).unwrap_or_default();
        for letter in letters.into_iter().filter(Letter::is_awaited) {
            let (publication, seat) = letter.written();
            if seat.is_for_stream() {
                if let Some(subscription) = self.receipts.subscribe() {
                    wire::subscribe(&mut pen.out, &subscription, None, RECEIPTS);
                }
                let reply = self.receipts.enter(seat);
                pen.publish(&publication, Some(&reply)).await?;
            } else {
                asked.events.push(seat);
                pen.publish(&publication, None).await?;
            }
        }
        let Lines { mut text, batches } = std::mem::take(&mut *lock(&self.lines));
        pen.out.append(&mut text);
        asked.batches = batches;
        if self.is_asked.swap(false, Ordering::Relaxed) {
            pen.out.extend_from_slice(wire::PONG);
        }
        if self.confirms.load(Ordering::Relaxed) {
            asked.answers.append(&mut answers);
        }
        if self.asks.swap(false, Ordering::Relaxed) || !asked.is_empty() {
            lock(&self.pings).push_back(asked);
            pen.out.extend_from_slice(wire::PING);
        }
        pen.put().await?;
        let flushed = pen.writer.flush().await;
        // They are owed until here.
        drop(answers);
        flushed
    }
}

impl Asked {
    fn is_empty(&self) -> bool {
        self.notifications.is_empty()
            && self.flushes.is_empty()
            && self.answers.is_empty()
            && self.events.is_empty()
            && self.batches.is_empty()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every use leaves what is inside whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_subscriptions_before_the_limit_are_those_that_are_refused() {
        let (outbox, _queue) = Outbox::new("_INBOX");
        assert!(!outbox.too_many(), "nobody has subscribed");
        let told: Vec<_> = [3, 0, 2]
            .map(|subscriptions| {
                let (told, refused) = oneshot::channel();
                lock(&outbox.lines).batches.push(Batch { subscriptions, told });
                refused
            })
            .into();
        let batches = std::mem::take(&mut lock(&outbox.lines).batches);
        lock(&outbox.pings).push_back(Asked { batches, ..Asked::default() });
        for _ in 0..4 {
            assert!(outbox.too_many());
        }
        outbox.pong();
        let mut refused = Vec::new();
        for told in told {
            refused.push(told.await.expect("it is told"));
        }
        assert_eq!(refused, [2, 0, 2]);
    }
}
