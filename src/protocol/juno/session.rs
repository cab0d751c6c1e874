//! One connection: reads its lines, hands them to the hub, and ends it.
//!
//! One task, without a buffer of its own while nothing comes in: bytes are read into a buffer of
//! the thread, and only half a line is kept. Thousands of idle modules cost little.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll};

use memchr::{memchr, memrchr};
use tokio::io::ReadBuf;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::hub::SessionId;
use super::patience::Patience;
use super::peer::{Closing, Peer, ReadEnd};
use super::shared::{Io, Shared};
use super::wire::scan;
use crate::config::units::{format_duration, format_size};
use crate::fault::{Fault, FaultKind};

/// How much is read at once.
const READ: usize = 64 * 1024;
/// A line this many times longer than the limit is taken to have no end.
const ENDLESS: usize = 8;
/// Half a line's buffer that is larger gives its memory back.
const KEPT: usize = 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// A connection that the hub knows of.
pub(super) struct Session {
    shared: Arc<Shared>,
    id: SessionId,
    peer: Arc<Peer>,
    read: ReadEnd,
    lines: Lines,
    patience: Patience,
}

/// What has come in of a line that has not ended.
#[derive(Default)]
struct Lines {
    half: Vec<u8>,
    /// How much of a line that is too long has been passed over.
    skipped: usize,
}

impl Session {
    /// Makes the connection known to the hub.
    pub(super) fn open(shared: Arc<Shared>, peer: Peer, read: ReadEnd) -> Self {
        let peer = Arc::new(peer);
        let now = Instant::now();
        let patience = Patience::new(now, &shared.config);
        let id = shared.with(now, |hub, io| {
            io.modules_changed();
            hub.connect(Arc::clone(&peer), io)
        });
        Self { shared, id, peer, read, lines: Lines::default(), patience }
    }

    /// Lets the connection end as soon as it is served.
    pub(super) fn close(&self) {
        self.peer.close(Closing::Shutdown);
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let reason = std::future::poll_fn(|cx| self.poll(cx)).await;
        self.end(reason);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closing> {
        self.peer.register(cx);
        loop {
            if let Some(reason) = self.peer.closing() {
                return Poll::Ready(reason);
            }
            // Who does not read its answers is not read from: TCP holds it back, and what it
            // asks for does not fill its queue.
            if let Some(written) = self.peer.poll_flush(cx) {
                self.patience.paused(written, Instant::now());
                return self.patience.poll(cx).map(|reason| self.lose_patience(reason));
            }
            self.patience.resumed();
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                match self.read.poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => {
                        debug!(%error, "the connection of a module broke");
                        Poll::Ready(Some(Closing::Gone))
                    }
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        Poll::Ready(Some(Closing::Gone))
                    }
                    Poll::Ready(Ok(())) => Poll::Ready(self.take(buffer.filled())),
                }
            });
            match read {
                Poll::Pending => {
                    return self.patience.poll(cx).map(|reason| self.lose_patience(reason));
                }
                Poll::Ready(Some(reason)) => return Poll::Ready(reason),
                Poll::Ready(None) => {}
            }
        }
    }

    /// Takes bytes that came in; a reason where the connection must end.
    fn take(&mut self, bytes: &[u8]) -> Option<Closing> {
        let now = Instant::now();
        let mut io = Io::new(&self.shared, now);
        let (id, max) = (self.id, self.shared.config.max_line);
        let within = self.lines.take(bytes, max, |line| match line {
            Ok(line) => {
                let line = scan(line);
                io.act(|hub, io| hub.line(id, line, now, io));
            }
            Err(TooLong) => io.act(|hub, io| hub.refuse_line(id, too_long(max), io)),
        });
        if !within {
            io.act(|hub, io| hub.refuse_line(id, too_long(max), io));
        }
        io.finish();
        self.patience.line_ended_or_began(self.lines.is_half(), memrchr(b'\n', bytes), now);
        if !self.patience.knows_module() && self.shared.lock().module_id(id).is_some() {
            self.patience.registered();
        }
        (!within).then_some(Closing::EndlessLine)
    }

    /// Tells the other side why the connection ends.
    fn lose_patience(&self, reason: Closing) -> Closing {
        let config = &self.shared.config;
        let message = match reason {
            Closing::HalfLine => {
                let timeout = format_duration(config.stall_timeout);
                format!("the rest of a line did not come within {timeout} ([hub] stall_timeout)")
            }
            Closing::Unregistered => {
                let timeout = format_duration(config.register_timeout);
                format!("no module has registered within {timeout} ([hub] register_timeout)")
            }
            Closing::Gone | Closing::Slow | Closing::EndlessLine | Closing::Shutdown => {
                return reason;
            }
        };
        let fault = Fault::not_sent(FaultKind::Timeout, message);
        self.shared.with(Instant::now(), |hub, io| hub.refuse_line(self.id, fault, io));
        reason
    }

    fn end(self, reason: Closing) {
        let metrics = &self.shared.metrics;
        let module = || self.shared.lock().module_id(self.id).unwrap_or_default();
        match reason {
            Closing::Slow => {
                metrics.slow.increment(1);
                warn!(
                    module = module(),
                    limit = format_size(self.shared.config.max_queue),
                    "disconnected: the module does not read what is sent to it ([hub] max_queue)"
                );
            }
            Closing::EndlessLine => {
                metrics.endless_lines.increment(1);
                warn!(module = module(), "disconnected: a line without an end ([hub] max_line)");
            }
            Closing::HalfLine => {
                metrics.half_lines.increment(1);
                let limit = format_duration(self.shared.config.stall_timeout);
                warn!(
                    module = module(),
                    limit, "disconnected: the rest of a line did not come ([hub] stall_timeout)"
                );
            }
            Closing::Unregistered => {
                metrics.unregistered_too_long.increment(1);
                debug!("disconnected: no module has registered ([hub] register_timeout)");
            }
            Closing::Gone | Closing::Shutdown => {}
        }
        self.shared.with(Instant::now(), |hub, io| {
            io.modules_changed();
            hub.disconnect(self.id, io);
        });
        // Whatever still fits: the reason for the end among it.
        self.peer.flush();
    }
}

/// A line was longer than the limit.
struct TooLong;

impl Lines {
    /// Whether a line has begun and not ended.
    fn is_half(&self) -> bool {
        self.skipped > 0 || !self.half.is_empty()
    }

    /// Cuts bytes into lines. False where a line seems to have no end.
    fn take(
        &mut self,
        bytes: &[u8],
        max: usize,
        mut line: impl FnMut(Result<&[u8], TooLong>),
    ) -> bool {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let whole = &rest[..end];
            rest = &rest[end + 1..];
            if self.skipped > 0 || self.half.len() + whole.len() > max {
                self.skipped = 0;
                self.half = Vec::new();
                line(Err(TooLong));
            } else if self.half.is_empty() {
                if !whole.trim_ascii().is_empty() {
                    line(Ok(whole));
                }
            } else {
                self.half.extend_from_slice(whole);
                line(Ok(&self.half));
                self.half.clear();
                if self.half.capacity() > KEPT {
                    self.half = Vec::new();
                }
            }
        }
        if self.skipped > 0 {
            self.skipped += rest.len();
            return self.skipped <= max * ENDLESS;
        }
        if self.half.len() + rest.len() > max {
            self.skipped = self.half.len() + rest.len();
            self.half = Vec::new();
        } else {
            self.half.extend_from_slice(rest);
        }
        true
    }
}

fn too_long(max: usize) -> Fault {
    let message =
        format!("a line is longer than the limit of {} ([hub] max_line)", format_size(max));
    Fault::not_sent(FaultKind::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines that come of bytes that arrive in pieces; `None` for one that is too long.
    fn cut(pieces: &[&[u8]], max: usize) -> (Vec<Option<Vec<u8>>>, bool) {
        let (mut lines, mut got, mut within) = (Lines::default(), Vec::new(), true);
        for piece in pieces {
            within &= lines.take(piece, max, |line| got.push(line.ok().map(<[u8]>::to_vec)));
        }
        (got, within)
    }

    #[test]
    fn lines_that_are_too_long_and_endless_ones() {
        let some = |text: &[u8]| Some(text.to_vec());
        assert_eq!(cut(&[b"1234\n12345\n12\n"], 4), (vec![some(b"1234"), None, some(b"12")], true));
        assert_eq!(cut(&[b"123", b"45678", b"9\n1\n"], 4), (vec![None, some(b"1")], true));
        assert_eq!(cut(&[b"\n", b"\r\n", b"  \n"], 4), (vec![], true));
        let endless = [b"12345678".as_slice(); 5];
        assert_eq!(cut(&endless, 4), (vec![], false));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_split(
            text in "([a-c]{0,9}\n){0,6}[a-c]{0,9}", cuts in proptest::collection::vec(0_usize..70, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(&pieces, 6), cut(&[bytes], 6));
        }
    }
}
