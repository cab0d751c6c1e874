//! Calls on their way out: envelope, table, wait, and the reply's meaning.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::config::Settings;
use super::connection::{self, Link, State};
use super::generation::Generation;
use super::pending::{Answer, Closed};
use super::wire::{self, Refused};
use crate::budget::Budget;
use crate::call::{Held, Reply, Request};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;
use crate::upstream::{self, Connected, Connector, Readiness, Upstream};

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

    fn explain(&self, request: &Request<'_>) -> Result<upstream::Envelope, Fault> {
        let settings = &self.0;
        let subject = wire::subject(settings.dialect, &settings.inbox_prefix, request)
            .map_err(|refusal| refusal.fault)?;
        let body = wire::message(settings.dialect, request)?;
        let pattern = "request with reply to an inbox; a notification without";
        Ok(upstream::Envelope {
            address: vec![("subject", subject), ("pattern", pattern.to_owned())],
            headers: wire::describe(request),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn has_subjects(&self) -> bool {
        true
    }

    fn connect(&self, metrics: UpstreamMetrics, budget: &Budget, tasks: &Tasks) -> Connected {
        let settings = Arc::clone(&self.0);
        let link = connection::start(settings, budget.upstream(), metrics.clone(), tasks);
        let upstream = Arc::new(Egress { settings: Arc::clone(&self.0), link, metrics });
        Connected { upstream }
    }
}

struct Egress {
    settings: Arc<Settings>,
    link: Arc<Link>,
    metrics: UpstreamMetrics,
}

/// A request that may be sent.
struct Envelope {
    subject: Arc<str>,
    headers: String,
    payload: Bytes,
}

impl Egress {
    fn envelope(&self, request: &Request<'_>) -> Result<Envelope, Fault> {
        let settings = &self.settings;
        let subject = wire::subject(settings.dialect, &settings.inbox_prefix, request);
        let subject = subject.map_err(|refusal| {
            self.metrics.refused(refusal.reason);
            refusal.fault
        })?;
        let payload = wire::message(settings.dialect, request)?;
        Ok(Envelope { subject: subject.into(), headers: wire::headers(request), payload })
    }

    /// The generation to send through, if there is one and the message is not too large for it.
    fn generation(&self, envelope: &Envelope) -> Result<Arc<Generation>, Fault> {
        let state = self.link.state();
        let generation = match &*state {
            State::Up(generation) => Arc::clone(generation),
            State::Down(why) => return Err(unavailable(why)),
        };
        let size = envelope.payload.len() + envelope.headers.len();
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

    /// Sends a request, and waits for the end. One whose generation was retired before it could be
    /// sent goes to the next one.
    async fn send(&self, request: &Request<'_>, wants_reply: bool) -> Result<Answer, Fault> {
        let mut before: Option<Arc<Generation>> = None;
        loop {
            let envelope = self.envelope(request)?;
            let generation = self.generation(&envelope)?;
            if before.is_some_and(|before| Arc::ptr_eq(&before, &generation)) {
                return Ok(Answer::Lost { sent: false });
            }
            let held = request.departure.hold();
            match send_through(&generation, envelope, held, wants_reply).await? {
                Answer::Lost { sent: false } => before = Some(generation),
                answer => return Ok(answer),
            }
        }
    }

    async fn call(&self, request: &Request<'_>) -> Result<Reply, Fault> {
        let message = match self.send(request, true).await? {
            Answer::Reply(message) => message,
            answer => return Err(self.no_reply(request, &answer)),
        };
        let mut repaired = false;
        let reply = wire::decode(self.settings.dialect, request, message, &mut repaired);
        if repaired {
            self.metrics.repaired_reply();
        }
        reply
    }

    async fn notify(&self, request: &Request<'_>) -> Result<(), Fault> {
        match self.send(request, false).await? {
            Answer::Taken => Ok(()),
            answer => Err(self.no_reply(request, &answer)),
        }
    }

    fn no_reply(&self, request: &Request<'_>, answer: &Answer) -> Fault {
        match answer {
            Answer::Denied => denied(request),
            Answer::Lost { sent: false } => unavailable("the connection to NATS was lost"),
            Answer::Refused(Refused::TooLarge(size)) => {
                too_large(request, *size, self.settings.max_reply)
            }
            Answer::Refused(Refused::NoRoom(exceeded)) => exceeded.fault(Outcome::Executed),
            Answer::Lost { sent: true } | Answer::Reply(_) | Answer::Taken => lost(request),
        }
    }
}

async fn send_through(
    generation: &Generation,
    Envelope { subject, headers, payload }: Envelope,
    held: Held<'_>,
    wants_reply: bool,
) -> Result<Answer, Fault> {
    let ticket = match generation.pending().register(Arc::clone(&subject), held) {
        Ok(ticket) => ticket,
        Err(Closed::Ended) => return Ok(Answer::Lost { sent: false }),
        Err(Closed::Full) => return Err(full()),
    };
    if !generation.send(&ticket, subject, headers, payload, wants_reply).await {
        return Ok(Answer::Lost { sent: false });
    }
    Ok(ticket.answer().await)
}

fn unavailable(why: &str) -> Fault {
    let message = format!("nothing can be sent to NATS now: {why}");
    Fault::not_sent(FaultKind::Unavailable, message)
}

fn full() -> Fault {
    Fault::not_sent(
        FaultKind::Overloaded,
        "more calls wait for NATS than one connection has room for: wait, or lower the \
         upstream's `max_in_flight`",
    )
}

fn too_large(request: &Request<'_>, size: usize, limit: usize) -> Fault {
    let message = format!(
        "the reply to `{}.{}` is {size} bytes with its headers, and {limit} are taken at most: \
         answer less, or raise the upstream's `max_reply`",
        request.service, request.method
    );
    Fault::new(FaultKind::TooLarge, Outcome::Executed, message)
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
