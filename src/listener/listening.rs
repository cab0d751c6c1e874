//! One TCP listener at work, which a reload can move to another address.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::accept::Acceptor;
use super::places::{Place, Places};
use crate::tasks::Tasks;

/// A listener that is bound, and accepts nobody yet.
pub(crate) struct BoundListener {
    listener: TcpListener,
    configured: SocketAddr,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds an address.
    pub(crate) fn bind(configured: SocketAddr) -> io::Result<Self> {
        let listener = super::bind(configured)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, configured, address })
    }
}

/// Starts to serve a connection. The token fires when it is to end, as soon as nothing is under
/// way on it.
type Serve = dyn Fn(TcpStream, Place, CancellationToken) + Send + Sync;

/// A listener at work.
pub(crate) struct Listening {
    ingress: &'static str,
    tasks: Tasks,
    places: Arc<Places>,
    serve: Arc<Serve>,
    open: Mutex<Open>,
}

struct Open {
    configured: SocketAddr,
    /// The same with the port that it was given.
    address: SocketAddr,
    /// Closes it, and tells the connections that came by it.
    closed: CancellationToken,
}

impl Listening {
    /// Accepts from now on, until `tasks` are told to end; at most `limit` connections at once.
    pub(crate) fn start(
        bound: BoundListener,
        (ingress, limit): (&'static str, usize),
        tasks: &Tasks,
        serve: impl Fn(TcpStream, Place, CancellationToken) + Send + Sync + 'static,
    ) -> Self {
        let BoundListener { listener, configured, address } = bound;
        let closed = tasks.shutdown().child_token();
        let open = Mutex::new(Open { configured, address, closed: closed.clone() });
        let (tasks, places) = (tasks.clone(), Places::new(limit));
        let listening = Self { ingress, tasks, places, serve: Arc::new(serve), open };
        listening.accept(listener, closed);
        listening
    }

    /// Where it listens, with the port that it was given.
    pub(crate) fn address(&self) -> SocketAddr {
        self.open().address
    }

    /// Binds the address that is configured now, where that is another one.
    pub(crate) fn bind_new(&self, configured: SocketAddr) -> io::Result<Option<BoundListener>> {
        let is_open = {
            let open = self.open();
            [open.configured, open.address].contains(&configured)
        };
        if is_open { Ok(None) } else { BoundListener::bind(configured).map(Some) }
    }

    /// Listens at `configured` from now on: at what [`Listening::bind_new`] has bound, if anything.
    pub(crate) fn change(&self, configured: SocketAddr, new: Option<BoundListener>, limit: usize) {
        self.places.set_limit(limit);
        let Some(BoundListener { listener, address, .. }) = new else {
            self.open().configured = configured;
            return;
        };
        let closed = self.tasks.shutdown().child_token();
        self.accept(listener, closed.clone());
        let before = std::mem::replace(&mut *self.open(), Open { configured, address, closed });
        before.closed.cancel();
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, listener: TcpListener, closed: CancellationToken) {
        let (ingress, places) = (self.ingress, Arc::clone(&self.places));
        let (serve, token) = (Arc::clone(&self.serve), closed.clone());
        let acceptor = Acceptor { ingress, places, closed };
        let serve = move |stream, place| serve(stream, place, token.clone());
        self.tasks.spawn("listener", acceptor.run(listener, serve));
    }
}
