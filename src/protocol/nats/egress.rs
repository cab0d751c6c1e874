//! Calls on their way out: publication, table, wait, and the reply's meaning.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::config::Settings;
use super::connection::{Link, State};
use super::directory::{Directory, Location};
use super::generation::Generation;
use super::offers;
use super::outbox::Publication;
use super::pending::{Answer, Closed};
use super::wire::{self, Dialect, Unkept};
use crate::call::{Deadline, Held, Reply, Request};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::offer::Offers;
use crate::offer::reading::Reading;
use crate::tasks::Tasks;
use crate::token::random_uuid;
use crate::upstream::{Readiness, Upstream};

/// The upstream that calls are sent to.
pub(super) struct Egress {
    settings: Arc<Settings>,
    link: Arc<Link>,
    /// Where micro services have their endpoints.
    directory: Option<Arc<Directory>>,
    metrics: UpstreamMetrics,
}

/// At how many subjects a call looks for an instance that listens.
const MOST_SUBJECTS: usize = 16;

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
    /// One whose connection `link` is.
    pub(super) fn new(
        settings: Arc<Settings>,
        link: Arc<Link>,
        metrics: UpstreamMetrics,
        tasks: &Tasks,
    ) -> Self {
        let directory = (settings.dialect == Dialect::Micro)
            .then(|| Directory::new(Arc::clone(&link), &settings.inbox_prefix, tasks));
        Self { settings, link, directory, metrics }
    }

    /// What is sent. Nobody was at the subjects `missed`.
    async fn publication(
        &self,
        request: &Request<'_>,
        wants_reply: bool,
        missed: &[Arc<str>],
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
        let (mut before, mut missed): (Option<Arc<Generation>>, Vec<Arc<str>>) = (None, Vec::new());
        loop {
            let held = request.departure.hold();
            let (publication, word) = self.publication(request, wants_reply, &missed).await?;
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
                    if let (Word::Told, Some(directory)) = (word, &self.directory) {
                        let called = [request.service, ".", request.method].concat();
                        directory.met_nobody(&called, &subject);
                    }
                    if !missed.contains(&subject) && missed.len() < MOST_SUBJECTS {
                        // An endpoint may have moved since its service was asked, or another instance
                        // has it elsewhere.
                        before = None;
                        missed.push(subject);
                    } else if word == Word::Told {
                        return Err(unserved(request, &missed));
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

fn unserved(request: &Request<'_>, missed: &[Arc<str>]) -> Fault {
    const SHOWN: usize = 3;
    let (service, method) = (request.service, request.method);
    let mut subjects: Vec<_> = missed.iter().take(SHOWN).map(|one| format!("`{one}`")).collect();
    if missed.len() > SHOWN {
        subjects.push("…".to_owned());
    }
    let subjects = subjects.join(", ");
    let message = format!(
        "`{service}` says that its `{method}` is at {subjects}, and nobody listens there: it is \
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
            State::Down(why) => Readiness::NotReady(why.clone().into_owned()),
        }
    }

    fn offers<'a>(
        &'a self,
        service: Option<&'a str>,
        until: Deadline,
        reading: &'a Reading,
    ) -> BoxFuture<'a, Offers> {
        Box::pin(async move {
            // Nobody else tells what it has.
            match self.settings.dialect {
                Dialect::Micro => offers::gather(&self.link, service, until, reading).await,
                Dialect::Picom | Dialect::Plain | Dialect::Nest => Offers::default(),
            }
        })
    }
}
