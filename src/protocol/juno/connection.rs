//! One connection: reads its lines, hands them to the hub, and ends it.
//!
//! One task, without a buffer of its own while nothing comes in: bytes are read into a buffer of
//! the thread, and only half a line is kept. Thousands of idle modules cost little.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use memchr::memrchr;
use tokio::io::ReadBuf;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::closing::Closing;
use super::give_way::give_way;
use super::halves::ReadEnd;
use super::hub::{Dealt, SessionId};
use super::journal::Entry;
use super::lines::{Lines, Unkept};
use super::origin;
use super::patience::Patience;
use super::peer::Peer;
use super::shared::Shared;
use super::stranger::Spoken;
use super::wire::{Head, Line, mend, scan};
use super::world::Io;
use crate::budget::Account;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::units::{format_duration, format_size};

/// How much is read at once.
const READ: usize = 64 * 1024;

/// How soon a peer that says no more is sought, and how rarely at last.
const FIRST_SEARCH: Duration = Duration::from_millis(50);
const LAST_SEARCH: Duration = Duration::from_secs(1);

/// How often, and how long each time, a session is waited for that may be about to leave.
const LOOKS: usize = 10;
const LOOK: Duration = Duration::from_millis(2);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A connection that the hub knows of, by the id of its session there.
pub(super) struct Connection {
    shared: Arc<Shared>,
    id: SessionId,
    peer: Arc<Peer>,
    read: ReadEnd,
    lines: Lines,
    /// Lines that wait until another session has left.
    held: Vec<u8>,
    patience: Patience,
}

/// What serving a session comes to.
enum Turn {
    /// The connection must end.
    End(Closing),
    /// Lines are held.
    Hold,
    /// The other side says no more, and is owed answers.
    Owed,
}

impl Connection {
    /// Makes the connection known to the hub.
    pub(super) fn open(shared: Arc<Shared>, peer: Peer, read: ReadEnd, account: &Account) -> Self {
        let (peer, caller) = (Arc::new(peer), origin::of(&read));
        let now = Instant::now();
        let patience = Patience::new(now, &shared.config());
        let id = shared.with(now, |hub, io| {
            io.modules_changed();
            hub.connect(Arc::clone(&peer), caller, io)
        });
        let (lines, held) = (Lines::new(account), Vec::new());
        Self { shared, id, peer, read, lines, held, patience }
    }

    /// Lets the connection end as soon as it is served.
    pub(super) fn close(&self) {
        self.peer.close(Closing::Shutdown);
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let reason = loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Turn::End(reason) => break reason,
                Turn::Hold => self.let_others_leave().await,
                Turn::Owed => {
                    // In a box, because it would make each of the tasks larger.
                    Box::pin(self.answer_what_is_owed()).await;
                    break Closing::Gone;
                }
            }
        };
        self.end(reason);
    }

    /// Lets the session be served to its end that holds the id of this one's module and has hung
    /// up: its last answer may be among what it said. It is not waited for longer than that.
    async fn let_others_leave(&mut self) {
        // Its task was woken before this one.
        yield_now().await;
        for look in 0..=LOOKS {
            self.retry(look == LOOKS);
            if self.held.is_empty() {
                return;
            }
            // In a box, because it would make each of the tasks larger.
            Box::pin(sleep(LOOK)).await;
        }
    }

    /// Waits for the answers that the other side is owed, which has said all: it may have left, too,
    /// which shows when it is sent something.
    async fn answer_what_is_owed(&mut self) {
        let mut pause = FIRST_SEARCH;
        loop {
            let writing = poll_fn(|cx| {
                self.peer.register(cx);
                let _waits = self.peer.poll_flush(cx);
                if self.peer.closing().is_some() { Poll::Ready(()) } else { Poll::Pending }
            });
            let closed = timeout(pause, writing).await.is_ok();
            let answered = !self.shared.lock().is_owed(self.id) && self.peer.has_said_all();
            if closed || answered || self.peer.has_left() {
                return;
            }
            pause = (2 * pause).min(LAST_SEARCH);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.peer.register(cx);
        loop {
            if let Some(reason) = self.peer.closing() {
                return Poll::Ready(Turn::End(reason));
            }
            // Who does not read its answers is not read from: TCP holds it back, and what it
            // asks for does not fill its queue.
            if let Some(written) = self.peer.poll_flush(cx) {
                self.patience.paused(written, Instant::now());
                return self.poll_patience(cx);
            }
            self.patience.resumed();
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                match self.read.poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => {
                        debug!(%error, "the connection of a module broke");
                        Poll::Ready(Some(Turn::End(Closing::Gone)))
                    }
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        let owed = self.shared.lock().is_owed(self.id);
                        Poll::Ready(Some(if owed { Turn::Owed } else { Turn::End(Closing::Gone) }))
                    }
                    Poll::Ready(Ok(())) => Poll::Ready(self.take(buffer.filled()).map(Turn::End)),
                }
            });
            match read {
                Poll::Pending => return self.poll_patience(cx),
                Poll::Ready(Some(turn)) => return Poll::Ready(turn),
                Poll::Ready(None) if self.held.is_empty() => {}
                Poll::Ready(None) => return Poll::Ready(Turn::Hold),
            }
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.patience.poll(cx).map(|reason| Turn::End(self.lose_patience(reason)))
    }

    /// Takes bytes that came in; a reason where the connection must end.
    fn take(&mut self, bytes: &[u8]) -> Option<Closing> {
        let now = Instant::now();
        let mut io = Io::new(&self.shared, now);
        let (id, max) = (self.id, self.shared.config().max_line);
        let mut lines = 0;
        let held = &mut self.held;
        let begins = !self.patience.knows_module() && !self.lines.is_half();
        let mut stranger = begins.then(|| Spoken::of_beginning(bytes)).flatten();
        let within = stranger.is_some()
            || self.lines.take(bytes, max, |line| {
                lines += 1;
                match line {
                    _ if stranger.is_some() => {}
                    Ok(line) => stranger = hand_in(line, held, id, now, &mut io),
                    Err((why, head)) => {
                        let fault = why.fault(max);
                        io.act(|hub, io| hub.refuse_line(id, &head, fault, io));
                    }
                }
            });
        if let Some(spoke) = stranger {
            return Some(self.turn_away(spoke, io));
        }
        if !within {
            let fault = Unkept::TooLong.fault(max);
            io.act(|hub, io| hub.refuse_line(id, &Head::default(), fault, io));
        }
        io.finish();
        self.patience.line_ended_or_began(self.lines.is_half(), memrchr(b'\n', bytes), now);
        self.look_for_module();
        if lines > 1 {
            give_way();
        }
        (!within).then_some(Closing::EndlessLine)
    }

    /// Ends a connection that no module speaks on. What else it has sent is not looked at.
    fn turn_away(&self, spoke: Spoken, mut io: Io<'_>) -> Closing {
        io.act(|hub, io| hub.refuse_line(self.id, &Head::default(), spoke.fault(), io));
        io.finish();
        self.shared.metrics.strangers.increment(1);
        self.shared.journal.write("", &Entry::Stranger { spoke });
        Closing::NoModule
    }

    /// Hands in again what is held; where it insists, nothing is held any more then.
    fn retry(&mut self, insists: bool) {
        let lines = std::mem::take(&mut self.held);
        let now = Instant::now();
        let mut io =
            if insists { Io::insisting(&self.shared, now) } else { Io::new(&self.shared, now) };
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Some(spoke) = hand_in(line, &mut self.held, self.id, now, &mut io) {
                self.held.clear();
                let reason = self.turn_away(spoke, io);
                return self.peer.close(reason);
            }
        }
        io.finish();
        self.look_for_module();
    }

    fn look_for_module(&mut self) {
        if !self.patience.knows_module() && self.shared.lock().module_id(self.id).is_some() {
            self.patience.registered();
        }
    }

    /// Tells the other side why the connection ends.
    fn lose_patience(&self, reason: Closing) -> Closing {
        let config = self.shared.config();
        let message = match reason {
            Closing::HalfLine => {
                let timeout = format_duration(config.stall_timeout);
                format!("the rest of a line did not come within {timeout} ([hub] stall_timeout)")
            }
            Closing::Unregistered => {
                let timeout = format_duration(config.register_timeout);
                format!("no module has registered within {timeout} ([hub] register_timeout)")
            }
            Closing::Gone
            | Closing::Slow
            | Closing::NoMemory
            | Closing::EndlessLine
            | Closing::NoModule
            | Closing::Shutdown => return reason,
        };
        let fault = Fault::not_sent(FaultKind::Timeout, message);
        let head = Head::default();
        self.shared.with(Instant::now(), |hub, io| hub.refuse_line(self.id, &head, fault, io));
        reason
    }

    fn end(self, reason: Closing) {
        let metrics = &self.shared.metrics;
        let say = |entry| {
            let module = self.shared.lock().module_id(self.id).unwrap_or_default();
            self.shared.journal.write(&module, &entry);
        };
        match reason {
            Closing::Slow => {
                metrics.slow.increment(1);
                say(Entry::Slow { limit: format_size(self.shared.config().max_queue) });
            }
            Closing::NoMemory => {
                metrics.no_memory.increment(1);
                say(Entry::NoMemory);
            }
            Closing::EndlessLine => {
                metrics.endless_lines.increment(1);
                say(Entry::EndlessLine);
            }
            Closing::HalfLine => {
                metrics.half_lines.increment(1);
                say(Entry::HalfLine { limit: format_duration(self.shared.config().stall_timeout) });
            }
            Closing::Unregistered => {
                metrics.unregistered_too_long.increment(1);
                debug!("disconnected: no module has registered ([hub] register_timeout)");
            }
            Closing::Gone | Closing::NoModule | Closing::Shutdown => {}
        }
    }
}

/// However a session ends, by a panic too: its module is gone.
impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.with(Instant::now(), |hub, io| {
            io.modules_changed();
            hub.disconnect(self.id, io);
        });
        // Whatever still fits: the reason for the end among it.
        self.peer.flush();
    }
}

/// Hands a line to the hub, or puts it behind those that are held. What it is instead, where it is
/// no module's.
fn hand_in(
    line: &[u8],
    held: &mut Vec<u8>,
    id: SessionId,
    now: Instant,
    io: &mut Io<'_>,
) -> Option<Spoken> {
    let dealt = if held.is_empty() {
        let mended;
        let mut read = scan(line);
        if let Line::Broken(head) = &read
            && let Some(answer) = mend(line, head)
        {
            io.repaired_answer();
            mended = answer;
            read = scan(&mended);
        }
        io.act(|hub, io| hub.line(id, read, now, io))
    } else {
        Dealt::Later
    };
    match dealt {
        Dealt::Done => {}
        Dealt::Later => {
            held.extend_from_slice(line);
            held.push(b'\n');
        }
        Dealt::Unfit => return Some(Spoken::of(line.trim_ascii_start())),
    }
    None
}

impl Unkept {
    /// What whoever waits for the line is told.
    fn fault(self, max: usize) -> Fault {
        match self {
            Unkept::TooLong => {
                let max = format_size(max);
                let message = format!("a line is longer than the limit of {max} ([hub] max_line)");
                Fault::not_sent(FaultKind::TooLarge, message)
            }
            Unkept::NoRoom(exceeded) => exceeded.fault(Outcome::NotSent),
        }
    }
}
