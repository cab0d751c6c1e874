//! So many calls in a time, from one caller or from all: `rate` of an API key, of a row and of the whole gateway,
//! then `total_rate` of a row and of the gateway, in this order: only who may call by his own limits takes of what
//! all have together.
//!
//! A caller is who it is known as, else the address that it calls from (of IPv6 its /64, which one
//! machine can have all of). What a caller was allowed is said in its answer.

mod callers;

use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::{Arrival, Declined};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};
use crate::metrics;
use crate::route::rate::Rate;
use crate::router::limits::{KeyLimits, LimitsInForce, Whose};
use crate::router::table::Row;
use crate::router::who::Numbers;
use callers::Callers;

/// What a caller is allowed, and has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The limit.
    pub rate: Rate,
    /// How many more calls may come at once.
    pub remaining: u32,
    /// In which time one more may come than that, at the latest.
    pub reset: Duration,
}

impl Allowance {
    fn new(rate: Rate, snapshot: &StateSnapshot) -> Self {
        let remaining = snapshot.remaining_burst_capacity();
        let is_whole = remaining >= rate.count.get();
        let step = snapshot.quota().replenish_interval();
        Self { rate, remaining, reset: if is_whole { Duration::ZERO } else { step } }
    }

    fn none(rate: Rate, Spent(wait): &Spent) -> Self {
        Self { rate, remaining: 0, reset: *wait }
    }
}

type Limiter<K, S> = RateLimiter<K, S, MonotonicClock, StateInformationMiddleware>;

/// `rate`: each caller has its own.
pub(in crate::router) struct CallerLimiter {
    rate: Rate,
    numbers: Numbers,
    /// Those who are known.
    known: Callers,
    /// The others, by their addresses: however many those are, whoever is known has a limit of his own.
    others: Callers,
}

/// `total_rate`: all callers have one. And `rate` of a key: all calls with it are one caller's.
pub(in crate::router) struct TotalLimiter {
    rate: Rate,
    limiter: Limiter<NotKeyed, InMemoryState>,
}

/// Why a call may not be made now: for how long not.
struct Spent(Duration);

fn quota(rate: Rate) -> Quota {
    // A rate allows at least one in its time, so a step of it is never nothing.
    let step = rate.per / rate.count.get();
    let quota = Quota::with_period(step.max(Duration::from_nanos(1)));
    quota.map_or(Quota::per_second(rate.count), |quota| quota.allow_burst(rate.count))
}

impl CallerLimiter {
    /// A limit that nobody has met yet.
    pub(in crate::router) fn new(rate: Rate) -> Self {
        let (known, others) = (Callers::new(rate), Callers::new(rate));
        Self { rate, numbers: Numbers::default(), known, others }
    }

    /// The limit.
    pub(in crate::router) fn rate(&self) -> Rate {
        self.rate
    }

    fn take(&self, caller: &Caller) -> Result<Allowance, Spent> {
        let callers = if caller.in_force().is_some() { &self.known } else { &self.others };
        let taken = callers.take(self.numbers.of(caller));
        taken.map(|snapshot| Allowance::new(self.rate, &snapshot))
    }
}

impl TotalLimiter {
    /// A limit that nobody has met yet.
    pub(in crate::router) fn new(rate: Rate) -> Self {
        let limiter = RateLimiter::direct_with_clock(quota(rate), MonotonicClock);
        Self { rate, limiter: limiter.with_middleware() }
    }

    /// The limit.
    pub(in crate::router) fn rate(&self) -> Rate {
        self.rate
    }

    fn take(&self) -> Result<Allowance, Spent> {
        let checked = self.limiter.check();
        let checked = checked.map(|snapshot| Allowance::new(self.rate, &snapshot));
        checked.map_err(|not_until| Spent(not_until.wait_time_from(MonotonicClock.now())))
    }
}

/// A call that is held to its limits, for what is said where it is over one.
struct Held<'a> {
    row: &'a Row,
    label: &'a str,
    name: &'a str,
    /// What is not done to it then.
    done: &'static str,
}

/// Whether the call may be made now; what its caller has left, where there is a limit on that.
pub(super) fn check(
    row: &Row,
    key: Option<&KeyLimits>,
    arrival: &Arrival<'_>,
) -> Result<Option<Allowance>, Declined> {
    let call = Held { row, label: row.label(None), name: arrival.name, done: "sent" };
    let left = call.take_of_its_caller(key, &row.limits(), arrival.caller)?;
    // Whoever has no more himself must not spend what all have.
    for (limits, whose) in row.limits() {
        if let Some(limiter) = &limits.total_rate {
            limiter.take().map_err(|spent| Declined {
                fault: call.refused((whose, "total_rate"), limiter.rate, &spent),
                allowance: None,
            })?;
        }
    }
    Ok(left)
}

/// The same of a call in which its row has no part: one that is not let in, or that Genkan answers itself. It counts
/// for its caller, by the rate of its key and that of the whole gateway, and not for what all callers together
/// may: whoever may not call is not to spend that.
///
/// Whoever is known only by the upstream by way of which it calls is one with all its neighbours there: it could
/// spend what is theirs, so that its refused calls count for nobody.
pub(in crate::router) fn charge(
    (row, label): (&Row, &str),
    key: Option<&KeyLimits>,
    (caller, name): (&Caller, &str),
) -> Result<Option<Allowance>, Declined> {
    if caller.is_one_of_many() {
        return Ok(None);
    }
    let [_, gateway] = row.limits();
    Held { row, label, name, done: "answered" }.take_of_its_caller(key, &[gateway], caller)
}

impl Held<'_> {
    /// Takes one of what its caller has, by each of the limits that he has of his own; the tightest of them.
    fn take_of_its_caller(
        &self,
        key: Option<&KeyLimits>,
        limits: &[(&LimitsInForce, Whose<'_>)],
        caller: &Caller,
    ) -> Result<Option<Allowance>, Declined> {
        let declined = |whose, rate, spent: &Spent| Declined {
            fault: self.refused((whose, "rate"), rate, spent),
            allowance: Some(Allowance::none(rate, spent)),
        };
        let mut tightest: Option<Allowance> = None;
        if let Some((key, limiter)) = key.and_then(|key| Some((key, key.rate()?))) {
            let left = limiter.take();
            tightest =
                Some(left.map_err(|spent| declined(Whose::Key(key.name()), limiter.rate, &spent))?);
        }
        for (limits, whose) in limits {
            let Some(limiter) = &limits.rate else { continue };
            let left = limiter.take(caller);
            let left = left.map_err(|spent| declined(*whose, limiter.rate, &spent))?;
            if tightest.is_none_or(|known| left.remaining < known.remaining) {
                tightest = Some(left);
            }
        }
        Ok(tightest)
    }

    fn refused(&self, (whose, key): (Whose<'_>, &'static str), rate: Rate, spent: &Spent) -> Fault {
        metrics::limited(self.label, key);
        let who = if key == "rate" { "its caller has" } else { "all callers together have" };
        let way = if matches!(whose, Whose::Key(_)) { "with" } else { "to" };
        let (name, done, place) = (self.name, self.done, whose.said(self.row));
        let message = format!(
            "`{name}` was not {done}: {who} made {rate} calls {way} {place} already, its limit ({key}): try \
             again later"
        );
        Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(spent.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::callers::MOST;
    use super::*;
    use crate::caller::{Identity, Scheme};

    fn rate(text: &str) -> Rate {
        Rate::parse(text).expect("a rate")
    }

    fn at(address: &str) -> Caller {
        Caller::at(address.parse().expect("an address"))
    }

    fn issued_by(issuer: &str) -> Caller {
        let issuer = Some(issuer.to_owned());
        let token = Identity { issuer, ..Identity::new(Scheme::Token, "42") };
        Caller::NOBODY.connected_as(Arc::new(token))
    }

    fn named(name: &str) -> Caller {
        Caller::NOBODY.connected_as(Arc::new(Identity::new(Scheme::Key, name)))
    }

    #[test]
    fn each_caller_has_its_own() {
        let limiter = CallerLimiter::new(rate("2/d"));
        let left = |caller: &Caller| limiter.take(caller).map(|allowed| allowed.remaining).ok();
        let (web, app, here) = (named("web"), named("app"), at("192.0.2.1"));
        assert_eq!([left(&web), left(&web), left(&web)], [Some(1), Some(0), None]);
        assert_eq!([left(&app), left(&here), left(&Caller::NOBODY)], [Some(1); 3]);
        // Whoever is known is not held to its address, and one machine has all of a /64.
        assert_eq!(left(&at("::ffff:192.0.2.1")), Some(0));
        assert_eq!(left(&at("2001:db8::1")), Some(1));
        assert_eq!(left(&at("2001:db8::ffff:2")), Some(0));
        assert_eq!(left(&at("2001:db8:0:1::1")), Some(1));
        let [one, other] = ["https://a.example/", "https://b.example/"].map(issued_by);
        assert_eq!([left(&one), left(&one), left(&one)], [Some(1), Some(0), None]);
        assert_eq!(left(&other), Some(1), "its `42` is another one");
    }

    #[test]
    fn who_is_not_known_any_more_has_its_address_s() {
        let limiter = CallerLimiter::new(rate("2/d"));
        let left = |caller: &Caller| limiter.take(caller).map(|allowed| allowed.remaining).ok();
        let key = Arc::new(Identity::new(Scheme::Key, "web"));
        let web = at("192.0.2.1").showing(Ok(Arc::clone(&key)));
        assert_eq!([left(&at("192.0.2.1")), left(&web)], [Some(1); 2]);
        key.standing.withdraw();
        assert_eq!([left(&web), left(&web)], [Some(0), None]);
    }

    #[test]
    fn what_is_left_and_when_it_comes_back_is_told() {
        let limiter = CallerLimiter::new(rate("60/m"));
        let first = limiter.take(&Caller::NOBODY).ok().expect("the first");
        assert_eq!((first.remaining, first.reset), (59, Duration::from_secs(1)));
        let mut last = first;
        for _ in 0..59 {
            last = limiter.take(&Caller::NOBODY).ok().expect("one of 60");
        }
        // As whoever is refused next is told.
        assert_eq!(last.reset, Duration::from_secs(1));
        let Err(Spent(wait)) = limiter.take(&Caller::NOBODY) else { panic!("the 61st") };
        assert!(wait <= Duration::from_secs(1) && !wait.is_zero(), "{wait:?}");
    }

    #[test]
    fn the_table_of_callers_is_bounded_and_forgets() {
        let limiter = CallerLimiter::new(rate("2/d"));
        let address = |n: u32| Caller::at(IpAddr::V4(n.into()));
        let first = address(0);
        assert!(limiter.take(&first).is_ok());
        let mut taken = 0;
        for n in 1..1_000_000 {
            taken += usize::from(limiter.take(&address(n)).is_ok());
        }
        assert!(limiter.others.len() <= MOST + 1, "{}", limiter.others.len());
        // Further ones share one allowance; whoever is told apart keeps his own.
        assert!(taken <= MOST + 1, "{taken}");
        assert!(limiter.take(&first).is_ok() && limiter.take(&first).is_err());
        assert!(limiter.take(&named("web")).is_ok(), "whoever is known is not in their crowd");
        let quick = CallerLimiter::new(rate("4294967295/s"));
        for n in 0..=MOST as u32 {
            assert!(quick.take(&address(n)).is_ok());
        }
        let left = quick.others.len();
        assert!(left < MOST / 2, "their allowances have come back: {left}");
    }
}
