//! The services that have been called, and what is known about their queues. Must not: do I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use foldhash::fast::RandomState;
use lapin::types::ShortString;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How many services are kept an eye on; calls to further ones go out unchecked.
const MOST_SERVICES: usize = 1_024;
/// How many first probes wait; calls beyond go out unchecked.
const REQUESTS: usize = 256;
/// After this long, "nobody consumes it" is looked at again before a call is refused for it.
const DESERTED_FOR: Duration = Duration::from_millis(250);
/// A finding that the background has not renewed for so many intervals is no finding.
const STALE_INTERVALS: u32 = 4;
/// For how many intervals after its last call a service is looked at, and remembered.
const WATCHED_INTERVALS: u32 = 10;
const REMEMBERED_INTERVALS: u32 = 300;
/// How often a queue is looked for that a diverted message may be waiting for, if nothing can be found.
const MOST_UNKNOWN: u32 = 30;
/// A missing queue is looked for again this rarely: each time costs a channel, and a line in
/// the broker's log.
const MISSING_INTERVALS: u32 = 10;

/// What is known about a service's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Finding {
    /// Nothing yet.
    Unprobed,
    /// It could not be found out.
    Unknown,
    /// There is no such queue.
    Missing,
    /// Somebody consumes it.
    Consumed,
    /// It exists, and nobody consumes it.
    Deserted {
        /// When that was first seen.
        since: Instant,
        /// How many messages wait in it.
        waiting: u32,
    },
}

#[derive(Clone, Copy)]
struct Seen {
    finding: Finding,
    at: Instant,
}

/// A service that has been called.
pub(in super::super) struct Service {
    pub(super) queue: ShortString,
    seen: watch::Sender<Seen>,
    /// A probe has been asked for and has not been made.
    asked: AtomicBool,
    called: AtomicBool,
    /// Intervals since the last call.
    idle: AtomicU32,
}

impl Service {
    /// Notes what a probe has found.
    pub(super) fn report(&self, finding: Finding) {
        let at = Instant::now();
        self.asked.store(false, Ordering::Release);
        self.seen.send_modify(|seen| {
            let finding = match (seen.finding, finding) {
                (Finding::Deserted { since, .. }, Finding::Deserted { waiting, .. }) => {
                    Finding::Deserted { since, waiting }
                }
                (_, finding) => finding,
            };
            *seen = Seen { finding, at };
        });
    }

    /// Notes that a message to it has found its queue: if that was missing, the next call has it
    /// looked at again.
    pub(in super::super) fn found(&self) {
        self.seen.send_if_modified(|seen| {
            let missing = seen.finding == Finding::Missing;
            if missing {
                *seen = Seen { finding: Finding::Unprobed, at: Instant::now() };
            }
            missing
        });
    }

    /// Whether its queue was there when it was last looked for.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.seen.borrow().finding, Finding::Consumed | Finding::Deserted { .. })
    }

    fn due(&self, missing_for: Duration) -> bool {
        let seen = *self.seen.borrow();
        let idle = self.idle.load(Ordering::Relaxed);
        match seen.finding {
            Finding::Missing => idle == 0 && seen.at.elapsed() >= missing_for,
            _ => idle <= WATCHED_INTERVALS,
        }
    }
}

/// Services by their names.
type Map = HashMap<Box<str>, Arc<Service>, RandomState>;

/// The services that have been called, for every call to look up and the prober to renew.
#[derive(Clone)]
pub(in super::super) struct Services {
    map: Arc<RwLock<Map>>,
    requests: mpsc::Sender<Arc<Service>>,
    interval: Duration,
    /// Messages that nobody takes are not returned: an alternate exchange gets them.
    diverts: Arc<AtomicBool>,
}

/// What the look-up says.
pub(in super::super) enum Look {
    /// Send, or refuse with this.
    Known(Finding),
    /// There is no such queue, or there was none, or it is not known where messages are diverted: send,
    /// so that the broker's return or another probe tells, and tell what was [found](Service::found).
    Missing(Arc<Service>),
    /// A probe is on its way.
    Asked(Arc<Service>, Asking),
}

/// A probe that is on its way.
pub(in super::super) struct Asking(watch::Receiver<Seen>);

impl Asking {
    /// Waits for the probe's finding.
    pub(in super::super) async fn finding(mut self) -> Finding {
        match self.0.changed().await {
            Ok(()) => self.0.borrow().finding,
            Err(_) => Finding::Unknown,
        }
    }
}

impl Services {
    pub(in super::super) fn new(interval: Duration) -> (Self, mpsc::Receiver<Arc<Service>>) {
        let (requests, asked) = mpsc::channel(REQUESTS);
        (Self { map: Arc::default(), requests, interval, diverts: Arc::default() }, asked)
    }

    /// What is known about a service, before a call to it. One read lock and one look-up.
    pub(in super::super) fn look(&self, service: &str) -> Look {
        let known = self.read(service).or_else(|| self.insert(service));
        let Some(known) = known else { return Look::Known(Finding::Unknown) };
        if !known.called.load(Ordering::Relaxed) {
            known.called.store(true, Ordering::Relaxed);
        }
        let seen = *known.seen.borrow();
        let fresh = match seen.finding {
            Finding::Unprobed => false,
            // Nothing tells but the probe.
            Finding::Missing if self.diverts() => seen.at.elapsed() < DESERTED_FOR,
            Finding::Missing => return Look::Missing(known),
            // Nothing would tell of a message that nobody takes.
            Finding::Unknown if self.diverts() => return Look::Missing(known),
            // The background tries again.
            Finding::Unknown => true,
            Finding::Consumed => seen.at.elapsed() < self.interval * STALE_INTERVALS,
            Finding::Deserted { .. } => seen.at.elapsed() < DESERTED_FOR,
        };
        if fresh { Look::Known(seen.finding) } else { self.ask(known, seen) }
    }

    /// Asks for a probe, unless somebody has: then its finding will do.
    fn ask(&self, service: Arc<Service>, before: Seen) -> Look {
        let mut seen = service.seen.subscribe();
        // A probe may have ended between the look and the subscription.
        if seen.borrow_and_update().at != before.at {
            return Look::Known(seen.borrow().finding);
        }
        if !service.asked.swap(true, Ordering::AcqRel)
            && let Err(error) = self.requests.try_send(Arc::clone(&service))
        {
            tracing::debug!(%error, "too many first calls at once, one goes out unchecked");
            service.asked.store(false, Ordering::Release);
            return Look::Known(match before.finding {
                Finding::Unprobed => Finding::Unknown,
                known => known,
            });
        }
        Look::Asked(service, Asking(seen))
    }

    /// Whether messages that nobody takes are known not to be returned.
    pub(in super::super) fn diverts(&self) -> bool {
        self.diverts.load(Ordering::Relaxed)
    }

    /// Whether a service's queue is missing now, although the broker has taken a message to it: then
    /// another exchange has got it. The first finding may be of a probe that was made before that.
    pub(in super::super) async fn is_diverted(&self, service: &Arc<Service>) -> bool {
        let (mut missing, mut unknown) = (0, 0);
        while unknown < MOST_UNKNOWN {
            let before = *service.seen.borrow();
            let finding = match self.ask(Arc::clone(service), before) {
                Look::Asked(_, asking) => asking.finding().await,
                Look::Known(_) | Look::Missing(_) => {
                    let seen = *service.seen.borrow();
                    if seen.at == before.at { Finding::Unknown } else { seen.finding }
                }
            };
            match finding {
                Finding::Missing if missing == 1 => return true,
                Finding::Missing => missing += 1,
                Finding::Consumed | Finding::Deserted { .. } => return false,
                // Too much is asked just now, or nobody can be.
                Finding::Unknown | Finding::Unprobed => {
                    unknown += 1;
                    tokio::time::sleep(self.interval).await;
                }
            }
        }
        false
    }

    /// Notes that messages are diverted. True if that is news.
    pub(in super::super) fn note_diversion(&self) -> bool {
        !self.diverts.swap(true, Ordering::Relaxed)
    }

    fn read(&self, service: &str) -> Option<Arc<Service>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }

    /// Remembers a service. `None` where there is no room, and none can be made.
    fn insert(&self, name: &str) -> Option<Arc<Service>> {
        let queue = ShortString::try_new(format!("rpc-{name}")).ok()?;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = map.get(name) {
            return Some(Arc::clone(known));
        }
        if map.len() >= MOST_SERVICES {
            let idle = |service: &Service| service.idle.load(Ordering::Relaxed);
            let missing = |service: &Service| service.seen.borrow().finding == Finding::Missing;
            let least = map.iter().max_by_key(|(_, it)| (missing(it), idle(it)))?;
            if !missing(least.1) && idle(least.1) == 0 {
                return None;
            }
            let least = least.0.clone();
            map.remove(&least);
        }
        let (seen, _) = watch::channel(Seen { finding: Finding::Unprobed, at: Instant::now() });
        let service = Arc::new(Service {
            queue,
            seen,
            asked: AtomicBool::new(false),
            called: AtomicBool::new(true),
            idle: AtomicU32::new(0),
        });
        map.insert(name.into(), Arc::clone(&service));
        Some(service)
    }

    /// Counts an interval, forgets who has not been called for long, and says who is due.
    pub(super) fn due(&self) -> Vec<Arc<Service>> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.retain(|_, service| {
            if service.called.swap(false, Ordering::Relaxed) {
                service.idle.store(0, Ordering::Relaxed);
                return true;
            }
            service.idle.fetch_add(1, Ordering::Relaxed) < REMEMBERED_INTERVALS
        });
        let missing_for = self.interval * MISSING_INTERVALS;
        map.values().filter(|service| service.due(missing_for)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> (Services, mpsc::Receiver<Arc<Service>>) {
        let (requests, asked) = mpsc::channel(REQUESTS);
        let interval = Duration::from_secs(1);
        let diverts = Arc::default();
        (Services { map: Arc::default(), requests, interval, diverts }, asked)
    }

    fn known(look: Look) -> Finding {
        match look {
            Look::Known(finding) => finding,
            Look::Missing(_) => Finding::Missing,
            Look::Asked(..) => panic!("a probe was asked for"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_calls_share_one_probe() {
        let (services, mut asked) = services();
        let waits: Vec<_> = (0..100).map(|_| services.look("orders")).collect();
        let request = asked.recv().await.unwrap();
        assert!(asked.try_recv().is_err(), "one probe for all");
        request.report(Finding::Consumed);
        for wait in waits {
            let Look::Asked(_, wait) = wait else { panic!("unprobed") };
            assert_eq!(wait.finding().await, Finding::Consumed);
        }
        assert_eq!(known(services.look("orders")), Finding::Consumed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deserted_service_is_looked_at_again_soon() {
        let (services, mut asked) = services();
        let Look::Asked(..) = services.look("orders") else { panic!("unprobed") };
        let first = Instant::now();
        let service = asked.recv().await.unwrap();
        service.report(Finding::Deserted { since: first, waiting: 1 });
        assert!(matches!(known(services.look("orders")), Finding::Deserted { waiting: 1, .. }));
        tokio::time::advance(DESERTED_FOR).await;
        let Look::Asked(_, wait) = services.look("orders") else { panic!("stale") };
        asked.recv().await.unwrap().report(Finding::Deserted { since: Instant::now(), waiting: 2 });
        assert_eq!(wait.finding().await, Finding::Deserted { since: first, waiting: 2 });
        tokio::time::advance(DESERTED_FOR).await;
        let Look::Asked(_, wait) = services.look("orders") else { panic!("stale") };
        asked.recv().await.unwrap().report(Finding::Consumed);
        assert_eq!(wait.finding().await, Finding::Consumed);
    }

    #[tokio::test(start_paused = true)]
    async fn only_called_services_are_renewed() {
        let (services, mut asked) = services();
        for name in ["orders", "gone"] {
            drop(services.look(name));
        }
        asked.recv().await.unwrap().report(Finding::Consumed);
        asked.recv().await.unwrap().report(Finding::Missing);
        let due = || services.due().iter().map(|it| it.queue.to_string()).collect::<Vec<_>>();
        assert_eq!(due(), ["rpc-orders"], "a missing queue is left alone for a while");
        for _ in 0..WATCHED_INTERVALS {
            assert_eq!(due(), ["rpc-orders"]);
        }
        assert_eq!(due(), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(matches!(services.look("orders"), Look::Asked(..)), "an old finding is none");
        assert_eq!(known(services.look("gone")), Finding::Missing);
        assert_eq!(services.due().len(), 2, "both have been called");
        for _ in 0..=REMEMBERED_INTERVALS {
            services.due();
        }
        assert!(services.map.read().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_service_that_was_found_is_looked_at_again() {
        let (services, mut asked) = services();
        drop(services.look("orders"));
        asked.recv().await.unwrap().report(Finding::Missing);
        let Look::Missing(service) = services.look("orders") else { panic!("it is missing") };
        service.found();
        assert_eq!(services.due().len(), 1, "by the background");
        let Look::Asked(..) = services.look("orders") else { panic!("and by the next call") };
        asked.recv().await.unwrap().report(Finding::Consumed);
        service.found();
        assert_eq!(known(services.look("orders")), Finding::Consumed, "no news");
    }

    #[tokio::test(start_paused = true)]
    async fn the_set_is_bounded() {
        let (services, mut asked) = services();
        for n in 0..MOST_SERVICES {
            drop(services.look(&format!("s{n}")));
            if let Ok(request) = asked.try_recv() {
                request.report(if n == 7 { Finding::Missing } else { Finding::Consumed });
            }
        }
        drop(services.look("new"));
        assert_eq!(services.map.read().unwrap().len(), MOST_SERVICES);
        assert!(services.read("s7").is_none(), "a missing one makes room first");
        assert_eq!(known(services.look("newer")), Finding::Unknown, "all others are in use");
        assert!(matches!(known(services.look(&"x".repeat(300))), Finding::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_first_calls_goes_out_unchecked() {
        let (services, _asked) = services();
        for n in 0..REQUESTS {
            assert!(matches!(services.look(&format!("s{n}")), Look::Asked(..)));
        }
        assert_eq!(known(services.look("one more")), Finding::Unknown);
    }
}
