//! The way to one connection: its queue, and the writing.
//!
//! Whoever has put lines into a queue writes them, in the same breath: the task of the module
//! that called writes to the callee's socket. That saves waking the callee's own task, which
//! only steps in where the socket takes no more. Nobody waits here, ever.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::closing::{Closing, OPEN};
use super::halves::WriteEnd;
use super::outbox::{Full, Outbox, Piece};
use super::wire::{CallId, OutgoingFrame};
use crate::budget::{Account, Exceeded, Share};

/// A connection for which this part of the limit waits is read no further, and sent no calls.
const PAUSE_AT: usize = 4;

struct Queue {
    outbox: Outbox,
    /// The memory of what waits while the socket takes no more. What is written at once needs none.
    share: Share,
    /// What is being written, or is half written.
    batch: Vec<Piece>,
    /// How much of its first piece has been written.
    offset: usize,
    /// Somebody is writing the batch, and looks at the queue again afterwards.
    writing: bool,
    /// The socket takes no more; the session's task waits for it.
    blocked: bool,
    /// Somebody has it on the list of those to be flushed.
    listed: bool,
    /// How many bytes the socket took.
    written: u64,
}

impl Queue {
    /// How many bytes wait, those that are half written among them.
    fn waiting(&self) -> usize {
        self.batch.iter().map(|piece| piece.bytes().len()).sum::<usize>() + self.outbox.own()
    }

    /// Makes room for more, where it would wait.
    fn make_room(&mut self, bytes: impl FnOnce() -> usize) -> Result<(), Exceeded> {
        if self.blocked { self.share.grow(bytes()) } else { Ok(()) }
    }

    /// Counts what waits, now that something was written or cannot be.
    fn count(&mut self) -> Result<(), Exceeded> {
        let (held, waiting) = (self.share.held(), if self.blocked { self.waiting() } else { 0 });
        if waiting > held {
            return self.share.grow(waiting - held);
        }
        self.share.shrink(held - waiting);
        Ok(())
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.offset = 0;
        self.outbox.clear();
        self.share.shrink(usize::MAX);
    }
}

/// The way to one connection.
pub(super) struct Peer {
    write: WriteEnd,
    queue: Mutex<Queue>,
    limit: AtomicUsize,
    closing: AtomicU8,
    /// Wakes the session's task.
    waker: AtomicWaker,
    /// Whoever has a large queue before him brings one answer after the other.
    turns: Semaphore,
    /// Told when less waits than did.
    less: Notify,
}

impl Peer {
    /// The way over a connection; `limit` bounds the bytes that wait for it, and so does what its
    /// account may hold.
    pub(super) fn new(write: WriteEnd, limit: usize, account: &Account) -> Self {
        let queue = Mutex::new(Queue {
            outbox: Outbox::default(),
            share: account.queue(),
            batch: Vec::new(),
            offset: 0,
            writing: false,
            blocked: false,
            listed: false,
            written: 0,
        });
        let closing = AtomicU8::new(OPEN);
        let limit = AtomicUsize::new(limit);
        let (waker, turns, less) = (AtomicWaker::new(), Semaphore::new(1), Notify::new());
        Self { write, queue, limit, closing, waker, turns, less }
    }

    /// Changes the bound.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Waits until it is one's turn to bring an answer, and less waits than would keep the connection from being
    /// read. Nobody else's turn comes as long as what is given lives.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.ok();
        while self.is_busy() && self.closing().is_none() {
            self.less.notified().await;
        }
        turn
    }

    fn is_busy(&self) -> bool {
        let queue = self.lock();
        queue.blocked && queue.outbox.len() > self.limit() / PAUSE_AT
    }

    /// Queues a frame. True where [`Peer::flush`] must follow. Answers are what the other side has asked for, as many
    /// as it has: they wait within its part of the memory.
    pub(super) fn push(&self, frame: &OutgoingFrame<'_>) -> bool {
        let is_answer = matches!(frame, OutgoingFrame::Answer { .. });
        let push = |queue: &mut Queue, limit| {
            queue.make_room(|| frame.length())?;
            Ok(queue.outbox.push(frame, if is_answer { usize::MAX } else { limit })?)
        };
        self.enqueue(push) == Pushed::ToFlush
    }

    /// Queues a call. `None` where so much waits already, because the module does not read, that
    /// it is not to be asked for more.
    pub(super) fn push_call(&self, frame: &OutgoingFrame<'_>) -> Option<bool> {
        let pushed = self.enqueue(|queue, limit| {
            if queue.blocked && queue.outbox.len() > limit / PAUSE_AT {
                return Err(Unqueued::Busy);
            }
            queue.make_room(|| frame.length()).map_err(|_| Unqueued::Busy)?;
            Ok(queue.outbox.push(frame, limit)?)
        });
        (pushed != Pushed::Refused).then_some(pushed == Pushed::ToFlush)
    }

    /// Queues a line that others get too. `None` where the connection is ending.
    pub(super) fn push_shared(&self, line: &Bytes) -> Option<bool> {
        match self.enqueue(|queue, limit| Ok(queue.outbox.push_shared(line, limit)?)) {
            Pushed::Dropped | Pushed::Refused => None,
            Pushed::Listed => Some(false),
            Pushed::ToFlush => Some(true),
        }
    }

    fn enqueue(&self, push: impl FnOnce(&mut Queue, usize) -> Result<(), Unqueued>) -> Pushed {
        if self.closing().is_some() {
            return Pushed::Dropped;
        }
        let mut queue = self.lock();
        match push(&mut queue, self.limit()) {
            Ok(()) => {}
            Err(Unqueued::Busy) => return Pushed::Refused,
            Err(Unqueued::Full(reason)) => {
                queue.outbox.clear();
                drop(queue);
                self.close(reason);
                return Pushed::Dropped;
            }
        }
        if std::mem::replace(&mut queue.listed, true) { Pushed::Listed } else { Pushed::ToFlush }
    }

    /// Drops a call that waits here, if none of its line can have been written. False where some may
    /// have been: then the module may read it yet.
    pub(super) fn recall(&self, id: CallId) -> bool {
        let mut queue = self.lock();
        let recalled = queue.outbox.recall(id);
        if recalled && !queue.writing {
            let _less = queue.count();
        }
        recalled
    }

    /// Writes what the socket takes of the queue.
    pub(super) fn flush(&self) {
        let mut queue = self.lock();
        queue.listed = false;
        if queue.writing || queue.blocked {
            return;
        }
        loop {
            if queue.batch.is_empty() {
                let Queue { outbox, batch, .. } = &mut *queue;
                outbox.take(batch);
                if batch.is_empty() {
                    return;
                }
            }
            queue.writing = true;
            let (mut batch, mut offset) = (std::mem::take(&mut queue.batch), queue.offset);
            drop(queue);
            let written = self.write.try_write(&batch, offset);
            queue = self.lock();
            queue.writing = false;
            let end = match written {
                Ok(0) => Some(Closing::Gone),
                Ok(length) => {
                    queue.written += length as u64;
                    advance(&mut batch, &mut offset, length, &mut queue.outbox);
                    None
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.blocked = true;
                    queue.outbox.put_back(&mut batch, &mut offset);
                    None
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                Err(_) => Some(Closing::Gone),
            };
            (queue.batch, queue.offset) = (batch, offset);
            let end = end.or_else(|| queue.count().is_err().then_some(Closing::NoMemory));
            if let Some(reason) = end {
                queue.clear();
                drop(queue);
                return self.close(reason);
            }
            if queue.blocked {
                drop(queue);
                return self.waker.wake();
            }
        }
    }

    /// For the session's task alone: continues what was blocked once the socket takes more.
    /// `Some` where so much waits that the connection is not to be read, with how many bytes the
    /// socket took so far; the task is woken when it takes more.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Option<u64> {
        while self.lock().blocked {
            match self.write.poll_ready(cx) {
                Poll::Pending => {
                    let queue = self.lock();
                    let much = queue.outbox.len() > self.limit() / PAUSE_AT;
                    return much.then_some(queue.written);
                }
                // An error shows again in the writing.
                Poll::Ready(_) => {
                    self.lock().blocked = false;
                    self.flush();
                    self.less.notify_one();
                }
            }
        }
        None
    }

    /// For the session's task: who wakes it when there is something to do.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Lets the session's task end the connection. The first reason holds.
    pub(super) fn close(&self, reason: Closing) {
        let closing =
            self.closing.compare_exchange(OPEN, reason.code(), Ordering::AcqRel, Ordering::Acquire);
        if closing.is_ok() {
            self.less.notify_one();
            self.waker.wake();
        }
    }

    /// Lets the system find out within seconds whether the other machine still answers.
    pub(super) fn ask_after(&self) {
        self.write.ask_after();
    }

    /// Whether the other side has hung up, or the connection is to end anyhow.
    pub(super) fn has_hung_up(&self) -> bool {
        self.closing().is_some() || self.write.is_ended()
    }

    /// Whether nothing waits to be written.
    pub(super) fn has_said_all(&self) -> bool {
        let queue = self.lock();
        queue.batch.is_empty() && !queue.writing && queue.outbox.own() == 0
    }

    /// Whether the other side, which says no more, hears no more either. Over TCP that shows after it was
    /// sent something: a blank before the next line, which JSON has room for.
    pub(super) fn has_left(&self) -> bool {
        if self.write.is_shut() {
            return true;
        }
        if matches!(self.write, WriteEnd::Tcp(_)) && self.has_said_all() {
            let _waits = self.push_shared(&Bytes::from_static(b" "));
            self.flush();
        }
        self.closing().is_some()
    }

    /// Why the connection is to end, if it is.
    pub(super) fn closing(&self) -> Option<Closing> {
        Closing::of(self.closing.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(PartialEq, Eq)]
enum Pushed {
    ToFlush,
    Listed,
    Dropped,
    Refused,
}

/// Why something is not queued.
enum Unqueued {
    /// So much waits that the connection takes no more calls.
    Busy,
    /// So much waits that the connection ends.
    Full(Closing),
}

impl From<Full> for Unqueued {
    fn from(_: Full) -> Self {
        Unqueued::Full(Closing::Slow)
    }
}

impl From<Exceeded> for Unqueued {
    fn from(_: Exceeded) -> Self {
        Unqueued::Full(Closing::NoMemory)
    }
}

/// Takes what was written off a batch.
fn advance(batch: &mut Vec<Piece>, offset: &mut usize, written: usize, outbox: &mut Outbox) {
    let mut left = written + *offset;
    let done = batch
        .iter()
        .take_while(|piece| {
            let length = piece.bytes().len();
            let whole = left >= length;
            if whole {
                left -= length;
            }
            whole
        })
        .count();
    *offset = left;
    for piece in batch.drain(..done) {
        outbox.recycle(piece);
    }
}
