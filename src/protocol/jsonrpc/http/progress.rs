//! Watches that a connection gets on: that a request's head arrives in time, and that it does
//! not stay open unused.
//!
//! hyper has a timer for this that is made anew for every request, and ends the connection without
//! an answer; this costs a few atomics a request and one timer a connection. The answer to a head
//! that never came is written below hyper, which has no request that it could answer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
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
    /// The last that the peer is to hear.
    last_words: OnceLock<Vec<u8>>,
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
            last_words: OnceLock::new(),
        }
    }

    /// Ends the connection: when it is polled next, these bytes are written to it, and it is
    /// closed. False where that has been asked for before.
    pub(super) fn cut(&self, last_words: Vec<u8>) -> bool {
        self.last_words.set(last_words).is_ok()
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

    fn has_read(&self, bytes: &[u8], first: bool) {
        if first && bytes.starts_with(b"PRI ") {
            self.http2.store(true, Ordering::Relaxed);
        }
        if self.busy.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now() + 1, Ordering::Relaxed);
        }
    }
}

/// A connection's bytes, which tell `Progress` what they do.
pub(super) struct ClientStream<S> {
    stream: S,
    progress: Arc<Progress>,
    has_read: bool,
    /// Part of an answer waits for the peer to take it.
    blocked: bool,
    /// How many bytes of the last words have gone.
    said: usize,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress, has_read: false, blocked: false, said: 0 }
    }
}

impl<S: AsyncWrite + Unpin> ClientStream<S> {
    /// Writes the last words and closes, as far as the peer lets it.
    fn poll_end(&mut self, cx: &mut Context<'_>, words: &[u8]) -> Poll<()> {
        while let Some(left) = words.get(self.said..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left)) {
                Ok(written) if written > 0 => self.said += written,
                // It has hung up.
                _ => return Poll::Ready(()),
            }
        }
        if ready!(Pin::new(&mut self.stream).poll_flush(cx)).is_ok() {
            drop(ready!(Pin::new(&mut self.stream).poll_shutdown(cx)));
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.progress.last_words.get().is_some() {
            let progress = Arc::clone(&self.progress);
            // In the middle of an answer they would be taken for a part of it.
            let words = progress.last_words.get().filter(|_| !self.blocked);
            ready!(self.poll_end(cx, words.map_or(&[], Vec::as_slice)));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(bytes @ [_, ..]) = buf.filled().get(before..) {
            let first = !std::mem::replace(&mut self.has_read, true);
            self.progress.has_read(bytes, first);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.blocked = written.is_pending();
        written
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.blocked = written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const READ: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_and_an_idle_connection_are_told_apart() {
        let progress = Progress::new();
        let wait = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Keep);
        wait(5).await;
        progress.has_read(b"POST", true);
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
        progress.has_read(&[0, 0, 0], false);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(progress.verdict(READ, IDLE), Verdict::Keep);
        let silent = Progress::new();
        silent.has_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(silent.verdict(READ, IDLE), Verdict::Keep, "connected, and nothing asked yet");
    }

    /// What the peer reads of a connection that is cut, after `before` was written to it.
    async fn cut(before: &[u8]) -> String {
        let (near, mut far) = tokio::io::duplex(16);
        let progress = Arc::new(Progress::new());
        let mut stream = ClientStream::new(near, Arc::clone(&progress));
        let mut left = before;
        while let Ok(Ok(written)) =
            tokio::time::timeout(READ, stream.write(left)).await.map_err(drop)
        {
            left = &left[written..];
            if left.is_empty() {
                break;
            }
        }
        assert!(progress.cut(b"too slow, and the words are longer than a write".to_vec()));
        assert!(!progress.cut(Vec::new()), "once");
        let read = async {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "and again");
        };
        let mut heard = Vec::new();
        let ((), heard_all) = tokio::join!(read, far.read_to_end(&mut heard));
        heard_all.unwrap();
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_words_come_whole_or_not_at_all() {
        assert_eq!(cut(b"").await, "too slow, and the words are longer than a write");
        assert_eq!(
            cut(b"an answer ").await,
            "an answer too slow, and the words are longer than a write"
        );
        assert_eq!(cut(b"an answer that is not taken").await, "an answer that i");
    }
}
