//! The limits of a row, of the whole gateway or of an API key, at work: what was used of them lives over a
//! reload that does not change them.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::places::Places;
use super::policy::rate::{CallerLimiter, TotalLimiter};
use super::table::Row;
use crate::caller::{Caller, Scheme};
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
}

/// The limits of an API key, whichever row its calls take.
pub struct KeyLimits {
    name: String,
    limits: LimitsInForce,
}

impl KeyLimits {
    fn new(name: &str, limits: &Limits, before: Option<&Self>) -> Self {
        // All calls with the key are one caller's.
        let limits = Limits { rate: None, total_rate: limits.rate, ..limits.clone() };
        let limits = LimitsInForce::new(&limits, before.map(|before| &before.limits));
        Self { name: name.to_owned(), limits }
    }

    fn are_any(&self) -> bool {
        self.limits.total_rate.is_some() || self.limits.in_flight.is_some()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn rate(&self) -> Option<&TotalLimiter> {
        self.limits.total_rate.as_deref()
    }

    pub(super) fn in_flight(&self) -> Option<&Arc<Places>> {
        self.limits.in_flight.as_ref()
    }
}

/// The API keys that have limits, by their names: so that one that is edited is held to its limits as they
/// are now, wherever it has been let in.
#[derive(Default)]
pub struct LimitsOfKeys(HashMap<String, Arc<KeyLimits>, RandomState>);

impl LimitsOfKeys {
    /// Those of a configuration, in the place of those before.
    pub fn new<'a>(keys: impl Iterator<Item = (&'a str, &'a Limits)>, before: &Self) -> Self {
        let keys = keys.map(|(name, limits)| {
            let same = before.0.get(name).map(Arc::as_ref);
            (name.to_owned(), Arc::new(KeyLimits::new(name, limits, same)))
        });
        Self(keys.filter(|(_, limits)| limits.are_any()).collect())
    }

    /// Those of the key as which somebody acts now, if he does and it has some.
    pub(super) fn of(&self, caller: &Caller) -> Option<&Arc<KeyLimits>> {
        if self.0.is_empty() {
            return None;
        }
        let key = caller.in_force().filter(|known| known.scheme == Scheme::Key)?;
        self.0.get(&key.subject)
    }

    /// The places of all of them.
    pub(super) fn places(&self) -> impl Iterator<Item = &Arc<Places>> {
        self.0.values().filter_map(|key| key.in_flight())
    }
}

/// Whose limit one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    Key(&'a str),
    Row,
    Gateway,
}

impl Whose<'_> {
    /// How a message calls it.
    pub(super) fn said(self, row: &Row) -> String {
        match self {
            Self::Key(name) => format!("the key `{name}`"),
            Self::Row => format!("the row `{}`", row.rule.pattern),
            Self::Gateway => "the gateway".to_owned(),
        }
    }
}
