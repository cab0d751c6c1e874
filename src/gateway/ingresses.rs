//! The list of ingresses. No protocol is named here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::auth::Auth;
use crate::config::Config;
use crate::event_port::EventPort;
use crate::events::topics::Topics;
use crate::ingress::{Bound, Change, Ingress, IngressKind, Page};
use crate::router::Router;
use crate::router::target::Target;
use crate::tasks::Tasks;

/// How often it is looked whether an ingress may close.
const LOOK: Duration = Duration::from_millis(10);

/// Binds every ingress. Each gets tasks of its own.
pub(super) fn bind(
    kinds: &[IngressKind],
    config: &Config,
    tasks: &Tasks,
) -> anyhow::Result<BoundIngresses> {
    let bound = kinds.iter().map(|kind| {
        let configured = config.ingresses.iter().find(|ingress| ingress.name == kind.name);
        let configured = configured.with_context(|| format!("[{}] was not read", kind.name))?;
        let bound = (kind.bind)(configured.settings.as_ref(), tasks.subgroup())?;
        Ok((kind.name, kind.open_for, bound))
    });
    Ok(BoundIngresses(bound.collect::<anyhow::Result<_>>()?))
}

/// The ingresses, before they take calls.
pub(super) struct BoundIngresses(Vec<(&'static str, OpenFor, Box<dyn Bound>)>);

/// See [`IngressKind::open_for`].
type OpenFor = Option<&'static str>;

impl BoundIngresses {
    /// The upstream that is always there, at its place, and the events that it has.
    pub(super) fn resident(&self, config: &Config) -> Option<(Target, Option<Arc<dyn EventPort>>)> {
        let resident = config.resident()?;
        let (_, _, bound) = self.0.iter().find(|(_, _, bound)| bound.upstream().is_some())?;
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
        let run = self.0.into_iter().map(|(name, open_for, bound)| Running {
            name,
            open_for,
            ingress: bound.run(router, topics, auth),
        });
        let run: Vec<Running> = run.collect();
        for Running { name, ingress, .. } in &run {
            for address in ingress.addresses() {
                info!(ingress = name, address, "listening");
            }
        }
        Ingresses(run)
    }
}

/// The ingresses at work.
pub(super) struct Ingresses(Vec<Running>);

struct Running {
    name: &'static str,
    open_for: OpenFor,
    ingress: Box<dyn Ingress>,
}

impl Ingresses {
    /// What they show to operators.
    pub(super) fn pages(&self) -> Vec<Page> {
        self.0.iter().flat_map(|running| running.ingress.pages()).collect()
    }

    /// Makes ready what a new configuration asks for; the change puts it in force. The first of
    /// them that cannot be is the error.
    pub(super) fn apply(&self, config: &Config) -> anyhow::Result<Change<'_>> {
        let mut changes = Vec::with_capacity(self.0.len());
        for Running { name, ingress, .. } in &self.0 {
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

    /// Tells them where Genkan listens: they themselves, and the pages for operators.
    pub(super) fn tell_where(&self, admin: &str) {
        let all: Vec<String> = self.0.iter().flat_map(|it| it.ingress.addresses()).collect();
        let all = all.iter().map(String::as_str).chain([admin]);
        // What is a socket's is nobody's address.
        let own =
            all.filter_map(|place| place.strip_prefix("tcp://").unwrap_or(place).parse().ok());
        let own: Vec<_> = own.collect();
        self.0.iter().for_each(|running| running.ingress.listens_at(&own));
    }

    /// The routing table is another one.
    pub(super) fn routes_changed(&self) {
        self.0.iter().for_each(|running| running.ingress.routes_changed());
    }

    /// Lets them read again the files that their settings name.
    pub(super) fn look(&self) {
        self.0.iter().for_each(|running| running.ingress.look());
    }

    /// Writes what their logs have summed up.
    pub(super) fn sum_up_logs(&self, all: bool) {
        self.0.iter().for_each(|running| running.ingress.sum_up_log(all));
    }

    /// Takes nobody in any more, and waits until all who are owed an answer have it. One stays open
    /// while services of the protocol that it is open for `may_call`, at most half of the time.
    pub(super) async fn drain(&self, patience: Duration, may_call: impl Fn(&str) -> bool) -> bool {
        let (until, may_call) = (Instant::now() + patience, &may_call);
        let drained = self.0.iter().map(|running| async move {
            if let Some(protocol) = running.open_for {
                let closing = async {
                    while may_call(protocol) {
                        sleep(LOOK).await;
                    }
                };
                timeout(patience / 2, closing).await.unwrap_or_default();
            }
            running.ingress.drain(until - Instant::now()).await
        });
        join_all(drained).await.into_iter().all(|drained| drained)
    }

    /// Ends what is left of them at once. Those behind are told first: the calls that the hub ends have their
    /// faults on the way when HTTP is.
    pub(super) async fn end(&self, grace: Duration) {
        let told = self.0.iter().rev().map(|it| (it.name, it.ingress.end(grace)));
        let told: Vec<_> = told.collect();
        let ended = told.into_iter().map(|(name, ended)| async move {
            if !ended.await {
                warn!(ingress = name, "some connections did not end in time");
            }
        });
        join_all(ended).await;
    }
}
