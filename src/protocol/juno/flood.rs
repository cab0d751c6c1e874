//! Keeps a flood of equal log lines out of the log: a stranger who tries to register all day.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const BURST: u64 = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// The lines of one sort.
#[derive(Default)]
pub(super) struct Flood(Mutex<Option<Window>>);

struct Window {
    opened: Instant,
    seen: u64,
}

impl Flood {
    /// Whether a line is to be written now, and how many before it were not.
    pub(super) fn admits(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *window {
            Some(window) if now.duration_since(window.opened) < WINDOW => {
                window.seen += 1;
                (window.seen <= BURST).then_some(0)
            }
            over => {
                let left_out = over.as_ref().map_or(0, |over| over.seen.saturating_sub(BURST));
                *over = Some(Window { opened: now, seen: 1 });
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (flood, start) = (Flood::default(), Instant::now());
        let written = (0..100).filter(|_| flood.admits(start).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(flood.admits(start + WINDOW), Some(95));
        assert_eq!(flood.admits(start + WINDOW), Some(0));
    }
}
