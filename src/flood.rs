//! Keeps floods of like lines out of the log.
//!
//! Of lines with one key the first `BURST` in each `WINDOW` are written; the others are counted,
//! to be summed up in a line when the window has ended. What is like what, and how the lines read,
//! is the user's matter. No I/O, no lock, no clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

const BURST: u64 = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// The lines seen lately, by key.
pub struct Flood<K> {
    windows: HashMap<K, Window>,
    most: usize,
}

struct Window {
    opened: Instant,
    seen: u64,
}

impl<K: Eq + Hash> Flood<K> {
    /// Remembers `most` keys, and those that stand for all others.
    pub fn new(most: usize) -> Self {
        Self { windows: HashMap::new(), most }
    }

    /// Whether a line is to be written now. Where too many keys are remembered already, it counts
    /// under the one that `others` makes of its key: there must be few of those.
    pub fn admits(&mut self, key: K, others: impl FnOnce(K) -> K, now: Instant) -> bool {
        let is_known = self.windows.len() < self.most || self.windows.contains_key(&key);
        let key = if is_known { key } else { others(key) };
        let window = self.windows.entry(key).or_insert(Window { opened: now, seen: 0 });
        window.seen += 1;
        window.seen <= BURST
    }

    /// Closes the windows that have ended by `now`, or all of them where there is no `now`. Of
    /// those with lines that were not written: the key, and how many. To be called every second or
    /// so.
    pub fn sums(&mut self, now: Option<Instant>) -> Vec<(K, u64)> {
        let has_ended =
            |window: &Window| now.is_none_or(|now| now.duration_since(window.opened) >= WINDOW);
        let ended = self.windows.extract_if(|_, window| has_ended(window));
        let sums = ended.filter_map(|(key, window)| {
            let more = window.seen.saturating_sub(BURST);
            (more > 0).then_some((key, more))
        });
        sums.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (mut flood, start) = (Flood::new(10), Instant::now());
        let written = (0..100).filter(|_| flood.admits("a", |_| "others", start)).count();
        assert_eq!(written, 5);
        assert!(flood.admits("b", |_| "others", start + WINDOW / 2));
        assert_eq!(flood.sums(Some(start + WINDOW / 2)), []);
        assert_eq!(flood.sums(Some(start + WINDOW)), [("a", 95)]);
        assert!(flood.admits("a", |_| "others", start + WINDOW));
        assert_eq!(flood.sums(None), []);
        assert!(flood.windows.is_empty());
    }

    #[test]
    fn keys_that_are_too_many_count_together() {
        let (mut flood, now) = (Flood::new(3), Instant::now());
        let written = (0..100).filter(|key| flood.admits(*key, |_| -1, now)).count();
        assert_eq!((written, flood.windows.len()), (3 + 5, 4));
        assert!(flood.admits(0, |_| -1, now), "those that are known count for themselves");
        assert_eq!(flood.sums(None), [(-1, 92)]);
    }
}
