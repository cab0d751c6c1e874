//! The pages for operators: `/healthz`, `/readyz`, `/metrics`, `/routes`, and what the ingresses show. On an
//! address of their own, so that they can be kept from the callers.
//!
//! - `pages`: what they show; `routes`: the routing table at work.
//! - `last_reload`: how the last reload ended.
//! - `gate`: who may ask; `connection`: how a connection to them is served.

mod connection;
mod gate;
mod last_reload;
mod pages;
mod routes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info};

use crate::config::AdminConfig;
use crate::config::socket::{Listen, SocketAccess};
use crate::ingress::Change;
use crate::listener::{Bind, BoundListener, Listening, Socket, mend};
use crate::metrics::RefusedFile;
use crate::tasks::Tasks;
use gate::{Gate, Wrong};

pub use last_reload::LastReload;
pub use pages::Overview;

/// Its name in the log.
const NAME: &str = "admin";
/// The most connections at once. Each carries one request.
const CONNECTIONS: usize = 256;

/// Where the pages are served, and who may connect there.
#[derive(Clone)]
pub(crate) struct At {
    listen: Listen,
    access: SocketAccess,
}

impl At {
    fn of(config: &AdminConfig) -> Self {
        Self { listen: config.listen.clone(), access: config.access.clone() }
    }
}

impl PartialEq for At {
    /// As with the hub's sockets, one that is open stays as it is.
    fn eq(&self, other: &Self) -> bool {
        self.listen == other.listen
    }
}

impl Bind for Socket {
    type At = At;

    fn bind(at: &At) -> anyhow::Result<(Self, At)> {
        let socket = Socket::bind(&at.listen, &at.access)?;
        let listen = socket.place()?;
        Ok((socket, At { listen, access: at.access.clone() }))
    }
}

/// The admin listener, bound to its address.
pub struct BoundAdmin {
    config: AdminConfig,
    listener: BoundListener<Socket>,
}

impl BoundAdmin {
    /// Binds the address.
    pub fn bind(config: AdminConfig) -> anyhow::Result<Self> {
        let bound = BoundListener::bind(At::of(&config));
        let listener = bound.map_err(|error| cannot_listen(&config.listen, error))?;
        Ok(Self { config, listener })
    }

    /// Serves the pages from now on.
    pub fn run(self, overview: Arc<Overview>, tasks: Tasks) -> Admin {
        let Self { config, listener } = self;
        let routes = pages::routes(overview);
        let gate = Arc::new(ArcSwap::from_pointee(Gate::new(&config)));
        let wrong = Arc::new(Wrong::new());
        let (sessions, serving, shown) = (tasks.clone(), Arc::clone(&gate), Arc::clone(&wrong));
        let listening = Listening::start(
            listener,
            (NAME, CONNECTIONS),
            &tasks,
            move |stream, place, closed| {
                let gate = (serving.load_full(), stream.address(), Arc::clone(&shown));
                let connection = connection::serve(stream, routes.clone(), gate, closed);
                sessions.spawn_session(async move {
                    connection.await;
                    drop(place);
                });
            },
        );
        Admin { listening, gate, wrong, config: Mutex::new((config, None)), tasks }
    }
}

fn cannot_listen(place: &Listen, error: anyhow::Error) -> anyhow::Error {
    let mend = match place {
        Listen::Tcp(_) => mend(&error, ": is another program using it?"),
        Listen::Unix(_) => "",
    };
    error.context(format!("cannot listen on {} ([admin] listen){mend}", shown(place)))
}

/// As it is written in `listen`.
fn shown(place: &Listen) -> String {
    place.tcp().map_or_else(|| place.to_string(), |address| address.to_string())
}

/// Why the token's file cannot be used.
type Refused = (String, RefusedFile);

/// The pages at work.
pub struct Admin {
    listening: Listening<Socket>,
    gate: Arc<ArcSwap<Gate>>,
    wrong: Arc<Wrong>,
    /// What the gate was made of, and why the token's file cannot be used.
    config: Mutex<(AdminConfig, Option<Refused>)>,
    tasks: Tasks,
}

impl Admin {
    /// The listener's name in the log, and where it listens.
    pub fn address(&self) -> (&'static str, String) {
        (NAME, shown(&self.listening.address().listen))
    }

    /// Makes ready what new settings ask for, as [`Ingress::apply`](crate::ingress::Ingress::apply).
    pub fn apply(&self, config: &AdminConfig) -> anyhow::Result<Change<'_>> {
        let new = self.listening.bind_new(At::of(config));
        let new = new.map_err(|error| cannot_listen(&config.listen, error))?;
        let (at, gate, config) = (At::of(config), Gate::new(config), config.clone());
        Ok(Box::new(move || {
            *self.config() = (config, None);
            self.gate.store(Arc::new(gate));
            self.listening.change(at, new, CONNECTIONS);
        }))
    }

    /// Sums up the log's lines about wrong tokens, and reads the token's file again: a token that is rotated is
    /// in force, and the one that it replaces is not.
    /// One that cannot be used keeps the old one, and that is said once.
    pub fn look(&self) {
        self.wrong.sum_up();
        let (config, said) = &mut *self.config();
        match config.rotated() {
            Ok(None) => *said = None,
            Ok(token) => {
                *said = None;
                if let Some((old, new)) = config.token.as_ref().zip(token.as_ref()) {
                    old.secret.was_replaced_by(&new.secret);
                }
                config.token = token;
                self.gate.store(Arc::new(Gate::new(config)));
                info!("the token of [admin] was replaced: the pages want the new one");
            }
            Err(complaint) if said.as_ref().is_none_or(|(said, _)| *said != complaint) => {
                error!(
                    complaint,
                    "the file of the token of [admin] cannot be used: the old token stays"
                );
                *said = Some((complaint, RefusedFile::new("token_file")));
            }
            Err(_) => {}
        }
    }

    fn config(&self) -> MutexGuard<'_, (AdminConfig, Option<Refused>)> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connections. True if all of them ended within `grace`.
    pub async fn end(&self, grace: Duration) -> bool {
        self.tasks.end(grace).await
    }
}
