//! How long a connection may take for what, and what falls due next. No clock of its own.

use std::time::Duration;

use tokio::time::Instant;

use super::super::super::config::HttpConfig;

/// What has fallen due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The peer has taken nothing of what waits for it.
    Deaf,
    /// A message has begun and does not end.
    Slow,
    /// The peer has been quiet: whether it is there is to be asked.
    Ping,
    /// It has not said that it is there.
    Silent,
    /// Nobody has used the connection.
    Idle,
}

/// When what happened last.
pub(super) struct Patience {
    heard: Instant,
    used: Instant,
    pinged: Option<Instant>,
    half_since: Option<Instant>,
}

/// What a connection is doing.
#[derive(Clone, Copy)]
pub(super) struct Doing {
    /// Since when the peer has taken nothing of what waits for it.
    pub(super) blocked_since: Option<Instant>,
    /// Somebody is owed something, or waits for what may happen.
    pub(super) is_busy: bool,
    /// The peer is being listened to.
    pub(super) is_listening: bool,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, used: now, pinged: None, half_since: None }
    }

    /// Bytes have come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// Nothing more has come; `half` where a message has begun and has not ended.
    pub(super) fn waits(&mut self, now: Instant, half: bool) {
        self.half_since = if half { self.half_since.or(Some(now)) } else { None };
    }

    /// The peer has asked for something, or was told something.
    pub(super) fn used(&mut self, now: Instant) {
        self.used = now;
    }

    /// A message has wholly come: what comes next is another one's.
    pub(super) fn took(&mut self, now: Instant) {
        self.used(now);
        self.half_since = None;
    }

    /// The peer has been asked whether it is there.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.pinged = Some(now);
    }

    /// The peer could not be heard until now.
    pub(super) fn listens_again(&mut self, now: Instant) {
        self.heard(now);
        self.half_since = self.half_since.map(|_| now);
    }

    /// What falls due next, and when, if nothing happens.
    pub(super) fn next(&self, config: &HttpConfig, doing: Doing) -> Option<(Instant, Due)> {
        let after = |since: Option<Instant>, wait: Duration, due| Some((since? + wait, due));
        let ping = config.websocket.ping;
        let listening = |due: Option<(Instant, Due)>| due.filter(|_| doing.is_listening);
        let ears = match self.pinged {
            Some(pinged) => (pinged + ping, Due::Silent),
            None => (self.heard + ping, Due::Ping),
        };
        let idle = (self.used + config.websocket.idle_timeout, Due::Idle);
        [
            after(doing.blocked_since, config.write_timeout, Due::Deaf),
            listening(after(self.half_since, config.read_timeout, Due::Slow)),
            // What waits tells by itself whether the peer is there.
            listening(Some(ears)).filter(|_| doing.blocked_since.is_none()),
            Some(idle).filter(|_| !doing.is_busy),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_for_test;

    fn config() -> HttpConfig {
        let text = "[http]\nread_timeout = \"10s\"\nwrite_timeout = \"60s\"\n\
                    [http.websocket]\nping = \"30s\"\nidle_timeout = \"10m\"";
        read_for_test(text, |root| HttpConfig::read(&mut root.section("http"))).0
    }

    const QUIET: Doing = Doing { blocked_since: None, is_busy: false, is_listening: true };

    #[test]
    fn a_quiet_peer_is_asked_and_one_that_answers_is_kept_until_it_is_idle() {
        let (config, start) = (config(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(start);
        assert_eq!(patience.next(&config, QUIET), Some((at(30), Due::Ping)));
        patience.pinged(at(30));
        assert_eq!(patience.next(&config, QUIET), Some((at(60), Due::Silent)));
        patience.heard(at(31));
        assert_eq!(patience.next(&config, QUIET), Some((at(61), Due::Ping)));
        patience.heard(at(590));
        assert_eq!(patience.next(&config, QUIET), Some((at(600), Due::Idle)));
        let busy = Doing { is_busy: true, ..QUIET };
        assert_eq!(patience.next(&config, busy), Some((at(620), Due::Ping)));
        patience.used(at(590));
        assert_eq!(patience.next(&config, QUIET), Some((at(620), Due::Ping)));
    }

    #[test]
    fn half_a_message_is_waited_for_from_its_beginning() {
        let (config, start) = (config(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(start);
        patience.waits(at(1), true);
        patience.heard(at(9));
        patience.waits(at(9), true);
        assert_eq!(patience.next(&config, QUIET), Some((at(11), Due::Slow)));
        let deaf = Doing { is_listening: false, ..QUIET };
        assert_eq!(patience.next(&config, deaf), Some((at(600), Due::Idle)));
        patience.listens_again(at(20));
        assert_eq!(patience.next(&config, QUIET), Some((at(30), Due::Slow)));
        patience.heard(at(21));
        patience.waits(at(21), false);
        assert_eq!(patience.next(&config, QUIET), Some((at(51), Due::Ping)));
    }

    #[test]
    fn who_takes_nothing_is_not_asked_whether_it_is_there() {
        let (config, start) = (config(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let blocked = Doing { blocked_since: Some(at(5)), is_busy: true, is_listening: false };
        assert_eq!(Patience::new(start).next(&config, blocked), Some((at(65), Due::Deaf)));
    }
}
