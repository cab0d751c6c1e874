//! A connection's socket, of which a second handle tells what hyper does not: whether anything was
//! written, whether the peer has closed an idle connection, and with which alert it has refused TLS.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

use crate::tls::trouble::{Tried, is_alert};

/// The socket itself.
#[derive(Debug)]
pub(super) enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The second handle.
#[derive(Clone, Debug)]
pub(super) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    raw: Raw,
    tried: Tried,
    written: AtomicU64,
    alert: OnceLock<AlertDescription>,
    greeting: OnceLock<Greeting>,
    /// Told of the greeting.
    greeted: Notify,
}

/// What a peer has said first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Settings, as every server of HTTP/2 does (RFC 9113, section 3.4).
    Http2,
    /// An alert of TLS, to what was none of it.
    Tls,
    /// Something else.
    Other,
    /// Nothing: the connection has ended.
    Nothing,
}

impl Greeting {
    fn of(bytes: &[u8]) -> Self {
        // A frame's type stands behind its length, and SETTINGS is 4.
        match bytes {
            [] => Self::Nothing,
            [0, _, _, 4, ..] | [0] | [0, _] | [0, _, _] => Self::Http2,
            _ if is_alert(bytes) => Self::Tls,
            _ => Self::Other,
        }
    }
}

impl Handle {
    /// How many bytes the system has taken for the peer.
    pub(super) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// The alert of TLS with which the peer has ended the connection.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        self.0.alert.get().copied()
    }

    /// What is tried with TLS.
    pub(super) fn tried(&self) -> &Tried {
        &self.0.tried
    }

    /// What the peer has said first, if it has.
    pub(super) fn greeted(&self) -> Option<Greeting> {
        self.0.greeting.get().copied()
    }

    /// Waits for what the peer says first. Somebody has to read meanwhile.
    pub(super) async fn greeting(&self) -> Greeting {
        loop {
            if let Some(greeting) = self.0.greeting.get() {
                return *greeting;
            }
            self.0.greeted.notified().await;
        }
    }

    /// Whether the peer has said nothing, goodbye neither, on a connection on which it has nothing
    /// to say. The runtime hears of that a little later than the system.
    pub(super) fn is_silent(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let looked = match &self.0.raw {
            Raw::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Raw::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The socket as hyper and TLS use it.
#[derive(Debug)]
pub(super) struct Socket(Arc<Shared>);

impl Socket {
    /// Both handles.
    pub(super) fn new(raw: Raw, tried: Tried) -> (Self, Handle) {
        let shared = Arc::new(Shared {
            raw,
            tried,
            written: AtomicU64::new(0),
            alert: OnceLock::new(),
            greeting: OnceLock::new(),
            greeted: Notify::new(),
        });
        (Self(Arc::clone(&shared)), Handle(shared))
    }

    /// Notes an alert, where an error of TLS over this socket is one.
    fn note(&self, error: &rustls::Error) {
        if let rustls::Error::AlertReceived(alert) = error {
            self.0.alert.get_or_init(|| *alert);
        }
    }

    /// Notes what was read first.
    fn greet(&self, bytes: &[u8]) {
        if self.0.greeting.get().is_none() {
            self.0.greeting.get_or_init(|| Greeting::of(bytes));
            self.0.greeted.notify_one();
        }
    }

    fn wrote(&self, bytes: usize) -> usize {
        self.0.written.fetch_add(bytes as u64, Ordering::Relaxed);
        bytes
    }
}

/// Whether an attempt has to wait for the next readiness.
fn blocked<T>(attempt: &io::Result<T>) -> bool {
    attempt.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let read = match &self.0.raw {
                Raw::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buffer)
                }
                Raw::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buffer)
                }
            };
            if !blocked(&read) {
                return Poll::Ready(read.map(drop));
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let written = match &self.0.raw {
                Raw::Tcp(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write_vectored(slices)
                }
                Raw::Unix(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write_vectored(slices)
                }
            };
            if !blocked(&written) {
                return Poll::Ready(written.map(|bytes| self.wrote(bytes)));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where the peer was faster there is nothing left to end.
        let how = std::net::Shutdown::Write;
        drop(match &self.0.raw {
            Raw::Tcp(stream) => SockRef::from(stream).shutdown(how),
            Raw::Unix(stream) => SockRef::from(stream).shutdown(how),
        });
        Poll::Ready(Ok(()))
    }
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// What came of writing. Whoever refuses us has said why before it hung up, and nobody reads of a
    /// connection any more that cannot be written to.
    fn wrote<T>(&mut self, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let (Self::Tls(stream), Poll::Ready(Err(_))) = (self, &wrote) {
            let (socket, session) = stream.get_mut();
            // The runtime need not have heard yet that there is something to read.
            drop(session.read_tls(&mut Left(&socket.0.raw)));
            if let Err(error) = session.process_new_packets() {
                socket.note(&error);
            }
        }
        wrote
    }
}

/// What has come over a socket and was not read.
struct Left<'a>(&'a Raw);

impl io::Read for Left<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.0 {
            Raw::Tcp(stream) => (&*SockRef::from(stream)).read(bytes),
            Raw::Unix(stream) => (&*SockRef::from(stream)).read(bytes),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let (read, socket) = match self.get_mut() {
            Self::Plain(stream) => (ready!(Pin::new(&mut *stream).poll_read(cx, buffer)), &*stream),
            Self::Tls(stream) => {
                let read = ready!(Pin::new(&mut *stream).poll_read(cx, buffer));
                let told = read.as_ref().err().and_then(io::Error::get_ref);
                if let Some(error) = told.and_then(|error| error.downcast_ref()) {
                    stream.get_ref().0.note(error);
                }
                (read, stream.get_ref().0)
            }
        };
        socket.greet(&buffer.filled()[before..]);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let wrote = match stream {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        stream.wrote(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let wrote = match stream {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        stream.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let flushed = match stream {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        stream.wrote(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
