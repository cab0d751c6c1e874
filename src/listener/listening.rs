//! One listener at work, which a reload can move to another place.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::accept::{Accept, Acceptor};
use super::places::{Place, Places};
use crate::tasks::Tasks;

/// What can be bound at a place.
pub(crate) trait Bind: Accept + Sized {
    /// Such a place.
    type At: Clone + PartialEq + Send;

    /// Binds it, and tells where it is: a port may have been left to the system.
    fn bind(at: &Self::At) -> anyhow::Result<(Self, Self::At)>;
}

impl Bind for TcpListener {
    type At = SocketAddr;

    fn bind(at: &SocketAddr) -> anyhow::Result<(Self, SocketAddr)> {
        let listener = super::bind(*at)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }
}

/// A listener that is bound, and accepts nobody yet.
pub(crate) struct BoundListener<L: Bind = TcpListener> {
    listener: L,
    configured: L::At,
    address: L::At,
}

impl<L: Bind> BoundListener<L> {
    /// Binds a place.
    pub(crate) fn bind(configured: L::At) -> anyhow::Result<Self> {
        let (listener, address) = L::bind(&configured)?;
        Ok(Self { listener, configured, address })
    }
}

/// Starts to serve a connection. The token fires when it is to end, as soon as nothing is under
/// way on it.
type Serve<C> = dyn Fn(C, Place, CancellationToken) + Send + Sync;

/// A listener at work.
pub(crate) struct Listening<L: Bind = TcpListener> {
    ingress: &'static str,
    tasks: Tasks,
    places: Arc<Places>,
    serve: Arc<Serve<L::Connection>>,
    open: Mutex<Open<L::At>>,
}

struct Open<A> {
    configured: A,
    /// The same with the port that it was given.
    address: A,
    /// Closes it, and tells the connections that came by it.
    closed: CancellationToken,
}

impl<L: Bind> Listening<L> {
    /// Accepts from now on, until `tasks` are told to end; at most `limit` connections at once.
    pub(crate) fn start(
        bound: BoundListener<L>,
        (ingress, limit): (&'static str, usize),
        tasks: &Tasks,
        serve: impl Fn(L::Connection, Place, CancellationToken) + Send + Sync + 'static,
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
    pub(crate) fn address(&self) -> L::At {
        self.open().address.clone()
    }

    /// Binds the address that is configured now, where that is another one.
    pub(crate) fn bind_new(&self, configured: L::At) -> anyhow::Result<Option<BoundListener<L>>> {
        let is_open = {
            let open = self.open();
            open.configured == configured || open.address == configured
        };
        if is_open { Ok(None) } else { BoundListener::bind(configured).map(Some) }
    }

    /// Listens at `configured` from now on: at what [`Listening::bind_new`] has bound, if anything.
    pub(crate) fn change(&self, configured: L::At, new: Option<BoundListener<L>>, limit: usize) {
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

    fn open(&self) -> MutexGuard<'_, Open<L::At>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, listener: L, closed: CancellationToken) {
        let (ingress, places) = (self.ingress, Arc::clone(&self.places));
        let (serve, token) = (Arc::clone(&self.serve), closed.clone());
        let acceptor = Acceptor { ingress, places, closed };
        let serve = move |stream, place| serve(stream, place, token.clone());
        self.tasks.spawn("listener", acceptor.run(listener, serve));
    }
}
