//! What becomes of a message to an exposed service: read, carried out, answered where somebody waits.
//! What is no call is answered too, counted and logged.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::super::generation::Generation;
use super::super::outbox::Publication;
use super::super::wire::{self, Answer, Asked, Message, Taken, Unkept, Verb};
use super::hosted::Held;
use super::waiting::MOST_WAITING;
use super::{Exposes, Owed, Service};
use crate::call::{Call, CallKind, Context, Reply};
use crate::exposer::{Credence, Handled};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::units::format_size;

/// The longest subject that is answered to: what is longer might not fit a server's line.
const LONGEST_REPLY_SUBJECT: usize = 1024;
/// What a stream hands a message out with waits for its receipt there.
const ACKNOWLEDGED: &str = "$JS.ACK.";
/// How much is told of an error that is too large for the server.
const LONGEST_WORDS: usize = 256;
/// From this size on an answer is kept until the server has read it.
const LARGE: usize = 32 * 1024;
/// How long an answer waits for the next connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message to an exposed service.
pub(super) struct Arrival {
    held: Arc<Held>,
    exposes: Arc<Exposes>,
    /// The connection that it came by.
    generation: Arc<Generation>,
    message: Message,
    received: Instant,
}

impl Arrival {
    pub(super) fn new(
        held: Arc<Held>,
        exposes: Arc<Exposes>,
        generation: Arc<Generation>,
        message: Message,
    ) -> Self {
        Self { held, exposes, generation, message, received: Instant::now() }
    }

    /// Begins to carry it out, where there is room; never waits.
    pub(super) fn begin(self, unkept: Option<Unkept>, owed: Owed) {
        if let Taken::Questions(verb) = self.held.taken() {
            self.describe(verb, owed);
            return;
        }
        let permits = &self.held.service.permits;
        let permit = match (unkept, self.reply_subject()) {
            (_, Err(fault)) => Err(fault),
            (Some(unkept), Ok(_)) => Err(self.unkept(unkept)),
            (None, Ok(subject)) => match Arc::clone(permits).try_acquire_owned() {
                Ok(permit) => Ok(permit),
                // Its sender cannot be told to come back.
                Err(_) if subject.is_none() => return self.wait(owed),
                Err(_) => Err(self.no_room()),
            },
        };
        match permit {
            Ok(permit) => {
                let tasks = self.exposes.tasks.clone();
                let shutdown = tasks.shutdown().clone();
                tasks.spawn_session(async move {
                    // Whoever ends the process has waited for what is owed, or does not want to.
                    let _ended = shutdown.run_until_cancelled(self.serve(permit, owed)).await;
                });
            }
            Err(fault) => self.turn_away(&fault, owed),
        }
    }

    /// Carries it out when it is its turn, in the order in which they came.
    fn wait(mut self, owed: Owed) {
        let service = Arc::clone(&self.held.service);
        let Some(place) = service.waiting.place(&self.message) else {
            return self.turn_away(&self.no_place(), owed);
        };
        self.message = self.message.kept();
        let (tasks, permits) = (self.exposes.tasks.clone(), Arc::clone(&service.permits));
        let shutdown = tasks.shutdown().clone();
        tasks.spawn_session(async move {
            let served = async {
                let Ok(permit) = permits.acquire_owned().await else { return };
                drop(place);
                self.received = Instant::now();
                // Apart: who waits does not carry its room.
                Box::pin(self.serve(permit, owed)).await;
            };
            let _ended = shutdown.run_until_cancelled(served).await;
        });
    }

    /// The subject of the caller's inbox, if it waits for an answer.
    fn reply_subject(&self) -> Result<Option<Arc<str>>, Fault> {
        match std::str::from_utf8(&self.message.reply) {
            Ok("") => Ok(None),
            // Not what the server takes for an order, by this user's permissions: no caller waits there.
            Ok(subject) if subject.starts_with('$') && !subject.starts_with(ACKNOWLEDGED) => {
                Err(unanswerable())
            }
            Ok(subject) if subject.len() <= LONGEST_REPLY_SUBJECT => Ok(Some(subject.into())),
            Ok(_) | Err(_) => Err(unanswerable()),
        }
    }

    fn unkept(&self, unkept: Unkept) -> Fault {
        match unkept {
            Unkept::TooLarge(size) => {
                let message = format!(
                    "the request is {size} bytes with its headers, and {} are taken at most: send less, \
                     or raise the upstream's `max_request`",
                    format_size(self.exposes.settings.max_request)
                );
                Fault::not_sent(FaultKind::TooLarge, message)
            }
            Unkept::NoRoom(exceeded) => exceeded.fault(Outcome::NotSent),
        }
    }

    fn no_room(&self) -> Fault {
        let message = format!(
            "as many calls of `{}` are under way as are taken at once: try again later, or raise \
             `prefetch`",
            self.held.service.expose.service
        );
        Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(Duration::from_secs(1))
    }

    fn no_place(&self) -> Fault {
        let message = format!(
            "more notifications of `{}` wait than are kept ({}): let it take them sooner, or raise `prefetch`",
            self.held.service.expose.service,
            format_size(MOST_WAITING)
        );
        Fault::not_sent(FaultKind::Overloaded, message)
    }

    /// Answers a question about the service itself.
    fn describe(&self, verb: Verb, owed: Owed) {
        let Service { instance, expose, .. } = &*self.held.service;
        if let Ok(Some(subject)) = self.reply_subject()
            && let Ok(body) = instance.describe(verb, expose)
        {
            let headers = wire::NO_HEADERS.to_owned();
            self.answer_at_once(Publication { subject, headers, payload: body.into() }, owed);
        }
    }

    /// Answers, and counts, what is not carried out.
    fn turn_away(&self, fault: &Fault, owed: Owed) {
        let service = &self.held.service;
        let trace = wire::context(&self.message, Credence::NONE).trace;
        let inbox = self.reply_subject().ok().flatten().unwrap_or_default();
        let asked = Asked { trace, id: None, inbox };
        let method = self.held.method(&self.message);
        service.entrance.refuse(&service.expose.called(method), &asked.trace, self.received, fault);
        self.count(Some(fault));
        let Ok(Some(subject)) = self.reply_subject() else { return };
        let Answer { headers, body: payload } = wire::fault(service.dialect, fault, method, &asked);
        self.answer_at_once(Publication { subject, headers, payload }, owed);
    }

    fn answer_at_once(&self, publication: Publication, owed: Owed) {
        if !self.generation.answer_at_once(publication, owed) {
            self.exposes.metrics.unsent_reply();
        }
    }

    fn count(&self, fault: Option<&Fault>) {
        if let Taken::Endpoint(endpoint) = self.held.taken() {
            self.held.service.instance.count(endpoint, self.received.elapsed(), fault);
        }
    }

    /// Carries it out and answers it. It is owed from the moment it was taken.
    async fn serve(self, permit: OwnedSemaphorePermit, owed: Owed) {
        let Ok(reply_subject) = self.reply_subject() else { return };
        let service = &self.held.service;
        let settings = &self.exposes.settings;
        let (forwards, trusts) = (settings.forward_authorization, settings.trust_context);
        let credence = Credence::of(forwards, trusts, service.entrance.is_guarded());
        let context = wire::context(&self.message, credence);
        let inbox = reply_subject.clone().unwrap_or_default();
        let mut asked = Asked { trace: context.trace, id: None, inbox };
        let method = self.held.method(&self.message);
        let call = self.call(method, context, reply_subject.is_some(), &mut asked);
        let written = OnceLock::new();
        let fits = |reply: &Reply| match &reply_subject {
            Some(_) => written.set(self.result(reply, &asked)?).map_err(|_| twice()),
            None => Ok(()),
        };
        let (outcome, replayed) = match call {
            Ok(call) => {
                let Handled { result, replayed } = service.entrance.dispatch(call, &fits).await;
                (result.map(drop), replayed)
            }
            Err(fault) => {
                let called = service.expose.called(method);
                service.entrance.refuse(&called, &asked.trace, self.received, &fault);
                (Err(fault), false)
            }
        };
        self.count(outcome.as_ref().err());
        let Some(subject) = reply_subject else { return };
        let written = outcome.and_then(|()| written.into_inner().ok_or_else(twice));
        let answer = written.unwrap_or_else(|fault| self.fault(&fault, method, &asked));
        let is_told =
            replayed && answer.size() + wire::REPLAYED.len() <= self.generation.max_payload();
        let answer = if is_told { answer.replayed() } else { answer };
        if answer.size() < LARGE {
            self.answer(subject, answer, owed).await;
        } else {
            self.answer_at_length(subject, answer, owed, (method, &asked)).await;
        }
        drop(permit);
    }

    /// The answer for a result, where the server takes it.
    fn result(&self, reply: &Reply, asked: &Asked) -> Result<Answer, Fault> {
        let answer = wire::result(self.held.service.dialect, reply, asked);
        let (size, limit) = (answer.size(), self.generation.max_payload());
        if size <= limit {
            return Ok(answer);
        }
        Err(too_large(size, limit))
    }

    /// The answer for a fault; without what the service said where that is too much.
    fn fault(&self, fault: &Fault, method: &str, asked: &Asked) -> Answer {
        let dialect = self.held.service.dialect;
        let answer = wire::fault(dialect, fault, method, asked);
        if answer.size() <= self.generation.max_payload() {
            return answer;
        }
        let words: String = fault.message().chars().take(LONGEST_WORDS).collect();
        wire::fault(dialect, &Fault::new(fault.kind(), fault.outcome(), words), method, asked)
    }

    /// The call that the message means.
    fn call(
        &self,
        method: &str,
        mut context: Context,
        is_awaited: bool,
        asked: &mut Asked,
    ) -> Result<Call, Fault> {
        let service = &self.held.service;
        let name = service.expose.call_name(method).ok_or_else(|| {
            let method: String = method.chars().take(80).collect();
            let known = &service.expose.service;
            let message = format!("no method {method:?} of the service `{known}` is exposed here");
            Fault::not_sent(FaultKind::UnknownMethod, message)
        })?;
        let read = wire::read(service.dialect, &self.message.payload)?;
        asked.id = read.id;
        if read.repaired {
            self.exposes.metrics.repaired_request();
        }
        let timeout = wire::limit(&self.message)?;
        context.idempotency_key = wire::idempotency_key(&self.message)?;
        Ok(Call {
            name,
            params: read.params,
            kind: if is_awaited { CallKind::Call } else { CallKind::Notification },
            caller: self.exposes.caller(context.user_id.as_deref()),
            context: Arc::new(context),
            received: self.received,
            timeout,
            may_have_run: false,
        })
    }

    /// Answers over the connection that it came by, or where that has ended over the next one.
    async fn answer(&self, subject: Arc<str>, answer: Answer, owed: Owed) {
        let Answer { headers, body: payload } = answer;
        let publication = Publication { subject, headers, payload };
        let Err((publication, owed)) = self.generation.answer(publication, owed).await else {
            return;
        };
        if let Some(next) = self.next_generation().await
            && next.answer(publication, owed).await.is_ok()
        {
            return;
        }
        self.exposes.metrics.unsent_reply();
    }

    /// The connection after the one that it came by; `None` where there is none soon.
    async fn next_generation(&self) -> Option<Arc<Generation>> {
        timeout(PATIENCE, self.exposes.link.generation_after(&self.generation)).await.ok()
    }

    /// The same for a large one, which may be what ends the connection: a server that is told to take less
    /// than before (`max_payload`) tells nobody. The next connection knows.
    async fn answer_at_length(
        &self,
        subject: Arc<str>,
        answer: Answer,
        mut owed: Owed,
        (method, asked): (&str, &Asked),
    ) {
        let (size, debts) = (answer.size(), &self.exposes.debts);
        let _owed_until_the_end = debts.call();
        let Answer { headers, body: payload } = answer;
        let publication = Publication { subject: Arc::clone(&subject), headers, payload };
        let read = owed.watched();
        let handed = self.generation.answer(publication.clone(), owed).await.is_ok();
        if handed && read.await.is_ok() {
            return;
        }
        let owed = Owed::new(debts.call(), debts.call());
        let Some(next) = self.next_generation().await else {
            self.exposes.metrics.unsent_reply();
            return;
        };
        let limit = next.max_payload();
        let publication = match size <= limit {
            true => publication,
            false => {
                let (service, fault) = (&self.held.service, too_large(size, limit));
                let called = service.expose.called(method);
                service.entrance.lost(&called, &asked.trace, &fault);
                let Answer { headers, body: payload } = self.fault(&fault, method, asked);
                Publication { subject, headers, payload }
            }
        };
        if next.answer(publication, owed).await.is_err() {
            self.exposes.metrics.unsent_reply();
        }
    }
}

fn too_large(size: usize, limit: usize) -> Fault {
    let message = format!(
        "the answer is {size} bytes with its headers, and this NATS takes {limit} at most: answer less, or \
         raise the server's `max_payload`"
    );
    Fault::new(FaultKind::TooLarge, Outcome::Executed, message)
}

/// An answer is written once.
fn twice() -> Fault {
    Fault::new(FaultKind::Internal, Outcome::Executed, "the answer could not be written")
}

fn unanswerable() -> Fault {
    let message = format!(
        "the subject to answer to is longer than {LONGEST_REPLY_SUBJECT} bytes, no text, or one of the server's own: it \
         has not run"
    );
    Fault::not_sent(FaultKind::InvalidRequest, message)
}
