//! A connection over HTTP/1.1 that goes on as a stream of events: what hyper has begun is gone on with here, in
//! chunks (RFC 9112, section 7.1).
//!
//! hyper would keep 16 KiB of buffers for each reader, and its layers take as long as the writing.

use std::future::poll_fn;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;
use tracing::debug;

use super::super::Connected;
use super::super::server::Server;
use super::listener::Listener;

/// How much is kept of what a client says meanwhile: what it asks for next. More is left where it is.
const KEPT: usize = 1024;
/// How many frames are handed to the system at once, and how many bytes of them are gathered.
const AT_ONCE: usize = 16;
const ROOM: usize = 64 * 1024;
/// A chunk's size in hexadecimal, and a line's end.
const HEAD: usize = 2 * size_of::<usize>() + LINE_END.len();
const LINE_END: &[u8] = b"\r\n";
/// The last chunk, and no trailers.
const LAST: &[u8] = b"0\r\n\r\n";

/// Goes on with a stream of events to its end. Gives the connection back, with what the client has said `ahead` and
/// since; `None` where it has left or takes nothing.
pub(in super::super) async fn run<S>(
    mut stream: S,
    ahead: Bytes,
    mut listener: Box<Listener>,
    in_force: &ArcSwap<Server>,
    connected: &Connected,
) -> Option<(S, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut said = BytesMut::from(ahead);
    let mut outgoing = Outgoing::default();
    loop {
        let patience = {
            let server = in_force.load();
            server.look(connected);
            server.config().write_timeout
        };
        let listens = said.len() < KEPT && !listener.says_no_more();
        let room = KEPT.saturating_sub(said.len());
        let mut rest = (&mut said).limit(room);
        tokio::select! {
            biased;
            frame = listener.next() => match frame {
                Some(frame) => outgoing.push(frame),
                None => outgoing.end(),
            },
            read = stream.read_buf(&mut rest), if listens => match read {
                Ok(0) => listener.has_said_all(),
                Ok(_) => {}
                Err(error) => {
                    debug!(%error, "the reader of events has left");
                    return None;
                }
            },
        }
        while outgoing.has_room()
            && let Some(frame) = listener.waiting()
        {
            outgoing.push(frame);
        }
        loop {
            let write = poll_fn(|cx| outgoing.poll_write(cx, &mut stream));
            match timeout(patience, write).await {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    debug!(%error, "the reader of events has left");
                    return None;
                }
                Err(_) => {
                    debug!("the reader of events has taken nothing for too long");
                    return None;
                }
            }
        }
        if outgoing.is_last {
            return Some((stream, said.freeze()));
        }
    }
}

/// The frames on their way out, none of them copied.
#[derive(Default)]
struct Outgoing {
    frames: Vec<Bytes>,
    /// Of all of them.
    bytes: usize,
    /// Nothing comes behind them.
    is_last: bool,
    /// How much has gone, the chunks' own bytes counted.
    written: usize,
}

impl Outgoing {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }

    fn end(&mut self) {
        self.is_last = true;
    }

    /// Whether more frames may go with those that wait.
    fn has_room(&self) -> bool {
        let is_begun = !self.frames.is_empty() && !self.is_last;
        is_begun && self.frames.len() < AT_ONCE && self.bytes < ROOM
    }

    /// Writes what the peer takes at once. True where that was all.
    fn poll_write<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<io::Result<bool>>
    where
        S: AsyncWrite + Unpin,
    {
        let mut heads = [[0; HEAD]; AT_ONCE];
        let mut slices = [IoSlice::new(&[]); 3 * AT_ONCE + 1];
        let (mut count, mut skip, mut left) = (0, self.written, 0);
        let mut add = |part| {
            let unsaid = <[u8]>::get(part, skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            left += unsaid.len();
            slices[count] = IoSlice::new(unsaid);
            count += 1;
        };
        for (frame, head) in self.frames.iter().zip(&mut heads) {
            for part in [write_head(head, frame.len())?, frame, LINE_END] {
                add(part);
            }
        }
        if self.is_last {
            add(LAST);
        }
        let mut written = 0;
        if left > 0 {
            written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.written += written;
        if written < left {
            return Poll::Ready(Ok(false));
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        self.frames.clear();
        (self.bytes, self.written) = (0, 0);
        Poll::Ready(Ok(true))
    }
}

/// The first line of a chunk.
fn write_head(head: &mut [u8; HEAD], size: usize) -> io::Result<&[u8]> {
    let mut unused = &mut head[..];
    write!(unused, "{size:x}\r\n")?;
    let used = HEAD - unused.len();
    Ok(&head[..used])
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn frames_are_chunks_whole_and_in_order() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let mut outgoing = Outgoing::default();
        for frame in ["retry: 2000\n", &"x".repeat(300), ":\n"] {
            outgoing.push(Bytes::copy_from_slice(frame.as_bytes()));
        }
        assert!(outgoing.has_room());
        outgoing.end();
        assert!(!outgoing.has_room(), "nothing comes behind the end");
        let expected =
            format!("c\r\nretry: 2000\n\r\n12c\r\n{}\r\n2\r\n:\n\r\n0\r\n\r\n", "x".repeat(300));
        let write = async {
            while !poll_fn(|cx| outgoing.poll_write(cx, &mut near)).await.expect("written") {}
        };
        let mut got = vec![0; expected.len()];
        let ((), read) = tokio::join!(write, far.read_exact(&mut got));
        read.expect("read");
        assert_eq!(String::from_utf8(got).expect("text"), expected);
        assert_eq!((outgoing.bytes, outgoing.written, outgoing.frames.len()), (0, 0, 0));
    }

    #[test]
    fn much_is_not_gathered() {
        let mut outgoing = Outgoing::default();
        assert!(!outgoing.has_room(), "for nothing that has begun");
        let large = Bytes::from(vec![b'x'; ROOM]);
        outgoing.push(large);
        assert!(!outgoing.has_room());
        let mut outgoing = Outgoing::default();
        for _ in 0..AT_ONCE {
            outgoing.push(Bytes::from_static(b"x"));
        }
        assert!(!outgoing.has_room());
    }
}
