//! The router as whoever takes calls from a broker sees it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ledger::IngressLabel;
use super::{Called, Dispatched, Router};
use crate::call::Call;
use crate::caller::Caller;
use crate::exposer::{Entrance, Fits, Handled};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::trace::TraceParent;

/// The way into a router for calls that come in one way.
pub struct RouterEntrance {
    router: Arc<Router>,
    ingress: IngressLabel,
    doubts: Arc<Notify>,
}

impl RouterEntrance {
    /// The entrance for calls that come in by `ingress`. `doubts` are told when one could not be sent
    /// anywhere: whoever took it perhaps had better leave it to others.
    pub fn new(router: &Arc<Router>, ingress: &'static str, doubts: &Arc<Notify>) -> Self {
        let (router, ingress) = (Arc::clone(router), router.ingress(ingress));
        Self { router, ingress, doubts: Arc::clone(doubts) }
    }
}

impl Entrance for RouterEntrance {
    fn dispatch<'a>(&'a self, call: Call, fits: Fits<'a>) -> BoxFuture<'a, Handled> {
        let dispatch = async move {
            let dispatched = self.router.dispatch_fitting(self.ingress, call, fits).await;
            let Dispatched { result, replayed, .. } = dispatched;
            if result.as_ref().is_err_and(was_refused) {
                self.doubts.notify_one();
            }
            Handled { result, replayed }
        };
        dispatch.boxed()
    }

    fn is_guarded(&self) -> bool {
        self.router.table.load().is_guarded()
    }

    fn refuse(&self, called: &str, trace: &TraceParent, since: Instant, fault: &Fault) {
        let called = Called::Routed(called);
        self.router.refuse(self.ingress, (called, &Caller::NOBODY, trace), since, fault);
    }

    fn lost(&self, called: &str, trace: &TraceParent, fault: &Fault) {
        self.router.ledger.tell(self.ingress, (called, &Caller::NOBODY, trace), fault);
    }
}

/// Whether whoever was to have the call is away.
fn was_refused(fault: &Fault) -> bool {
    let kinds = [FaultKind::Unavailable, FaultKind::UnknownService];
    kinds.contains(&fault.kind()) && fault.outcome() == Outcome::NotSent
}
