//! The instances that calls can go to, and which one a call goes to.
//!
//! Where they come from is the roster's alone: a list in the configuration, or the registry, of
//! which it follows those that match.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::registry::{Registry, Services};
use super::balance::choose;
use super::instance::{Instance, Shared};
use super::place::Place;
use crate::route::pattern::Pattern;
use crate::upstream::Readiness;

/// The most instances that are taken from the registry.
const MOST_ANNOUNCED: usize = 256;

/// The instances.
pub(super) struct Roster {
    instances: ArcSwap<Vec<Arc<Instance>>>,
    shared: Arc<Shared>,
    /// Where they come from, if not from the configuration.
    announced: Option<(Arc<Registry>, Pattern)>,
    /// Whether there are none, though somebody has announced himself.
    none_believed: AtomicBool,
    /// Ends those that the configuration names.
    gone: Mutex<CancellationToken>,
}

impl Roster {
    /// Starts to look after the instances at `places`.
    pub(super) fn start(shared: Arc<Shared>, places: &[Arc<Place>]) -> Arc<Self> {
        let made = places
            .iter()
            .map(|place| Arc::new(Instance::new(Arc::clone(place), Arc::clone(&shared))));
        let instances: Vec<_> = made.collect();
        let shown = ArcSwap::from_pointee(instances.clone());
        let gone = CancellationToken::new();
        let roster = Arc::new(Self {
            instances: shown,
            shared,
            announced: None,
            none_believed: AtomicBool::new(false),
            gone: Mutex::new(gone.clone()),
        });
        for instance in instances {
            roster.look_after(instance, gone.clone());
        }
        roster
    }

    /// Lets the instance that the configuration names give way to one elsewhere, or with other credentials. Its calls
    /// end where they are.
    pub(super) fn move_to(self: &Arc<Self>, place: Place) {
        let upstream = self.shared.metrics.upstream();
        info!(upstream, instance = %place, "the upstream's URL was replaced");
        let instance = Arc::new(Instance::new(Arc::new(place), Arc::clone(&self.shared)));
        let next = CancellationToken::new();
        self.look_after(Arc::clone(&instance), next.clone());
        self.instances.store(Arc::new(vec![instance]));
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *gone, next).cancel();
    }

    /// Starts to follow what announces itself by such a name.
    pub(super) fn follow(
        shared: Arc<Shared>,
        registry: &Arc<Registry>,
        pattern: Pattern,
    ) -> Arc<Self> {
        let announced = Some((Arc::clone(registry), pattern.clone()));
        let roster = Arc::new(Self {
            instances: ArcSwap::default(),
            shared,
            announced,
            none_believed: AtomicBool::new(false),
            gone: Mutex::default(),
        });
        let owner = Arc::clone(&roster);
        let (registry, shutdown) = (Arc::clone(registry), roster.shared.tasks.shutdown().clone());
        roster.shared.tasks.spawn("jsonrpc roster", async move {
            let mut services = registry.follow();
            let mut members = Members::default();
            loop {
                let now = Arc::clone(&services.borrow_and_update());
                owner.take(&mut members, &registry, &pattern, &now);
                let changed = shutdown.run_until_cancelled(services.changed()).await;
                if !matches!(changed, Some(Ok(()))) {
                    return;
                }
            }
        });
        roster
    }

    /// Lets those in that match and are new, and those go that have gone. Their calls end where
    /// they are.
    fn take(
        self: &Arc<Self>,
        members: &mut Members,
        registry: &Registry,
        pattern: &Pattern,
        services: &Services,
    ) {
        let matching = || services.iter().filter(|service| service.is(pattern));
        let (upstream, count) = (self.shared.metrics.upstream(), matching().count());
        if count > MOST_ANNOUNCED && members.0.len() < MOST_ANNOUNCED {
            warn!(upstream, count, most = MOST_ANNOUNCED, "more services match than are used");
        }
        let mut next = HashMap::new();
        for service in matching() {
            if next.len() == MOST_ANNOUNCED {
                break;
            }
            let known = members.0.remove_entry(service.url());
            let new = || {
                let place = Arc::new(registry.place(service)?);
                info!(upstream, instance = %place, "an instance was announced");
                let instance = Arc::new(Instance::new(place, Arc::clone(&self.shared)));
                let gone = CancellationToken::new();
                self.look_after(Arc::clone(&instance), gone.clone());
                Some((service.url().to_owned(), Member { instance, gone }))
            };
            // Two names may be at one URL.
            if !next.contains_key(service.url())
                && let Some((url, member)) = known.or_else(new)
            {
                next.insert(url, member);
            }
        }
        for (url, member) in members.0.drain() {
            info!(upstream, instance = url, "an instance is announced no more");
            member.gone.cancel();
        }
        let none_believed = next.is_empty() && registry.has_heard_of(pattern);
        self.none_believed.store(none_believed, Ordering::Relaxed);
        let instances = next.values().map(|member| Arc::clone(&member.instance)).collect();
        members.0 = next;
        self.instances.store(Arc::new(instances));
        self.show();
    }

    /// Looks after an instance until the end, or until it has gone.
    fn look_after(self: &Arc<Self>, instance: Arc<Instance>, gone: CancellationToken) {
        let owner = Arc::clone(self);
        let shutdown = self.shared.tasks.shutdown().clone();
        self.shared.tasks.spawn("jsonrpc instance", async move {
            // `None` means that the shutdown came, or that it has gone; the instance itself does
            // not end.
            let supervision = instance.supervise(|| owner.show());
            let supervised = gone.run_until_cancelled(supervision);
            let stopped = shutdown.run_until_cancelled(supervised).await;
            instance.end();
            if stopped.is_none() {
                owner.shared.metrics.set_up(false);
            }
        });
    }

    /// An instance for a call that none of `tried` could take. Those that are out are asked when
    /// there is no other.
    pub(super) fn pick(&self, tried: &[Arc<Instance>]) -> Option<Arc<Instance>> {
        let instances = self.instances.load();
        let now = Instant::now();
        let is_open = |instance: &&Arc<Instance>| {
            tried.is_empty() || !tried.iter().any(|tried| Arc::ptr_eq(tried, instance))
        };
        let open = || instances.iter().filter(is_open);
        let count = open().filter(|instance| !instance.is_out()).count();
        let take =
            |nth: usize, out: bool| open().filter(|instance| out || !instance.is_out()).nth(nth);
        let all_out = count == 0;
        let count = if all_out { open().count() } else { count };
        let usual = &self.shared.usual;
        let is_better = |one, other| match (take(one, all_out), take(other, all_out)) {
            (Some(one), Some(other)) => one.load.is_better_than(&other.load, now, usual),
            // One may be put out between two looks: then it is the last choice.
            (one, _) => one.is_some(),
        };
        let nth = choose(count, is_better, |below| fastrand::usize(..below))?;
        take(nth, all_out).or_else(|| open().next()).map(Arc::clone)
    }

    /// Why there are no instances, where there are none.
    pub(super) fn why_empty(&self) -> &'static str {
        match &self.announced {
            None => "it has no instances",
            Some(_) if self.none_believed.load(Ordering::Relaxed) => {
                "what has announced itself to take its calls was not found where it said: \
                 `genkan registry` tells why"
            }
            Some((registry, _)) if registry.allows_any() => {
                "no service that is to take its calls has announced itself"
            }
            Some(_) => {
                "no service may announce itself: `allow` under [registry] says which ones may"
            }
        }
    }

    /// Whether calls can be sent.
    pub(super) fn readiness(&self) -> Readiness {
        let instances = self.instances.load();
        if instances.iter().any(|instance| instance.is_in()) {
            return Readiness::Ready;
        }
        let why = instances.first().map(|instance| instance.why());
        let why = why.as_deref().map_or_else(|| self.why_empty(), String::as_str);
        Readiness::NotReady(match (instances.len(), &self.announced) {
            (0, Some((_, pattern))) => format!("`registry = \"{pattern}\"`: {why}"),
            (0 | 1, _) => why.to_owned(),
            (count, _) => format!("none of its {count} instances is in service: {why}"),
        })
    }

    fn show(&self) {
        let up = self.instances.load().iter().any(|instance| instance.is_in());
        self.shared.metrics.set_up(up);
    }
}

/// An instance that was announced, and what tells that it is no more.
struct Member {
    instance: Arc<Instance>,
    gone: CancellationToken,
}

/// Those that were announced, by their URL.
#[derive(Default)]
struct Members(HashMap<String, Member>);
