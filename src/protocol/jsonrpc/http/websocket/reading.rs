//! What a client sends, until it is looked at: read into a buffer of the thread, of which only what
//! is no whole message yet, or not wanted yet, is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::closing::Closing;
use super::incoming::{Incoming, Said, no_place};
use super::patience::Patience;
use crate::budget::{Account, Share};

/// How much is read at once.
const READ: usize = 16 * 1024;
/// How much is read off and thrown away of a client that is not listened to any more.
pub(super) const LARGEST_DISCARDED: usize = 16 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// What a connection has read.
pub(super) struct Reading {
    incoming: Incoming,
    /// Bytes that have come and have not been looked at, and their memory.
    held: Bytes,
    share: Share,
    discarded: usize,
}

impl Reading {
    /// For a connection, which holds what is kept.
    pub(super) fn new(account: &Account) -> Self {
        Self {
            incoming: Incoming::new(account),
            held: Bytes::new(),
            share: account.queue(),
            discarded: 0,
        }
    }

    /// Whether something has begun that is not whole.
    pub(super) fn is_half(&self) -> bool {
        self.incoming.is_half()
    }

    /// The next that the client says, in a message of `max` bytes at most; `None` where it has hung
    /// up.
    pub(super) fn poll_said<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        max: usize,
        patience: &mut Patience,
    ) -> Poll<Result<Option<Said>, Failed>>
    where
        S: AsyncRead + Unpin,
    {
        loop {
            if !self.held.is_empty() {
                let mut rest = &self.held[..];
                let said = self.incoming.take(&mut rest, max)?;
                let taken = self.held.len() - rest.len();
                self.held.advance(taken);
                if self.held.is_empty() {
                    self.held = Bytes::new();
                    self.share.shrink(usize::MAX);
                }
                if said.is_some() {
                    return Poll::Ready(Ok(said));
                }
            }
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
                let mut bytes = buffer.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(Read::End));
                }
                patience.heard(Instant::now());
                let said = self.incoming.take(&mut bytes, max)?;
                if !bytes.is_empty() {
                    self.hold(bytes)?;
                }
                Poll::Ready(Ok::<_, Failed>(Read::Said(said)))
            });
            match ready!(read)? {
                Read::End => return Poll::Ready(Ok(None)),
                Read::Said(None) => {}
                Read::Said(said) => return Poll::Ready(Ok(said)),
            }
        }
    }

    /// Keeps bytes that are to be looked at when there is room. Copied: they may be a part of a
    /// buffer that is much larger.
    pub(super) fn hold(&mut self, bytes: &[u8]) -> Result<(), Closing> {
        self.share.grow(bytes.len()).map_err(no_place)?;
        self.held = Bytes::copy_from_slice(bytes);
        Ok(())
    }

    /// Lets go of what is held.
    pub(super) fn forget(&mut self) {
        self.held = Bytes::new();
        self.share.shrink(usize::MAX);
    }

    /// Takes off the wire what is not listened to any more, within reason: a client may read only
    /// when it has sent everything. Ready when it has hung up.
    pub(super) fn poll_discard<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncRead + Unpin,
    {
        while self.discarded < LARGEST_DISCARDED {
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                Pin::new(&mut *stream).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            });
            match ready!(read)? {
                0 => return Poll::Ready(Ok(())),
                size => self.discarded += size,
            }
        }
        // Enough: it may wait.
        Poll::Pending
    }
}

/// What a read comes to.
enum Read {
    Said(Option<Said>),
    End,
}

/// Why nothing more can be taken.
pub(super) enum Failed {
    Closing(Closing),
    Io(io::Error),
}

impl From<Closing> for Failed {
    fn from(closing: Closing) -> Self {
        Self::Closing(closing)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
