//! Callers of a kind, each with an allowance of his own: so many, and no more. Where there is no room for one
//! more, further ones share one; those who are there keep theirs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use governor::RateLimiter;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateSnapshot;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use tokio::time::Instant;

use super::{Limiter, Spent, quota};
use crate::route::rate::Rate;
use crate::router::sweep::Sweep;

/// How many are told apart. Those who have not called for as long as their allowance takes to come back are
/// forgotten first.
pub(super) const MOST: usize = 100_000;

/// Who all those are for whom there is no room: a flood of new addresses is held to a limit so.
const FURTHER_ONES: u64 = 0;

/// Callers, by numbers that nobody can choose.
pub(super) struct Callers {
    limiter: Limiter<u64, Table>,
    sweep: Sweep,
}

impl Callers {
    pub(super) fn new(rate: Rate) -> Self {
        let limiter: RateLimiter<_, _, _> =
            RateLimiter::new(quota(rate), Table::default(), MonotonicClock);
        Self { limiter: limiter.with_middleware(), sweep: Sweep::default() }
    }

    pub(super) fn take(&self, caller: u64) -> Result<StateSnapshot, Spent> {
        if self.limiter.len() >= MOST && self.sweep.is_due(Instant::now()) {
            self.limiter.retain_recent();
        }
        let checked = self.limiter.check_key(&caller);
        checked.map_err(|not_until| Spent(not_until.wait_time_from(MonotonicClock.now())))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }
}

/// When each one's allowance is whole again, as governor counts.
#[derive(Default)]
struct Table(Mutex<HashMap<u64, u64, RandomState>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u64, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Table {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, caller: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.lock();
        let is_told_apart = known.len() < MOST || known.contains_key(caller);
        let who = if is_told_apart { *caller } else { FURTHER_ONES };
        let (measured, whole_at) = measure(known.get(&who).copied().map(Nanos::from))?;
        known.insert(who, whole_at.into());
        Ok(measured)
    }
}

impl ShrinkableKeyedStateStore<u64> for Table {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().retain(|_, whole_at| *whole_at > drop_below.as_u64());
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
