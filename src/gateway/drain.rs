//! The drain: no calls and no events are taken any more, and those that were taken get where they are to be.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, sleep, timeout};

use super::ingresses::Ingresses;
use super::upstreams::Running;
use crate::events::bridges::{Bridges, Ports};
use crate::protocol::Protocols;
use crate::router::Router;
use crate::router::answers::Answers;
use crate::router::target::Target;

/// How often it is looked whether calls are under way that may need what is exposed, and whether exposed services
/// have answered what they took,
const LOOK: Duration = Duration::from_millis(10);
/// and how often in a row none are to be: one may have come that is still being read.
const QUIET_LOOKS: usize = 3;

/// The upstreams as they are when the drain begins: none is added, and one that ends meanwhile owes nothing.
pub(super) struct Leaving {
    /// The one that is always there.
    pub(super) resident: Option<Arc<Target>>,
    /// The others, retired ones too.
    pub(super) others: Vec<Running>,
    /// Calls that have keys go on without their callers.
    pub(super) answers: Arc<Answers>,
    pub(super) doubts: Arc<Notify>,
    pub(super) ports: Ports,
}

impl Leaving {
    /// How many calls wait, for an answer or for their turn.
    pub(super) fn in_flight(&self) -> usize {
        let resident = self.resident.as_ref().map_or(0, |target| target.owed());
        resident + self.others.iter().map(|running| running.target.owed()).sum::<usize>()
    }

    /// Whether services of a protocol may be about to call: any call that is under way may lead to them.
    fn may_call(&self, protocol: &str) -> bool {
        self.in_flight() > 0 && self.others.iter().any(|running| running.protocol == protocol)
    }

    /// Takes no calls over the upstreams any more, and waits until those that were taken have
    /// their answers, at most `patience`. True if all have.
    async fn drain(&self, patience: Duration, router: &Arc<Router>) -> bool {
        self.others.iter().for_each(|running| running.expose(&[], router, &self.doubts));
        let answered = async {
            while self.others.iter().any(|running| running.owed() > 0) {
                sleep(LOOK).await;
            }
        };
        timeout(patience, answered).await.is_ok()
    }
}

/// Takes no calls and no events any more, and waits until those that were taken are where they are
/// to be. True if all are.
///
/// Services that are exposed on a broker stay while calls that came in by HTTP or from modules are under
/// way: whoever answers those may need them, and there may be no other instance. They are left when half
/// of the time has passed at the latest, so that what was taken last has the other half. Where services
/// are called that call by an ingress in turn, that one stays open while any call is under way: calls of
/// exposed services keep it open, and it does not keep those.
pub(super) async fn drain(
    (ingresses, protocols): (&Ingresses, &Protocols),
    upstreams: &Leaving,
    bridges: &mut Bridges,
    router: &Arc<Router>,
    patience: Duration,
) -> bool {
    let until = Instant::now() + patience;
    let calls = async {
        let may_call = |protocol: &str| upstreams.may_call(protocol);
        let mut coming_in = pin!(async {
            ingresses.drain(patience, may_call).await && upstreams.answers.settle(until).await
        });
        let came_in = tokio::select! {
            came_in = coming_in.as_mut() => Some(came_in),
            () = nobody_calls(protocols, router) => None,
            () = sleep(patience / 2) => None,
        };
        let exposed = upstreams.drain(until - Instant::now(), router);
        match came_in {
            Some(came_in) => (came_in, exposed.await),
            None => join(coming_in, exposed).await,
        }
    };
    let ((came_in, exposed), events) = join(calls, bridges.drain(&upstreams.ports, patience)).await;
    came_in && exposed && events
}

/// Waits for the drain, which may take a day, and looks after things meanwhile whenever it is time to.
pub(super) async fn beside(
    drain: impl Future<Output = bool>,
    upkeep: &mut Interval,
    mut look_after: impl FnMut(),
) -> bool {
    let mut drain = pin!(drain);
    loop {
        tokio::select! {
            drained = drain.as_mut() => return drained,
            _ = upkeep.tick() => look_after(),
        }
    }
}

/// Waits until no call is under way that came in by an ingress, and none that had just come.
async fn nobody_calls(protocols: &Protocols, router: &Router) {
    let labels = protocols.ingresses.iter().flat_map(|kind| kind.labels);
    let labels: Vec<_> = labels.map(|label| router.ingress(label)).collect();
    let mut quiet = 0;
    while quiet < QUIET_LOOKS {
        sleep(LOOK).await;
        quiet = if router.under_way(&labels) == 0 { quiet + 1 } else { 0 };
    }
}
