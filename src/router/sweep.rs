//! How often a bounded table is looked through for what it can forget.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::tally::millis;

/// How long, at least, between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// When a table was last looked through.
pub(super) struct Sweep {
    began: Instant,
    /// In milliseconds since then; 0 for never.
    last: AtomicU64,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Sweep {
    /// Whether it is time, for one of those who ask at once.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let now = millis(now.saturating_duration_since(self.began)).max(1);
        let last = self.last.load(Ordering::Relaxed);
        let is_time = last == 0 || now.saturating_sub(last) >= millis(PAUSE);
        let (set, relaxed) = (now, Ordering::Relaxed);
        is_time && self.last.compare_exchange(last, set, relaxed, relaxed).is_ok()
    }
}
