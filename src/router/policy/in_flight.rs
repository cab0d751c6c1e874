//! So many calls may be under way at once, and no more: `max_in_flight` of the caller's API key, of the row,
//! of the whole gateway and of the upstream, in this order. Where one of the first three has a `queue`, a call
//! over the limit waits for its turn, ahead of the limits behind that one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::call::Deadline;
use crate::fault::{Fault, FaultKind};
use crate::metrics::{self, WaitingCall};
use crate::router::limits::{KeyLimits, Whose};
use crate::router::places::{Entered, Full, Place, Places, Turn};
use crate::router::table::Row;
use crate::router::target::{Expected, Permit, Target};
use crate::units::{format_duration, whole_seconds};

/// How soon a caller that met the limit should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limits with places of their own.
const LIMITS: usize = 3;

/// The places of a call that is under way, given back when dropped.
pub(in crate::router) struct Seats {
    permit: Permit,
    places: [Option<Place>; LIMITS],
}

impl Seats {
    /// The upstream that it goes to.
    pub(in crate::router) fn target(&self) -> &Target {
        self.permit.target()
    }

    /// Since when the call can be sent; `None` where none waits.
    pub(in crate::router) fn since(&self) -> Option<Instant> {
        self.places.iter().flatten().filter_map(Place::since).max()
    }
}

/// How a call stands that was admitted.
pub(in crate::router) enum Standing {
    /// It can be sent.
    Seated(Seats),
    /// It waits for its turn.
    Waiting(Box<Waiting>),
    /// Its idempotency key decides whether it is sent at all; if so, the limits of its caller's API key hold.
    Keyed(Option<Arc<KeyLimits>>),
}

/// A call that waits for its turn, and the places that it has by now. Dropped, it has left.
pub(in crate::router) struct Waiting {
    turn: Turn,
    /// Which limit it waits for.
    at: usize,
    places: [Option<Place>; LIMITS],
    key: Option<Arc<KeyLimits>>,
    target: Expected,
    _count: WaitingCall,
}

/// A call on its way through the limits.
struct Entrant<'a> {
    row: &'a Row,
    key: Option<&'a Arc<KeyLimits>>,
    name: &'a str,
    deadline: Deadline,
}

pub(in crate::router) fn enter(
    (row, key): (&Row, Option<&Arc<KeyLimits>>),
    target: &Arc<Target>,
    (name, received): (&str, Instant),
    deadline: Deadline,
) -> Result<Standing, Fault> {
    Entrant { row, key, name, deadline }.enter(target, received, 0, Default::default())
}

impl Waiting {
    /// Waits until it can be sent.
    pub(in crate::router) async fn seat(
        mut self,
        row: &Row,
        name: &str,
        deadline: Deadline,
    ) -> Result<Seats, Fault> {
        let key = self.key.take();
        let entrant = Entrant { row, key: key.as_ref(), name, deadline };
        loop {
            let Self { turn, at, .. } = &mut self;
            match timeout_at(entrant.latest(), turn.comes()).await {
                Err(_) if entrant.usual().is_zero() => {
                    return Err(entrant.waited_too_long(turn, *at));
                }
                Err(_) => return Err(entrant.comes_too_late(turn, *at)),
                Ok(None) => return Err(entrant.refused(*at, &Full::Closed)),
                // How long calls run may be known only now.
                Ok(Some(place)) if Instant::now() > entrant.latest() => {
                    place.leave_unused();
                    return Err(entrant.comes_too_late(turn, *at));
                }
                Ok(Some(place)) => self.places[*at] = Some(place),
            }
            let Self { at, places, target, .. } = self;
            match entrant.enter(target.target(), Instant::now(), at + 1, places)? {
                Standing::Seated(seats) => return Ok(seats),
                Standing::Waiting(further) => self = *further,
                // A key was looked at before.
                Standing::Keyed(_) => return Err(entrant.refused(at, &Full::Closed)),
            }
        }
    }
}

impl Entrant<'_> {
    /// Goes on at one of the limits, with the places that it has of those before.
    fn enter(
        &self,
        target: &Arc<Target>,
        now: Instant,
        from: usize,
        mut places: [Option<Place>; LIMITS],
    ) -> Result<Standing, Fault> {
        for at in from..LIMITS {
            let (Some(in_flight), _) = self.limit(at) else { continue };
            match in_flight.enter(now, self.latest()) {
                Ok(Entered::Place(place)) => places[at] = Some(place),
                Ok(Entered::Turn(turn)) => {
                    let _count = WaitingCall::new(self.row.label(None));
                    let target = target.expect();
                    let key = self.key.cloned();
                    let waiting = Waiting { turn, at, places, key, target, _count };
                    return Ok(Standing::Waiting(Box::new(waiting)));
                }
                Err(full) => return Err(self.refused(at, &full)),
            }
        }
        let permit = target.enter().ok_or_else(|| {
            let doing = format!("wait for the upstream `{}`", target.name);
            self.full(target.max_in_flight(), &doing)
        })?;
        Ok(Standing::Seated(Seats { permit, places }))
    }

    /// How long calls of its row run lately.
    fn usual(&self) -> Duration {
        self.row.usual().run()
    }

    /// Until when it can be sent, and have its answer in time.
    fn latest(&self) -> Instant {
        self.deadline.at().checked_sub(self.usual()).unwrap_or_else(Instant::now)
    }

    /// One of the limits, where it is set, and whose it is.
    fn limit(&self, at: usize) -> (Option<&Arc<Places>>, Whose<'_>) {
        let Some(at) = at.checked_sub(1) else {
            let key = self.key.map(|key| &**key);
            let name = key.map_or("", KeyLimits::name);
            return (key.and_then(KeyLimits::in_flight), Whose::Key(name));
        };
        let (limits, whose) = self.row.limits()[at];
        (limits.in_flight.as_ref(), whose)
    }

    fn of(&self, at: usize) -> String {
        let (_, whose) = self.limit(at);
        whose.said(self.row)
    }

    fn refused(&self, at: usize, full: &Full) -> Fault {
        let (name, of) = (self.name, self.of(at));
        match full {
            Full::Taken { most } => match self.limit(at) {
                (_, Whose::Key(_)) => self.full(*most, &format!("with {of} are under way")),
                _ => self.full(*most, &format!("wait for {of}")),
            },
            Full::Queue { most, room } => {
                let message = format!(
                    "`{name}` was not sent: {most} calls of {of} are under way and {room} wait, its \
                     limits (max_in_flight, queue): try again in a moment"
                );
                self.limited("queue", message).with_retry_after(RETRY_AFTER)
            }
            Full::TooLate { most, ahead, wait } => {
                let wait = (*wait).max(RETRY_AFTER);
                let message = format!(
                    "`{name}` was not sent: {most} calls of {of} are under way, its limit \
                     (max_in_flight), and {ahead} wait: its turn would come too late for its deadline \
                     ({}){}: try again in {}",
                    format_duration(self.deadline.timeout()),
                    self.takes(),
                    format_duration(whole_seconds(wait))
                );
                self.limited("queue", message).with_retry_after(wait)
            }
            Full::Closed => {
                let message = format!(
                    "`{name}` was not sent: it would have to wait for its turn in {of} \
                     (max_in_flight), and the gateway shuts down"
                );
                Fault::not_sent(FaultKind::Unavailable, message)
            }
        }
    }

    fn full(&self, limit: usize, doing: &str) -> Fault {
        let name = self.name;
        let message = format!(
            "`{name}` was not sent: {limit} calls {doing} already, its limit (max_in_flight): try again in a \
             moment"
        );
        self.limited("max_in_flight", message).with_retry_after(RETRY_AFTER)
    }

    fn limited(&self, limit: &'static str, message: String) -> Fault {
        metrics::limited(self.row.label(None), limit);
        Fault::not_sent(FaultKind::Overloaded, message)
    }

    /// How long calls run, for a message.
    fn takes(&self) -> String {
        let usual = self.usual();
        if usual.is_zero() {
            return String::new();
        }
        let about =
            Duration::from_millis(u64::try_from(usual.as_millis()).unwrap_or(u64::MAX).max(1));
        format!(", as its calls take {} of late", format_duration(about))
    }

    /// Its turn has not come, or comes so late that it would not be answered in time.
    fn comes_too_late(&self, turn: &Turn, at: usize) -> Fault {
        let message = format!(
            "`{}` was not sent: {} calls of {} were under way, its limit (max_in_flight), until too little \
             of its time ({}) was left{}: try again in a moment",
            self.name,
            turn.most(),
            self.of(at),
            format_duration(self.deadline.timeout()),
            self.takes()
        );
        self.limited("queue", message).with_retry_after(RETRY_AFTER)
    }

    fn waited_too_long(&self, turn: &Turn, at: usize) -> Fault {
        metrics::limited(self.row.label(None), "queue");
        let message = format!(
            "`{}` waited {} for its turn, and it did not come: {} calls of {} are under way, its limit \
             (max_in_flight): it has not run",
            self.name,
            format_duration(self.deadline.timeout()),
            turn.most(),
            self.of(at)
        );
        Fault::not_sent(FaultKind::Timeout, message)
    }
}
