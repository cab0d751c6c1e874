//! Which of the services that are to be exposed are exposed now: those of which some call would find
//! its upstream ready. No protocol is named here; an upstream says itself whether it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::config::expose::ExposeConfig;
use crate::exposer::Extent;
use crate::exposer::board::Unexposed;
use crate::exposer::gate::Gate;
use crate::route::expose::Expose;
use crate::router::table::{Row, Table};
use crate::upstream::Readiness;

/// How often it is looked whether upstreams are ready.
const LOOK: Duration = Duration::from_millis(50);
/// How often at the most where calls have been refused.
const DOUBT: Duration = Duration::from_millis(5);
/// How long a service may wait for the first time before the log says why.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// The services that are to be exposed.
#[derive(Default)]
pub(super) struct Exposes {
    services: Vec<Service>,
    looked: Option<Instant>,
    /// A call was refused since.
    doubts: Arc<Notify>,
}

/// One of them.
struct Service {
    config: ExposeConfig,
    /// The rows that its calls go by.
    ways: Vec<Arc<Row>>,
    gate: Gate,
    /// When the log says why it is not exposed, if it is still not.
    tell_at: Option<Instant>,
}

impl Exposes {
    /// Takes over what a configuration says, whose table that is. One that stays is not interrupted.
    pub(super) fn apply(&mut self, configs: &[ExposeConfig], table: &Table) {
        let tell_at = Some(Instant::now() + TELL_AFTER);
        let mut before: HashMap<String, Vec<Service>> = HashMap::new();
        for service in std::mem::take(&mut self.services) {
            before.entry(service.config.expose.name.clone()).or_default().push(service);
        }
        let words = table.words();
        let services = configs.iter().map(|config| {
            let same = before.get_mut(&config.expose.name).and_then(|named| {
                let place = named.iter().position(|it| it.config == *config)?;
                Some(named.swap_remove(place))
            });
            let (gate, tell_at) = match same {
                Some(same) => (same.gate, same.tell_at),
                None => (Gate::default(), tell_at),
            };
            let ways = table.ways(&config.expose, &words);
            Service { config: config.clone(), ways, gate, tell_at }
        });
        self.services = services.collect();
        self.look();
    }

    /// Those that were to be exposed on an upstream, and by another configuration are not, by their names there.
    pub(super) fn gone(&self, upstream: &str, configs: &[ExposeConfig]) -> Vec<Arc<Expose>> {
        let before = self.services.iter().map(|it| &it.config).filter(|it| it.is_on(upstream));
        let stays =
            |name: &str| configs.iter().any(|it| it.is_on(upstream) && it.expose.name == name);
        let gone = before.filter(|before| !stays(&before.expose.name));
        gone.map(|config| Arc::clone(&config.expose)).collect()
    }

    /// Waits until it is time to look; for ever where nothing is to be exposed.
    pub(super) async fn is_time_to_look(&self) {
        let Some(looked) = self.looked.filter(|_| !self.services.is_empty()) else {
            return std::future::pending().await;
        };
        let doubted = async {
            self.doubts.notified().await;
            sleep_until(looked + DOUBT).await;
        };
        tokio::select! {
            () = sleep_until(looked + LOOK) => {}
            () = doubted => {}
        }
    }

    /// Who is told when a call that was taken could not be sent.
    pub(super) fn doubts(&self) -> &Arc<Notify> {
        &self.doubts
    }

    /// Looks which services can be called. True where others are exposed now than before.
    pub(super) fn look(&mut self) -> bool {
        let now = Instant::now();
        self.looked = Some(now);
        let mut changed = false;
        for service in &mut self.services {
            if service.gate.look(service.is_ready(), now) {
                changed = true;
                service.tell_at = (!service.gate.is_open()).then_some(now);
            }
            if service.tell_at.is_some_and(|at| now >= at) {
                service.tell_at = None;
                service.tell();
            }
        }
        changed
    }

    /// Those that wait for somebody behind them, where they are to be exposed, and why.
    pub(super) fn waiting(&self) -> Vec<Unexposed> {
        let waiting = self.services.iter().filter(|service| !service.gate.is_open());
        let waiting = waiting.flat_map(|service| {
            let why = format!("nothing behind it can be called: {}", service.why());
            let name = &service.config.expose.name;
            let on = service.config.on.iter();
            on.map(move |on| Unexposed {
                on: on.clone(),
                name: name.clone(),
                extent: Extent::Nothing,
                why: why.clone(),
            })
        });
        waiting.collect()
    }

    /// Those that are exposed on an upstream now.
    pub(super) fn on(&self, upstream: &str) -> Vec<Arc<Expose>> {
        let here = self.services.iter().filter(|it| it.gate.is_open() && it.config.is_on(upstream));
        here.map(|service| Arc::clone(&service.config.expose)).collect()
    }
}

impl Service {
    /// Whether some of its calls would find somebody.
    fn is_ready(&self) -> bool {
        self.ways.iter().any(|row| {
            let target = row.target.as_ref();
            target.is_some_and(|target| target.upstream.is_ready_for(self.called(row)))
        })
    }

    /// What it is called where a row sends its calls.
    fn called<'a>(&'a self, row: &'a Row) -> &'a str {
        row.rule.service.as_deref().unwrap_or(&self.config.expose.service)
    }

    /// Why not, for the operator.
    fn why(&self) -> String {
        let mut reasons = Vec::new();
        for row in &self.ways {
            let Some(target) = &row.target else { continue };
            let why = match target.upstream.readiness() {
                Readiness::Ready => format!("nobody serves `{}` there", self.called(row)),
                Readiness::NotReady(why) => why,
            };
            let reason = format!("{}: {why}", target.name);
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        if reasons.is_empty() {
            "no row sends its calls anywhere".to_owned()
        } else {
            reasons.join("; ")
        }
    }

    fn tell(&self) {
        let Expose { service, name, .. } = &*self.config.expose;
        let (on, why) = (self.config.on.join(", "), self.why());
        warn!(
            service,
            name, on, why, "a service is not exposed now: nothing behind it can be called"
        );
    }
}
