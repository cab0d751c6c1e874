//! What waits to be written to a client, frame by frame, none of it copied. Bounded by whoever
//! puts something in: by [`Outgoing::has_room`], and by what the connection may hold.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::super::body::UNCOUNTED;
use super::frame::{Opcode, OwnHead};
use crate::budget::{Account, Exceeded, Share};

/// How much may wait before nothing more is asked for that would be answered.
const ROOM: usize = 64 * 1024;
/// How many frames are handed to the system at once.
const AT_ONCE: usize = 32;
/// A queue that was longer gives its memory back.
const KEPT: usize = 8;

/// The frames that wait.
pub(super) struct Outgoing {
    frames: VecDeque<Frame>,
    /// Of the first of them.
    written: usize,
    /// Of all of them.
    bytes: usize,
    /// Of those that do not count by themselves: small ones.
    small: usize,
    share: Share,
    unflushed: bool,
    /// Since when the peer has taken nothing of what waits.
    blocked_since: Option<Instant>,
}

struct Frame {
    head: OwnHead,
    payload: Bytes,
}

impl Frame {
    fn size(&self) -> usize {
        self.head.as_bytes().len() + self.payload.len()
    }

    /// What it adds to the connection's account: what is large is counted where it is made.
    fn small(&self) -> usize {
        if self.payload.len() <= UNCOUNTED { self.size() } else { 0 }
    }
}

impl Outgoing {
    /// For a connection, which holds what waits.
    pub(super) fn new(account: &Account) -> Self {
        Self {
            frames: VecDeque::new(),
            written: 0,
            bytes: 0,
            small: 0,
            share: account.queue(),
            unflushed: false,
            blocked_since: None,
        }
    }

    /// Whether so little waits that the client may ask for more.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < ROOM
    }

    /// Whether so much waits that it counts.
    pub(super) fn is_heavy(&self) -> bool {
        self.small > UNCOUNTED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && !self.unflushed
    }

    /// Since when the peer has taken nothing of what waits for it.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// Lets a frame wait. A payload over 16 KiB is counted already. Refused where the connection
    /// holds too much: by then its client has not read for long.
    pub(super) fn push(&mut self, opcode: Opcode, payload: Bytes) -> Result<(), Exceeded> {
        let frame = Frame { head: OwnHead::new(opcode, payload.len()), payload };
        let small = self.small + frame.small();
        let counted = small.saturating_sub(UNCOUNTED);
        self.share.grow(counted.saturating_sub(self.share.held()))?;
        self.small = small;
        self.bytes += frame.size();
        self.frames.push_back(frame);
        Ok(())
    }

    /// Writes what waits, as far as the peer takes it. Ready when it has taken all.
    pub(super) fn poll_write<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while !self.frames.is_empty() {
            match self.poll_write_some(cx, stream) {
                Poll::Ready(written) => self.has_written(written?),
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        if self.unflushed {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
            self.unflushed = false;
        }
        self.blocked_since = None;
        Poll::Ready(Ok(()))
    }

    fn poll_write_some<S>(&self, cx: &mut Context<'_>, stream: &mut S) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite + Unpin,
    {
        let mut slices = [IoSlice::new(&[]); 2 * AT_ONCE];
        let (mut count, mut skip) = (0, self.written);
        for frame in self.frames.iter().take(AT_ONCE) {
            for part in [frame.head.as_bytes(), &frame.payload] {
                let left = part.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(part.len());
                if !left.is_empty() {
                    slices[count] = IoSlice::new(left);
                    count += 1;
                }
            }
        }
        let written = ready!(Pin::new(stream).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(written))
    }

    fn has_written(&mut self, written: usize) {
        self.blocked_since = None;
        self.unflushed = true;
        self.bytes -= written;
        self.written += written;
        while let Some(first) = self.frames.front()
            && self.written >= first.size()
        {
            self.written -= first.size();
            self.small -= first.small();
            self.frames.pop_front();
        }
        let counted = self.small.saturating_sub(UNCOUNTED);
        self.share.shrink(self.share.held().saturating_sub(counted));
        if self.frames.is_empty() && self.frames.capacity() > KEPT {
            self.frames = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::budget::Budget;

    #[tokio::test]
    async fn what_waits_is_written_whole_and_in_order() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let budget = Budget::new(1 << 20);
        let mut outgoing = Outgoing::new(&budget.connection());
        let mut expected = Vec::new();
        for size in [0, 1, 5, 125, 126, 300, 40_000, 0, 9_000, 9_000] {
            let payload = vec![b'a' + (size % 26) as u8; size];
            expected.extend_from_slice(OwnHead::new(Opcode::Text, size).as_bytes());
            expected.extend_from_slice(&payload);
            outgoing.push(Opcode::Text, payload.into()).expect("room");
        }
        assert!(!outgoing.has_room() || outgoing.bytes < ROOM);
        assert_eq!(budget.held(), outgoing.small - UNCOUNTED);
        let write = poll_fn(|cx| outgoing.poll_write(cx, &mut near));
        let mut got = vec![0; expected.len()];
        let (written, read) = tokio::join!(write, far.read_exact(&mut got));
        written.expect("written");
        read.expect("read");
        assert!(got == expected);
        assert_eq!((outgoing.bytes, outgoing.small, budget.held()), (0, 0, 0));
        assert!(outgoing.is_empty());
    }

    #[tokio::test]
    async fn what_nobody_reads_is_bounded_and_told() {
        let (mut near, _far) = tokio::io::duplex(100);
        let budget = Budget::new(200_000);
        let mut outgoing = Outgoing::new(&budget.connection());
        assert_eq!(outgoing.blocked_since(), None);
        let mut pushed = 0;
        let refused = loop {
            match outgoing.push(Opcode::Text, vec![b'x'; 1_000].into()) {
                Ok(()) => pushed += 1,
                Err(exceeded) => break exceeded,
            }
            let written = poll_fn(|cx| Poll::Ready(outgoing.poll_write(cx, &mut near))).await;
            assert!(written.is_pending());
        };
        assert_eq!(refused, Exceeded::Connection { cap: 50_000 });
        assert!((60..70).contains(&pushed), "{pushed}");
        assert!(outgoing.blocked_since().is_some() && !outgoing.has_room());
    }
}
