//! Whether a service that is exposed is to take calls: while somebody behind it can be called, and not
//! at every flicker. No clock, no I/O: whoever looks tells the time.
//!
//! Who cannot carry a call out leaves at once: it would take calls away from those who can. It comes
//! back when there is somebody again, and the later, the shorter that lasted.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// The pause after the first time that was too short.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long it has to be open to come back at once.
const STABLE: Duration = Duration::from_secs(10);

/// A gate, closed at first.
#[derive(Debug)]
pub struct Gate {
    state: State,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open { since: Instant },
    Closed { until: Option<Instant> },
}

impl Default for Gate {
    fn default() -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, STABLE);
        Self { state: State::Closed { until: None }, backoff }
    }
}

impl Gate {
    /// Whether calls are taken.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Takes note of whether somebody can be called. True where the gate has opened or closed for it.
    pub fn look(&mut self, is_ready: bool, now: Instant) -> bool {
        let next = match self.state {
            State::Open { since } if !is_ready => {
                let life = now.saturating_duration_since(since);
                self.backoff.lived(life);
                let pause = (life < STABLE).then(|| self.backoff.failed());
                State::Closed { until: pause.map(|pause| now + pause) }
            }
            State::Closed { until } if is_ready && until.is_none_or(|until| now >= until) => {
                State::Open { since: now }
            }
            State::Open { .. } | State::Closed { .. } => return false,
        };
        self.state = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(50);

    #[test]
    fn it_follows_what_is_behind_it() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert!(!gate.is_open() && !gate.look(false, now) && !gate.is_open());
        assert!(gate.look(true, now) && gate.is_open());
        assert!(!gate.look(true, now + STABLE));
        assert!(gate.look(false, now + STABLE) && !gate.is_open(), "at once");
        assert!(gate.look(true, now + STABLE) && gate.is_open(), "and at once again");
    }

    #[test]
    fn a_flicker_does_not_go_on_to_the_broker() {
        let (mut gate, begin) = (Gate::default(), Instant::now());
        let minute = 60 * 20;
        let looks = (0..minute).filter(|at| gate.look(at % 2 == 0, begin + LOOK * *at));
        let changes = looks.count();
        assert!((20..100).contains(&changes), "{changes} in a minute of {minute} flickers");
    }
}
