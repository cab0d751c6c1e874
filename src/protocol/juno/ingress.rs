//! The hub's life: listens, serves connections, ends calls at their deadlines, drains.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::info;

use super::INGRESS;
use super::config::HubConfig;
use super::egress::HubUpstream;
use super::journal::Entry;
use super::page;
use super::peer::{Closing, Peer};
use super::session::Session;
use super::shadow;
use super::shared::Shared;
use super::socket::Socket;
use crate::metrics::UpstreamMetrics;
use crate::router::Router;
use crate::tasks::Tasks;
use crate::upstream::Upstream;

/// How long to wait after the system refused to accept: it is out of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often to look whether the last call has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// When to look for deadlines where there is none.
const IDLE: Duration = Duration::from_secs(3_600);

/// The hub, bound to the places where it listens.
pub struct JunoHub {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
}

impl JunoHub {
    /// Binds the places where the hub listens, so that what cannot work is said at once.
    /// `metrics` are those of the upstream by the name `hub`.
    pub async fn bind(config: HubConfig, metrics: UpstreamMetrics) -> anyhow::Result<Self> {
        let mut sockets = Vec::with_capacity(config.listen.len());
        for place in &config.listen {
            sockets.push(Socket::bind(place, &config.access).await?);
        }
        metrics.set_up(true);
        let shared = Arc::new(Shared::new(config, metrics, Tasks::new()));
        Ok(Self { shared, sockets })
    }

    /// The upstream by the name `hub`.
    pub fn upstream(&self) -> Arc<dyn Upstream> {
        Arc::new(HubUpstream(Arc::clone(&self.shared)))
    }

    /// Starts to serve. Modules' calls are routed by `router`.
    pub fn serve(self, router: &Arc<Router>) -> std::io::Result<RunningHub> {
        let Self { shared, sockets } = self;
        shared.set_router(router);
        shared.tasks.spawn("hub deadlines", watch_deadlines(Arc::clone(&shared)));
        let places = Arc::new(Semaphore::new(shared.config.max_connections));
        let mut addresses = Vec::with_capacity(sockets.len());
        for socket in sockets {
            let address = socket.place()?.to_string();
            info!(ingress = INGRESS, address, "listening");
            addresses.push(address);
            let accepting = accept(Arc::clone(&shared), socket, Arc::clone(&places));
            shared.tasks.spawn("hub listener", accepting);
        }
        Ok(RunningHub { shared, addresses })
    }
}

/// The hub at work. Clones are handles to the same hub.
#[derive(Clone)]
pub struct RunningHub {
    shared: Arc<Shared>,
    addresses: Vec<String>,
}

impl RunningHub {
    /// Where it listens: `tcp://…` and `unix://…`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The modules as JSON, for operators.
    pub fn modules_json(&self) -> String {
        page::json(&self.shared, &self.addresses)
    }

    /// The routing table is another one: says which modules it takes calls from.
    pub fn routes_changed(&self) {
        let Some(router) = self.shared.router() else { return };
        let modules = self.shared.lock().modules();
        for module in modules {
            let functions = module.functions.iter().map(String::as_str);
            for shadow in shadow::of(&router.table(), &module.id, functions) {
                self.shared.journal.write(&module.id, &Entry::Shadowed(shadow));
            }
        }
    }

    /// Writes how many log lines about modules were left out lately. To be called every second
    /// or so; at the end with `all`.
    pub fn sum_up_log(&self, all: bool) {
        self.shared.journal.sum_up(all);
    }

    /// Takes no new modules, nor calls from those that are there, and waits until those under way have ended, at most
    /// `patience`. True if all have.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.shared.closed.cancel();
        self.shared.lock().drain();
        let last_call = async {
            while self.shared.lock().waiting_calls() > 0 {
                sleep(DRAIN_LOOK).await;
            }
        };
        timeout(patience, last_call).await.is_ok()
    }

    /// Ends the calls that are left, each with a fault, then the connections. True if all of
    /// them ended within `grace`.
    pub async fn end(&self, grace: Duration) -> bool {
        self.shared.tasks.shutdown().cancel();
        self.shared.closed.cancel();
        self.shared.with(Instant::now(), |hub, io| {
            hub.drain();
            hub.end_all_calls(io);
        });
        let peers: Vec<Arc<Peer>> = self.shared.lock().peers().map(Arc::clone).collect();
        for peer in peers {
            peer.close(Closing::Shutdown);
        }
        self.shared.tasks.end(grace).await
    }
}

/// Accepts until the hub drains; then the socket is closed.
async fn accept(shared: Arc<Shared>, socket: Socket, places: Arc<Semaphore>) {
    let shutdown = shared.tasks.shutdown().clone();
    loop {
        let accepted = async {
            // The permit comes first: beyond the limit, modules wait in the listen queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shared.closed.cancelled() => return,
        };
        match accepted {
            Ok((read, write)) => {
                let peer = Peer::new(write, shared.config.max_queue);
                let session = Session::open(Arc::clone(&shared), peer, read);
                if shutdown.is_cancelled() {
                    // It came too late for `RunningHub::end` to know of it.
                    session.close();
                }
                shared.tasks.spawn_session(async move {
                    session.run().await;
                    drop(place);
                });
            }
            Err(error) => {
                shared.journal.write("", &Entry::NotAccepted(error));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends the calls between modules whose deadline has passed.
async fn watch_deadlines(shared: Arc<Shared>) {
    let shutdown = shared.tasks.shutdown().clone();
    loop {
        let next = shared.lock().next_deadline();
        let wake = next.unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            () = sleep_until(wake) => {
                let now = Instant::now();
                shared.with(now, |hub, io| hub.expire(now, io));
            }
            () = shared.deadline.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}
