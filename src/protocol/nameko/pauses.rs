//! The pauses before new connections to publish on, in place of those that a refused message cost.

use std::time::Duration;

use tokio::time::Instant;

/// The pause before the second connection in a row; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After so long without a new connection, the next one counts as the first.
const CALM: Duration = Duration::from_secs(10);

/// The pauses before new connections.
#[derive(Default)]
pub(super) struct Pauses {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Pauses {
    /// The pause before the next one; none before the first.
    pub(super) fn next(&mut self) -> Duration {
        let now = Instant::now();
        if self.last.replace(now).is_none_or(|last| now - last >= CALM) {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        match self.in_a_row {
            1 => Duration::ZERO,
            more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(16)).min(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_begin_with_none_grow_to_a_bound_and_start_over() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.next(), Duration::ZERO);
        assert_eq!(pauses.next(), FIRST_PAUSE);
        for _ in 0..100 {
            assert!(pauses.next() <= LONGEST_PAUSE);
        }
        assert_eq!(pauses.next(), LONGEST_PAUSE);
        tokio::time::advance(CALM).await;
        assert_eq!(pauses.next(), Duration::ZERO);
    }
}
