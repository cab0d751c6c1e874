//! Counts of the last seconds: of all, and of those that are marked. A ring of slots, each an atomic
//! word that holds its time too, so that counting is one atomic change and nothing has to be swept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How many slots a window has: it forgets a tenth of itself at a time.
const SLOTS: u64 = 10;
/// The bits of each of the two counts in a slot.
const BITS: u32 = 20;
const MOST: u64 = (1 << BITS) - 1;
/// The bits of a slot's time.
const TICKS: u64 = (1 << (64 - 2 * BITS)) - 1;

/// What happened in a window of time that ends now.
pub(super) struct Tally {
    began: Instant,
    /// How long a slot is, in milliseconds.
    slot: u64,
    slots: [AtomicU64; SLOTS as usize],
}

/// So many, and so many of them marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: u64,
    pub(super) marked: u64,
}

impl Tally {
    pub(super) fn new(window: Duration) -> Self {
        let slot = (millis(window) / SLOTS).max(1);
        Self { began: Instant::now(), slot, slots: Default::default() }
    }

    /// Counts something that has happened now.
    pub(super) fn add(&self, now: Instant, marked: bool) {
        let tick = self.tick(now);
        let Some(slot) = self.slots.get((tick % SLOTS) as usize) else { return };
        let added = |word| Some(added(word, tick & TICKS, marked));
        // It never fails: what is to stand there is always known.
        slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).ok();
    }

    /// What has happened in the window that ends now.
    pub(super) fn counts(&self, now: Instant) -> Counts {
        let tick = self.tick(now) & TICKS;
        let mut counts = Counts::default();
        for slot in &self.slots {
            let word = slot.load(Ordering::Relaxed);
            if tick.wrapping_sub(word >> (2 * BITS)) & TICKS < SLOTS {
                counts.all += (word >> BITS) & MOST;
                counts.marked += word & MOST;
            }
        }
        counts
    }

    /// Forgets all of it.
    pub(super) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
    }

    /// The number of the slot of that time. A word of zeros is of no time that is ever looked at.
    fn tick(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.began)) / self.slot + SLOTS
    }
}

fn added(word: u64, tick: u64, marked: bool) -> u64 {
    let (mut all, mut marks) = ((word >> BITS) & MOST, word & MOST);
    if word >> (2 * BITS) != tick {
        (all, marks) = (0, 0);
    }
    if all == MOST {
        // Their proportion is what is asked for.
        (all, marks) = (all / 2, marks / 2);
    }
    (tick << (2 * BITS)) | ((all + 1) << BITS) | (marks + u64::from(marked))
}

/// A time in milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn counts(all: u64, marked: u64) -> Counts {
        Counts { all, marked }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (tally, start) = (Tally::new(WINDOW), Instant::now());
        for second in 0..10 {
            tally.add(start + Duration::from_secs(second), second % 2 == 0);
        }
        assert_eq!(tally.counts(start + Duration::from_secs(9)), counts(10, 5));
        assert_eq!(tally.counts(start + Duration::from_secs(12)), counts(7, 3));
        assert_eq!(tally.counts(start + Duration::from_secs(60)), counts(0, 0));
        // A slot that is used again holds the new alone.
        tally.add(start + Duration::from_secs(60), true);
        assert_eq!(tally.counts(start + Duration::from_secs(60)), counts(1, 1));
        tally.clear();
        assert_eq!(tally.counts(start + Duration::from_secs(60)), counts(0, 0));
    }

    #[test]
    fn a_slot_that_is_full_keeps_the_proportion() {
        let mut word = 0;
        for n in 0..3_000_000 {
            word = added(word, 7, n % 4 == 0);
        }
        let (all, marked) = ((word >> BITS) & MOST, word & MOST);
        assert!(all <= MOST && all > MOST / 2, "{all}");
        let part = marked as f64 / all as f64;
        assert!((0.24..0.26).contains(&part), "{part}");
    }
}
