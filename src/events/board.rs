//! What operators are shown of places that no events come from. Each source's inlet writes its own part, the pages
//! for operators show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::EventMetrics;

/// The sources that are not listened to though they are wanted.
#[derive(Default)]
pub struct Board(Mutex<Shown>);

#[derive(Default)]
struct Shown {
    seats: u64,
    unheard: BTreeMap<u64, Unheard>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// Where its events come from.
    pub from: String,
    /// Why none is taken; no credentials.
    pub why: String,
}

impl Board {
    /// What is shown, each place once.
    pub fn shown(&self) -> Vec<Unheard> {
        let mut shown: Vec<Unheard> = self.state().unheard.values().cloned().collect();
        shown.sort_unstable_by(|one, other| (&one.from, &one.why).cmp(&(&other.from, &other.why)));
        shown.dedup();
        shown
    }

    fn state(&self) -> MutexGuard<'_, Shown> {
        // Every use leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of it for one source.
    pub(super) fn seat(self: &Arc<Self>, metrics: &EventMetrics) -> Seat {
        let mut shown = self.state();
        shown.seats += 1;
        Seat { board: Arc::clone(self), number: shown.seats, metrics: metrics.clone() }
    }
}

/// What is shown of one source, until this is dropped.
pub(super) struct Seat {
    board: Arc<Board>,
    number: u64,
    metrics: EventMetrics,
}

impl Seat {
    /// Its events are not taken, because of that; `None` where they are.
    pub(super) fn show(&self, why: Option<&str>) {
        let mut shown = self.board.state();
        let was_shown = match why {
            Some(why) => {
                let (from, why) = (self.metrics.bridge().to_owned(), why.to_owned());
                shown.unheard.insert(self.number, Unheard { from, why }).is_some()
            }
            None => shown.unheard.remove(&self.number).is_some(),
        };
        if was_shown != why.is_some() {
            self.metrics.source_fails(why.is_some());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.show(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_shown_until_it_does_not_or_is_gone() {
        let board = Arc::new(Board::default());
        let seat = |from| board.seat(&EventMetrics::new(from, "web:x"));
        let (one, same, other) = (seat("a"), seat("a"), seat("b"));
        for seat in [&one, &same, &other] {
            seat.show(Some("denied"));
        }
        let shown =
            || board.shown().into_iter().map(|it| it.from + " " + &it.why).collect::<Vec<_>>();
        assert_eq!(shown(), ["a denied", "b denied"]);
        one.show(Some("gone"));
        assert_eq!(shown(), ["a denied", "a gone", "b denied"]);
        same.show(None);
        drop(one);
        other.show(None);
        assert!(shown().is_empty());
    }
}
