//! The limits of a row, or of the whole gateway, at work: what was used of them lives over a reload that
//! does not change them.

use std::sync::Arc;

use super::places::Places;
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
        let places = before.and_then(|before| before.in_flight.as_ref());
        let in_flight = limits.max_in_flight.map(|most| {
            let places = places.cloned().unwrap_or_default();
            places.set(most, limits.queue);
            places
        });
        if let (Some(places), None) = (places, &in_flight) {
            // There is no limit any more that anybody would have to wait for.
            places.set(usize::MAX, 0);
        }
        Self { rate, total_rate, in_flight }
    }

    /// Calls nobody any more who waits for its turn.
    pub(super) fn close_queue(&self) {
        if let Some(places) = &self.in_flight {
            places.close();
        }
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
