//! Calls on their way out: envelope, table, wait, and the reply's meaning.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::config::Settings;
use super::connection::{self, Link, State};
use super::generation::Generation;
use super::pending::{Answer, Closed};
use super::wire;
use crate::budget::Budget;
use crate::call::{Reply, Request};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;
use crate::upstream::{Connected, Connector, Envelope, Readiness, Upstream};

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

    fn explain(&self, request: &Request<'_>) -> Result<Envelope, Fault> {
        let settings = &self.0;
        let subject = wire::subject(settings.dialect, &settings.inbox_prefix, request)
            .map_err(|refusal| refusal.fault)?;
        let body = wire::message(settings.dialect, request)?;
        let pattern = "request with reply to an inbox; a notification without";
        Ok(Envelope {
            address: vec![("subject", subject), ("pattern", pattern.to_owned())],
            headers: wire::describe(request),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn connect(&self, metrics: UpstreamMetrics, _budget: &Budget, tasks: &Tasks) -> Connected {
        let link = connection::start(Arc::clone(&self.0), metrics.clone(), tasks);
        let upstream = Arc::new(Egress { settings: Arc::clone(&self.0), link, metrics });
        Connected { upstream }
    }
}

struct Egress {
    settings: Arc<Settings>,
    link: Arc<Link>,
    metrics: UpstreamMetrics,
}

/// A request that may be sent, but for its reply subject.
struct Outgoing {
    subject: Subject,
    headers: HeaderMap,
    payload: Bytes,
}

impl Egress {
    fn outgoing(&self, request: &Request<'_>) -> Result<Outgoing, Fault> {
        let settings = &self.settings;
        let subject = wire::subject(settings.dialect, &settings.inbox_prefix, request);
        let subject = subject.map_err(|refusal| {
            self.metrics.refused(refusal.reason);
            refusal.fault
        })?;
        let payload = wire::message(settings.dialect, request)?;
        let mut headers = HeaderMap::new();
        for (name, value) in wire::headers(request.context, request.deadline.remaining()) {
            let value = HeaderValue::from(value.into_owned());
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(Outgoing { subject: subject.into(), headers, payload })
    }

    /// The generation to send through, if there is one and the message is not too large for it.
    fn generation(&self, outgoing: &Outgoing) -> Result<Arc<Generation>, Fault> {
        let state = self.link.state();
        let generation = match &*state {
            State::Up(generation) => Arc::clone(generation),
            State::Down(why) => return Err(unavailable(why)),
        };
        let size = outgoing.payload.len() + wire::size(&outgoing.headers);
        let limit = generation.max_payload();
        if size > limit {
            return Err(Fault::not_sent(
                FaultKind::TooLarge,
                format!(
                    "the message is {size} bytes with its headers, and this NATS takes {limit} \
                     at most: send less, or raise the server's `max_payload`"
                ),
            ));
        }
        Ok(generation)
    }

    async fn call(&self, request: &Request<'_>) -> Result<Reply, Fault> {
        let outgoing = self.outgoing(request)?;
        let generation = self.generation(&outgoing)?;
        let Outgoing { subject, headers, payload } = outgoing;
        let mut ticket = generation.pending().register(subject.clone()).map_err(no_place)?;
        ticket.hold(request.departure.hold());
        let sent = generation.publish_call(&ticket, subject, headers, payload).await;
        sent.map_err(|_| unavailable(LOST))?;
        match ticket.answer().await {
            Answer::Reply(message) => {
                let mut repaired = false;
                let reply = wire::decode(self.settings.dialect, request, message, &mut repaired);
                if repaired {
                    self.metrics.repaired_reply();
                }
                reply
            }
            Answer::Denied => Err(denied(request)),
            Answer::Lost { sent: false } => Err(unavailable(LOST)),
            Answer::Lost { sent: true } => Err(lost(request)),
        }
    }

    async fn notify(&self, request: &Request<'_>) -> Result<(), Fault> {
        let outgoing = self.outgoing(request)?;
        let generation = self.generation(&outgoing)?;
        let Outgoing { subject, headers, payload } = outgoing;
        let ticket = generation.pending().register(subject.clone()).map_err(no_place)?;
        let held = request.departure.hold();
        let sent = generation.publish(subject.clone(), headers, payload).await;
        held.release();
        sent.map_err(|_| unavailable(LOST))?;
        generation.confirm().await.map_err(|_| lost(request))?;
        let denial = generation.is_denied(&subject, ticket).await;
        if denial { Err(denied(request)) } else { Ok(()) }
    }
}

const LOST: &str = "the connection to NATS was lost";

fn unavailable(why: &str) -> Fault {
    let message = format!("nothing can be sent to NATS now: {why}");
    Fault::not_sent(FaultKind::Unavailable, message)
}

fn no_place(closed: Closed) -> Fault {
    match closed {
        Closed::Ended => unavailable(LOST),
        Closed::Full => Fault::not_sent(
            FaultKind::Overloaded,
            "more calls wait for NATS than one connection has room for: wait, or lower the \
             upstream's `max_in_flight`",
        ),
    }
}

fn denied(request: &Request<'_>) -> Fault {
    let message = format!(
        "NATS does not permit Genkan to call `{}.{}`: allow its user to publish there",
        request.service, request.method
    );
    Fault::new(FaultKind::AccessDenied, Outcome::Rejected, message)
}

fn lost(request: &Request<'_>) -> Fault {
    let message = format!(
        "the connection to NATS was lost while `{}.{}` was on its way: it may have run, or not",
        request.service, request.method
    );
    Fault::new(FaultKind::Unavailable, Outcome::Unknown, message)
}

impl Upstream for Egress {
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(self.call(request))
    }

    fn notify<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.notify(request))
    }

    fn readiness(&self) -> Readiness {
        match &*self.link.state() {
            State::Up(_) => Readiness::Ready,
            State::Down(why) => Readiness::NotReady((*why).to_owned()),
        }
    }
}
