//! The bytes between the broker and lapin: [sifted](super::wire::frames) on their way in, and
//! listened to; and stopped on their way out, when nobody waits for what they say any more.
//!
//! lapin takes any stream, but of a runtime's own type. So there is a runtime here that differs from
//! tokio's in that type alone.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio, TokioRuntime};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use tokio::time::Instant;

use super::raw::Raw;
use super::wire::frames::{Found, Sieve};

/// The stream that lapin reads from and writes to.
pub(super) struct Sifted {
    raw: Raw,
    sieve: Sieve,
    /// What has come and cannot be judged yet: the beginning of a frame.
    held: Vec<u8>,
    /// What can go on, and how much of it has.
    ready: Vec<u8>,
    gone: usize,
    heard: Arc<Heard>,
    valve: Arc<Valve>,
}

impl Sifted {
    /// A stream that is read through a sieve.
    pub(super) fn new(raw: Raw, sieve: Sieve, heard: Arc<Heard>, valve: Arc<Valve>) -> Self {
        Self { raw, sieve, held: Vec::new(), ready: Vec::new(), gone: 0, heard, valve }
    }

    /// Moves what can be judged from what is held to what is ready.
    fn judge(&mut self) {
        loop {
            let (clean, found) = self.sieve.look(&mut self.held);
            self.ready.extend(self.held.drain(..clean));
            match found {
                Found::Clean | Found::More => return,
                Found::Instead(bytes, out) => {
                    self.ready.extend(bytes);
                    self.held.drain(..out);
                }
            }
        }
    }
}

impl AsyncRead for Sifted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.ready.get(self.gone..).unwrap_or_default();
            if !waiting.is_empty() {
                let count = waiting.len().min(buf.len());
                buf[..count].copy_from_slice(&waiting[..count]);
                self.gone += count;
                return Poll::Ready(Ok(count));
            }
            self.ready.clear();
            self.gone = 0;
            let count = ready!(Pin::new(&mut self.raw).poll_read(cx, buf))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            self.heard.now();
            let come = &mut buf[..count];
            if self.held.is_empty() {
                // Nearly always all of it can go on from where it is.
                let (clean, found) = self.sieve.look(come);
                if found == Found::Clean {
                    return Poll::Ready(Ok(count));
                }
                let mut from = clean;
                if let Found::Instead(bytes, out) = found {
                    self.ready = bytes;
                    from += out;
                }
                self.held.extend_from_slice(&come[from..]);
                self.judge();
                if clean > 0 {
                    return Poll::Ready(Ok(clean));
                }
            } else {
                self.held.extend_from_slice(come);
                self.judge();
            }
        }
    }
}

impl AsyncWrite for Sifted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.valve.is_closed() {
            return Poll::Pending;
        }
        Pin::new(&mut self.raw).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.valve.is_closed() {
            return Poll::Pending;
        }
        Pin::new(&mut self.raw).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.valve.is_closed() {
            return Poll::Pending;
        }
        Pin::new(&mut self.raw).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.valve.is_closed() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.raw).poll_close(cx)
    }
}

/// Whether what lapin writes may still leave. What it has to write once it may not stays for good:
/// the connection only listens, until it is dropped.
#[derive(Default)]
pub(super) struct Valve(AtomicBool);

impl Valve {
    /// Lets nothing out any more.
    pub(super) fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// When a peer was last heard.
pub(super) struct Heard {
    since: Instant,
    millis: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self { since: Instant::now(), millis: AtomicU64::new(0) }
    }
}

impl Heard {
    fn now(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// The instant, to the millisecond before it.
    pub(super) fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// The runtime whose streams are [`Sifted`].
pub(super) type SiftedRuntime = Runtime<RuntimeParts<Tokio, Sifting>>;

/// Makes one of the runtime that calls it.
pub(super) fn sifted_runtime() -> SiftedRuntime {
    let tokio = Tokio::current();
    Runtime::new(RuntimeParts::new(tokio.clone(), Sifting(TokioRuntime::new(tokio))))
}

/// tokio's reactor, but for the type of its streams.
#[derive(Clone, Debug)]
pub(super) struct Sifting(TokioRuntime);

impl Reactor for Sifting {
    type TcpStream = Sifted;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, length: Duration) -> Self::Sleep {
        self.0.sleep(length)
    }

    fn interval(
        &self,
        length: Duration,
    ) -> impl Stream<Item = std::time::Instant> + Send + 'static {
        self.0.interval(length)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connect = self.0.tcp_connect_addr(address);
        async move {
            let raw = Raw::plain(connect.await?.into_inner());
            Ok(Sifted::new(raw, Sieve::default(), Arc::default(), Arc::default()))
        }
    }
}

impl fmt::Debug for Sifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sifted").finish_non_exhaustive()
    }
}
