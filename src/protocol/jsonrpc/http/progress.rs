//! Watches that a connection gets on: that a request's head arrives in time, and that it does
//! not stay open unused.
//!
//! hyper has a timer for this that is made anew for every request; this costs a few atomics a
//! request and one timer a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What a connection is doing.
pub(super) struct Progress {
    opened: Instant,
    /// Requests whose head has come and whose answer's head has not gone.
    busy: AtomicUsize,
    /// When a request began to come in, in milliseconds after `opened`, plus one; 0 for none.
    head_since: AtomicU64,
    /// When something last happened, in milliseconds after `opened`.
    last_used: AtomicU64,
    http2: AtomicBool,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Nothing has been asked for a long time.
    Idle,
    /// A request's head has been coming in for too long.
    SlowHead,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            busy: AtomicUsize::new(0),
            head_since: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            http2: AtomicBool::new(false),
        }
    }

    /// A request's head has come.
    pub(super) fn begin(&self, http2: bool) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
    }

    /// Its answer is ready to be written.
    pub(super) fn end(&self) {
        self.last_used.store(self.now(), Ordering::Relaxed);
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn verdict(&self, read_timeout: Duration, idle_timeout: Duration) -> Verdict {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return Verdict::Keep;
        }
        let now = self.now();
        let since = |at: u64| Duration::from_millis(now.saturating_sub(at));
        let head_since = self.head_since.load(Ordering::Relaxed);
        // Between requests HTTP/2 sends frames of its own: only HTTP/1 bytes are a head.
        let head_is_slow = head_since > 0 && since(head_since - 1) >= read_timeout;
        if head_is_slow && !self.http2.load(Ordering::Relaxed) {
            return Verdict::SlowHead;
        }
        if since(self.last_used.load(Ordering::Relaxed)) >= idle_timeout {
            return Verdict::Idle;
        }
        Verdict::Keep
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn has_read(&self) {
        if self.busy.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now() + 1, Ordering::Relaxed);
        }
    }
}

/// A connection's bytes, watched.
pub(super) struct Watched<S> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.progress.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_and_an_idle_connection_are_told_apart() {
        let progress = Progress::new();
        let wait = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Keep);
        wait(5).await;
        progress.has_read();
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Keep);
        wait(1).await;
        assert_eq!(progress.verdict(READ, IDLE), Verdict::SlowHead);
        progress.begin(false);
        wait(100).await;
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Keep, "a call may take its time");
        progress.end();
        wait(9).await;
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Keep);
        wait(1).await;
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_http2_requests_are_no_slow_head() {
        let progress = Progress::new();
        progress.begin(true);
        progress.end();
        progress.has_read();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Keep);
    }
}
