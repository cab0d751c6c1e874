//! The one seam that calls leave by.
//!
//! A protocol's egress implements [`Upstream`]; the router knows nothing else of it. The router
//! holds the deadline and the limit on calls in flight: it drops the future of a call whose
//! deadline has passed or whose caller has gone, and the upstream must then forget the call.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::budget::Budget;
use crate::call::{Deadline, Reply, Request};
use crate::config::audit::Advice;
use crate::event_port::{EventAddresses, EventPort, Way};
use crate::exposer::Exposer;
use crate::fault::Fault;
use crate::metrics::UpstreamMetrics;
use crate::offer::Offers;
use crate::offer::reading::Reading;
use crate::route::Rule;
use crate::route::expose::Expose;
use crate::route::pattern::Pattern;
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

    /// Whether calls of that service would find somebody, as far as is known: not where the whole
    /// upstream is not ready, and elsewhere as its protocol can tell.
    fn is_ready_for(&self, _service: &str) -> bool {
        self.readiness() == Readiness::Ready
    }

    /// Whether calls may have to stand in a line of its own before they can leave.
    fn has_a_line(&self) -> bool {
        false
    }

    /// The methods that can be called there, of one service or of all that it knows: none where
    /// nobody tells. Whoever asks says how long there is time, and where answers are read.
    fn offers<'a>(
        &'a self,
        _service: Option<&'a str>,
        _until: Deadline,
        _reading: &'a Reading,
    ) -> BoxFuture<'a, Offers> {
        Box::pin(std::future::ready(Offers::default()))
    }
}

/// What a look at a running broker has found amiss: what it is, and the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amiss {
    /// The row that it is about, or the exposed service, or the address of events, by its place among those
    /// that were asked for; `None` where it is the whole upstream.
    pub row: Option<usize>,
    /// Whether calls or events fail for it for as long as nobody mends it; else it may be a matter of time.
    pub lasts: bool,
    /// For the operator: no credentials.
    pub what: String,
}

impl Amiss {
    /// Something that the upstream as a whole suffers from.
    pub fn of_upstream(what: &str) -> Self {
        Self { row: None, lasts: true, what: what.to_owned() }
    }

    /// The same, where it may be a matter of time.
    pub fn doubt_of_upstream(what: &str) -> Self {
        Self { row: None, lasts: false, what: what.to_owned() }
    }

    /// Nobody answers the calls of a row, or there are no events, which may be a matter of time.
    pub fn of_row(row: usize, what: &str) -> Self {
        Self { row: Some(row), lasts: false, what: what.to_owned() }
    }

    /// The calls of a row are answered wrongly, or its events do not get through.
    pub fn error_of_row(row: usize, what: &str) -> Self {
        Self { row: Some(row), lasts: true, what: what.to_owned() }
    }
}

/// What a look at the addresses of events finds.
#[derive(Debug, Default)]
pub struct EventsLook {
    /// What keeps events from coming and going.
    pub amiss: Vec<Amiss>,
    /// Other addresses there by which what comes from one comes too, or a part of it: those of what a stream keeps.
    pub also_at: Vec<(usize, String)>,
}

/// What a call is called where a row sends it. A method may be a glob.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The service.
    pub service: &'a str,
    /// The method.
    pub method: &'a str,
    /// The subject that the row names.
    pub subject: Option<&'a str>,
}

/// What a connection to a configured place is used for: a field for each of its roles.
///
/// The connection itself stays in its protocol's folder. There, what lives and dies with one
/// connection (a generation) hosts the living side of each role; what is here outlives it.
pub struct Connected {
    /// Calls leave by it.
    pub upstream: Arc<dyn Upstream>,
    /// Calls of exposed services come in by it; `None` where the protocol has no place for them.
    pub exposer: Option<Arc<dyn Exposer>>,
    /// Events come and go by it; `None` where the protocol has none.
    pub events: Option<Arc<dyn EventPort>>,
}

/// The settings of a configured place, read from its table in the configuration and found valid.
pub trait Connector: Send + Sync {
    /// The word in `protocol = "…"`.
    fn protocol(&self) -> &'static str;

    /// Where it is, for an operator, without credentials.
    fn address(&self) -> String;

    /// What [`Upstream::call`] would send for a call. Sends nothing and needs no connection.
    fn explain(&self, request: &Request<'_>) -> Result<Envelope, Fault>;

    /// The largest reply that is taken in, in bytes, and the key that says so.
    fn largest_reply(&self) -> Option<(usize, &'static str)> {
        None
    }

    /// The largest request to what is exposed there, or event, likewise; and of how many parts of the
    /// memory all of them may take one. `None` where such come by replies' rules, or not at all.
    fn largest_request(&self) -> Option<(usize, &'static str, usize)> {
        None
    }

    /// Whether [`Request::subject`] means something to it: else no route may have one.
    fn has_subjects(&self) -> bool {
        false
    }

    /// Under which names its services have to announce themselves; `None` where the configuration says
    /// where they are.
    fn announced(&self) -> Option<&Pattern> {
        None
    }

    /// The headers of callers that its services are to have, by their names in small letters.
    fn wanted_headers(&self) -> &[Arc<str>] {
        &[]
    }

    /// What of an `[[expose]]` row cannot be done here, each with the row's key and the mend.
    fn object_to(&self, expose: &Expose) -> Vec<(&'static str, String)> {
        let message = format!("the protocol `{}` has no place for services", self.protocol());
        vec![("on", format!("{message}: leave `{}` out", expose.name))]
    }

    /// Its servers, each in a form in which two names of one place are [alike](crate::config::sites::site),
    /// with what those have in common there who log in as it does. Never shown.
    fn sites(&self) -> Vec<String> {
        vec![self.address()]
    }

    /// What a method of a service is called by that is exposed there.
    fn exposed_as(&self, expose: &Expose, method: &str) -> String {
        [&expose.name, ".", method].concat()
    }

    /// The methods by which a call that is sent to its servers reaches a service that is exposed there, as
    /// globs; none where it does not.
    fn takes(&self, expose: &Expose, sent: &Sent<'_>) -> Vec<String> {
        let is_its = sent.subject.is_none() && sent.service == expose.name;
        is_its.then(|| sent.method.to_owned()).into_iter().collect()
    }

    /// The names by which a call comes in that is sent to a listener of Genkan's own.
    fn comes_in_as(&self, _sent: &Sent<'_>) -> Vec<String> {
        Vec::new()
    }

    /// What its addresses of events are; `None` where the protocol has none.
    fn events(&self) -> Option<EventAddresses> {
        None
    }

    /// Whether what callers by way of it say of themselves is believed.
    fn vouches_for_callers(&self) -> bool {
        false
    }

    /// What an operator whom the world can reach should mend, by the keys of its table.
    fn advise(&self) -> Vec<Advice> {
        Vec::new()
    }

    /// Whether credentials of those who call what is exposed there go on to services.
    fn forwards_credentials(&self) -> bool {
        false
    }

    /// A place that is reached without TLS and is another machine's: what is sent there can be read on the way.
    fn read_on_the_way(&self) -> Option<String> {
        None
    }

    /// Connects, looks at what calls of these rows would find, and leaves. Read-only: it changes
    /// nothing, and no service is called.
    fn look<'a>(&'a self, _rows: &'a [&'a Rule], _tasks: &'a Tasks) -> BoxFuture<'a, Vec<Amiss>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// The same for services that are exposed here. What the upstream as a whole suffers from, [`look`]
    /// tells.
    ///
    /// [`look`]: Connector::look
    fn look_at_exposes<'a>(
        &'a self,
        _exposes: &'a [&'a Expose],
        _tasks: &'a Tasks,
    ) -> BoxFuture<'a, Vec<Amiss>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// The same for addresses that events come from and go to. What is not there is not made.
    fn look_at_events<'a>(
        &'a self,
        _ways: &'a [Way<'a>],
        _tasks: &'a Tasks,
    ) -> BoxFuture<'a, EventsLook> {
        Box::pin(std::future::ready(EventsLook::default()))
    }

    /// Starts the connection's supervisor in `tasks`, and gives what it is to be used for. Returns
    /// at once: a broker that is down makes an upstream that is not ready, and that tries for ever.
    ///
    /// Replies are counted in `budget`, as they come.
    fn connect(&self, metrics: UpstreamMetrics, budget: &Budget, tasks: &Tasks) -> Connected;
}
