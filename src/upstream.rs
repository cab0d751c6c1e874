//! The one seam that calls leave by.
//!
//! A protocol's egress implements [`Upstream`]; the router knows nothing else of it. The router
//! holds the deadline and the limit on calls in flight: it drops the future of a call whose
//! deadline has passed or whose caller has gone, and the upstream must then forget the call.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::budget::Budget;
use crate::call::{Reply, Request};
use crate::fault::Fault;
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// Whether calls can be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Connected, and able to receive replies.
    Ready,
    /// Not able to; the reason is for the operator, without addresses or credentials.
    NotReady(String),
}

/// What would be sent for a call, for `genkan explain`: shown to an operator, never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where it would go, as labelled rows: (`routing key`, `orders_service.create`).
    pub address: Vec<(&'static str, String)>,
    /// The headers or properties.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// A configured place that calls go to.
pub trait Upstream: Send + Sync + 'static {
    /// Sends a call and waits for its result. Does not watch the deadline: who dropped the
    /// future is not waiting any more, and the call must leave no trace in any table. What was
    /// [held](crate::call::Departure::hold) until then must never be sent.
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>>;

    /// Sends a notification, and returns once the peer has taken it over, as far as its
    /// protocol can tell.
    fn notify<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>>;

    /// Whether calls can be sent now.
    fn readiness(&self) -> Readiness;
}

/// What a connection to a configured place is used for: a field for each of its roles.
///
/// The connection itself stays in its protocol's folder. There, what lives and dies with one
/// connection (a generation) hosts the living side of each role; what is here outlives it.
pub struct Connected {
    /// Calls leave by it.
    pub upstream: Arc<dyn Upstream>,
}

/// The settings of a configured place, read from its table in the configuration and found valid.
pub trait Connector: Send + Sync {
    /// The word in `protocol = "…"`.
    fn protocol(&self) -> &'static str;

    /// Where it is, for an operator, without credentials.
    fn address(&self) -> String;

    /// What [`Upstream::call`] would send for a call. Sends nothing and needs no connection.
    fn explain(&self, request: &Request<'_>) -> Result<Envelope, Fault>;

    /// Whether [`Request::subject`] means something to it: else no route may have one.
    fn has_subjects(&self) -> bool {
        false
    }

    /// Starts the connection's supervisor in `tasks`, and gives what it is to be used for. Returns
    /// at once: a broker that is down makes an upstream that is not ready, and that tries for ever.
    ///
    /// Replies are counted in `budget`, as they come.
    fn connect(&self, metrics: UpstreamMetrics, budget: &Budget, tasks: &Tasks) -> Connected;
}
