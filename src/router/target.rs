//! An upstream at its place in the gateway: its name, and how many calls may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::UpstreamMetrics;
use crate::upstream::Upstream;

/// An upstream and the calls that wait for it.
pub struct Target {
    /// The name in the configuration.
    pub name: String,
    /// The upstream.
    pub upstream: Arc<dyn Upstream>,
    in_flight: AtomicUsize,
    /// Calls that wait for their turn elsewhere, and come here then.
    expected: AtomicUsize,
    max_in_flight: AtomicUsize,
    metrics: UpstreamMetrics,
}

impl Target {
    /// Places an upstream; at most `max_in_flight` calls may wait for it at once.
    pub fn new(
        name: &str,
        upstream: Arc<dyn Upstream>,
        max_in_flight: usize,
        metrics: UpstreamMetrics,
    ) -> Self {
        Self {
            name: name.to_owned(),
            upstream,
            in_flight: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(max_in_flight),
            metrics,
        }
    }

    /// A place among the calls in flight; `None` where the limit is reached.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        // Not `then_some`: a permit that is made for nothing would be given back.
        if self.count_in() { Some(Permit(Arc::clone(self))) } else { None }
    }

    fn count_in(&self) -> bool {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= self.max_in_flight() {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.metrics.call_entered();
        true
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.metrics.call_left();
    }

    /// How many calls wait.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call in that waits for its turn before it comes here.
    pub(super) fn expect(self: &Arc<Self>) -> Expected {
        self.expected.fetch_add(1, Ordering::Relaxed);
        Expected(Arc::clone(self))
    }

    /// How many calls are still to end here: those that wait, and those that will.
    pub fn owed(&self) -> usize {
        self.in_flight() + self.expected.load(Ordering::Relaxed)
    }

    /// How many may wait at once.
    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight.load(Ordering::Relaxed)
    }

    /// Changes how many may wait at once. Those that wait already go on.
    pub fn set_max_in_flight(&self, max_in_flight: usize) {
        self.max_in_flight.store(max_in_flight, Ordering::Relaxed);
    }
}

/// A call that is still to come, until dropped.
pub(super) struct Expected(Arc<Target>);

impl Expected {
    /// Where it comes to.
    pub(super) fn target(&self) -> &Arc<Target> {
        &self.0
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.expected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the calls in flight, given back when dropped.
pub struct Permit(Arc<Target>);

impl Permit {
    /// Where the place is.
    pub fn target(&self) -> &Target {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}
