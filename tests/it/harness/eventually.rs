//! Waits for what will be true soon, without fixed sleeps.

use std::time::{Duration, Instant};

/// How long something that is only a matter of time may take.
const DEADLINE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(15);

/// Asks until there is an answer, and returns it.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "within {DEADLINE:?} it did not come: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks until it is so.
pub async fn until(what: &str, ask: impl AsyncFn() -> bool) {
    eventually(what, async || ask().await.then_some(())).await;
}
