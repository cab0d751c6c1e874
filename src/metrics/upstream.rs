//! Of an upstream.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};

use super::{
    CALLS_IN_FLIGHT, GONE, LATE_REPLIES, RECEIPTS, REFUSED, REPAIRED, UNSENT_REPLIES,
    UPSTREAM_RECONNECTS, UPSTREAM_UP,
};

/// The metrics of one upstream. The protocol's egress moves all but those in flight.
#[derive(Clone)]
pub struct UpstreamMetrics(Arc<UpstreamSeries>);

struct UpstreamSeries {
    upstream: String,
    in_flight: OnceLock<Gauge>,
    late_replies: OnceLock<Counter>,
    repaired_replies: OnceLock<Counter>,
    state: Mutex<UpstreamState>,
}

/// Two upstreams may have one name for a while: one in service, and one that replaces it.
#[derive(Default)]
struct UpstreamState {
    /// It is the one that the gauge `genkan_upstream_up` tells of.
    in_service: bool,
    up: bool,
}

impl UpstreamMetrics {
    /// [`UpstreamMetrics::take_over`] shows whether the upstream is up.
    pub fn new(upstream: &str) -> Self {
        Self(Arc::new(UpstreamSeries {
            upstream: upstream.to_owned(),
            in_flight: OnceLock::new(),
            late_replies: OnceLock::new(),
            repaired_replies: OnceLock::new(),
            state: Mutex::default(),
        }))
    }

    /// A call waits for an answer. The router tells.
    pub fn call_entered(&self) {
        self.in_flight().increment(1.0);
    }

    /// It waits no more.
    pub fn call_left(&self) {
        self.in_flight().decrement(1.0);
    }

    fn in_flight(&self) -> &Gauge {
        self.0.in_flight.get_or_init(|| gauge!(CALLS_IN_FLIGHT, "upstream" => self.label()))
    }

    fn label(&self) -> String {
        self.0.upstream.clone()
    }

    /// Tells whether calls can be sent.
    pub fn set_up(&self, up: bool) {
        self.change(|state| state.up = up);
        if up {
            // From the connection on that may be lost: a counter that appears with its first
            // count shows no increase.
            self.reconnects().increment(0);
        }
    }

    /// From now on this is the upstream of its name.
    pub fn take_over(&self) {
        self.change(|state| state.in_service = true);
    }

    /// Another one of its name, or none, is in service now.
    pub fn retire(&self) {
        self.change(|state| state.in_service = false);
    }

    /// None of its name is configured any more: nothing is told of it.
    pub fn leave(&self) {
        self.retire();
        gauge!(UPSTREAM_UP, "upstream" => self.label()).set(GONE);
    }

    fn change(&self, change: impl FnOnce(&mut UpstreamState)) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if state.in_service {
            let up = gauge!(UPSTREAM_UP, "upstream" => self.label());
            up.set(if state.up { 1.0 } else { 0.0 });
        }
    }

    /// Counts a connection made after the first.
    pub fn reconnected(&self) {
        self.reconnects().increment(1);
    }

    fn reconnects(&self) -> Counter {
        counter!(UPSTREAM_RECONNECTS, "upstream" => self.label())
    }

    /// Counts a reply that no call was waiting for any more.
    pub fn late_reply(&self) {
        let late = &self.0.late_replies;
        late.get_or_init(|| counter!(LATE_REPLIES, "upstream" => self.label())).increment(1);
    }

    /// Counts a reply in which `NaN` or `Infinity` became `null`.
    pub fn repaired_reply(&self) {
        let repaired = &self.0.repaired_replies;
        repaired.get_or_init(|| counter!(REPAIRED, "upstream" => self.label())).increment(1);
    }

    /// Counts a request in which they did.
    pub fn repaired_request(&self) {
        self.repaired_reply();
    }

    /// Counts a reply to the caller of an exposed service that could not be sent.
    pub fn unsent_reply(&self) {
        counter!(UNSENT_REPLIES, "upstream" => self.label()).increment(1);
    }

    /// Counts a stream's receipt that came where a service's answer is awaited.
    pub fn receipt(&self) {
        counter!(RECEIPTS, "upstream" => self.label()).increment(1);
    }

    /// The upstream's name.
    pub fn upstream(&self) -> &str {
        &self.0.upstream
    }

    /// Counts something refused because it would harm the peer.
    pub fn refused(&self, reason: &'static str) {
        counter!(REFUSED, "upstream" => self.label(), "reason" => reason).increment(1);
    }
}
