//! The hub's life: listens, serves connections, ends calls at their deadlines, drains.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::NAME;
use super::config::HubConfig;
use super::egress::HubUpstream;
use super::journal::Entry;
use super::page;
use super::peer::{Closing, Peer};
use super::session::Session;
use super::shadow;
use super::shared::Shared;
use super::socket::Socket;
use crate::config::ingress::IngressSettings;
use crate::ingress::{Bound, Ingress, Page};
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

/// Binds the places where the hub listens.
pub(super) fn bind(settings: &dyn IngressSettings, tasks: Tasks) -> anyhow::Result<Box<dyn Bound>> {
    let config = settings.of::<HubConfig>().context("these are no settings of [hub]")?.clone();
    let places = config.listen.iter();
    let sockets = places.map(|place| Socket::bind(place, &config.access));
    let sockets = sockets.collect::<anyhow::Result<_>>()?;
    let metrics = UpstreamMetrics::new(NAME);
    metrics.take_over();
    metrics.set_up(true);
    let shared = Arc::new(Shared::new(config, metrics, tasks));
    Ok(Box::new(BoundHub { shared, sockets }))
}

/// The hub, before it lets modules in.
struct BoundHub {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
}

impl Bound for BoundHub {
    fn upstream(&self) -> Option<(Arc<dyn Upstream>, UpstreamMetrics)> {
        let upstream = HubUpstream(Arc::clone(&self.shared));
        Some((Arc::new(upstream), self.shared.upstream.clone()))
    }

    fn run(self: Box<Self>, router: &Arc<Router>) -> anyhow::Result<Box<dyn Ingress>> {
        let Self { shared, sockets } = *self;
        shared.set_router(router);
        shared.tasks.spawn("hub deadlines", watch_deadlines(Arc::clone(&shared)));
        let places = Arc::new(Semaphore::new(shared.config.max_connections));
        let mut addresses = Vec::with_capacity(sockets.len());
        for socket in sockets {
            let address = socket.place().context("cannot tell where the hub listens")?;
            addresses.push(address.to_string());
            let accepting = accept(Arc::clone(&shared), socket, Arc::clone(&places));
            shared.tasks.spawn("hub listener", accepting);
        }
        Ok(Box::new(HubIngress { shared, addresses }))
    }
}

/// The hub at work.
struct HubIngress {
    shared: Arc<Shared>,
    addresses: Vec<String>,
}

impl Ingress for HubIngress {
    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn pages(&self) -> Vec<Page> {
        let (shared, addresses) = (Arc::clone(&self.shared), self.addresses.clone());
        let render = move || page::json(&shared, &addresses);
        vec![Page { path: "/hub/modules", render: Arc::new(render) }]
    }

    fn apply(&self, next: &dyn IngressSettings) -> bool {
        next.of() == Some(&self.shared.config)
    }

    /// Says which modules the new table takes calls from.
    fn routes_changed(&self) {
        let Some(router) = self.shared.router() else { return };
        let modules = self.shared.lock().modules();
        for module in modules {
            let functions = module.functions.iter().map(String::as_str);
            for shadow in shadow::of(&router.table(), &module.id, functions) {
                self.shared.journal.write(&module.id, &Entry::Shadowed(shadow));
            }
        }
    }

    fn sum_up_log(&self, all: bool) {
        self.shared.journal.sum_up(all);
    }

    /// Lets no new modules in, nor calls from those that are there, and waits until those under
    /// way have ended.
    fn drain(&self, patience: Duration) -> BoxFuture<'_, bool> {
        self.shared.closed.cancel();
        self.shared.lock().drain();
        let last_call = async {
            while self.shared.lock().waiting_calls() > 0 {
                sleep(DRAIN_LOOK).await;
            }
        };
        Box::pin(async move { timeout(patience, last_call).await.is_ok() })
    }

    /// Ends the calls that are left, each with a fault, then the connections.
    fn end(&self, grace: Duration) -> BoxFuture<'_, bool> {
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
        Box::pin(self.shared.tasks.end(grace))
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
                    // It came too late for `HubIngress::end` to know of it.
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
