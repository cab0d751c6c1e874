//! What becomes of a request: read, carried out, answered, acked. Nothing that comes in is left
//! unacked or delivered for ever: what is no call is answered where there is somebody to answer,
//! counted and logged.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lapin::Acker;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::types::ShortString;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::wire::compression::is_packed;
use super::super::wire::{answer, context, incoming};
use super::Exposes;
use super::replier::{Outgoing, Refused, Sent};
use super::running::{Fate, Run, Unsent};
use crate::budget::Share;
use crate::call::{Call, CallKind, CallName, Context, Params, Reply};
use crate::exposer::debts::Debt;
use crate::exposer::{Credence, Entrance, Handled};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::idempotency_key::IdempotencyKey;
use crate::route::expose::Expose;
use crate::tasks;
use crate::trace::TraceParent;

/// What calls of one service need to be answered, as long as one connection lasts.
pub(super) struct Desk {
    pub(super) exposes: Arc<Exposes>,
    pub(super) expose: Arc<Expose>,
    pub(super) entrance: Arc<dyn Entrance>,
    pub(super) replies: mpsc::Sender<Outgoing>,
    /// The connection over which requests come and replies go is gone.
    pub(super) lost: CancellationToken,
}

/// Where a reply goes, as far as the message says.
struct ReplyTo {
    queue: Option<ShortString>,
    correlation_id: Option<ShortString>,
    /// The exchange that the request came by, where that is another one than the upstream's.
    came_by: Option<ShortString>,
    trace: TraceParent,
    received: Instant,
    /// What goes there is another call's under the same key.
    replayed: bool,
}

impl ReplyTo {
    fn exception(&self, fault: &Fault, method: &str) -> Vec<u8> {
        answer::exception(fault, method, self.correlation_id.as_ref().map(ShortString::as_str))
    }
}

/// A request that was read.
struct Arrived {
    name: CallName,
    params: Params,
    timeout: Option<Duration>,
    key: Option<IdempotencyKey>,
}

impl Desk {
    /// Carries a request out and answers it. It is owed from the moment it was taken.
    pub(super) async fn serve(self: Arc<Self>, delivery: Delivery, debt: Debt) {
        let Delivery { exchange, routing_key, redelivered, properties, data, acker, .. } = delivery;
        let exposes = &self.exposes;
        let received = Instant::now();
        let settings = &exposes.settings;
        let (forwards, trusts) = (settings.forward_authorization, settings.trust_context);
        let credence = Credence::of(forwards, trusts, self.entrance.is_guarded());
        let context = context::read(&properties, credence);
        let mut asked = ReplyTo {
            queue: properties.reply_to().clone().filter(|key| !key.as_str().is_empty()),
            correlation_id: properties.correlation_id().clone(),
            came_by: Some(exchange).filter(|exchange| exposes.is_foreign(exchange)),
            trace: context.trace,
            received,
            replayed: false,
        };
        let key = exposes.running.key(routing_key.as_str(), &properties, data.len());
        let method = incoming::method(routing_key.as_str(), &self.expose.name);
        if redelivered
            && let Some((key, copy)) = key.and_then(|key| Some((key, exposes.running.copy(key)?)))
            && self.serve_copy((key, copy), (&mut asked, method), &acker).await
        {
            drop(debt);
            return;
        }
        let run = exposes.running.enter(key);
        let called = || self.expose.called(method);
        let body = match self.read(method, &properties, data.into()).await {
            Ok(arrived) => {
                let carried = self.carry_out(arrived, context, &asked, redelivered).await;
                let (outcome, replayed) = carried;
                asked.replayed = replayed;
                outcome.unwrap_or_else(|fault| asked.exception(&fault, method))
            }
            Err(fault) => {
                self.entrance.refuse(&called(), &asked.trace, received, &fault);
                asked.exception(&fault, method)
            }
        };
        self.answer(&asked, body.into(), (method, run), &acker).await;
        drop(debt);
    }

    /// Waits for the call that a request is a copy of. False where that has ended without an answer: it may have
    /// run, as one of which nothing is known.
    async fn serve_copy(
        &self,
        (key, copy): (u64, oneshot::Receiver<Fate>),
        (asked, method): (&mut ReplyTo, &str),
        acker: &Acker,
    ) -> bool {
        match copy.await {
            Ok(Fate::Answered) => {
                let run = self.exposes.running.enter(Some(key));
                run.answered(ack(acker).await);
            }
            Ok(Fate::Unsent(Unsent { body, replayed })) => {
                asked.replayed = replayed;
                let run = self.exposes.running.enter(Some(key));
                self.answer(asked, body, (method, run), acker).await;
            }
            // Over a channel that can ack it.
            Ok(Fate::Replaced) => {}
            Err(_) => return false,
        }
        true
    }

    async fn read(
        &self,
        method: &str,
        properties: &BasicProperties,
        body: Bytes,
    ) -> Result<Arrived, Fault> {
        let settings = &self.exposes.settings;
        let timeout = context::limit(properties, now());
        if timeout == Some(Duration::ZERO) {
            let message = "the call's deadline (`nameko.deadline`) had passed when it came in: it has not \
                           run; a service that handles an event drops the one that came with it";
            return Err(Fault::not_sent(FaultKind::Timeout, message));
        }
        let name = self.expose.call_name(method).ok_or_else(|| self.no_such_method(method))?;
        if let Some(odd) = incoming::oddity(properties, settings.max_request)? {
            let (upstream, service) = (self.exposes.metrics.upstream(), &self.expose.service);
            tracing::debug!(
                upstream,
                service,
                odd,
                "a request is not as AMQP allows, and was mended"
            );
        }
        let mut share = self.exposes.account.share();
        grow(&mut share, body.len())?;
        let body = if is_packed(properties) {
            let plain = self.unpack(properties, body).await?;
            share.shrink(share.held());
            grow(&mut share, plain.len())?;
            plain
        } else {
            body
        };
        let content_type = properties.content_type().as_ref().map(ShortString::as_str);
        let read = incoming::read(&share.keep_with(body), content_type, settings.keep_tagged)?;
        if read.repaired {
            self.exposes.metrics.repaired_request();
        }
        let key = context::idempotency_key(properties)?;
        Ok(Arrived { name, params: read.params, timeout, key })
    }

    /// To unpack one may take long: that is done apart, a few at a time.
    async fn unpack(&self, properties: &BasicProperties, body: Bytes) -> Result<Bytes, Fault> {
        let permit = Arc::clone(&self.exposes.unpackers).acquire_owned().await;
        let (properties, largest) = (properties.clone(), self.exposes.settings.max_request);
        let unpack = move || {
            let _permit = permit;
            incoming::unpack(&properties, body, largest)
        };
        let failed = || Fault::not_sent(FaultKind::Internal, "the request could not be unpacked");
        tasks::apart(unpack).await.unwrap_or_else(|| Err(failed()))
    }

    fn no_such_method(&self, method: &str) -> Fault {
        let method: String = method.chars().take(80).collect();
        let message = format!(
            "no method {method:?} of the service `{}` is exposed here",
            self.expose.service
        );
        Fault::not_sent(FaultKind::UnknownMethod, message)
    }

    /// Hands a call in: the body of its reply, and whether it is another call's under the same key.
    async fn carry_out(
        &self,
        arrived: Arrived,
        mut context: Context,
        asked: &ReplyTo,
        redelivered: bool,
    ) -> (Result<Vec<u8>, Fault>, bool) {
        let Arrived { name, params, timeout, key } = arrived;
        context.idempotency_key = key;
        let kind = if asked.queue.is_some() { CallKind::Call } else { CallKind::Notification };
        let call = Call {
            name,
            params,
            kind,
            caller: self.exposes.caller(context.user_id.as_deref()),
            context: Arc::new(context),
            received: asked.received,
            timeout,
            may_have_run: redelivered,
        };
        let written = OnceLock::new();
        let fits = |reply: &Reply| written.set(self.result(reply)?).map_err(|_| unwritten());
        let Handled { result, replayed } = self.entrance.dispatch(call, &fits).await;
        (result.and_then(|_| written.into_inner().ok_or_else(unwritten)), replayed)
    }

    /// The body of the reply for a result.
    fn result(&self, reply: &Reply) -> Result<Vec<u8>, Fault> {
        answer::result(&reply.payload, self.exposes.settings.keep_tagged).ok_or_else(|| {
            let message = "the result holds an object of exactly the keys `__type__` and \
                           `__value__`, which Nameko's client would turn into another type, or not \
                           read at all";
            self.exposes.metrics.refused("tagged_value");
            Fault::new(FaultKind::Internal, Outcome::Executed, message)
        })
    }

    /// Replies, and acks once the reply is confirmed. Where the connection is gone neither can be done:
    /// the broker delivers the request again, and if that has come it takes the reply out.
    async fn answer(
        &self,
        asked: &ReplyTo,
        body: Bytes,
        (method, run): (&str, Run<'_>),
        acker: &Acker,
    ) {
        if self.lost.is_cancelled() {
            return self.keep(asked, body, run);
        }
        if let Some(reply_to) = &asked.queue {
            let size = body.len();
            // Callers of several exchanges share the queue: they listen where they ask, or, where their
            // exchange only leads to this one, here.
            let foreign = asked.came_by.clone().filter(|_| !answer::is_direct(reply_to.as_str()));
            let copy = foreign.map(|exchange| (exchange, body.clone()));
            let own = &self.exposes.exchange;
            let sent = match self.send(asked, (own, reply_to), body.clone()).await {
                Some(Sent::Refused(Refused::TooLarge)) => {
                    let message = format!(
                        "the reply is {size} bytes, and this rabbitmq does not take it: answer less, \
                         or raise the broker's `max_message_size`"
                    );
                    let fault = Fault::new(FaultKind::TooLarge, Outcome::Executed, message);
                    self.entrance.lost(&self.expose.called(method), &asked.trace, &fault);
                    self.send(asked, (own, reply_to), asked.exception(&fault, method).into()).await
                }
                sent => sent,
            };
            match sent {
                Some(Sent::Confirmed) => {
                    // Nobody is there twice: one of both knows its caller.
                    if let Some((exchange, copy)) = copy {
                        self.send(asked, (&exchange, reply_to), copy).await;
                    }
                }
                // It cannot be told, and would be refused again.
                Some(Sent::Refused(why)) => {
                    let service = &self.expose.service;
                    self.exposes.unsent.tell(service, reply_to.as_str(), &asked.trace, why);
                    self.exposes.metrics.unsent_reply();
                }
                // Nobody knows whether the broker has it: to its caller a second one is of no call.
                None => {
                    self.lost.cancel();
                    self.keep(asked, body, run);
                    return;
                }
            }
        }
        run.answered(ack(acker).await);
    }

    /// Keeps an answer that cannot leave by this connection for the copy of its request.
    fn keep(&self, asked: &ReplyTo, body: Bytes, run: Run<'_>) {
        if !run.unsent(Unsent { body, replayed: asked.replayed }) && asked.queue.is_some() {
            self.exposes.metrics.unsent_reply();
        }
    }

    /// Hands a reply to the replier: what became of it, `None` where the connection is lost.
    async fn send(
        &self,
        asked: &ReplyTo,
        (exchange, reply_to): (&ShortString, &ShortString),
        body: Bytes,
    ) -> Option<Sent> {
        let exposes = &self.exposes;
        let (sent, told) = oneshot::channel();
        let (exchange, key) = answer::address(exchange.as_str(), reply_to.as_str());
        let id = asked.correlation_id.clone();
        let properties = answer::properties(reply_to.as_str(), id, &exposes.nobody);
        let properties = if asked.replayed { answer::replayed(properties) } else { properties };
        let reply = Outgoing { exchange, key, properties, body, sent };
        let handed = async {
            self.replies.send(reply).await.ok()?;
            told.await.ok()
        };
        tokio::select! {
            biased;
            sent = handed => sent,
            () = self.lost.cancelled() => None,
        }
    }
}

/// Acks a request. False where that cannot be done: it comes again.
async fn ack(acker: &Acker) -> bool {
    match acker.ack(BasicAckOptions::default()).await {
        Ok(is_acked) => is_acked,
        Err(error) => {
            tracing::debug!(%error, "a request could not be acked: it comes again");
            false
        }
    }
}

/// A reply is written once.
fn unwritten() -> Fault {
    Fault::new(FaultKind::Internal, Outcome::Executed, "the reply could not be written")
}

fn grow(share: &mut Share, bytes: usize) -> Result<(), Fault> {
    share.grow(bytes).map_err(|exceeded| exceeded.fault(Outcome::NotSent))
}

/// Milliseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
