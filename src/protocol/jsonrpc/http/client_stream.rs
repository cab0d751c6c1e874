//! A connection's bytes below hyper, which tell `Progress` what they do. Two answers are written
//! here, because hyper has no part in them: the one to a head that never came, and the first
//! letters of one that somebody waits for who has said all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::frames::{Conversation, PING};
use super::progress::Progress;
use crate::budget::{Account, Share};

/// What every answer over HTTP/1 begins with.
const BEGINNING: &[u8] = b"HTTP/1.";
/// Up to this size a head is not counted.
const UNCOUNTED_HEAD: usize = 8 * 1024;
/// How much is read of who waits for an answer, to see whether it is still there.
const GLANCE: usize = 64;
/// How long after the end of what it says a client is first sought.
const FIRST_SEARCH: Duration = Duration::from_millis(50);

/// The bytes of a client's connection.
pub(super) struct ClientStream<S> {
    stream: S,
    /// What has been read of it that hyper has not read.
    said: Bytes,
    progress: Arc<Progress>,
    has_read: bool,
    /// Part of an answer waits for the peer to take it.
    blocked: bool,
    /// How much of a head has come, and what is counted of it.
    head: usize,
    share: Share,
    /// How many bytes of the last words have gone.
    last_said: usize,
    search: Option<Search>,
    /// How many letters of the answer have been sent before hyper wrote it.
    ahead: usize,
    /// What passes over HTTP/2.
    frames: Conversation,
    /// How much of a PING has gone that has not all gone.
    pinged: usize,
    /// hyper is woken to hear of the end.
    end_told: bool,
}

/// Finds out whether a client that says no more has left, or waits for its answer: both look the
/// same, until something is sent to it. So its answer's first letters are, one at a time; over HTTP/2
/// PINGs.
struct Search {
    pause: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>, account: &Account) -> Self {
        Self {
            stream,
            said: Bytes::new(),
            progress,
            has_read: false,
            blocked: false,
            head: 0,
            share: account.queue(),
            last_said: 0,
            search: None,
            ahead: 0,
            frames: Conversation::default(),
            pinged: 0,
            end_told: false,
        }
    }
}

impl<S> ClientStream<S> {
    /// Before anything else the bytes are read that have come already.
    pub(super) fn after(mut self, said: Bytes) -> Self {
        self.said = said;
        self
    }

    /// Whether a client over HTTP/2 has no whole answer to all that it has asked.
    fn is_owed_http2(&self) -> bool {
        self.frames.is_http2() && (self.frames.is_owed() || self.progress.is_unflushed())
    }

    fn tell_what_is_owed(&self) {
        if self.frames.is_http2() {
            self.progress.owes(self.frames.is_owed());
        }
    }

    /// The connection, when HTTP has ended on it, and what of it has been read behind `read`.
    pub(super) fn into_parts(self, read: Bytes) -> (S, Bytes) {
        let read = match (read.is_empty(), self.said.is_empty()) {
            (true, _) => self.said,
            (false, true) => read,
            (false, false) => [read, self.said].concat().into(),
        };
        (self.stream, read)
    }
}

impl<S: AsyncWrite + Unpin> ClientStream<S> {
    /// Writes the last words and closes, as far as the peer lets it.
    fn poll_end(&mut self, cx: &mut Context<'_>, words: &[u8]) -> Poll<()> {
        while let Some(left) = words.get(self.last_said..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, left)) {
                Ok(written) if written > 0 => self.last_said += written,
                // It has hung up.
                _ => return Poll::Ready(()),
            }
        }
        if ready!(Pin::new(&mut self.stream).poll_flush(cx)).is_ok() {
            drop(ready!(Pin::new(&mut self.stream).poll_shutdown(cx)));
        }
        Poll::Ready(())
    }

    /// Waits until it is sure that a client which is owed an answer has left.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let search = self.search.get_or_insert_with(|| Search {
            pause: FIRST_SEARCH,
            timer: Box::pin(sleep(FIRST_SEARCH)),
        });
        // Once hyper writes the answer, that tells as well.
        let http2 = self.frames.is_http2();
        let silent = !self.progress.is_unflushed()
            && if http2 { self.frames.is_between_frames() } else { self.progress.is_silent() };
        while silent && (http2 || self.ahead < BEGINNING.len()) {
            ready!(search.timer.as_mut().poll(cx));
            let (text, end) = if http2 { (PING, PING.len()) } else { (BEGINNING, self.ahead + 1) };
            let sent = if http2 { &mut self.pinged } else { &mut self.ahead };
            match Pin::new(&mut self.stream).poll_write(cx, &text[*sent..end]) {
                Poll::Ready(Ok(written)) => *sent += written,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            if let Poll::Ready(Err(_)) = Pin::new(&mut self.stream).poll_flush(cx) {
                return Poll::Ready(());
            }
            if http2 && self.pinged < PING.len() {
                continue;
            }
            self.pinged = 0;
            search.pause *= 2;
            search.timer.as_mut().reset(Instant::now() + search.pause);
        }
        Poll::Pending
    }

    /// Waits until a client over HTTP/1 that is owed an answer has left. hyper would look for that as well,
    /// and make room for a whole head each time.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>
    where
        S: AsyncRead,
    {
        if self.frames.is_http2() || !self.progress.is_waited_for() {
            return Poll::Pending;
        }
        if !self.progress.is_ended() {
            // Who goes on to ask is there.
            if !self.said.is_empty() {
                return Poll::Pending;
            }
            let mut glance = [0; GLANCE];
            let mut read = ReadBuf::new(&mut glance);
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                return Poll::Ready(error);
            }
            // What has come is hyper's, and a stream of events waits for the end.
            cx.waker().wake_by_ref();
            if !read.filled().is_empty() {
                self.said = Bytes::copy_from_slice(read.filled());
                return Poll::Pending;
            }
            self.progress.has_ended();
        }
        self.poll_left(cx).map(|()| io::ErrorKind::ConnectionAborted.into())
    }

    /// Counts the bytes of a head, which hyper keeps until it is whole. Nearly every one is small.
    fn count_head(&mut self, size: usize, begins: bool) -> io::Result<()> {
        if begins {
            self.head = 0;
        }
        if !self.progress.is_in_head() {
            return Ok(());
        }
        self.head += size;
        if self.head <= UNCOUNTED_HEAD {
            return Ok(());
        }
        self.share.grow(size).map_err(|exceeded| io::Error::other(exceeded.to_string()))
    }

    /// Ends a PING that has not all gone, before anything else goes.
    fn poll_pinged(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pinged > 0 {
            let rest = &PING[self.pinged..];
            self.pinged += ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            self.pinged %= PING.len();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes note of what has been written of `pieces`.
    fn wrote<'a>(
        &mut self,
        written: &Poll<io::Result<usize>>,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) {
        self.blocked = written.is_pending();
        self.progress.writes();
        match written {
            Poll::Pending => self.progress.is_blocked(),
            Poll::Ready(Err(_)) => {}
            Poll::Ready(Ok(written)) => {
                let (mut left, mut of_body) = (*written, false);
                for piece in pieces {
                    let part = piece.len().min(left);
                    of_body |= self.frames.has_written(&piece[..part]);
                    left -= part;
                }
                self.progress.has_written(of_body);
                self.tell_what_is_owed();
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let progress = Arc::clone(&self.progress);
        if let Some(words) = progress.last_words() {
            // In the middle of an answer they would be taken for a part of it.
            let words = if self.blocked { &[] } else { words };
            ready!(self.poll_end(cx, words));
            return Poll::Ready(Ok(()));
        }
        if !progress.is_ended() {
            let before = buf.filled().len();
            // With what comes behind it: hyper makes room for each piece as if it were the largest.
            let said = self.said.len().min(buf.remaining());
            buf.put_slice(&self.said.split_to(said));
            let read = Pin::new(&mut self.stream).poll_read(cx, buf);
            if said == 0 {
                ready!(read)?;
            }
            if let Some(bytes @ [_, ..]) = buf.filled().get(before..) {
                let first = !std::mem::replace(&mut self.has_read, true);
                self.frames.has_read(bytes);
                self.tell_what_is_owed();
                let (size, begins) = (bytes.len(), progress.has_read(bytes, first));
                return Poll::Ready(self.count_head(size, begins));
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            progress.has_ended();
        }
        progress.is_asked_for_more();
        // hyper takes the end for a client that has left, and would drop its call.
        if progress.is_owing() || self.is_owed_http2() {
            ready!(self.poll_left(cx));
        }
        self.end_told = true;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ahead > 0 && !buf.is_empty() {
            // They have gone already. There is one answer, and nobody is sought any more.
            let gone = buf.len().min(self.ahead);
            self.ahead -= gone;
            self.progress.writes();
            return Poll::Ready(Ok(gone));
        }
        ready!(self.poll_pinged(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&written, [buf]);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        if self.share.held() > 0 && !self.progress.is_in_head() {
            self.share.shrink(usize::MAX);
        }
        let answered = self.progress.has_flushed()
            || (self.frames.is_http2() && !self.frames.is_owed() && !self.end_told);
        if answered && self.progress.is_ended() {
            // The end has been kept from hyper until now.
            self.end_told = true;
            cx.waker().wake_by_ref();
        }
        match self.poll_gone(cx) {
            Poll::Ready(gone) => Poll::Ready(flushed.and(Err(gone))),
            Poll::Pending => Poll::Ready(flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.ahead > 0 {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        ready!(self.poll_pinged(cx))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&written, bufs.iter().map(|buf| &**buf));
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

    /// What the peer reads of a connection that is cut, after `before` was written to it.
    async fn cut(before: &[u8]) -> String {
        let (near, mut far) = tokio::io::duplex(16);
        let progress = Arc::new(Progress::new());
        let account = crate::budget::Budget::new(1 << 20).connection();
        let mut stream = ClientStream::new(near, Arc::clone(&progress), &account);
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
