//! When subscriptions that the server did not take are tried again: permissions and limits may have changed, and
//! nobody tells.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Each attempt is a line in the server's log.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pauses between the attempts of one connection, which grow while something is refused.
pub(super) struct Again(Duration);

impl Again {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Waits until something is refused, and then for the next pause. Whoever drops it loses nothing.
    pub(super) async fn is_due(&mut self, has_refused: impl Fn() -> bool, refused: &Notify) {
        if !has_refused() {
            self.0 = FIRST_PAUSE;
        }
        while !has_refused() {
            refused.notified().await;
        }
        // Gateways do not come in step.
        sleep(self.0.mul_f64(0.75 + fastrand::f64() / 4.0)).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_tried_again_with_a_pause_that_grows() {
        let (is_refused, told) = (AtomicBool::new(false), Notify::new());
        let mut again = Again::new();
        let hour = Duration::from_secs(3_600);
        let waits = async |again: &mut Again| {
            let since = Instant::now();
            let has_refused = || is_refused.load(Ordering::Relaxed);
            let due = timeout(hour, again.is_due(has_refused, &told)).await;
            due.ok().map(|()| since.elapsed())
        };
        assert_eq!(waits(&mut again).await, None, "nothing is refused");
        for least in [0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5] {
            is_refused.store(true, Ordering::Relaxed);
            told.notify_one();
            let pause = waits(&mut again).await.expect("it is due").as_secs_f64();
            assert!((least..=least * 4.0 / 3.0).contains(&pause), "{pause} of {least}");
        }
        is_refused.store(false, Ordering::Relaxed);
        assert_eq!(waits(&mut again).await, None);
        is_refused.store(true, Ordering::Relaxed);
        assert!(waits(&mut again).await.expect("it is due") <= FIRST_PAUSE);
    }
}
