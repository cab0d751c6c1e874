//! One AMQP connection, opened under one time limit and closed for certain.
//!
//! lapin drives each connection in a thread of its own, which waits for as long as the socket
//! lives: a peer that takes a connection and says nothing would hold the thread for ever. So a
//! second handle on the socket is kept, and shuts it down when the transport goes.

use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind};
use tokio::time::Instant;

use super::config::{Node, Settings};
use super::raw::{Raw, SCHEMES};
use super::stream::{Heard, Sifted, Valve, sifted_runtime};
use super::wire::frames::Sieve;
use crate::dial;
use crate::tls::trouble::Trouble;

/// How long a peer has to answer a polite close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How old a connection is that may be given up for a new one because its channels are used up.
const RENEWAL: Duration = Duration::from_secs(60);

/// Whether there is room for so many bytes that come over a channel.
pub(super) type Admission = Arc<dyn Fn(u16, u64) -> bool + Send + Sync>;

/// An open connection.
pub(super) struct Transport {
    pub(super) connection: Connection,
    /// When its peer was last heard.
    pub(super) heard: Arc<Heard>,
    /// Whether what is written still leaves.
    pub(super) valve: Arc<Valve>,
    /// Whether exchanges of events are made so that they go with their last queue.
    pub(super) auto_delete_events: bool,
    opened: Instant,
    // Dropped after the connection, and shuts the socket down.
    _socket: SocketGuard,
}

impl Transport {
    /// Opens a connection; `purpose` names it in RabbitMQ's list of connections. No time limit of
    /// its own but for the socket: dropping the future ends what it started.
    pub(super) async fn open(
        settings: &Settings,
        node: &Node,
        purpose: &str,
    ) -> lapin::Result<Self> {
        Self::open_for(settings, node, purpose, settings.max_reply, None).await
    }

    /// The same, for messages of at most `largest` bytes, and for which there is room: the bodies of
    /// others are left out.
    pub(super) async fn open_for(
        settings: &Settings,
        node: &Node,
        purpose: &str,
        largest: usize,
        admission: Option<Admission>,
    ) -> lapin::Result<Self> {
        let socket = SocketGuard::default();
        let handle = Arc::clone(&socket.0);
        let (tls, limit) = (settings.tls(SCHEMES), settings.connect_timeout);
        let (heard, valve) = (Arc::<Heard>::default(), Arc::<Valve>::default());
        let (listener, stop) = (Arc::clone(&heard), Arc::clone(&valve));
        let largest = largest as u64;
        let frame_max = node.uri.query.frame_max.unwrap_or(0) as usize;
        let connect = async move |uri: AMQPUri, _| {
            let open = async {
                let host = uri.authority.host.as_str();
                let found = tokio::net::lookup_host((host, uri.authority.port)).await?;
                let addresses: Vec<SocketAddr> = found.collect();
                let socket = dial::connect(&addresses, limit).await?;
                handle.fill(socket.as_fd())?;
                match &tls {
                    Some(tls) => Raw::secure(socket, host, tls.clone()).await,
                    None => Ok(Raw::plain(socket)),
                }
            };
            let opened = tokio::time::timeout(limit, open).await;
            let raw = opened.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?;
            let sieve = Sieve::new(frame_max, largest);
            let sieve = match admission.clone() {
                Some(admits) => {
                    sieve.admitting(Box::new(move |channel, size| admits(channel, size)))
                }
                None => sieve,
            };
            Ok(AsyncTcpStream::Plain(Sifted::new(
                raw,
                sieve,
                Arc::clone(&listener),
                Arc::clone(&stop),
            )))
        };
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("genkan {purpose}").into())
            .with_client_property("product".into(), "Genkan".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connection =
            Connection::connector(node.uri.clone(), sifted_runtime(), connect, properties).await?;
        let auto_delete_events = settings.auto_delete_events;
        let opened = Instant::now();
        Ok(Self { connection, heard, valve, auto_delete_events, opened, _socket: socket })
    }

    /// Whether so many channels that are needed could all be had, on a connection that is new: lapin
    /// never uses a channel's number again that the broker closed.
    pub(super) fn could_have(&self, channels: usize) -> bool {
        channels <= usize::from(self.connection.configuration().channel_max())
            && self.opened.elapsed() >= RENEWAL
    }

    /// Closes politely if the peer still listens, and in any case. Over one that lets nothing out
    /// any more nobody can be polite.
    pub(super) async fn close(self) {
        if self.valve.is_closed() {
            return;
        }
        let close = self.connection.close(200, "OK".into());
        // Whether the peer answered makes no difference: the socket is shut down now.
        drop(tokio::time::timeout(CLOSE_TIMEOUT, close).await);
    }
}

/// Whether the broker has closed the connection because somebody told it to.
pub(super) fn is_goodbye(error: &lapin::Error) -> bool {
    const CONNECTION_FORCED: u16 = 320;
    matches!(error.kind(), ErrorKind::ProtocolError(said) if said.get_id() == CONNECTION_FORCED)
}

/// What went wrong with TLS; `None` where nothing did.
pub(super) fn trouble(error: &lapin::Error) -> Option<&Trouble> {
    let ErrorKind::IOError(error) = error.kind() else { return None };
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

enum Socket {
    Unopened,
    Open(net::TcpStream),
    Over,
}

struct SharedSocket(Mutex<Socket>);

impl SharedSocket {
    /// Keeps a second handle on the socket, or shuts it down where nobody waits for it any more.
    fn fill(&self, socket: BorrowedFd<'_>) -> std::io::Result<()> {
        let socket = net::TcpStream::from(socket.try_clone_to_owned()?);
        let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *handle {
            Socket::Over => socket.shutdown(Shutdown::Both),
            Socket::Unopened | Socket::Open(_) => {
                *handle = Socket::Open(socket);
                Ok(())
            }
        }
    }
}

struct SocketGuard(Arc<SharedSocket>);

impl Default for SocketGuard {
    fn default() -> Self {
        Self(Arc::new(SharedSocket(Mutex::new(Socket::Unopened))))
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        let mut handle = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Socket::Open(socket) = std::mem::replace(&mut *handle, Socket::Over) {
            // It fails where the peer was faster, which is as good.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}
