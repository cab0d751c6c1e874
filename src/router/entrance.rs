//! The router as whoever takes calls from a broker sees it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::Router;
use super::ledger::IngressLabel;
use crate::call::{Call, Reply, TraceParent};
use crate::exposer::Entrance;
use crate::fault::Fault;

/// The way into a router for calls that come in one way.
pub struct RouterEntrance {
    router: Arc<Router>,
    ingress: IngressLabel,
}

impl RouterEntrance {
    /// The entrance for calls that come in by `ingress`.
    pub fn new(router: &Arc<Router>, ingress: &'static str) -> Self {
        Self { router: Arc::clone(router), ingress: router.ingress(ingress) }
    }
}

impl Entrance for RouterEntrance {
    fn dispatch(&self, call: Call) -> BoxFuture<'_, Result<Reply, Fault>> {
        async move { self.router.dispatch(self.ingress, call).await.result }.boxed()
    }

    fn is_guarded(&self) -> bool {
        self.router.table.load().is_guarded()
    }

    fn refuse(&self, trace: &TraceParent, since: Instant, fault: &Fault) {
        self.router.refuse(self.ingress, trace, since, fault);
    }
}
