//! Accepts connections until the listener closes.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::places::{Place, Places};

/// How long to wait after the system refused to accept: it is out of file descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);
/// How often that is said while it lasts.
const REMINDER: Duration = Duration::from_secs(10);

/// A socket that connections come by.
pub(crate) trait Accept: Send + Sync + 'static {
    /// A connection.
    type Connection: Send;

    /// Waits for one. Nothing is lost where the future is dropped.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;

    /// One that has connected already, whatever the runtime has heard of it.
    fn accept_now(&self) -> io::Result<Self::Connection>;
}

impl Accept for TcpListener {
    type Connection = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        Ok(super::tuned(stream))
    }

    fn accept_now(&self) -> io::Result<TcpStream> {
        let (stream, _) = SockRef::from(self).accept()?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream.into()).map(super::tuned)
    }
}

/// What a listener accepts by.
pub(crate) struct Acceptor {
    /// Whose it is, as the log says it.
    pub(crate) ingress: &'static str,
    /// Beyond them, connections wait in the system's queue.
    pub(crate) places: Arc<Places>,
    /// Fires when the listener is to be closed.
    pub(crate) closed: CancellationToken,
}

impl Acceptor {
    /// Accepts until the listener is to be closed; whoever has connected before that is
    /// not turned away.
    pub(crate) async fn run<L: Accept>(self, listener: L, serve: impl Fn(L::Connection, Place)) {
        let mut said = None;
        loop {
            let accepted = async {
                let place = self.places.take().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = self.closed.cancelled() => break,
            };
            match accepted {
                Ok(connection) => serve(connection, place),
                Err(error) if concerns_one(&error) => {}
                Err(error) => {
                    let now = Instant::now();
                    if said.is_none_or(|said| now.duration_since(said) >= REMINDER) {
                        said = Some(now);
                        let ingress = self.ingress;
                        warn!(%error, ingress, "cannot accept connections; trying again");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
        while let Some(place) = self.places.try_take()
            && let Ok(connection) = listener.accept_now()
        {
            serve(connection, place);
        }
    }
}

/// Whether an error is that one connection's, which ended before it was accepted.
fn concerns_one(error: &io::Error) -> bool {
    let kinds = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::Interrupted];
    kinds.contains(&error.kind())
}
