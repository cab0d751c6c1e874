//! What a call that was admitted holds until its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::breaker::Ended;
use super::circuit::Probe;
use super::ending::Ending;
use super::limits::KeyLimits;
use super::policy::in_flight::{Seats, Standing};
use super::policy::rate::Allowance;
use super::policy::timeout::{timed_out, unended};
use super::policy::{self, breaker, served};
use super::table::Row;
use super::{keyed, retries};
use crate::call::{Call, CallKind, Deadline, Departure, Payload, Reply, Request};
use crate::exposer::Fits;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::route::Dialect;
use crate::trace::TraceParent;

/// How a call ended, and how much of the time was the service's.
pub struct Dispatched {
    /// The result or the fault.
    pub result: Result<Reply, Fault>,
    /// The time between handing the call to the upstream and its answer; `None` where it was
    /// never sent.
    pub service_time: Option<Duration>,
    /// The form that the row asks for; `None` where no row was asked.
    pub dialect: Option<Dialect>,
    /// What its caller has left of its rate, where there is one.
    pub allowance: Option<Allowance>,
    /// It is the answer of another call under the same key.
    pub replayed: bool,
}

impl Dispatched {
    /// The end of a call that was never sent.
    pub fn refused(fault: Fault) -> Self {
        let (service_time, dialect, allowance) = (None, None, None);
        Self { result: Err(fault), service_time, dialect, allowance, replayed: false }
    }
}

/// How an attempt at a call has ended, those after the first included.
pub(super) struct Ran {
    pub(super) result: Result<Reply, Fault>,
    /// `None` where it was never sent.
    pub(super) service_time: Option<Duration>,
    at: Instant,
}

/// How one attempt has ended.
struct Sent {
    result: Result<Reply, Fault>,
    /// How long of that it stood in a line of the upstream's, before it could leave.
    waited: Duration,
}

impl Ran {
    /// Of a call that was not sent.
    pub(super) fn not(fault: Fault) -> Self {
        Self { result: Err(fault), service_time: None, at: Instant::now() }
    }
}

/// A call that was admitted, by [`Router::admit`](super::Router::admit). Dropped before its end,
/// it counts as cancelled by its caller.
pub struct Ticket {
    pub(super) ending: Ending,
    pub(super) probe: Option<Probe>,
    /// `None` where its turn has not come, and will not.
    pub(super) standing: Option<Standing>,
    pub(super) allowance: Option<Allowance>,
    pub(super) deadline: Deadline,
}

/// A call that was not admitted. Its end is still to be written.
pub struct Unadmitted {
    /// Its end.
    pub ending: Ending,
    /// Why it was not.
    pub fault: Fault,
    /// What its caller has left of its rate, where there is one.
    pub allowance: Option<Allowance>,
}

impl Ticket {
    /// The row that decides about the call.
    pub fn row(&self) -> &Row {
        self.ending.row()
    }

    /// The trace that the call belongs to: made now if it came without.
    pub fn trace(&mut self) -> TraceParent {
        self.ending.trace()
    }

    /// When the call ends at the latest.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The limits of its caller's API key, of a call that [is keyed](Ticket::is_keyed).
    pub(super) fn key_limits(&self) -> Option<&Arc<KeyLimits>> {
        match &self.standing {
            Some(Standing::Keyed(key)) => key.as_ref(),
            _ => None,
        }
    }

    /// Whether the call has to wait for its [turn](Ticket::turn) before it can be sent.
    pub fn is_waiting(&self) -> bool {
        !matches!(self.standing, Some(Standing::Seated(_)))
    }

    /// Whether the call's key decides if it is sent at all: then it is only to be
    /// [carried out](Ticket::carry_out).
    pub fn is_keyed(&self) -> bool {
        matches!(self.standing, Some(Standing::Keyed(_)))
    }

    /// Waits for the turn of a call that was admitted over a limit, at most until its deadline. What has
    /// happened to its service meanwhile, its breaker knows.
    pub async fn turn(&mut self, name: &str, service: &str) -> Result<(), Fault> {
        let standing = match self.standing.take() {
            Some(Standing::Keyed(key)) => Some(self.enter(key.as_ref(), name, service)?),
            standing => standing,
        };
        let seats = match standing {
            Some(Standing::Waiting(waiting)) => {
                waiting.seat(self.ending.row(), name, self.deadline).await?
            }
            Some(Standing::Seated(seats)) => seats,
            Some(Standing::Keyed(_)) | None => return Err(timed_out(name, self.deadline, true)),
        };
        self.standing = Some(Standing::Seated(seats));
        if self.probe.is_none() {
            self.probe = breaker::check(self.ending.row(), (name, service))?;
        }
        Ok(())
    }

    /// Enters a call, whose key lets it be sent, among those that are under way.
    fn enter(
        &mut self,
        key: Option<&Arc<KeyLimits>>,
        name: &str,
        service: &str,
    ) -> Result<Standing, Fault> {
        let row = self.ending.row();
        let target = served::target(row, (name, service))?;
        let (target, called) = ((target, Instant::now()), (name, service));
        let (probe, standing) = policy::enter((row, key), target, called, self.deadline)?;
        self.probe = probe;
        Ok(standing)
    }

    /// Gives the place of a call that has failed back. Its end is still to be written.
    pub fn release(self, fault: &Fault) -> Ending {
        self.learn(self.seated(), Instant::now(), Err(fault));
        self.into_ending()
    }

    /// The call has ended.
    pub fn end(self, name: &str, result: Result<(), &Fault>) {
        self.learn(self.seated(), Instant::now(), result);
        self.into_ending().write(name, result);
    }

    fn into_ending(self) -> Ending {
        self.ending
    }

    fn seats(&self) -> Option<&Seats> {
        match &self.standing {
            Some(Standing::Seated(seats)) => Some(seats),
            _ => None,
        }
    }

    /// Since when it can be sent; `None` where no call waits for its turn.
    fn seated(&self) -> Option<Instant> {
        self.seats()?.since()
    }

    /// How long it ran, where others may have to wait: so they know whether it is worth it.
    fn learn(&self, since: Option<Instant>, at: Instant, result: Result<(), &Fault>) {
        let (Some(since), usual) = (since, self.row().usual()) else { return };
        let ran = at.saturating_duration_since(since);
        match result {
            Ok(()) => usual.answered(ran),
            // Of a part of an answer, how long the whole takes is not known neither.
            Err(fault)
                if fault.outcome() == Outcome::Unknown || fault.kind() == FaultKind::Timeout =>
            {
                usual.given_up(ran)
            }
            Err(_) => {}
        }
    }

    /// Sends the call to the upstream that its row names, waits for the end under the deadline,
    /// and writes it. A notification's result is `null`, as soon as the upstream has taken it
    /// over.
    pub async fn carry_out(self, call: &Call) -> Dispatched {
        self.carry_out_fitting(call, &|_| Ok(())).await
    }

    /// The same, where not every result can be an answer.
    pub(super) async fn carry_out_fitting(mut self, call: &Call, fits: Fits<'_>) -> Dispatched {
        if self.is_keyed() {
            // In a box, so that calls without keys do not carry its room.
            return Box::pin(keyed::carry_out(self, call, fits)).await;
        }
        let Ran { result, service_time, at } = self.run(call).await;
        let result = result.and_then(|reply| fits(&reply).map(|()| reply));
        let (dialect, allowance) = (Some(self.row().rule.dialect), self.allowance);
        self.into_ending().write_at(at, call.name.as_str(), result.as_ref().map(|_| ()));
        Dispatched { result, service_time, dialect, allowance, replayed: false }
    }

    /// The same, without an end.
    pub(super) async fn run(&mut self, call: &Call) -> Ran {
        if self.is_waiting()
            // In a box for the same reason as the retries below.
            && let Err(fault) = Box::pin(self.turn(call.name.as_str(), call.name.service())).await
        {
            return Ran::not(fault);
        }
        let sent = Instant::now();
        if let Some(budget) = self.row().retry_budget() {
            budget.earn(sent);
        }
        let span = self.ending.span().clone();
        let result = match self.attempt(call).instrument(span.clone()).await {
            Err(fault) if self.row().rule.retries > 0 => {
                // In a box, so that calls which are answered at once do not carry its room.
                Box::pin(retries::try_again(self, call, fault)).instrument(span).await
            }
            result => result,
        };
        let at = Instant::now();
        let was_sent = !matches!(&result, Err(fault) if fault.outcome() == Outcome::NotSent);
        Ran { result, service_time: was_sent.then(|| at - sent), at }
    }

    /// Sends the call once, and tells the upstream's breaker how that ended.
    pub(super) async fn attempt(&mut self, call: &Call) -> Result<Reply, Fault> {
        let tried = Instant::now();
        let Sent { result, waited } = self.send(call).await;
        let (sent, now) = (tried + waited, Instant::now());
        let has_a_line = self.seats().is_some_and(|seats| seats.target().upstream.has_a_line());
        // Nobody waits for what a notification sets off.
        if call.kind == CallKind::Call && (has_a_line || self.seated().is_some()) {
            self.learn(Some(sent), now, result.as_ref().map(|_| ()));
        }
        let probe = self.probe.take();
        let row = self.row();
        if let Some(breaker) = row.breaker() {
            let (kind, timeout) = (call.kind, row.rule.timeout);
            let (result, deadline) = (result.as_ref(), self.deadline);
            let ended = Ended { kind, result, deadline, sent, timeout };
            breaker.judge(row.rule.service(&call.name), probe, &ended, now);
        }
        result
    }

    async fn send(&self, call: &Call) -> Sent {
        let rule = &self.row().rule;
        let Some(Standing::Seated(seats)) = &self.standing else {
            let fault = timed_out(call.name.as_str(), self.deadline, true);
            return Sent { result: Err(fault), waited: Duration::ZERO };
        };
        let upstream = &seats.target().upstream;
        let request = Request {
            service: rule.service(&call.name),
            method: rule.method(&call.name),
            subject: rule.subject.as_deref(),
            params: &call.params,
            param_names: &rule.params,
            context: &call.context,
            deadline: self.deadline,
            departure: Departure::default(),
            usual: self.row().usual().run(),
        };
        let at = self.deadline.at();
        let ended = match call.kind {
            CallKind::Call => timeout_at(at, upstream.call(&request)).await,
            CallKind::Notification => {
                let notified = timeout_at(at, upstream.notify(&request)).await;
                notified.map(|handed| handed.map(|()| Reply::new(Payload::NULL)))
            }
        };
        let held = request.departure.was_held();
        // Whatever a service said may repeat what it was sent, secrets of the configuration's too.
        let ended = ended.map(|ended| {
            ended.map_err(|fault| if fault.remote().is_some() { fault.scrubbed() } else { fault })
        });
        let name = call.name.as_str();
        let result = ended.unwrap_or_else(|_| {
            Err(match request.departure.was_answered() {
                true => unended(name, self.deadline),
                false => timed_out(name, self.deadline, held),
            })
        });
        Sent { result, waited: request.departure.waited() }
    }
}
