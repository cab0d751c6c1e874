//! The seam that calls come in by over a connection which calls leave by too: services that are
//! exposed on a broker, where they are called as if they lived there.
//!
//! An [`Ingress`](crate::ingress::Ingress) has listeners of its own; an exposer has what its
//! upstream's connection gives it, and comes and goes with that upstream.

pub mod board;
pub mod debts;
pub mod gate;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::call::{Call, Reply};
use crate::fault::Fault;
use crate::route::expose::Expose;
use crate::trace::TraceParent;

/// What of a request's own words about its caller goes on.
#[derive(Clone, Copy, Debug)]
pub struct Credence {
    /// Its credentials.
    pub credentials: bool,
    /// Who it says that its user is.
    pub user: bool,
}

impl Credence {
    /// None of them.
    pub const NONE: Self = Self { credentials: false, user: false };
    /// All of them.
    pub const ALL: Self = Self { credentials: true, user: true };

    /// What goes on where the upstream hands credentials on, or is trusted to have verified the user.
    /// Where callers have to be known, nobody is whom it says it is without that trust.
    pub fn of(forwards: bool, trusts: bool, is_guarded: bool) -> Self {
        Self { credentials: forwards, user: trusts || (forwards && !is_guarded) }
    }
}

/// How much of a service is exposed that is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// No calls of it are taken.
    Nothing,
    /// Calls of some methods are.
    Part,
    /// All calls are, but those who ask which services there are do not hear of it.
    Unlisted,
}

/// Why a service is not exposed, or not as it should be, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Its name over there.
    pub name: String,
    /// How much of it is exposed.
    pub extent: Extent,
    /// What is wrong, and the mend; no credentials.
    pub what: String,
}

/// Exposes services on a broker.
pub trait Exposer: Send + Sync {
    /// Takes calls of these services from now on, and of no others, and hands them in at the
    /// entrance. Returns at once. A service that goes answers what it has taken; one that stays is
    /// not interrupted. With none it takes no calls any more.
    fn expose(&self, services: &[Arc<Expose>], entrance: &Arc<dyn Entrance>);

    /// These are not to be exposed any more, for good: told before the services that stay. What there is of
    /// theirs on the broker need not be kept for them.
    fn abandon(&self, _exposes: &[Arc<Expose>]) {}

    /// Whether it takes calls of all that it was told to expose last, as far as it can tell: before
    /// that, who did so until now must not leave. Where requests wait for whoever comes, it always is.
    fn is_settled(&self) -> bool {
        true
    }

    /// Services that it was told to expose and cannot, or not wholly.
    fn troubles(&self) -> Vec<Trouble> {
        Vec::new()
    }

    /// How many calls it has taken and not answered yet.
    fn owed(&self) -> usize;
}

/// How a call has ended that was handed in.
pub struct Handled {
    /// The result or the fault.
    pub result: Result<Reply, Fault>,
    /// It is the answer of another call under the same key.
    pub replayed: bool,
}

/// Looks whether a result can be an answer.
pub type Fits<'a> = &'a (dyn Fn(&Reply) -> Result<(), Fault> + Send + Sync);

/// Where calls that have come in are handed to the routing table.
pub trait Entrance: Send + Sync {
    /// Routes a call, carries it out, and counts and logs its end, which is a fault where `fits` has one
    /// for its result: an answer that its caller cannot be given. A caller who leaves drops the future.
    fn dispatch<'a>(&'a self, call: Call, fits: Fits<'a>) -> BoxFuture<'a, Handled>;

    /// Whether callers have to be known: then what they say of themselves is believed only where
    /// their upstream is trusted.
    fn is_guarded(&self) -> bool;

    /// Counts and logs what came in and is no call, `called` as far as that is known.
    fn refuse(&self, called: &str, trace: &TraceParent, since: Instant, fault: &Fault);

    /// Logs that the answer of a call that was counted did not get to its caller.
    fn lost(&self, called: &str, trace: &TraceParent, fault: &Fault);
}
