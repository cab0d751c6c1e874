//! Of events, and of those who listen.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge, counter, gauge};

use super::{EVENTS, SOURCES_FAILING, SUBSCRIBERS, TARGETS_FAILING};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// Every target has it.
    Delivered,
    /// It lies where a bridge's `dead_letter` says.
    DeadLetter,
    /// Nobody has it: a target refused it, or was not there in time, and its source keeps nothing.
    Lost,
    /// The source may have had some that never came here.
    Gap,
}

impl EventOutcome {
    fn as_str(self) -> &'static str {
        match self {
            EventOutcome::Delivered => "delivered",
            EventOutcome::DeadLetter => "dead_letter",
            EventOutcome::Lost => "lost",
            EventOutcome::Gap => "gap",
        }
    }
}

/// The metrics of a bridge. Clones move the same ones.
#[derive(Clone)]
pub struct EventMetrics(Arc<EventSeries>);

struct EventSeries {
    bridge: String,
    to: String,
    delivered: OnceLock<Counter>,
}

impl EventMetrics {
    /// Those of the bridge by that name, which an operator gave, and with these targets.
    pub fn new(bridge: &str, to: &str) -> Self {
        let (bridge, to) = (bridge.to_owned(), to.to_owned());
        Self(Arc::new(EventSeries { bridge, to, delivered: OnceLock::new() }))
    }

    /// The bridge's name.
    pub fn bridge(&self) -> &str {
        &self.0.bridge
    }

    /// Counts an event.
    pub fn count(&self, outcome: EventOutcome) {
        let counter = || {
            let (bridge, to) = (self.0.bridge.clone(), self.0.to.clone());
            counter!(EVENTS, "bridge" => bridge, "to" => to, "outcome" => outcome.as_str())
        };
        match outcome {
            EventOutcome::Delivered => self.0.delivered.get_or_init(counter).increment(1),
            _ => counter().increment(1),
        }
    }
}

impl EventMetrics {
    /// Its source is not listened to any more, or is again.
    pub fn source_fails(&self, fails: bool) {
        let (bridge, to) = (self.0.bridge.clone(), self.0.to.clone());
        let gauge = gauge!(SOURCES_FAILING, "bridge" => bridge, "to" => to);
        gauge.increment(if fails { 1.0 } else { -1.0 });
    }
}

/// A target of a bridge takes no events, until this is dropped.
pub struct TargetFailing(Gauge);

impl TargetFailing {
    /// One more of that bridge.
    pub fn new(of: &EventMetrics) -> Self {
        let (bridge, to) = (of.0.bridge.clone(), of.0.to.clone());
        let gauge = gauge!(TARGETS_FAILING, "bridge" => bridge, "to" => to);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for TargetFailing {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Somebody listens to topics, over an ingress, until this is dropped.
pub struct SubscriberCount(Gauge);

impl SubscriberCount {
    /// One more.
    pub fn new(ingress: &'static str) -> Self {
        let gauge = gauge!(SUBSCRIBERS, "ingress" => ingress);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for SubscriberCount {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
