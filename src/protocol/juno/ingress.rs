//! The hub as an ingress: how it is bound, run, changed, drained and ended.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use super::NAME;
use super::closing::Closing;
use super::config::HubConfig;
use super::egress::HubUpstream;
use super::events::HubEvents;
use super::journal::Entry;
use super::open_sockets::{Bound, OpenSockets};
use super::page;
use super::peer::Peer;
use super::shared::Shared;
use super::token_files::TokenFiles;
use super::{deadlines, shadow};
use crate::auth::Auth;
use crate::config::ingress::IngressSettings;
use crate::event_port::EventPort;
use crate::events::topics::Topics;
use crate::ingress::{self, Change, Ingress, Page};
use crate::metrics::UpstreamMetrics;
use crate::router::Router;
use crate::tasks::Tasks;
use crate::upstream::Upstream;

/// How often to look whether the last call has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Binds the places where the hub listens.
pub(super) fn bind(
    settings: &dyn IngressSettings,
    tasks: Tasks,
) -> anyhow::Result<Box<dyn ingress::Bound>> {
    let config = of(settings)?;
    let sockets = Bound::all(&config)?;
    let metrics = UpstreamMetrics::new(NAME);
    metrics.take_over();
    metrics.set_up(true);
    let shared = Arc::new(Shared::new(config, metrics, tasks));
    Ok(Box::new(BoundHub { shared, sockets }))
}

fn of(settings: &dyn IngressSettings) -> anyhow::Result<HubConfig> {
    settings.of::<HubConfig>().cloned().context("these are no settings of [hub]")
}

/// The hub, before it lets modules in.
struct BoundHub {
    shared: Arc<Shared>,
    sockets: Vec<Bound>,
}

impl ingress::Bound for BoundHub {
    fn upstream(&self) -> Option<(Arc<dyn Upstream>, UpstreamMetrics)> {
        let upstream = HubUpstream(Arc::clone(&self.shared));
        Some((Arc::new(upstream), self.shared.upstream.clone()))
    }

    fn events(&self) -> Option<Arc<dyn EventPort>> {
        Some(Arc::new(HubEvents(Arc::clone(&self.shared))))
    }

    fn run(
        self: Box<Self>,
        router: &Arc<Router>,
        _topics: &Arc<Topics>,
        _auth: &Arc<Auth>,
    ) -> Box<dyn Ingress> {
        let Self { shared, sockets: bound } = *self;
        shared.set_router(router);
        shared.tasks.spawn("hub deadlines", deadlines::watch(Arc::clone(&shared)));
        let sockets = OpenSockets::new(Arc::clone(&shared));
        sockets.add(bound);
        Box::new(HubIngress { shared, sockets, token_files: TokenFiles::default() })
    }
}

/// The hub at work.
struct HubIngress {
    shared: Arc<Shared>,
    sockets: Arc<OpenSockets>,
    token_files: TokenFiles,
}

impl Ingress for HubIngress {
    fn addresses(&self) -> Vec<String> {
        self.sockets.addresses()
    }

    fn pages(&self) -> Vec<Page> {
        let (shared, sockets) = (Arc::clone(&self.shared), Arc::clone(&self.sockets));
        let render = move || page::json(&shared, &sockets.addresses());
        vec![Page { path: "/hub/modules", render: Arc::new(render) }]
    }

    /// Modules that are there stay, whatever the new settings would say of them.
    fn apply<'a>(&'a self, next: &dyn IngressSettings) -> anyhow::Result<Change<'a>> {
        let config = of(next)?;
        let new = self.sockets.bind_new(&config)?;
        Ok(Box::new(move || {
            self.sockets.keep(&config);
            self.sockets.add(new);
            self.shared.set_config(config);
        }))
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

    fn look(&self) {
        let next = self.token_files.look(&self.shared.config());
        if let Some(config) = next {
            self.shared.set_config(config);
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
