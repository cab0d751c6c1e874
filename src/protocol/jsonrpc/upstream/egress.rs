//! Calls on their way out: which instance, what came of it, and what that means.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::config::Settings;
use super::exchange::{Answer, Failure, InUse};
use super::headers::Headers;
use super::instance::Instance;
use super::roster::Roster;
use super::wire::{self, Received};
use crate::call::{Context, Deadline, Params, Reply, Request};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::offer::Offers;
use crate::offer::reading::Reading;
use crate::token::{Token, Tokens};
use crate::trace::TraceParent;
use crate::units::{format_duration, format_size};
use crate::upstream::{Readiness, Upstream};

/// How soon a caller for whom no connection was free should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// So many other gateways are asked one after the other that take no call: all may have had enough.
const MOST_REFUSALS: usize = 3;
/// So many headers does hyper read of an answer.
const MOST_HEADERS: usize = 100;

/// The upstream that calls are sent to.
pub(super) struct Egress {
    settings: Arc<Settings>,
    headers: Arc<Headers>,
    roster: Arc<Roster>,
    metrics: UpstreamMetrics,
    last_id: AtomicU64,
    /// By which another gateway shows that it speaks of this very call.
    marks: Tokens,
}

impl Egress {
    /// One whose instances `roster` knows.
    pub(super) fn new(
        settings: Arc<Settings>,
        headers: Arc<Headers>,
        roster: Arc<Roster>,
        metrics: UpstreamMetrics,
    ) -> Self {
        let (last_id, marks) = (AtomicU64::new(0), Tokens::new());
        Self { settings, headers, roster, metrics, last_id, marks }
    }
}

/// `service.method`, for messages.
struct Called<'a>(&'a Request<'a>);

impl fmt::Display for Called<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.service, self.0.method)
    }
}

/// A call that is under way at an instance. Dropped before it has ended, it was given up.
struct Flight {
    instance: Arc<Instance>,
    began: Instant,
    has_ended: bool,
}

impl Flight {
    fn begin(instance: Arc<Instance>) -> Self {
        instance.load.enter();
        Self { instance, began: Instant::now(), has_ended: false }
    }

    fn end(mut self, end: End) {
        self.has_ended = true;
        let now = Instant::now();
        let (load, usual, took) = (&self.instance.load, self.instance.usual(), now - self.began);
        match end {
            End::Result => {
                usual.result(took);
                load.answered(now, took);
            }
            End::Error => load.erred(now, took, usual),
            End::Failure => load.failed(now, took, usual),
        }
    }
}

/// What a call at an instance came to.
enum End {
    Result,
    /// An error of the service's own.
    Error,
    /// Nothing of the service's.
    Failure,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.instance.load.leave();
        if !self.has_ended {
            let now = Instant::now();
            self.instance.load.given_up(now, now - self.began);
        }
    }
}

impl Egress {
    /// Sends a call to one instance after the other, until one has taken it; `read` tells what its
    /// answer means.
    async fn send(
        &self,
        request: &Request<'_>,
        (body, mark): (Bytes, Option<&str>),
        read: impl Fn(Answer) -> Received,
    ) -> Result<Reply, Fault> {
        let mut tried: Vec<Arc<Instance>> = Vec::new();
        let mut why = Cow::Borrowed(self.roster.why_empty());
        let (mut refusals, mut refused) = (0, None);
        while let Some(instance) = self.roster.pick(&tried) {
            let flight = Flight::begin(Arc::clone(&instance));
            match flight.instance.exchange(request, &self.headers, (&body, mark)).await {
                Ok(answer) => {
                    let received = read(answer);
                    flight.end(match (received.is_own, &received.result) {
                        (true, Ok(_)) => End::Result,
                        (true, Err(_)) => End::Error,
                        (false, _) => End::Failure,
                    });
                    if received.repaired {
                        self.metrics.repaired_reply();
                    }
                    match received.result {
                        // So says another gateway, of this very call.
                        Err(fault) if !received.is_own && fault.outcome() == Outcome::NotSent => {
                            refusals += 1;
                            if refusals == MOST_REFUSALS {
                                return Err(fault);
                            }
                            refused = Some(fault);
                            tried.push(instance);
                        }
                        result => return result,
                    }
                }
                Err(Failure::Unsent(reason)) => {
                    why = reason;
                    tried.push(instance);
                    flight.end(End::Failure);
                }
                Err(Failure::TooLate(in_use)) => return Err(self.too_late(request, &in_use)),
                Err(failure) => {
                    flight.end(match failure {
                        // A large answer is an answer.
                        Failure::TooLarge(_) | Failure::NoRoom(_) | Failure::HeadTooLarge => {
                            End::Result
                        }
                        _ => End::Failure,
                    });
                    return Err(self.fault(request, &failure));
                }
            }
        }
        Err(refused.unwrap_or_else(|| nobody(&why, tried.len())))
    }

    async fn call(&self, request: &Request<'_>, qualified: bool) -> Result<Reply, Fault> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let body = wire::message(request, qualified, Some(id))?;
        let mut mark = String::with_capacity(Token::HEX);
        self.marks.issue(id).push_hex(&mut mark);
        let read = |answer: Answer| {
            let received = (answer.status, &answer.headers, answer.body);
            wire::decode(Called(request), (id, &mark), received)
        };
        self.send(request, (body, Some(&mark)), read).await
    }

    async fn notify(&self, request: &Request<'_>) -> Result<(), Fault> {
        let body = wire::message(request, self.settings.qualified, None)?;
        let read = |answer: Answer| {
            wire::decode_receipt(Called(request), (answer.status, &answer.headers, answer.body))
        };
        self.send(request, (body, None), read).await.map(drop)
    }

    /// A call for which no connection or stream was free until too little of its time was left.
    fn too_late(&self, request: &Request<'_>, in_use: &InUse) -> Fault {
        let in_use = match in_use {
            InUse::Connections => format!(
                "all {} connections to the service were in use, its limit (max_connections)",
                self.settings.max_connections
            ),
            InUse::Streams(most) => format!(
                "as many calls were open as the service takes at once over HTTP/2, {most} \
                 (SETTINGS_MAX_CONCURRENT_STREAMS)"
            ),
        };
        let message = format!(
            "`{}` was not sent: {in_use}, until too little of its time ({}) was left: try again in a moment",
            Called(request),
            format_duration(request.deadline.timeout())
        );
        Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(RETRY_AFTER)
    }

    /// A call that has left, and has no answer.
    fn fault(&self, request: &Request<'_>, failure: &Failure) -> Fault {
        let called = Called(request);
        match failure {
            Failure::TooLarge(size) => {
                let limit = format_size(self.settings.max_reply);
                let message = format!(
                    "the answer to `{called}` is {size} bytes or more, and {limit} are taken at \
                     most: answer less, or raise the upstream's `max_reply`"
                );
                Fault::new(FaultKind::TooLarge, Outcome::Executed, message)
            }
            Failure::NoRoom(exceeded) => exceeded.fault(Outcome::Executed),
            Failure::HeadTooLarge => {
                let message = format!(
                    "the service answered `{called}` with more headers, or longer ones, than are read: have it send \
                     fewer or shorter headers, {MOST_HEADERS} at most"
                );
                Fault::new(FaultKind::TooLarge, Outcome::Unknown, message)
            }
            Failure::NoHttp => {
                let message = format!(
                    "the service answered `{called}` with something that cannot be read as HTTP: check the \
                     upstream's URL, and whether it has to be https://"
                );
                Fault::new(FaultKind::Internal, Outcome::Unknown, message)
            }
            Failure::TooLate(in_use) => self.too_late(request, in_use),
            Failure::Lost | Failure::Stale | Failure::Unsent(_) | Failure::Refused(_) => {
                let message = format!(
                    "the connection to the service was lost before its answer to `{called}` had \
                     come: it may have run, or not"
                );
                Fault::new(FaultKind::Unavailable, Outcome::Unknown, message)
            }
        }
    }
}

fn nobody(why: &str, tried: usize) -> Fault {
    let message = match tried {
        0 | 1 => format!("the JSON-RPC service cannot be called now: {why}"),
        _ => format!("none of {tried} instances of the JSON-RPC service can be called now: {why}"),
    };
    Fault::not_sent(FaultKind::Unavailable, message)
}

impl Upstream for Egress {
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(self.call(request, self.settings.qualified))
    }

    fn notify<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.notify(request))
    }

    fn has_a_line(&self) -> bool {
        true
    }

    fn readiness(&self) -> Readiness {
        self.roster.readiness()
    }

    fn offers<'a>(
        &'a self,
        service: Option<&'a str>,
        until: Deadline,
        reading: &'a Reading,
    ) -> BoxFuture<'a, Offers> {
        Box::pin(async move {
            for question in wire::QUESTIONS {
                let (params, context) = (Params::None, Context::new(TraceParent::generate()));
                let request = Request::new(("", question), &params, &context, until);
                // One of the service's own, whatever its others are called.
                let Ok(reply) = self.call(&request, false).await else { continue };
                let (service, qualified) = (service.map(str::to_owned), self.settings.qualified);
                let read =
                    move || wire::offers(reply.payload.as_bytes(), service.as_deref(), qualified);
                if let Some(found) = reading.read(read).await.flatten() {
                    return found;
                }
            }
            Offers::default()
        })
    }
}
