//! How long a row's calls run, from the moment in which they can be sent to their results: by this is told
//! whether one that has waited for its turn has time enough left.
//!
//! Only results count. An error may come at once, whatever the method; one that was given up would have
//! taken longer, so it can only make the time longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a run counts for in the average: one part in so many.
const WEIGHT: u64 = 8;

/// The moving average, in microseconds; 0 where nobody knows.
#[derive(Debug, Default)]
pub(super) struct Usual(AtomicU64);

impl Usual {
    /// How long a call runs; nothing where none has ended.
    pub(super) fn run(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// A call got its result after that time.
    pub(super) fn answered(&self, ran: Duration) {
        let (ran, before) = (micros(ran), self.0.load(Ordering::Relaxed));
        let rest = before - before / WEIGHT;
        let now = if before == 0 { ran } else { rest.saturating_add(ran / WEIGHT) };
        // Where two tell at once, one of them is not heard: it is an average.
        self.0.store(now.max(1), Ordering::Relaxed);
    }

    /// A call was given up after that time.
    pub(super) fn given_up(&self, ran: Duration) {
        if ran > self.run() {
            self.answered(ran);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / WEIGHT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_never_makes_a_call_look_fast() {
        let (usual, second) = (Usual::default(), Duration::from_secs(1));
        assert_eq!(usual.run(), Duration::ZERO);
        usual.answered(second);
        usual.given_up(second / 10);
        assert_eq!(usual.run(), second);
        usual.given_up(9 * second);
        assert_eq!(usual.run(), 2 * second);
        (0..99).for_each(|_| usual.answered(second / 2));
        assert!(usual.run() < second * 6 / 10, "{:?}", usual.run());
    }
}
