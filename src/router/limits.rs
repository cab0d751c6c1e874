//! The limits of a row, or of the whole gateway, at work: what was used of them lives over a reload that
//! does not change them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::policy::rate::{CallerLimiter, TotalLimiter};
use super::table::Row;
use crate::route::rate::Limits;

/// Limits at work.
#[derive(Default)]
pub struct LimitsInForce {
    pub(super) rate: Option<Arc<CallerLimiter>>,
    pub(super) total_rate: Option<Arc<TotalLimiter>>,
    pub(super) in_flight: Option<Arc<Places>>,
}

impl LimitsInForce {
    /// Limits that were asked for, in the place of those before.
    pub fn new(limits: &Limits, before: Option<&Self>) -> Self {
        let rate = limits.rate.map(|rate| {
            let before = before.and_then(|before| before.rate.as_ref());
            let same = before.filter(|before| before.rate() == rate);
            same.cloned().unwrap_or_else(|| Arc::new(CallerLimiter::new(rate)))
        });
        let total_rate = limits.total_rate.map(|rate| {
            let before = before.and_then(|before| before.total_rate.as_ref());
            let same = before.filter(|before| before.rate() == rate);
            same.cloned().unwrap_or_else(|| Arc::new(TotalLimiter::new(rate)))
        });
        let in_flight = limits.max_in_flight.map(|most| {
            let places = before.and_then(|before| before.in_flight.clone()).unwrap_or_default();
            places.most.store(most, Ordering::Relaxed);
            places
        });
        Self { rate, total_rate, in_flight }
    }
}

/// Whose limit one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Row,
    Gateway,
}

impl Whose {
    /// How a message calls it.
    pub(super) fn said(self, row: &Row) -> String {
        match self {
            Self::Row => format!("the row `{}`", row.rule.pattern),
            Self::Gateway => "the gateway".to_owned(),
        }
    }
}

/// So many places for calls.
#[derive(Default)]
pub(super) struct Places {
    taken: AtomicUsize,
    most: AtomicUsize,
}

impl Places {
    /// One of them; else how many there are.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, usize> {
        let most = self.most.load(Ordering::Relaxed);
        if self.taken.fetch_add(1, Ordering::Relaxed) >= most {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            return Err(most);
        }
        Ok(Place(Arc::clone(self)))
    }
}

/// A place that is taken, given back when dropped.
pub(super) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
