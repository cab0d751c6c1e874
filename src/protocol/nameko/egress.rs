//! Calls and notifications on their way out: checks, and what the answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::types::ShortString;
use tokio::sync::Semaphore;

use super::calls::{Calls, Wants};
use super::config::Settings;
use super::connection::Link;
use super::pending::Answer;
use super::wire::compression::is_packed;
use super::wire::header_size;
use super::wire::reply::{self, Decoded, Delivered, Rules};
use super::wire::request::{self as wire, Unsendable};
use crate::call::{Reply, Request};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::tasks;
use crate::token::random_uuid;
use crate::units::format_duration;
use crate::upstream::{Readiness, Upstream};

/// How many replies of an upstream are unpacked at once.
const UNPACKERS: usize = 2;

/// The routing key of a request that can be sent.
pub(super) fn check(request: &Request<'_>) -> Result<ShortString, Unsendable> {
    let routing_key = wire::routing_key(request.service, request.method)?;
    wire::check_params(request.params)?;
    Ok(routing_key)
}

/// The upstream that calls are sent to.
pub(super) struct NamekoUpstream {
    link: Arc<Link>,
    metrics: UpstreamMetrics,
    /// Whether calls expire in their service's queue.
    expiration: bool,
    rules: Rules,
    /// How many replies can be unpacked at once.
    unpackers: Arc<Semaphore>,
    /// A routing key that nothing is bound to, for notifications' replies. One word: Nameko
    /// binds two.
    unheard: String,
    /// An odd reply has been told of.
    odd_reply: AtomicBool,
}

impl NamekoUpstream {
    /// One whose connection `link` is.
    pub(super) fn new(link: Arc<Link>, metrics: UpstreamMetrics, settings: &Settings) -> Self {
        Self {
            link,
            metrics,
            expiration: settings.expiration,
            rules: Rules { keep_tagged: settings.keep_tagged, largest: settings.max_reply },
            unpackers: Arc::new(Semaphore::new(UNPACKERS)),
            unheard: random_uuid(),
            odd_reply: AtomicBool::new(false),
        }
    }
}

impl Upstream for NamekoUpstream {
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        async move {
            let (routing_key, calls) = self.prepare(request)?;
            let held = request.departure.hold();
            let missing = calls.someone_serves(request.service).await;
            held.release();
            let missing = missing.map_err(|answer| unanswered(&answer, request))?;
            let wants = missing.clone().map_or(Wants::Reply, Wants::ReplyOfMissing);
            let answer = calls
                .send(request, routing_key, wants, |correlation_id| {
                    let reply_key = &calls.reply_key;
                    wire::call_properties(request, correlation_id, reply_key, self.expiration)
                })
                .await;
            match answer {
                Answer::Replied(delivered) => {
                    if let Some(service) = missing {
                        service.found();
                    }
                    let (service, method) = (request.service, request.method);
                    let decoded = self.decode(*delivered, service, method).await?;
                    if decoded.repaired || decoded.odd.is_some() {
                        self.metrics.repaired_reply();
                    }
                    if let Some(odd) = decoded.odd {
                        self.tell_of_an_odd_reply(service, method, &odd);
                    }
                    decoded.result
                }
                other => Err(unanswered(&other, request)),
            }
        }
        .boxed()
    }

    fn notify<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let (routing_key, calls) = self.prepare(request)?;
            let answer = calls
                .send(request, routing_key, Wants::Confirm, |correlation_id| {
                    wire::notification_properties(request, correlation_id, &self.unheard)
                })
                .await;
            match answer {
                Answer::Confirmed => Ok(()),
                other => Err(unanswered(&other, request)),
            }
        }
        .boxed()
    }

    fn readiness(&self) -> Readiness {
        match self.link.current() {
            Some(calls) if !calls.blocked() => Readiness::Ready,
            Some(_) => Readiness::NotReady(BLOCKED.to_owned()),
            None => Readiness::NotReady(self.link.why_down()),
        }
    }
}

const BLOCKED: &str = "rabbitmq takes no messages now, for want of memory or disk space";

impl NamekoUpstream {
    /// Reads a reply. To unpack one may take long: that is done apart, a few at a time.
    async fn decode(
        &self,
        delivered: Delivered,
        service: &str,
        method: &str,
    ) -> Result<Decoded, Fault> {
        let rules = self.rules;
        if !is_packed(&delivered.properties) {
            return Ok(reply::decode(delivered, service, method, rules));
        }
        let permit = Arc::clone(&self.unpackers).acquire_owned().await;
        let (service, method) = (service.to_owned(), method.to_owned());
        let unpack = move || {
            let _permit = permit;
            reply::decode(delivered, &service, &method, rules)
        };
        tasks::apart(unpack).await.ok_or_else(|| {
            Fault::new(FaultKind::Internal, Outcome::Executed, "the reply could not be unpacked")
        })
    }

    /// Tells the operator: once, since a service that sends one sends many.
    fn tell_of_an_odd_reply(&self, service: &str, method: &str, odd: &str) {
        let upstream = self.metrics.upstream();
        if self.odd_reply.swap(true, Ordering::Relaxed) {
            tracing::debug!(upstream, service, method, odd, "another odd reply was mended");
            return;
        }
        tracing::warn!(
            upstream,
            service,
            method,
            odd,
            mend = "correct the AMQP properties that the service sends: headers were left out",
            "a reply is not as AMQP allows, and was mended"
        );
    }

    /// What every message has to pass before anything is awaited.
    fn prepare(&self, request: &Request<'_>) -> Result<(ShortString, Arc<Calls>), Fault> {
        let counted = |unsendable: Unsendable| {
            self.metrics.refused(unsendable.reason);
            unsendable.fault
        };
        let routing_key = check(request).map_err(counted)?;
        let calls = self.link.current().ok_or_else(|| {
            let why = self.link.told_of_down().map(|why| format!(": {why}")).unwrap_or_default();
            unavailable(
                Outcome::NotSent,
                format!("rabbitmq is not connected{why}: nothing was sent"),
            )
        })?;
        if calls.blocked() {
            return Err(unavailable(Outcome::NotSent, format!("{BLOCKED}: nothing was sent")));
        }
        header_size::check_headers(request, calls.frame_max).map_err(counted)?;
        Ok((routing_key, calls))
    }
}

/// The fault for an answer that is not the one hoped for.
fn unanswered(answer: &Answer, request: &Request<'_>) -> Fault {
    let (service, method) = (request.service, request.method);
    match *answer {
        Answer::Deserted { since, waiting } => {
            let seen = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            let since = format_duration(Duration::from_millis(seen));
            let messages = if waiting == 1 {
                "1 message waits".to_owned()
            } else {
                format!("{waiting} messages wait")
            };
            let message = format!(
                "the queue of service {service:?} exists, but nobody consumes it (seen first \
                 {since} ago, {messages} in it): start the service; nothing was sent"
            );
            unavailable(Outcome::NotSent, message)
        }
        Answer::Unroutable => {
            let message = format!(
                "no service {service:?} is known to rabbitmq: check the name, or start it once so that it makes its queue"
            );
            Fault::not_sent(FaultKind::UnknownService, message)
        }
        Answer::Overfull(exceeded) => exceeded.fault(Outcome::Executed),
        Answer::Diverted => {
            let message = format!(
                "no service {service:?} is known to rabbitmq, and an alternate exchange has taken the \
                 call: check the name"
            );
            Fault::new(FaultKind::UnknownService, Outcome::Unknown, message)
        }
        Answer::NotTaken => {
            unavailable(Outcome::NotSent, "rabbitmq did not take the message: nothing was sent")
        }
        Answer::Nacked => unavailable(
            Outcome::Unknown,
            "rabbitmq could not take the message over, and says not how far it got: it may run, or \
             not",
        ),
        Answer::Dropped => unavailable(
            Outcome::NotSent,
            "rabbitmq refused other messages and dropped this one with them: nothing was sent",
        ),
        Answer::Crowded => Fault::not_sent(
            FaultKind::Overloaded,
            "rabbitmq denies names, and too many new ones wait to be tried: nothing was sent",
        ),
        Answer::TooLarge { size, limit, outcome } => {
            let message = format!(
                "the message is {size} bytes, and this rabbitmq takes {limit} at most: send less, or \
                 raise the broker's `max_message_size`"
            );
            Fault::new(FaultKind::TooLarge, outcome, message)
        }
        Answer::Denied { outcome } => {
            let message = format!(
                "rabbitmq does not permit Genkan to publish to `{service}.{method}`: allow its user \
                 to write there"
            );
            Fault::new(FaultKind::AccessDenied, outcome, message)
        }
        Answer::Stuck => unavailable(
            Outcome::Unknown,
            format!("{BLOCKED}, and has not confirmed this one: it may run, or not"),
        ),
        Answer::Lost { sent: false } => unavailable(
            Outcome::NotSent,
            "the connection to rabbitmq was lost before anything was sent",
        ),
        Answer::Lost { sent: true } => unavailable(
            Outcome::Unknown,
            "the connection to rabbitmq was lost after the message was sent: whether the service got it is not known",
        ),
        // Neither ends a wait of the other kind: a notification's reply has nowhere to arrive,
        // and a call's confirm is not passed on.
        Answer::Replied(_) | Answer::Confirmed => Fault::new(
            FaultKind::Internal,
            Outcome::Unknown,
            "an answer of the wrong kind came back",
        ),
    }
}

fn unavailable(outcome: Outcome, message: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(FaultKind::Unavailable, outcome, message)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::call::{Context, Deadline, Params};
    use crate::trace::TraceParent;

    #[tokio::test(start_paused = true)]
    async fn what_an_answer_that_is_no_reply_means() {
        let context = &Context::new(TraceParent::generate());
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
        let request = Request::new(("orders", "create"), &Params::None, context, deadline);
        let outcome = Outcome::Rejected;
        let large = Answer::TooLarge { size: 9, limit: 5, outcome };
        let cases = [
            (large, FaultKind::TooLarge, outcome),
            (Answer::Denied { outcome }, FaultKind::AccessDenied, outcome),
            (Answer::Dropped, FaultKind::Unavailable, Outcome::NotSent),
            (Answer::Crowded, FaultKind::Overloaded, Outcome::NotSent),
            (Answer::Stuck, FaultKind::Unavailable, Outcome::Unknown),
            (Answer::Unroutable, FaultKind::UnknownService, Outcome::NotSent),
            (Answer::Diverted, FaultKind::UnknownService, Outcome::Unknown),
            (Answer::NotTaken, FaultKind::Unavailable, Outcome::NotSent),
            (Answer::Nacked, FaultKind::Unavailable, Outcome::Unknown),
            (Answer::Lost { sent: false }, FaultKind::Unavailable, Outcome::NotSent),
            (Answer::Lost { sent: true }, FaultKind::Unavailable, Outcome::Unknown),
        ];
        for (answer, kind, outcome) in cases {
            let fault = unanswered(&answer, &request);
            assert_eq!((fault.kind(), fault.outcome()), (kind, outcome), "{answer:?}");
        }
    }
}
