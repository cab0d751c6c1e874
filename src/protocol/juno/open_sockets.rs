//! The sockets that are open: which of them a reload adds, keeps and closes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::NAME;
use super::config::HubConfig;
use super::connection::Connection;
use super::peer::Peer;
use super::shared::Shared;
use super::socket::Socket;
use crate::config::socket::Listen;
use crate::listener::{Acceptor, Place, Places};

/// A socket, and the place that the configuration gives it.
pub(super) struct Bound {
    configured: Listen,
    /// The same with the port that it was given.
    place: Listen,
    socket: Socket,
}

impl Bound {
    fn new(configured: &Listen, config: &HubConfig) -> anyhow::Result<Self> {
        let socket = Socket::bind(configured, &config.access)?;
        let place = socket.place()?;
        Ok(Self { configured: configured.clone(), place, socket })
    }

    /// Binds all places of a configuration.
    pub(super) fn all(config: &HubConfig) -> anyhow::Result<Vec<Self>> {
        config.listen.iter().map(|place| Self::new(place, config)).collect()
    }
}

/// The sockets that are open.
pub(super) struct OpenSockets {
    shared: Arc<Shared>,
    places: Arc<Places>,
    open: Mutex<Vec<Open>>,
}

struct Open {
    configured: Listen,
    place: Listen,
    /// Closes it. Modules that came by it stay.
    closed: CancellationToken,
}

impl Open {
    fn is_at(&self, place: &Listen) -> bool {
        self.configured == *place || self.place == *place
    }
}

impl OpenSockets {
    /// None is open yet.
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        let places = Places::new(shared.config().max_connections);
        Arc::new(Self { shared, places, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the hub listens: `tcp://…` and `unix://…`.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.open().iter().map(|open| open.place.to_string()).collect()
    }

    /// Binds the places of a configuration that are new.
    pub(super) fn bind_new(&self, config: &HubConfig) -> anyhow::Result<Vec<Bound>> {
        let open = self.open();
        let new = config.listen.iter().filter(|place| !open.iter().any(|open| open.is_at(place)));
        new.map(|place| Bound::new(place, config)).collect()
    }

    /// Accepts at these too.
    pub(super) fn add(&self, bound: Vec<Bound>) {
        for Bound { configured, place, socket } in bound {
            let closed = self.shared.closed.child_token();
            self.accept(socket, closed.clone());
            self.open().push(Open { configured, place, closed });
        }
    }

    /// Closes those that a configuration does not name, and puts its limit in force.
    pub(super) fn keep(&self, config: &HubConfig) {
        self.places.set_limit(config.max_connections);
        self.open().retain_mut(|open| {
            let named = config.listen.iter().find(|place| open.is_at(place));
            match named {
                Some(place) => open.configured = place.clone(),
                None => open.closed.cancel(),
            }
            named.is_some()
        });
    }

    /// Accepts until the socket is to be closed.
    fn accept(&self, socket: Socket, closed: CancellationToken) {
        let acceptor = Acceptor { ingress: NAME, places: Arc::clone(&self.places), closed };
        let shared = Arc::clone(&self.shared);
        let serve = move |(read, write), place: Place| {
            // A hub that has no router yet accepts nobody.
            let Some(account) = shared.account() else { return };
            let peer = Peer::new(write, shared.config().max_queue, &account);
            let connection = Connection::open(Arc::clone(&shared), peer, read, &account);
            if shared.tasks.shutdown().is_cancelled() {
                // It came too late for `HubIngress::end` to know of it.
                connection.close();
            }
            shared.tasks.spawn_session(async move {
                connection.run().await;
                drop(place);
            });
        };
        self.shared.tasks.spawn("hub listener", acceptor.run(socket, serve));
    }
}
