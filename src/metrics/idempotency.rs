//! Of calls that have idempotency keys.

use metrics::{Gauge, counter, gauge};

use super::{KEPT_ANSWERS, KEYED, KEYS, KEYS_FORGOTTEN, LazyCounter};

/// Counts a call that has a key, or should have one.
pub fn keyed(route: &str, outcome: &'static str) {
    counter!(KEYED, "route" => route.to_owned(), "outcome" => outcome).increment(1);
}

/// The metrics of what is known of such calls.
pub struct IdempotencyMetrics {
    keys: Gauge,
    bytes: Gauge,
    /// Keys that were forgotten because there were too many.
    pub forgotten_keys: LazyCounter,
    /// Answers that were forgotten, or not kept, because they took too much.
    pub forgotten_answers: LazyCounter,
}

impl IdempotencyMetrics {
    /// Shows that nothing is known.
    pub fn new() -> Self {
        Self {
            keys: gauge!(KEYS),
            bytes: gauge!(KEPT_ANSWERS),
            forgotten_keys: LazyCounter::new(|| counter!(KEYS_FORGOTTEN, "limit" => "max_keys")),
            forgotten_answers: LazyCounter::new(
                || counter!(KEYS_FORGOTTEN, "limit" => "max_bytes"),
            ),
        }
    }

    /// Shows how much is known.
    pub fn set_held(&self, keys: usize, bytes: usize) {
        // Both are far below 2^53.
        self.keys.set(keys as f64);
        self.bytes.set(bytes as f64);
    }
}

impl Default for IdempotencyMetrics {
    fn default() -> Self {
        Self::new()
    }
}
