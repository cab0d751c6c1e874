//! An upstream's settings, found valid: what can be said of them without a connection, and the start of one.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::config::{Server, Settings};
use super::connection::{self, Link};
use super::egress::Egress;
use super::events::{self, Events};
use super::expose::{self, Exposes};
use super::look;
use super::open::Accounts;
use super::wire::{self, Dialect};
use crate::budget::{Budget, UPSTREAM_PART};
use crate::call::Request;
use crate::config::audit::Advice;
use crate::config::sites::site;
use crate::event_port::{EventAddresses, Way};
use crate::fault::Fault;
use crate::metrics::UpstreamMetrics;
use crate::route::Rule;
use crate::route::expose::Expose;
use crate::tasks::Tasks;
use crate::upstream::{self, Amiss, Connected, Connector, EventsLook, Sent};

/// The settings of a NATS upstream, ready to connect.
pub(super) struct NatsConnector(Arc<Settings>);

impl NatsConnector {
    /// Takes settings that were found valid.
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }
}

impl Connector for NatsConnector {
    fn protocol(&self) -> &'static str {
        "nats"
    }

    fn address(&self) -> String {
        let servers: Vec<_> = self.0.servers.iter().map(ToString::to_string).collect();
        servers.join(", ")
    }

    fn largest_reply(&self) -> Option<(usize, &'static str)> {
        Some((self.0.max_reply, "max_reply"))
    }

    fn largest_request(&self) -> Option<(usize, &'static str, usize)> {
        Some((self.0.max_request, "max_request", UPSTREAM_PART))
    }

    fn explain(&self, request: &Request<'_>) -> Result<upstream::Envelope, Fault> {
        let settings = &self.0;
        let subject = wire::subject(settings.dialect, &settings.inbox_prefix, request)
            .map_err(|refusal| refusal.fault)?;
        let mut body = wire::message(settings.dialect, request)?;
        if settings.dialect == Dialect::Nest {
            body = wire::packet(&subject, &body, Some("…"));
        }
        let pattern = "request with reply to an inbox; a notification without";
        let mut address = vec![("subject", subject), ("pattern", pattern.to_owned())];
        if settings.dialect == Dialect::Micro && request.subject.is_none() {
            let asked = wire::inquiry(request.service.split('.').next().unwrap_or_default());
            let look_up = format!("{asked}: the endpoint's own subject goes before that one");
            address.push(("look-up", look_up));
        }
        Ok(upstream::Envelope {
            address,
            headers: wire::describe(request),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn has_subjects(&self) -> bool {
        true
    }

    fn sites(&self) -> Vec<String> {
        sites(&self.0)
    }

    fn exposed_as(&self, expose: &Expose, method: &str) -> String {
        expose::called(&self.0, expose, method)
    }

    fn takes(&self, expose: &Expose, sent: &Sent<'_>) -> Vec<String> {
        expose::takes(&self.0, expose, sent)
    }

    fn vouches_for_callers(&self) -> bool {
        self.0.trust_context
    }

    fn advise(&self) -> Vec<Advice> {
        let trusts = self.0.trust_context.then(|| {
            let what = "whoever can publish there is believed to be whom it says it is: leave it out, unless \
                        NATS lets nobody publish there but services that verify their callers";
            Advice::new("trust_context", what)
        });
        let clear = self.0.tells_a_secret_to().map(|server| {
            let what = format!(
                "a password or token goes to {server} without TLS, unless the server insists on it: it can be \
                 read on the way, and all calls: write tls://, or add `tls = true`"
            );
            Advice::new("servers", what)
        });
        trusts.into_iter().chain(clear).collect()
    }

    fn forwards_credentials(&self) -> bool {
        self.0.forward_authorization
    }

    fn read_on_the_way(&self) -> Option<String> {
        self.0.reached_in_clear().next().map(ToString::to_string)
    }

    fn object_to(&self, expose: &Expose) -> Vec<(&'static str, String)> {
        expose::object_to(&self.0, expose)
    }

    fn look<'a>(&'a self, rows: &'a [&'a Rule], tasks: &'a Tasks) -> BoxFuture<'a, Vec<Amiss>> {
        Box::pin(look::look(&self.0, rows, tasks))
    }

    fn look_at_exposes<'a>(
        &'a self,
        exposes: &'a [&'a Expose],
        tasks: &'a Tasks,
    ) -> BoxFuture<'a, Vec<Amiss>> {
        Box::pin(look::look_at_exposes(&self.0, exposes, tasks))
    }

    fn look_at_events<'a>(
        &'a self,
        ways: &'a [Way<'a>],
        tasks: &'a Tasks,
    ) -> BoxFuture<'a, EventsLook> {
        Box::pin(look::look_at_events(&self.0, ways, tasks))
    }

    fn events(&self) -> Option<EventAddresses> {
        Some(events::ADDRESSES)
    }

    fn connect(&self, metrics: UpstreamMetrics, budget: &Budget, tasks: &Tasks) -> Connected {
        let settings = Arc::clone(&self.0);
        let link = Link::new();
        let exposes = Exposes::new(&settings, &link, &metrics, tasks);
        let events = Events::new(&settings, &link, &metrics);
        let accounts = Accounts {
            replies: budget.upstream(),
            requests: budget.upstream(),
            events: budget.upstream(),
        };
        let (own, exposer, port) =
            (Arc::clone(&settings), Arc::clone(&exposes), Arc::clone(&events));
        connection::start(own, &link, accounts, (exposes, events), metrics.clone(), tasks);
        let upstream = Arc::new(Egress::new(settings, link, metrics, tasks));
        Connected { upstream, exposer: Some(exposer), events: Some(port) }
    }
}

/// Where its servers are, and by which account: of one server each sees its own subjects alone.
pub(super) fn sites(settings: &Settings) -> Vec<String> {
    let site = |server: &Arc<Server>| {
        let place = site(&server.host, server.port);
        format!("{place} {:x}", settings.auth(server).fingerprint())
    };
    settings.servers.iter().map(site).collect()
}
