//! Ends calls between modules at their deadlines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::shared::Shared;

/// When to look for deadlines where there is none.
const IDLE: Duration = Duration::from_secs(3_600);

/// Waits for the next deadline, and ends what has passed it, until the hub ends.
pub(super) async fn watch(shared: Arc<Shared>) {
    let shutdown = shared.tasks.shutdown().clone();
    loop {
        let next = shared.lock().next_deadline();
        let wake = next.unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            () = sleep_until(wake) => {
                let now = Instant::now();
                shared.with(now, |hub, io| hub.expire(now, io));
            }
            () = shared.deadline.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}
