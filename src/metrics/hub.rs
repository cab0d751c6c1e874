//! Of the hub.

use metrics::{Gauge, counter, gauge};

use super::{HUB_DISCONNECTS, HUB_HOOKS, HUB_IGNORED, HUB_MODULES, HUB_REFUSED, LazyCounter};
use crate::fault::FaultKind;

/// The metrics of the hub, beside those that it has as an upstream and as an ingress.
pub struct HubMetrics {
    active: Gauge,
    waiting: Gauge,
    unregistered: Gauge,
    /// Hooks that went into a listener's queue.
    pub hooks_delivered: LazyCounter,
    /// Hooks that a listener will not get, because it did not take those before.
    pub hooks_dropped: LazyCounter,
    /// Hooks that a listener will not get, because their line is longer than it may be.
    pub hooks_too_large: LazyCounter,
    /// Connections ended because they did not take what was sent to them.
    pub slow: LazyCounter,
    /// Connections ended because there was no memory for what they did not take.
    pub no_memory: LazyCounter,
    /// Connections ended because of a line without an end.
    pub endless_lines: LazyCounter,
    /// Connections ended because the rest of a line did not come.
    pub half_lines: LazyCounter,
    /// Connections ended because they did not begin with a module's frames.
    pub strangers: LazyCounter,
    /// Connections ended because no module registered.
    pub unregistered_too_long: LazyCounter,
    /// Lines that were no JSON.
    pub ignored_lines: LazyCounter,
}

impl HubMetrics {
    /// Shows that there are no modules.
    pub fn new() -> Self {
        let metrics = Self {
            active: gauge!(HUB_MODULES, "state" => "active"),
            waiting: gauge!(HUB_MODULES, "state" => "waiting"),
            unregistered: gauge!(HUB_MODULES, "state" => "unregistered"),
            hooks_delivered: LazyCounter::new(|| counter!(HUB_HOOKS, "outcome" => "delivered")),
            hooks_dropped: LazyCounter::new(|| counter!(HUB_HOOKS, "outcome" => "dropped")),
            hooks_too_large: LazyCounter::new(|| counter!(HUB_HOOKS, "outcome" => "too_large")),
            slow: LazyCounter::new(|| counter!(HUB_DISCONNECTS, "reason" => "slow")),
            no_memory: LazyCounter::new(|| counter!(HUB_DISCONNECTS, "reason" => "no_memory")),
            endless_lines: LazyCounter::new(
                || counter!(HUB_DISCONNECTS, "reason" => "endless_line"),
            ),
            half_lines: LazyCounter::new(|| counter!(HUB_DISCONNECTS, "reason" => "half_line")),
            strangers: LazyCounter::new(|| counter!(HUB_DISCONNECTS, "reason" => "no_module")),
            unregistered_too_long: LazyCounter::new(
                || counter!(HUB_DISCONNECTS, "reason" => "unregistered"),
            ),
            ignored_lines: LazyCounter::new(|| counter!(HUB_IGNORED)),
        };
        metrics.set_modules(0, 0, 0);
        metrics
    }

    /// Counts a request of a module to the hub itself, a registration say, that was refused.
    pub fn refused(&self, kind: FaultKind) {
        counter!(HUB_REFUSED, "reason" => kind.as_str()).increment(1);
    }

    /// Shows how many modules there are in each state.
    pub fn set_modules(&self, active: usize, waiting: usize, unregistered: usize) {
        // The limits on modules keep the numbers far below 2^53.
        self.active.set(active as f64);
        self.waiting.set(waiting as f64);
        self.unregistered.set(unregistered as f64);
    }
}

impl Default for HubMetrics {
    fn default() -> Self {
        Self::new()
    }
}
