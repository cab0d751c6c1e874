//! The two halves of a connection, of whichever kind of socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, Interest, ReadBuf, Ready};
use tokio::net::{tcp, unix};
use tracing::debug;

use super::outbox::Piece;

/// How many pieces are written at once.
const SLICES: usize = 64;
/// How soon, how often and how many times a machine is asked whether it still answers.
const ASK: Duration = Duration::from_secs(1);
const ASKS: u32 = 3;
/// How long it has to acknowledge what was sent to it. While something is not acknowledged, the system
/// sends that again and asks nothing else, for a quarter of an hour. A machine that lives acknowledges
/// for a module that is stopped, until what the system keeps for the module is full.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// The half of a connection that is written to.
pub(super) enum WriteEnd {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl WriteEnd {
    /// Writes what the socket takes, from `offset` in the first piece on: how much that was.
    pub(super) fn try_write(&self, pieces: &[Piece], offset: usize) -> io::Result<usize> {
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

    /// Ready when the socket may take more.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteEnd::Tcp(half) => half.as_ref().poll_write_ready(cx),
            WriteEnd::Unix(half) => half.as_ref().poll_write_ready(cx),
        }
    }

    /// Whether the other side has ended the connection, perhaps behind bytes that have not been
    /// read. The system mostly tells the end of one connection before what comes over the next.
    pub(super) fn is_ended(&self) -> bool {
        let ready = match self {
            WriteEnd::Tcp(half) => half.as_ref().ready(Interest::READABLE).now_or_never(),
            WriteEnd::Unix(half) => half.as_ref().ready(Interest::READABLE).now_or_never(),
        };
        ready.is_some_and(|ready| ready.map_or(true, Ready::is_read_closed))
    }

    /// Whether the other side hears no more.
    pub(super) fn is_shut(&self) -> bool {
        let ready = match self {
            WriteEnd::Tcp(half) => half.as_ref().ready(Interest::WRITABLE).now_or_never(),
            WriteEnd::Unix(half) => half.as_ref().ready(Interest::WRITABLE).now_or_never(),
        };
        ready.is_some_and(|ready| ready.map_or(true, Ready::is_write_closed))
    }

    /// Lets the system find out within seconds whether the other machine still answers. It answers
    /// for a module that is busy or stopped, so that none is ended that lives; a dead machine's
    /// connection breaks, and ends as any other.
    pub(super) fn ask_after(&self) {
        let WriteEnd::Tcp(half) = self else { return };
        let ask = TcpKeepalive::new().with_time(ASK).with_interval(ASK).with_retries(ASKS);
        let socket = SockRef::from(half.as_ref());
        let set = socket.set_tcp_keepalive(&ask);
        if let Err(error) = set.and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))) {
            debug!(%error, "cannot ask whether a module's machine still answers");
        }
    }
}

/// The half of a connection that is read from.
pub(super) enum ReadEnd {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl ReadEnd {
    /// Reads what is there.
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_machine_is_asked_within_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (_module, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_read, write) = accepted.expect("accepted").0.into_split();
        let write = WriteEnd::Tcp(write);
        write.ask_after();
        let WriteEnd::Tcp(half) = &write else { panic!("TCP") };
        let socket = SockRef::from(half.as_ref());
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), ASK);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), ASK);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), ASKS);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(UNACKNOWLEDGED));
        assert!(!write.is_ended());
    }
}
