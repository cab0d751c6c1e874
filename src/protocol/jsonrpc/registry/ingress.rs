//! The registry as a part of the gateway: how it begins, changes and ends. What it is asked comes in
//! by HTTP's listener.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use tokio::time::sleep;
use tracing::{info, warn};

use super::super::upstream::once::Asker;
use super::config::RegistryConfig;
use super::{Registry, page, prober, store, teller};
use crate::auth::Auth;
use crate::budget::Account;
use crate::config::ingress::IngressSettings;
use crate::events::topics::Topics;
use crate::ingress::{Bound, Change, Ingress, Page};
use crate::router::Router;
use crate::tasks::{self, Tasks};

/// How often what is known is written down, where it has changed.
const SAVE: Duration = Duration::from_secs(1);

/// Takes the settings over; it listens nowhere itself.
pub(in crate::protocol::jsonrpc) fn bind(
    registry: &Arc<Registry>,
    settings: &dyn IngressSettings,
    tasks: Tasks,
) -> anyhow::Result<Box<dyn Bound>> {
    Ok(Box::new(BoundRegistry { registry: Arc::clone(registry), config: of(settings)?, tasks }))
}

fn of(settings: &dyn IngressSettings) -> anyhow::Result<RegistryConfig> {
    settings.of::<RegistryConfig>().cloned().context("these are no settings of [registry]")
}

struct BoundRegistry {
    registry: Arc<Registry>,
    config: RegistryConfig,
    tasks: Tasks,
}

impl Bound for BoundRegistry {
    fn run(
        self: Box<Self>,
        router: &Arc<Router>,
        _topics: &Arc<Topics>,
        _auth: &Arc<Auth>,
    ) -> Box<dyn Ingress> {
        let Self { registry, config, tasks } = *self;
        let account = router.budget().upstream();
        let asker = asker(&registry, &config, &account, &tasks);
        let asker = Arc::new(ArcSwap::from(asker));
        registry.set_config(config);
        recall(&registry);
        registry.publish();
        let shutdown = tasks.shutdown().clone();
        let (probing, ask) = (Arc::clone(&registry), Arc::clone(&asker));
        tasks.spawn("registry prober", async move {
            let probing = prober::run(&probing, || ask.load_full());
            let _stopped = shutdown.run_until_cancelled(probing).await;
        });
        let shutdown = tasks.shutdown().clone();
        let (telling, ask) = (Arc::clone(&registry), Arc::clone(&asker));
        let router = Arc::downgrade(router);
        tasks.spawn("registry teller", async move {
            let telling = teller::run(&telling, &router, || ask.load_full());
            let _stopped = shutdown.run_until_cancelled(telling).await;
        });
        tasks.spawn("registry store", keep(Arc::clone(&registry), tasks.clone()));
        Box::new(RegistryIngress { registry, asker, account, tasks })
    }
}

fn asker(
    registry: &Registry,
    config: &RegistryConfig,
    account: &Account,
    tasks: &Tasks,
) -> Arc<Asker> {
    let agent = HeaderValue::from_str(&registry.agent);
    let agent = agent.unwrap_or_else(|_| HeaderValue::from_static("genkan-registry/"));
    let certificates = Arc::clone(&config.certificates);
    let answers = (prober::LARGEST, account.clone());
    Arc::new(Asker::new(agent, certificates, answers, tasks.clone()))
}

/// The registry at work.
struct RegistryIngress {
    registry: Arc<Registry>,
    asker: Arc<ArcSwap<Asker>>,
    account: Account,
    tasks: Tasks,
}

impl Ingress for RegistryIngress {
    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn pages(&self) -> Vec<Page> {
        let registry = Arc::clone(&self.registry);
        let render = move || page::json(&registry);
        vec![Page { path: "/registry/services", render: Arc::new(render) }]
    }

    fn apply<'a>(&'a self, next: &dyn IngressSettings) -> anyhow::Result<Change<'a>> {
        let config = of(next)?;
        Ok(Box::new(move || {
            self.asker.store(asker(&self.registry, &config, &self.account, &self.tasks));
            self.registry.set_config(config);
        }))
    }

    /// Nobody is owed anything: who asks is HTTP's.
    fn drain(&self, _patience: Duration) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }

    fn end(&self, grace: Duration) -> BoxFuture<'_, bool> {
        self.tasks.end(grace).boxed()
    }
}

/// Takes up what was known before the last end. Each is judged as if it announced itself now.
fn recall(registry: &Registry) {
    let config = registry.config.load();
    let Some(folder) = &config.state_dir else { return };
    let file = store::path(folder);
    match store::read(folder, config.max_services) {
        Ok(services) => {
            let known = services.len();
            let taken = services.into_iter().map(|(key, form)| registry.hear(key, form));
            let taken = taken.filter(Result::is_ok).count();
            if known > 0 {
                let file = file.display();
                info!(%file, known, taken, "took up announced services; each is asked first");
            }
        }
        Err(error) => {
            let (file, error) = (file.display(), error.to_string());
            warn!(%file, error, "cannot read the announced services: they have to announce themselves again");
        }
    }
}

/// Writes down what is known whenever it has changed, and at the end.
async fn keep(registry: Arc<Registry>, tasks: Tasks) {
    let shutdown = tasks.shutdown();
    let mut written = None;
    let mut complained = false;
    loop {
        let goes_on = shutdown.run_until_cancelled(sleep(SAVE)).await.is_some();
        let folder = registry.config.load().state_dir.clone();
        if let Some(folder) = folder {
            let (edition, services) = registry.known(written.as_ref());
            if let Some(services) = services {
                let place = folder.clone();
                let done = tasks::apart(move || store::write(&place, &services)).await;
                match done {
                    Some(Ok(())) => (written, complained) = (Some((folder, edition)), false),
                    Some(Err(error)) if !complained => {
                        let (file, error) = (store::path(&folder), error.to_string());
                        let file = file.display();
                        warn!(%file, error, "cannot write down the announced services; trying again");
                        complained = true;
                    }
                    Some(Err(_)) | None => {}
                }
            }
        }
        if !goes_on {
            return;
        }
    }
}
