//! Calls that are known again by a key of their caller's. Plain data.

use std::time::Duration;

/// What becomes of the calls of a row that have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// How long an answer is kept for repetitions.
    pub ttl: Duration,
    /// Whether a call without a key is refused.
    pub required: bool,
}

/// How much is kept, of all rows together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Keys, of calls under way and of answers.
    pub max_keys: usize,
    /// Bytes of answers.
    pub max_bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { max_keys: 100_000, max_bytes: 16 << 20 }
    }
}
