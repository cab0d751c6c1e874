//! The way to one connection: its queue, and the writing.
//!
//! Whoever has put lines into a queue writes them, in the same breath: the task of the module
//! that called writes to the callee's socket. That saves waking the callee's own task, which
//! only steps in where the socket takes no more. Nobody waits here, ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, Interest, ReadBuf, Ready};
use tokio::net::{tcp, unix};
use tracing::debug;

use super::outbox::{Full, Outbox, Piece};
use super::wire::{CallId, OutgoingFrame};
use crate::budget::{Account, Exceeded, Share};

/// How many pieces are written at once.
const SLICES: usize = 64;
/// A connection for which this part of the limit waits is read no further, and sent no calls.
const PAUSE_AT: usize = 4;

/// How soon, how often and how many times a machine is asked whether it still answers.
const ASK: Duration = Duration::from_secs(1);
const ASKS: u32 = 3;
/// How long it has to acknowledge what was sent to it. While something is not acknowledged, the system
/// sends that again and asks nothing else, for a quarter of an hour. A machine that lives acknowledges
/// for a module that is stopped, until what the system keeps for the module is full.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The other side closed it, or it broke.
    Gone,
    /// The other side does not read.
    Slow,
    /// The other side does not read, and there is no memory for what waits.
    NoMemory,
    /// A line has no end.
    EndlessLine,
    /// The rest of a line does not come.
    HalfLine,
    /// No module has registered.
    Unregistered,
    /// No module speaks on it.
    NoModule,
    /// Genkan stops.
    Shutdown,
}

const OPEN: u8 = 0;

impl Closing {
    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn of(code: u8) -> Option<Self> {
        let all = [
            Closing::Gone,
            Closing::Slow,
            Closing::NoMemory,
            Closing::EndlessLine,
            Closing::HalfLine,
            Closing::Unregistered,
            Closing::NoModule,
            Closing::Shutdown,
        ];
        all.into_iter().find(|closing| closing.code() == code)
    }
}

/// The half of a connection that is written to.
pub(super) enum WriteEnd {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl WriteEnd {
    fn try_write(&self, pieces: &[Piece], offset: usize) -> io::Result<usize> {
        if let [piece] = pieces {
            let bytes = &piece.bytes()[offset..];
            return match self {
                WriteEnd::Tcp(half) => half.try_write(bytes),
                WriteEnd::Unix(half) => half.try_write(bytes),
            };
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut skip = offset;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(&piece.bytes()[skip..]);
            skip = 0;
        }
        let slices = &slices[..pieces.len().min(SLICES)];
        match self {
            WriteEnd::Tcp(half) => half.try_write_vectored(slices),
            WriteEnd::Unix(half) => half.try_write_vectored(slices),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteEnd::Tcp(half) => half.as_ref().poll_write_ready(cx),
            WriteEnd::Unix(half) => half.as_ref().poll_write_ready(cx),
        }
    }

    /// Whether the other side has ended the connection, perhaps behind bytes that have not been
    /// read. The system mostly tells the end of one connection before what comes over the next.
    fn is_ended(&self) -> bool {
        let ready = match self {
            WriteEnd::Tcp(half) => half.as_ref().ready(Interest::READABLE).now_or_never(),
            WriteEnd::Unix(half) => half.as_ref().ready(Interest::READABLE).now_or_never(),
        };
        ready.is_some_and(|ready| ready.map_or(true, Ready::is_read_closed))
    }
}

/// The half of a connection that is read from.
pub(super) enum ReadEnd {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl ReadEnd {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            ReadEnd::Tcp(half) => Pin::new(half).poll_read(cx, buffer),
            ReadEnd::Unix(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

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
}

impl Peer {
    /// The way over a connection; `limit` bounds the bytes that wait for it, and so does what its
    /// account may hold.
    pub(super) fn new(write: WriteEnd, limit: usize, account: &Account) -> Self {
        let queue = Mutex::new(Queue {
            outbox: Outbox::default(),
            share: account.share(),
            batch: Vec::new(),
            offset: 0,
            writing: false,
            blocked: false,
            listed: false,
            written: 0,
        });
        let closing = AtomicU8::new(OPEN);
        let limit = AtomicUsize::new(limit);
        Self { write, queue, limit, closing, waker: AtomicWaker::new() }
    }

    /// Changes the bound.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Queues a frame. True where [`Peer::flush`] must follow.
    pub(super) fn push(&self, frame: &OutgoingFrame<'_>) -> bool {
        let push = |queue: &mut Queue, limit| {
            queue.make_room(|| frame.length())?;
            Ok(queue.outbox.push(frame, limit)?)
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
            self.waker.wake();
        }
    }

    /// Lets the system find out within seconds whether the other machine still answers. It answers
    /// for a module that is busy or stopped, so that none is ended that lives; a dead machine's
    /// connection breaks, and ends as any other.
    pub(super) fn ask_after(&self) {
        let WriteEnd::Tcp(half) = &self.write else { return };
        let ask = TcpKeepalive::new().with_time(ASK).with_interval(ASK).with_retries(ASKS);
        let socket = SockRef::from(half.as_ref());
        let set = socket.set_tcp_keepalive(&ask);
        if let Err(error) = set.and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))) {
            debug!(%error, "cannot ask whether a module's machine still answers");
        }
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
        let ready = match &self.write {
            WriteEnd::Tcp(half) => half.as_ref().ready(Interest::WRITABLE).now_or_never(),
            WriteEnd::Unix(half) => half.as_ref().ready(Interest::WRITABLE).now_or_never(),
        };
        if ready.is_some_and(|ready| ready.map_or(true, Ready::is_write_closed)) {
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::budget::Budget;

    #[tokio::test]
    async fn a_machine_is_asked_within_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (_module, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_read, write) = accepted.expect("accepted").0.into_split();
        let peer = Peer::new(WriteEnd::Tcp(write), 1_000, &Budget::new(1_000).connection());
        peer.ask_after();
        let WriteEnd::Tcp(half) = &peer.write else { panic!("TCP") };
        let socket = SockRef::from(half.as_ref());
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), ASK);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), ASK);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), ASKS);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(UNACKNOWLEDGED));
        assert!(!peer.has_hung_up());
    }
}
