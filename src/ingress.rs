//! The one seam that calls come in by, as `upstream.rs` is the one that they leave by.
//!
//! An ingress is bound before anything runs, so that what cannot work is said at once; it is then
//! run, given new settings at a reload, drained, and ended. Its connections and tasks are its own:
//! the gateway knows a list of ingresses, and no protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::auth::Auth;
use crate::config::ingress::{IngressSettings, ReadIngress};
use crate::event_port::EventPort;
use crate::events::topics::Topics;
use crate::metrics::UpstreamMetrics;
use crate::router::Router;
use crate::tasks::Tasks;
use crate::upstream::Upstream;

/// A kind of ingress, as the protocols' list names it.
pub struct IngressKind {
    /// Its name, in `[NAME]` and in the log.
    pub name: &'static str,
    /// The values of the label `ingress` for what comes in by it.
    pub labels: &'static [&'static str],
    /// The word of the protocol by which services are called that call by this ingress in turn, while
    /// they are answering: as long as one may, a drain leaves it open.
    pub open_for: Option<&'static str>,
    /// Reads its table.
    pub read: ReadIngress,
    /// Binds the places where it listens.
    pub bind: Bind,
}

/// Binds the places where an ingress listens. The error says which place, and the mend. All that
/// the ingress does is done in tasks of the group.
pub type Bind =
    Box<dyn Fn(&dyn IngressSettings, Tasks) -> anyhow::Result<Box<dyn Bound>> + Send + Sync>;

/// An ingress that is bound, and takes no calls yet.
pub trait Bound: Send {
    /// The upstream that it is at the same time, under the name that its settings give.
    fn upstream(&self) -> Option<(Arc<dyn Upstream>, UpstreamMetrics)> {
        None
    }

    /// The events that come and go by it.
    fn events(&self) -> Option<Arc<dyn EventPort>> {
        None
    }

    /// Begins to take calls, and hands them to the router; topics are what its clients may listen
    /// to, and `auth` is asked who they are. Returns at once.
    fn run(
        self: Box<Self>,
        router: &Arc<Router>,
        topics: &Arc<Topics>,
        auth: &Arc<Auth>,
    ) -> Box<dyn Ingress>;
}

/// An ingress at work.
pub trait Ingress: Send + Sync {
    /// Where it listens, as an operator writes it, with the port that the system gave.
    fn addresses(&self) -> Vec<String>;

    /// What it shows to operators.
    fn pages(&self) -> Vec<Page> {
        Vec::new()
    }

    /// Makes ready what new settings ask for: a place to listen that is new is bound beside those
    /// that are open. Nothing is in force until the change is made; the error says what cannot be.
    fn apply<'a>(&'a self, next: &dyn IngressSettings) -> anyhow::Result<Change<'a>>;

    /// The routing table is another one.
    fn routes_changed(&self) {}

    /// Genkan listens there, by whichever of its listeners, and nowhere else from now on.
    fn listens_at(&self, _own: &[SocketAddr]) {}

    /// Reads again the files that its settings name, where they are others. To be called every
    /// second or so.
    fn look(&self) {}

    /// Writes how many like lines were left out of the log lately. To be called every second or
    /// so; at the end with `all`.
    fn sum_up_log(&self, _all: bool) {}

    /// Takes nobody in any more, and waits until those who are owed an answer have it, at most
    /// `patience`. True if all have.
    fn drain(&self, patience: Duration) -> BoxFuture<'_, bool>;

    /// Ends what is left. True if all of it ended within `grace`.
    fn end(&self, grace: Duration) -> BoxFuture<'_, bool>;
}

/// Puts in force what [`Ingress::apply`] made ready. Where it is dropped, all is as before.
pub type Change<'a> = Box<dyn FnOnce() + Send + 'a>;

/// A page for operators, in JSON.
#[derive(Clone)]
pub struct Page {
    /// Where it is served: `/hub/modules`.
    pub path: &'static str,
    /// Writes it anew.
    pub render: Arc<dyn Fn() -> String + Send + Sync>,
}
