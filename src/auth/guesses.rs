//! Holds whoever shows wrong tokens to a rate: those that an operator chose may be short, and are not to be guessed.
//!
//! Who has shown too many is refused for a while, whatever it shows: told by its answer, a right one would be found
//! among wrong ones at any rate. That is asked before it is known whether something counts, which governor, the
//! crate behind all other rates, cannot tell without counting. What counts as one, and what is guessed at, is the
//! user's matter. No I/O.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

/// How many wrong ones may come at once,
const AT_ONCE: u32 = 10;
/// and how long it takes until one of them is forgotten.
const STEP: Duration = Duration::from_secs(1);
/// How many of those who guess are told apart. Further ones share one.
const MOST: usize = 10_000;
/// The one that they share.
const OTHERS: u64 = 0;

/// Who has shown wrong tokens of late.
pub(crate) struct Guesses {
    hasher: RandomState,
    table: Mutex<Table>,
}

struct Table {
    /// When all that somebody has shown is forgotten.
    forgotten: HashMap<u64, Instant>,
    swept: Instant,
}

impl Guesses {
    /// Nobody has.
    pub(crate) fn new() -> Self {
        let table = Table { forgotten: HashMap::new(), swept: Instant::now() };
        Self { hasher: RandomState::default(), table: Mutex::new(table) }
    }

    /// Looks at what `who` shows, where that may show something now: `is_right` is not asked else. An error where
    /// it is wrong.
    pub(crate) fn look(
        &self,
        who: impl Hash,
        is_right: impl FnOnce() -> bool,
    ) -> Result<(), Refused> {
        let (who, now) = (self.hasher.hash_one(who), Instant::now());
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let who = if table.has_room_for(who, now) { who } else { OTHERS };
        let forgotten = table.forgotten.get(&who).copied().unwrap_or(now).max(now);
        let after = (forgotten + STEP).saturating_duration_since(now + STEP * AT_ONCE);
        if !after.is_zero() {
            return Err(Refused::TooMany(after));
        }
        if is_right() {
            return Ok(());
        }
        table.forgotten.insert(who, forgotten + STEP);
        Err(Refused::Wrong)
    }
}

impl Table {
    fn has_room_for(&mut self, who: u64, now: Instant) -> bool {
        if self.forgotten.contains_key(&who) {
            return true;
        }
        if self.forgotten.len() >= MOST && now.duration_since(self.swept) >= STEP {
            self.forgotten.retain(|_, forgotten| *forgotten > now);
            self.swept = now;
        }
        self.forgotten.len() < MOST
    }
}

/// Why what somebody showed is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is wrong.
    Wrong,
    /// It has not been looked at, and is not for so long: too many were wrong.
    TooMany(Duration),
}

impl Refused {
    /// The label's value of what counts it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Refused::Wrong => "wrong_token",
            Refused::TooMany(_) => "too_many_wrong",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_guesses_is_not_told_when_it_is_right_but_at_a_rate() {
        let guesses = Guesses::new();
        let right = |who: u32| guesses.look(who, || true);
        for _ in 0..AT_ONCE {
            assert_eq!(right(1), Ok(()), "right ones count for nothing");
            assert_eq!(guesses.look(1, || false), Err(Refused::Wrong));
        }
        assert_eq!(right(1), Err(Refused::TooMany(STEP)));
        assert_eq!(right(2), Ok(()), "another one is not held up");
        advance(STEP).await;
        assert_eq!(right(1), Ok(()));
        assert_eq!(guesses.look(1, || false), Err(Refused::Wrong));
        assert_eq!(guesses.look(1, || false), Err(Refused::TooMany(STEP)));
        advance(STEP * AT_ONCE).await;
        for _ in 0..AT_ONCE {
            assert_eq!(guesses.look(1, || false), Err(Refused::Wrong), "all is forgotten");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_forgets() {
        let guesses = Guesses::new();
        let held = || guesses.table.lock().expect("no panic").forgotten.len();
        let wrong = |who: usize| guesses.look(who, || false);
        let looked_at = (0..3 * MOST).filter(|who| wrong(*who) == Err(Refused::Wrong)).count();
        assert_eq!((looked_at, held()), (MOST + AT_ONCE as usize, MOST + 1));
        advance(STEP * AT_ONCE).await;
        assert_eq!(wrong(7 * MOST), Err(Refused::Wrong));
        assert_eq!(held(), 1);
    }
}
