//! An upstream's settings, found valid: what can be said of them without a connection, and the start of one.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lapin::types::ShortString;

use super::config::Settings;
use super::connection;
use super::egress::{NamekoUpstream, check};
use super::events::{self, Events};
use super::expose::{self, Exposes};
use super::generation::Hosted;
use super::look;
use super::wire::request as wire;
use crate::budget::{Budget, CONNECTION_PART};
use crate::call::Request;
use crate::config::audit::Advice;
use crate::config::sites::site;
use crate::event_port::{EventAddresses, Way};
use crate::fault::Fault;
use crate::metrics::UpstreamMetrics;
use crate::route::Rule;
use crate::route::expose::Expose;
use crate::tasks::Tasks;
use crate::upstream::{Amiss, Connected, Connector, Envelope, EventsLook};

/// `[upstreams.NAME]` with `protocol = "nameko"`, read.
pub(super) struct NamekoConnector(pub(super) Arc<Settings>);

impl Connector for NamekoConnector {
    fn protocol(&self) -> &'static str {
        "nameko"
    }

    fn address(&self) -> String {
        match self.0.url_file() {
            Some(file) => format!("{} (from {file})", self.0.address),
            None => self.0.address.clone(),
        }
    }

    fn largest_reply(&self) -> Option<(usize, &'static str)> {
        Some((self.0.max_reply, "max_reply"))
    }

    fn largest_request(&self) -> Option<(usize, &'static str, usize)> {
        Some((self.0.max_request, "max_request", CONNECTION_PART))
    }

    fn explain(&self, request: &Request<'_>) -> Result<Envelope, Fault> {
        let routing_key = check(request).map_err(|unsendable| unsendable.fault)?;
        let (id, reply_to) = ("(unique)", "(this gateway's)");
        let properties = wire::call_properties(request, id, reply_to, self.0.expiration);
        let text = |value: &Option<ShortString>| value.as_ref().map(ShortString::to_string);
        let mut address =
            vec![("exchange", self.0.exchange.clone()), ("routing key", routing_key.to_string())];
        let rows = [
            ("content type", text(properties.content_type())),
            ("content encoding", text(properties.content_encoding())),
            ("correlation id", text(properties.correlation_id())),
            ("reply to", text(properties.reply_to())),
            ("expiration", text(properties.expiration()).map(|millis| format!("{millis}ms"))),
            ("priority", properties.priority().map(|priority| priority.to_string())),
            ("delivery mode", properties.delivery_mode().map(delivery_mode)),
        ];
        address.extend(rows.into_iter().filter_map(|(label, value)| Some((label, value?))));
        address.push(("mandatory", "true".to_owned()));
        address.extend(self.0.url_file().map(|file| ("url_file", file)));
        let body = String::from_utf8_lossy(&wire::body(request.params)).into_owned();
        Ok(Envelope { address, headers: wire::shown_headers(&properties), body })
    }

    fn sites(&self) -> Vec<String> {
        sites(&self.0)
    }

    fn vouches_for_callers(&self) -> bool {
        self.0.trust_context
    }

    fn advise(&self) -> Vec<Advice> {
        let trusts = self.0.trust_context.then(|| {
            let what = "whoever can publish there is believed to be whom it says it is: leave it out, unless \
                        RabbitMQ lets nobody publish there but services that verify their callers";
            Advice::new("trust_context", what)
        });
        let clear = self.read_on_the_way().map(|address| {
            let what = format!(
                "the password goes to {address} without TLS: it can be read on the way, and all calls: write amqps://"
            );
            Advice::new("url", what)
        });
        trusts.into_iter().chain(clear).collect()
    }

    fn forwards_credentials(&self) -> bool {
        self.0.forward_authorization
    }

    fn read_on_the_way(&self) -> Option<String> {
        let nodes = self.0.nodes();
        nodes.iter().find(|node| node.is_read_on_the_way()).map(|node| node.address.clone())
    }

    fn object_to(&self, expose: &Expose) -> Vec<(&'static str, String)> {
        expose::object_to(expose)
    }

    fn events(&self) -> Option<EventAddresses> {
        Some(events::ADDRESSES)
    }

    fn look<'a>(&'a self, rows: &'a [&'a Rule], _tasks: &'a Tasks) -> BoxFuture<'a, Vec<Amiss>> {
        Box::pin(look::look(&self.0, rows))
    }

    fn look_at_exposes<'a>(
        &'a self,
        exposes: &'a [&'a Expose],
        _tasks: &'a Tasks,
    ) -> BoxFuture<'a, Vec<Amiss>> {
        Box::pin(look::look_at_exposes(&self.0, exposes))
    }

    fn look_at_events<'a>(
        &'a self,
        ways: &'a [Way<'a>],
        _tasks: &'a Tasks,
    ) -> BoxFuture<'a, EventsLook> {
        Box::pin(async move {
            let amiss = look::look_at_events(&self.0, ways).await;
            EventsLook { amiss, ..EventsLook::default() }
        })
    }

    fn connect(&self, metrics: UpstreamMetrics, budget: &Budget, tasks: &Tasks) -> Connected {
        let exposes = Exposes::new(&self.0, budget.connection(), &metrics, tasks);
        let events = Events::new(&self.0, budget.connection(), &metrics, tasks);
        let link = connection::start(
            Arc::clone(&self.0),
            budget.upstream(),
            metrics.clone(),
            Hosted { exposes: Arc::clone(&exposes), events: Arc::clone(&events) },
            tasks,
        );
        let upstream = Arc::new(NamekoUpstream::new(link, metrics, &self.0));
        Connected { upstream, exposer: Some(exposes), events: Some(events) }
    }
}

/// Where its nodes are, with the virtual host.
pub(super) fn sites(settings: &Settings) -> Vec<String> {
    let nodes = settings.nodes();
    let sites = nodes.iter().map(|node| {
        let authority = &node.uri.authority;
        format!("{}/{}", site(&authority.host, authority.port), node.uri.vhost)
    });
    sites.collect()
}

fn delivery_mode(mode: u8) -> String {
    format!("{mode} ({})", if mode == 2 { "persistent" } else { "transient" })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::call::{Context, Deadline, Params, Payload};
    use crate::fault::FaultKind;
    use crate::trace::TraceParent;

    fn connector() -> NamekoConnector {
        let text = "url = \"amqp://bob:hunter2@rabbit:5672/%2f\"";
        let (settings, _) = crate::config::read_for_test(text, super::super::config::read);
        NamekoConnector(Arc::new(settings))
    }

    fn explain(service: &str, params: &Params) -> Result<Envelope, Fault> {
        let mut context = Context::new(TraceParent::generate());
        context.authorization = Some("Bearer hunter2".to_owned());
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
        let context = &context;
        let method = "create";
        connector().explain(&Request::new((service, method), params, context, deadline))
    }

    #[tokio::test(start_paused = true)]
    async fn explain_shows_what_would_go_out() {
        let params = Params::Array(Payload::from_validated(Bytes::from_static(b"[1.10]")));
        let envelope = explain("orders", &params).unwrap();
        let address: HashMap<_, _> = envelope.address.iter().cloned().collect();
        assert_eq!(address["exchange"], "nameko-rpc");
        assert_eq!(address["routing key"], "orders.create");
        assert_eq!(address["delivery mode"], "1 (transient)");
        assert_eq!(address["expiration"], "5000ms");
        assert_eq!(envelope.body, r#"{"args":[1.10],"kwargs":{}}"#);
        assert!(!format!("{envelope:?}").contains("hunter2"), "{envelope:?}");
        assert_eq!(connector().address(), "amqp://rabbit:5672/%2f");
    }

    #[tokio::test(start_paused = true)]
    async fn explain_refuses_what_a_call_would_be_refused_for() {
        assert_eq!(
            explain("or ders", &Params::None).unwrap_err().kind(),
            FaultKind::InvalidRequest
        );
        let tagged = r#"{"__type__":1,"__value__":2}"#;
        let tagged = Payload::from_validated(Bytes::from_static(tagged.as_bytes()));
        let fault = explain("orders", &Params::Object(tagged)).unwrap_err();
        assert_eq!(fault.kind(), FaultKind::InvalidParams);
    }
}
