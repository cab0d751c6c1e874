//! The list of ingresses. No protocol is named here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tracing::{info, warn};

use crate::auth::Auth;
use crate::config::Config;
use crate::event_port::EventPort;
use crate::events::topics::Topics;
use crate::ingress::{Bound, Change, Ingress, IngressKind, Page};
use crate::router::Router;
use crate::router::target::Target;
use crate::tasks::Tasks;

/// Binds every ingress. Each gets tasks of its own.
pub(super) fn bind(
    kinds: &[IngressKind],
    config: &Config,
    tasks: &Tasks,
) -> anyhow::Result<BoundIngresses> {
    let bound = kinds.iter().map(|kind| {
        let configured = config.ingresses.iter().find(|ingress| ingress.name == kind.name);
        let configured = configured.with_context(|| format!("[{}] was not read", kind.name))?;
        Ok((kind.name, (kind.bind)(configured.settings.as_ref(), tasks.subgroup())?))
    });
    Ok(BoundIngresses(bound.collect::<anyhow::Result<_>>()?))
}

/// The ingresses, before they take calls.
pub(super) struct BoundIngresses(Vec<(&'static str, Box<dyn Bound>)>);

impl BoundIngresses {
    /// The upstream that is always there, at its place, and the events that it has.
    pub(super) fn resident(&self, config: &Config) -> Option<(Target, Option<Arc<dyn EventPort>>)> {
        let resident = config.resident()?;
        let (_, bound) = self.0.iter().find(|(_, bound)| bound.upstream().is_some())?;
        let (upstream, metrics) = bound.upstream()?;
        let target = Target::new(resident.name, upstream, resident.max_in_flight, metrics);
        Some((target, bound.events()))
    }

    /// Lets them take calls.
    pub(super) fn run(
        self,
        router: &Arc<Router>,
        topics: &Arc<Topics>,
        auth: &Arc<Auth>,
    ) -> Ingresses {
        let run = self.0.into_iter().map(|(name, bound)| (name, bound.run(router, topics, auth)));
        let run: Vec<(&'static str, Box<dyn Ingress>)> = run.collect();
        for (ingress, running) in &run {
            for address in running.addresses() {
                info!(ingress, address, "listening");
            }
        }
        Ingresses(run)
    }
}

/// The ingresses at work.
pub(super) struct Ingresses(Vec<(&'static str, Box<dyn Ingress>)>);

impl Ingresses {
    /// What they show to operators.
    pub(super) fn pages(&self) -> Vec<Page> {
        self.0.iter().flat_map(|(_, ingress)| ingress.pages()).collect()
    }

    /// Makes ready what a new configuration asks for; the change puts it in force. The first of
    /// them that cannot be is the error.
    pub(super) fn apply(&self, config: &Config) -> anyhow::Result<Change<'_>> {
        let mut changes = Vec::with_capacity(self.0.len());
        for (name, ingress) in &self.0 {
            let mut configured = config.ingresses.iter();
            if let Some(configured) = configured.find(|configured| configured.name == *name) {
                changes.push((name, ingress, ingress.apply(configured.settings.as_ref())?));
            }
        }
        Ok(Box::new(move || {
            for (ingress, running, change) in changes {
                let before = running.addresses();
                change();
                let after = running.addresses();
                for address in after.iter().filter(|address| !before.contains(address)) {
                    info!(ingress, address, "listening");
                }
                for address in before.iter().filter(|address| !after.contains(address)) {
                    info!(ingress, address, "no longer listening");
                }
            }
        }))
    }

    /// The routing table is another one.
    pub(super) fn routes_changed(&self) {
        self.0.iter().for_each(|(_, ingress)| ingress.routes_changed());
    }

    /// Lets them read again the files that their settings name.
    pub(super) fn look(&self) {
        self.0.iter().for_each(|(_, ingress)| ingress.look());
    }

    /// Writes what their logs have summed up.
    pub(super) fn sum_up_logs(&self, all: bool) {
        self.0.iter().for_each(|(_, ingress)| ingress.sum_up_log(all));
    }

    /// Takes nobody in any more, and waits until all who are owed an answer have it.
    pub(super) async fn drain(&self, patience: Duration) -> bool {
        let drained = join_all(self.0.iter().map(|(_, ingress)| ingress.drain(patience))).await;
        drained.into_iter().all(|drained| drained)
    }

    /// Ends what is left of them.
    pub(super) async fn end(&self, grace: Duration) {
        for (ingress, running) in self.0.iter().rev() {
            if !running.end(grace).await {
                warn!(ingress, "some connections did not end in time");
            }
        }
    }
}
