//! Whether a server still lives: a connection that was cut without a word looks like one on which
//! nobody speaks.
//!
//! A server that nobody has written to is asked now and then. One that has been written to, and has
//! said nothing for a second, is asked at once; and one that does not answer for a second is gone.
//! What is on its way takes its time: a second more for each MiB. No I/O, no clock.

use std::time::Duration;

use tokio::time::Instant;

/// How long a server may be silent when it has something to say.
const SILENCE: Duration = Duration::from_secs(1);
/// How many bytes travel in a second, where a connection is slow.
const SLOW: f64 = 1024.0 * 1024.0;

/// What is known of a server's life.
#[derive(Debug)]
pub(super) struct Pulse {
    /// When something came from it.
    heard: Instant,
    /// Since when it has had something to read, and has said nothing.
    wrote: Option<Instant>,
    /// How many bytes those are.
    bytes: usize,
    /// When it was asked, if it has said nothing since.
    asked: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// It is to be asked now.
    Ask,
    /// It is gone.
    Gone,
}

impl Pulse {
    /// Something has just been heard.
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, wrote: None, bytes: 0, asked: None }
    }

    /// Something came from it.
    pub(super) fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Something was written to it.
    pub(super) fn wrote(&mut self, bytes: usize, now: Instant) {
        self.wrote.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// To be asked a few times a second; `interval` is how often an idle server is asked.
    pub(super) fn check(&mut self, interval: Duration, now: Instant) -> Verdict {
        let patience = SILENCE + Duration::from_secs_f64(self.bytes as f64 / SLOW);
        if let Some(asked) = self.asked {
            return if now - asked >= patience { Verdict::Gone } else { Verdict::Fine };
        }
        let is_owed = self.wrote.is_some_and(|wrote| now - wrote >= SILENCE);
        if !is_owed && now - self.heard < interval {
            return Verdict::Fine;
        }
        self.asked = Some(now);
        Verdict::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn an_idle_server_is_asked_now_and_then() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert_eq!(pulse.check(INTERVAL, at(start, 4_999)), Verdict::Fine);
        assert_eq!(pulse.check(INTERVAL, at(start, 5_000)), Verdict::Ask);
        assert_eq!(pulse.check(INTERVAL, at(start, 5_500)), Verdict::Fine, "it has been asked");
        pulse.heard(at(start, 5_600));
        assert_eq!(pulse.check(INTERVAL, at(start, 10_000)), Verdict::Fine);
    }

    #[test]
    fn one_that_was_written_to_and_says_nothing_is_asked_at_once() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.wrote(100, at(start, 100));
        pulse.wrote(100, at(start, 1_000));
        assert_eq!(pulse.check(INTERVAL, at(start, 1_050)), Verdict::Fine);
        assert_eq!(pulse.check(INTERVAL, at(start, 1_100)), Verdict::Ask);
        assert_eq!(pulse.check(INTERVAL, at(start, 2_000)), Verdict::Fine);
        assert_eq!(pulse.check(INTERVAL, at(start, 2_101)), Verdict::Gone);
        pulse.heard(at(start, 2_102));
        assert_eq!(pulse.check(INTERVAL, at(start, 3_500)), Verdict::Fine, "it owes nothing more");
    }

    #[test]
    fn what_is_on_its_way_takes_its_time() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.wrote(3 << 20, start);
        assert_eq!(pulse.check(INTERVAL, at(start, 1_000)), Verdict::Ask);
        assert_eq!(pulse.check(INTERVAL, at(start, 4_900)), Verdict::Fine);
        assert_eq!(pulse.check(INTERVAL, at(start, 5_000)), Verdict::Gone);
    }
}
