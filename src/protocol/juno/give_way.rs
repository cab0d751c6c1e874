//! Gives way to whoever else wants the core, once there is nothing left to do but to wait for more.
//!
//! Whoever is served one line at a time costs the most: a wake, a read and a write for each. When
//! several lines came at once, more are on their way, and the modules that the hub has just written
//! to often wait for this very core. So they go first, and the next read finds what all of them
//! have written meanwhile. Nobody sleeps: on a core that nobody else wants, nothing happens.
//!
//! A neighbour that computes keeps the core for its whole slice of time. The hub gives way to it
//! less often, so that it loses a bounded share of its time.

use std::cell::Cell;
use std::thread::yield_now;
use std::time::{Duration, Instant};

/// A neighbour that keeps the core for longer does something else than to talk to the hub.
const LONG: Duration = Duration::from_millis(1);
/// For so many times as long as that the hub keeps the core then.
const REST: u32 = 10;

thread_local! {
    static NOT_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets others run first, if they want to.
pub(super) fn give_way() {
    let before = Instant::now();
    if NOT_BEFORE.get().is_some_and(|not_before| before < not_before) {
        return;
    }
    yield_now();
    let after = Instant::now();
    NOT_BEFORE.set(rest(after - before).map(|rest| after + rest));
}

/// How long not to give way again, when that had taken so long.
fn rest(taken: Duration) -> Option<Duration> {
    (taken > LONG).then(|| taken * REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_that_computes_costs_a_bounded_share() {
        assert_eq!(rest(Duration::from_micros(300)), None);
        assert_eq!(rest(Duration::from_millis(3)), Some(Duration::from_millis(30)));
    }
}
