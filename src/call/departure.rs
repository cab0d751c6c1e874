//! How far a call has come on its way out, as its upstream tells whoever waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Whether a call can have left, told by the upstream to whoever drops its future at the deadline.
/// Where the upstream says nothing, it can.
#[derive(Debug, Default)]
pub struct Departure {
    held: AtomicBool,
    /// A part of the answer had come when it was let go of.
    is_answered: AtomicBool,
    /// How long it has stood in lines of the gateway's own, in microseconds.
    waited: AtomicU64,
}

impl Departure {
    /// To be held while the call waits in a queue or for a look-up, and nothing of it can have left.
    pub fn hold(&self) -> Held<'_> {
        self.held.store(false, Ordering::Relaxed);
        Held(self)
    }

    /// To be held while the call stands in a line of the gateway's own: that time is not its service's.
    pub fn wait(&self) -> Waits<'_> {
        Waits { departure: self, since: Instant::now() }
    }

    /// How long it has stood in such lines.
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }

    /// Whether the upstream let go of the call while it still held it: then it cannot have run.
    pub fn was_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether a part of the answer had come by then: so it has run.
    pub fn was_answered(&self) -> bool {
        self.is_answered.load(Ordering::Relaxed)
    }
}

/// The call stands in a line until this is dropped.
#[derive(Debug)]
pub struct Waits<'a> {
    departure: &'a Departure,
    since: Instant,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let waited = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.departure.waited.fetch_add(waited, Ordering::Relaxed);
    }
}

/// Nothing of the call has left, and if this is dropped nothing will.
#[derive(Debug)]
pub struct Held<'a>(&'a Departure);

impl Held<'_> {
    /// From now on the call may run.
    pub fn release(self) {
        std::mem::forget(self);
    }

    /// The same, and it has run: a part of its answer has come.
    pub fn release_answered(self) {
        self.0.is_answered.store(true, Ordering::Relaxed);
        self.release();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.store(true, Ordering::Relaxed);
    }
}
