//! Calls on their way out: publication, table, wait, and the reply's meaning.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::config::{Server, Settings};
use super::connection::{self, Link, State};
use super::directory::{Directory, Location};
use super::events::{self, Events};
use super::expose::{self, Exposes};
use super::generation::Generation;
use super::look;
use super::offers;
use super::open::Accounts;
use super::outbox::Publication;
use super::pending::{Answer, Closed};
use super::wire::{self, Dialect, Unkept};
use crate::budget::{Budget, UPSTREAM_PART};
use crate::call::{Deadline, Held, Reply, Request};
use crate::config::audit::Advice;
use crate::config::sites::site;
use crate::event_port::{EventAddresses, Way};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::offer::Offers;
use crate::route::Rule;
use crate::route::expose::Expose;
use crate::tasks::Tasks;
use crate::token::random_uuid;
use crate::upstream::{self, Amiss, Connected, Connector, EventsLook, Readiness, Sent, Upstream};

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
        let settings = &self.0;
        // Of one server each account sees its own subjects alone.
        let site = |server: &Arc<Server>| {
            let place = site(&server.host, server.port);
            format!("{place} {:x}", settings.auth(server).fingerprint())
        };
        settings.servers.iter().map(site).collect()
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
        let directory = (settings.dialect == Dialect::Micro)
            .then(|| Directory::new(Arc::clone(&link), &settings.inbox_prefix, tasks));
        let upstream = Arc::new(Egress { settings, link, directory, metrics });
        Connected { upstream, exposer: Some(exposer), events: Some(port) }
    }
}

struct Egress {
    settings: Arc<Settings>,
    link: Arc<Link>,
    /// Where micro services have their endpoints.
    directory: Option<Arc<Directory>>,
    metrics: UpstreamMetrics,
}

/// Whose word a subject is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The configuration's.
    Given,
    /// The service's own.
    Told,
    /// Nobody's: older services are there.
    Guessed,
}

impl Egress {
    /// What is sent. Nobody was at the subject `missed`.
    async fn publication(
        &self,
        request: &Request<'_>,
        wants_reply: bool,
        missed: Option<&str>,
    ) -> Result<(Publication, Word), Fault> {
        let settings = &self.settings;
        let subject = wire::subject(settings.dialect, &settings.inbox_prefix, request);
        let subject = subject.map_err(|refusal| {
            self.metrics.refused(refusal.reason);
            refusal.fault
        })?;
        let mut payload = wire::message(settings.dialect, request)?;
        if settings.dialect == Dialect::Nest {
            // The inbox tells answers apart; the id makes it a call.
            let id = wants_reply.then(random_uuid);
            payload = wire::packet(&subject, &payload, id.as_deref());
        }
        let (subject, word) = match &self.directory {
            Some(directory) if request.subject.is_none() => {
                match directory.find(&subject, missed).await {
                    Location::Endpoint(subject) => (subject, Word::Told),
                    Location::Guess => (subject.into(), Word::Guessed),
                    Location::Unknown(names) => return Err(unknown_method(request, &names)),
                }
            }
            _ => (subject.into(), Word::Given),
        };
        Ok((Publication { subject, headers: wire::headers(request), payload }, word))
    }

    /// The generation to send through, if there is one and the message is not too large for it.
    fn generation(&self, publication: &Publication) -> Result<Arc<Generation>, Fault> {
        let state = self.link.state();
        let generation = match &*state {
            State::Up(generation) => Arc::clone(generation),
            State::Down(why) => return Err(unavailable(why)),
        };
        let size = publication.payload.len() + publication.headers.len();
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
        let (mut before, mut met_nobody): (Option<Arc<Generation>>, Option<Arc<str>>) =
            (None, None);
        loop {
            let held = request.departure.hold();
            let (publication, word) =
                self.publication(request, wants_reply, met_nobody.as_deref()).await?;
            let generation = self.generation(&publication)?;
            let subject = Arc::clone(&publication.subject);
            let is_stream = wants_reply && self.settings.dialect == Dialect::Nest;
            let answer =
                send_through(&generation, publication, held, (wants_reply, is_stream)).await?;
            match &answer {
                Answer::Lost { sent: false }
                    if before.is_none_or(|before| !Arc::ptr_eq(&before, &generation)) =>
                {
                    before = Some(generation);
                }
                Answer::Reply(message)
                    if word != Word::Given && wire::is_no_responders(message) =>
                {
                    if met_nobody.as_ref() != Some(&subject) {
                        // An endpoint may have moved since its service was asked.
                        (before, met_nobody) = (None, Some(subject));
                    } else if word == Word::Told {
                        return Err(unserved(request, &subject));
                    } else {
                        return Ok(answer);
                    }
                }
                _ => return Ok(answer),
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
            Answer::Unkept(Unkept::TooLarge(size)) => {
                too_large(request, *size, self.settings.max_reply)
            }
            Answer::Unkept(Unkept::NoRoom(exceeded)) => exceeded.fault(Outcome::Executed),
            Answer::Lost { sent: true } | Answer::Reply(_) | Answer::Taken => lost(request),
        }
    }
}

async fn send_through(
    generation: &Generation,
    publication: Publication,
    held: Held<'_>,
    (wants_reply, is_stream): (bool, bool),
) -> Result<Answer, Fault> {
    let (pending, subject) = (generation.pending(), Arc::clone(&publication.subject));
    let seat = if is_stream {
        pending.register_stream(subject, held)
    } else {
        pending.register(subject, held)
    };
    let seat = match seat {
        Ok(seat) => seat,
        Err(Closed::Ended) => return Ok(Answer::Lost { sent: false }),
        Err(Closed::Full) => return Err(full()),
    };
    if !generation.send(seat.key(), publication, wants_reply).await {
        return Ok(Answer::Lost { sent: false });
    }
    Ok(seat.answer().await)
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

fn unknown_method(request: &Request<'_>, names: &str) -> Fault {
    let (service, method) = (request.service, request.method);
    let message = match names {
        "" => format!("`{service}` has no endpoints, and so no `{method}`"),
        names => format!("`{service}` has no endpoint `{method}`: it has {names}"),
    };
    Fault::not_sent(FaultKind::UnknownMethod, message)
}

fn unserved(request: &Request<'_>, subject: &str) -> Fault {
    let (service, method) = (request.service, request.method);
    let message = format!(
        "`{service}` says that its `{method}` is at `{subject}`, and nobody listens there: it is \
         starting or ending, or may not subscribe"
    );
    Fault::not_sent(FaultKind::Unavailable, message)
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

    fn offers<'a>(&'a self, service: Option<&'a str>, until: Deadline) -> BoxFuture<'a, Offers> {
        Box::pin(async move {
            // Nobody else tells what it has.
            match self.settings.dialect {
                Dialect::Micro => offers::gather(&self.link, service, until).await,
                Dialect::Picom | Dialect::Plain | Dialect::Nest => Offers::default(),
            }
        })
    }
}
