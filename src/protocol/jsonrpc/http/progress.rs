//! Watches that a connection gets on: that a request's head arrives in time, that its answer is
//! taken, and that it does not stay open unused.
//!
//! hyper has a timer for heads that is made anew for every request, and ends the connection without
//! an answer; this costs a few atomics a request and one timer a connection.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a request's head to arrive.
    pub(super) read: Duration,
    /// For an answer's reader to take any of it.
    pub(super) write: Duration,
    /// Without a request.
    pub(super) idle: Duration,
}

/// What a connection is doing. Instants are milliseconds after `opened`, plus one; 0 for none.
pub(super) struct Progress {
    opened: Instant,
    /// Requests whose head has come and whose answer has not been handed to the connection.
    busy: AtomicUsize,
    /// Of them, those whose answer is being handed over.
    sending: AtomicUsize,
    /// Of these, those of whose answer there is no more yet: nobody can be deaf to it.
    pausing: AtomicUsize,
    /// Something that a client over HTTP/2 has wholly asked for has no whole answer: what hyper has taken of it may
    /// wait until there is room.
    owed: AtomicBool,
    /// A request over HTTP/1 is under way, or bytes of its answer still wait in hyper: EOF is no
    /// news for it.
    owing: AtomicBool,
    /// The body of the request under way may not have been read to its end.
    receiving: AtomicBool,
    /// More of a request over HTTP/1 may come than is read of it: the connection ends with its answer.
    unread: AtomicBool,
    /// The peer says no more.
    ended: AtomicBool,
    /// What hyper has begun to write may not be all of it.
    unflushed: AtomicBool,
    /// All that it has said has been read, and more was asked for.
    exhausted: AtomicBool,
    /// Since when a request is coming in.
    head_since: AtomicU64,
    /// When something last happened.
    last_used: AtomicU64,
    /// When the peer last took some of an answer.
    last_taken: AtomicU64,
    /// Since when bytes wait for the peer.
    blocked_since: AtomicU64,
    http2: AtomicBool,
    /// The last that the peer is to hear.
    last_words: OnceLock<Vec<u8>>,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Nothing has been asked for a long time.
    Idle,
    /// A request's head has been coming in for too long.
    SlowHead,
    /// The peer has taken none of its answer for too long.
    Deaf,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            busy: AtomicUsize::new(0),
            sending: AtomicUsize::new(0),
            pausing: AtomicUsize::new(0),
            owed: AtomicBool::new(false),
            owing: AtomicBool::new(false),
            receiving: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            unflushed: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
            head_since: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            last_taken: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            last_words: OnceLock::new(),
        }
    }

    /// Ends the connection: when it is polled next, these bytes are written to it, and it is
    /// closed. False where that has been asked for before.
    pub(super) fn cut(&self, last_words: Vec<u8>) -> bool {
        self.last_words.set(last_words).is_ok()
    }

    /// What [`Progress::cut`] was given.
    pub(super) fn last_words(&self) -> Option<&[u8]> {
        self.last_words.get().map(Vec::as_slice)
    }

    /// A request's head has come.
    pub(super) fn begin(self: &Arc<Self>, http2: bool) -> Underway {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        } else {
            self.owing.store(true, Ordering::Relaxed);
        }
        Underway { progress: Arc::clone(self), sending: false, pausing: false }
    }

    /// Whether a request is under way, or its answer waits for the peer.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
            || self.blocked_since.load(Ordering::Relaxed) > 0
            || self.is_owing()
    }

    /// A client over HTTP/2 is owed something, or nothing.
    pub(super) fn owes(&self, owed: bool) {
        self.owed.store(owed, Ordering::Relaxed);
    }

    /// Whether a client over HTTP/2 takes what is left of an answer: it has taken some of it within that long.
    pub(super) fn is_taken(&self, within: Duration) -> bool {
        let since = self.now().saturating_sub(self.last_taken.load(Ordering::Relaxed));
        self.owed.load(Ordering::Relaxed) && u128::from(since) < within.as_millis()
    }

    /// Whether it has answered something, and nothing has come or gone for that long.
    pub(super) fn rests(&self, long: Duration) -> bool {
        let last_used = self.last_used.load(Ordering::Relaxed);
        let since = self.now().saturating_sub(last_used);
        let is_used = last_used > 0 && self.head_since.load(Ordering::Relaxed) == 0;
        is_used && !self.is_busy() && !self.is_ended() && u128::from(since) >= long.as_millis()
    }

    /// Whether the peer is owed an answer even if it says no more.
    pub(super) fn is_owing(&self) -> bool {
        self.owing.load(Ordering::Relaxed)
    }

    /// Whether a request is under way and nothing of its answer has been handed over.
    pub(super) fn is_silent(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0 && self.sending.load(Ordering::Relaxed) == 0
    }

    /// Whether a request's body is being read, which hears of the peer's end itself.
    pub(super) fn receives(&self, receiving: bool) {
        self.receiving.store(receiving, Ordering::Relaxed);
    }

    /// No more of the request under way is read, whatever comes.
    pub(super) fn stops_reading(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// The body of the request under way is not looked at any more.
    pub(super) fn lets_body_go(&self) {
        if self.receiving.swap(false, Ordering::Relaxed) {
            self.stops_reading();
        }
    }

    /// Whether the client of a connection over HTTP/1 may be sending what nobody reads.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed) && !self.http2.load(Ordering::Relaxed)
    }

    /// Whether a request over HTTP/1 has wholly come, and its answer has not wholly gone.
    pub(super) fn is_waited_for(&self) -> bool {
        self.is_owing() && !self.receiving.load(Ordering::Relaxed)
    }

    /// Whether what hyper has begun to write may not be all of it.
    pub(super) fn is_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::Relaxed)
    }

    /// Something is written, or cannot be.
    pub(super) fn writes(&self) {
        self.unflushed.store(true, Ordering::Relaxed);
    }

    /// All that hyper had to write has been written. True where that was the last of an answer.
    pub(super) fn has_flushed(&self) -> bool {
        self.unflushed.store(false, Ordering::Relaxed);
        self.busy.load(Ordering::Relaxed) == 0 && self.owing.swap(false, Ordering::Relaxed)
    }

    /// The peer says no more, in the middle of a body perhaps.
    pub(super) fn has_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more can come in.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// More is asked for than the peer has said.
    pub(super) fn is_asked_for_more(&self) {
        self.exhausted.store(true, Ordering::Relaxed);
    }

    /// Whether what has not come by now never will.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    pub(super) fn verdict(&self, limits: Limits) -> Verdict {
        let now = self.now();
        let since =
            |at: &AtomicU64| Duration::from_millis(now - at.load(Ordering::Relaxed).min(now));
        let has_begun = |at: &AtomicU64| at.load(Ordering::Relaxed) > 0;
        let blocked = has_begun(&self.blocked_since) && since(&self.blocked_since) >= limits.write;
        let sending = self.sending.load(Ordering::Relaxed) > self.pausing.load(Ordering::Relaxed);
        if blocked || (sending && since(&self.last_taken) >= limits.write) {
            return Verdict::Deaf;
        }
        if self.is_busy() {
            return Verdict::Keep;
        }
        // Between requests HTTP/2 sends frames of its own: only HTTP/1 bytes are a head.
        let slow = has_begun(&self.head_since) && since(&self.head_since) >= limits.read;
        if slow && !self.http2.load(Ordering::Relaxed) {
            return Verdict::SlowHead;
        }
        if since(&self.last_used) >= limits.idle { Verdict::Idle } else { Verdict::Keep }
    }

    /// Bytes have come in; `first` where they are the connection's first. True where a request's
    /// head begins with them.
    pub(super) fn has_read(&self, bytes: &[u8], first: bool) -> bool {
        if first && bytes.starts_with(b"PRI ") {
            self.http2.store(true, Ordering::Relaxed);
        }
        let begins =
            self.busy.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0;
        if begins {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
        begins
    }

    /// Whether a head is coming in. HTTP/2 mixes them with other frames, and has its own limits.
    pub(super) fn is_in_head(&self) -> bool {
        self.head_since.load(Ordering::Relaxed) > 0 && !self.http2.load(Ordering::Relaxed)
    }

    /// The peer has taken bytes; over HTTP/2 some `of_body`, an answer's. There the peer's own frames
    /// are answered too, and what has been handed over waits until the peer makes room for it.
    pub(super) fn has_written(&self, of_body: bool) {
        if self.blocked_since.load(Ordering::Relaxed) > 0 || of_body {
            self.blocked_since.store(0, Ordering::Relaxed);
            self.last_used.store(self.now(), Ordering::Relaxed);
        }
        let counts = of_body || !self.http2.load(Ordering::Relaxed);
        let sends = self.sending.load(Ordering::Relaxed) > 0 || self.owed.load(Ordering::Relaxed);
        if sends && counts {
            self.last_taken.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The peer takes no more bytes for now.
    pub(super) fn is_blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).map_or(u64::MAX, |now| now + 1)
    }
}

/// A request until its answer has been handed to the connection, however that ends: HTTP/2 drops
/// it where the client resets its stream.
pub(super) struct Underway {
    progress: Arc<Progress>,
    sending: bool,
    pausing: bool,
}

impl Underway {
    /// Whether it came over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.progress.http2.load(Ordering::Relaxed)
    }

    /// A piece of the answer is handed over.
    pub(super) fn sends(&mut self) {
        self.progress.last_taken.store(self.progress.now(), Ordering::Relaxed);
        if !std::mem::replace(&mut self.sending, true) {
            self.progress.sending.fetch_add(1, Ordering::Relaxed);
        }
        if std::mem::take(&mut self.pausing) {
            self.progress.pausing.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What there is of the answer has been taken, and there is no more of it yet.
    pub(super) fn pauses(&mut self) {
        if self.sending && !std::mem::replace(&mut self.pausing, true) {
            self.progress.pausing.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let progress = &self.progress;
        progress.last_used.store(progress.now(), Ordering::Relaxed);
        if self.sending {
            progress.sending.fetch_sub(1, Ordering::Relaxed);
        }
        if self.pausing {
            progress.pausing.fetch_sub(1, Ordering::Relaxed);
        }
        progress.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        read: Duration::from_secs(1),
        write: Duration::from_secs(3),
        idle: Duration::from_secs(10),
    };

    fn wait(seconds: u64) -> impl Future<Output = ()> {
        tokio::time::advance(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_and_an_idle_connection_are_told_apart() {
        let progress = Arc::new(Progress::new());
        assert_eq!(progress.verdict(LIMITS), Verdict::Keep);
        wait(5).await;
        progress.has_read(b"POST", true);
        assert_eq!(progress.verdict(LIMITS), Verdict::Keep);
        wait(1).await;
        assert_eq!(progress.verdict(LIMITS), Verdict::SlowHead);
        let underway = progress.begin(false);
        wait(100).await;
        assert_eq!(progress.verdict(LIMITS), Verdict::Keep, "a call may take its time");
        drop(underway);
        assert!(progress.has_flushed());
        wait(9).await;
        assert_eq!(progress.verdict(LIMITS), Verdict::Keep);
        wait(1).await;
        assert_eq!(progress.verdict(LIMITS), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_http2_requests_are_no_slow_head() {
        let progress = Arc::new(Progress::new());
        drop(progress.begin(true));
        progress.has_read(&[0, 0, 0], false);
        wait(5).await;
        assert_eq!(progress.verdict(LIMITS), Verdict::Keep);
        let silent = Progress::new();
        silent.has_read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true);
        wait(5).await;
        assert_eq!(silent.verdict(LIMITS), Verdict::Keep, "connected, and nothing asked yet");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_and_a_deaf_one_are_told_apart() {
        let http1 = Arc::new(Progress::new());
        drop(http1.begin(false));
        for _ in 0..20 {
            http1.is_blocked();
            wait(2).await;
            assert_eq!(http1.verdict(LIMITS), Verdict::Keep);
            http1.has_written(false);
        }
        http1.is_blocked();
        wait(3).await;
        assert_eq!(http1.verdict(LIMITS), Verdict::Deaf);
        let http2 = Arc::new(Progress::new());
        let mut underway = http2.begin(true);
        for _ in 0..20 {
            underway.sends();
            wait(2).await;
            assert_eq!(http2.verdict(LIMITS), Verdict::Keep);
        }
        for _ in 0..20 {
            http2.has_written(true);
            wait(2).await;
            assert_eq!(http2.verdict(LIMITS), Verdict::Keep, "little, and steadily");
        }
        // It still takes frames, of which its pings have answers.
        http2.has_written(false);
        wait(1).await;
        assert_eq!(http2.verdict(LIMITS), Verdict::Deaf);
        drop(underway);
        assert_eq!(http2.verdict(LIMITS), Verdict::Keep, "just used");
        wait(10).await;
        assert_eq!(http2.verdict(LIMITS), Verdict::Idle);
    }
    #[tokio::test(start_paused = true)]
    async fn who_is_told_nothing_is_not_deaf() {
        let progress = Arc::new(Progress::new());
        let mut underway = progress.begin(true);
        underway.sends();
        underway.pauses();
        wait(100).await;
        assert_eq!(progress.verdict(LIMITS), Verdict::Keep, "there is nothing to take");
        assert!(!progress.is_silent(), "its answer has begun");
        underway.sends();
        wait(3).await;
        assert_eq!(progress.verdict(LIMITS), Verdict::Deaf);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_an_answer_is_taken_as_long_as_some_of_it_is() {
        let progress = Arc::new(Progress::new());
        let mut underway = progress.begin(true);
        progress.owes(true);
        underway.sends();
        drop(underway);
        let within = Duration::from_secs(2);
        for _ in 0..3 {
            assert!(progress.is_taken(within));
            wait(1).await;
            progress.has_written(true);
        }
        wait(2).await;
        assert!(!progress.is_taken(within), "nobody takes it");
        progress.has_written(true);
        progress.owes(false);
        assert!(!progress.is_taken(within), "it has gone");
    }
}
