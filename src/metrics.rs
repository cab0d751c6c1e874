//! Every metric's name, labels and description (CONTRACT, section 7), and the only file with
//! metrics macros.
//!
//! Handles are looked up once, when a route or an upstream is made, and kept: counting on the
//! hot path is an atomic addition. No label takes a value that a caller chose.

#![expect(clippy::disallowed_macros, reason = "this is the one file that names metrics")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::fault::FaultKind;

const CALLS: &str = "genkan_calls_total";
const CALL_DURATION: &str = "genkan_call_duration_seconds";
const CALLS_IN_FLIGHT: &str = "genkan_calls_in_flight";
const UPSTREAM_UP: &str = "genkan_upstream_up";
const UPSTREAM_RECONNECTS: &str = "genkan_upstream_reconnects_total";
const LATE_REPLIES: &str = "genkan_late_replies_total";
const REFUSED: &str = "genkan_refused_total";
const REPAIRED: &str = "genkan_repaired_replies_total";
const RECEIPTS: &str = "genkan_stream_receipts_total";
const HUB_MODULES: &str = "genkan_hub_modules";
const HUB_HOOKS: &str = "genkan_hub_hooks_total";
const HUB_DISCONNECTS: &str = "genkan_hub_disconnects_total";
const HUB_IGNORED: &str = "genkan_hub_ignored_lines_total";
const HUB_REFUSED: &str = "genkan_hub_refused_total";
const MEMORY_HELD: &str = "genkan_memory_held_bytes";
const MEMORY_REFUSED: &str = "genkan_memory_refused_total";
const LOG_LOST: &str = "genkan_log_lost_lines_total";
const BUILD_INFO: &str = "genkan_build_info";

/// Seconds. From a tenth of a millisecond, because a gateway's own share is that small.
const DURATION_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// What `/metrics` is rendered from.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    process: metrics_process::Collector,
}

impl Exporter {
    /// Installs the process-wide recorder. Fails where one is installed already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(CALL_DURATION.to_owned()), &DURATION_BUCKETS)?
            .install_recorder()?;
        let process = metrics_process::Collector::default();
        process.describe();
        describe();
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle, process })
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        self.process.collect();
        self.handle.render()
    }

    /// Folds the samples that histograms have gathered, which otherwise pile up until somebody
    /// scrapes. To be called every second or so.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!(CALLS, "Calls and notifications, by how they ended");
    describe_histogram!(CALL_DURATION, Unit::Seconds, "Time from a call's arrival to its answer");
    describe_gauge!(CALLS_IN_FLIGHT, "Calls that wait for an upstream's answer");
    describe_gauge!(UPSTREAM_UP, "1 while calls can be sent to the upstream, else 0");
    describe_counter!(UPSTREAM_RECONNECTS, "Connections made to the upstream after the first");
    describe_counter!(LATE_REPLIES, "Replies that no call was waiting for any more");
    describe_counter!(REFUSED, "What was refused before it could harm a peer, by reason");
    describe_counter!(REPAIRED, "Replies with NaN or Infinity, which are null in JSON");
    describe_counter!(
        RECEIPTS,
        "Receipts of JetStream streams, where a service's answer is awaited"
    );
    describe_gauge!(
        HUB_MODULES,
        "Connections to the hub: modules that are active or wait for a dependency, and others"
    );
    describe_counter!(
        HUB_HOOKS,
        "Hooks for listeners: delivered to their queue, or dropped with a slow listener"
    );
    describe_counter!(HUB_DISCONNECTS, "Connections that the hub ended, by reason");
    describe_counter!(HUB_REFUSED, "Requests of modules to the hub that it refused, by reason");
    describe_counter!(HUB_IGNORED, "Lines from modules that were no JSON");
    describe_gauge!(MEMORY_HELD, Unit::Bytes, "Payloads that are held, of max_memory");
    describe_counter!(
        MEMORY_REFUSED,
        "Messages refused because of max_memory: the whole of it, or a connection's part"
    );
    describe_counter!(LOG_LOST, "Lines of the log that nobody read in time");
    describe_gauge!(BUILD_INFO, "Always 1; the label holds the version");
}

/// Counts a line of the log that nobody read in time.
pub fn log_line_lost() {
    counter!(LOG_LOST).increment(1);
}

/// How a call ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// With a result, or handed over in the case of a notification.
    Ok,
    /// With a fault.
    Fault(FaultKind),
    /// Its caller went away first.
    Cancelled,
}

impl CallOutcome {
    fn index(self) -> usize {
        match self {
            CallOutcome::Ok => 0,
            CallOutcome::Cancelled => 1,
            // The enum is declared in the order of `FaultKind::ALL`.
            CallOutcome::Fault(kind) => 2 + kind as usize,
        }
    }

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        Self::label(self.index())
    }

    fn label(index: usize) -> &'static str {
        match index {
            0 => "ok",
            1 => "cancelled",
            kind => FaultKind::ALL[kind - 2].as_str(),
        }
    }
}

/// The counters of one ingress × route × upstream.
pub struct CallMetrics {
    ended: [Counter; 2 + FaultKind::ALL.len()],
    duration: Histogram,
}

impl CallMetrics {
    /// Looks the handles up. `route` is the pattern in the configuration, or `none`.
    pub fn new(ingress: &'static str, route: &str, upstream: &str) -> Self {
        let (route, upstream) = (route.to_owned(), upstream.to_owned());
        let ended = std::array::from_fn(|index| {
            counter!(CALLS, "ingress" => ingress, "route" => route.clone(),
                "upstream" => upstream.clone(), "outcome" => CallOutcome::label(index))
        });
        let duration = histogram!(CALL_DURATION, "ingress" => ingress, "route" => route, "upstream" => upstream);
        Self { ended, duration }
    }

    /// Counts a call that has ended.
    pub fn ended(&self, outcome: CallOutcome, duration: Duration) {
        self.ended[outcome.index()].increment(1);
        self.duration.record(duration.as_secs_f64());
    }
}

/// The metrics of one upstream. The protocol's egress moves all but `in_flight`.
#[derive(Clone)]
pub struct UpstreamMetrics {
    upstream: String,
    /// Calls that wait for an answer; the router moves it.
    pub in_flight: Gauge,
    up: Gauge,
    reconnects: Counter,
    late_replies: Counter,
    repaired_replies: Counter,
    state: Arc<Mutex<UpstreamState>>,
}

/// Two upstreams may have one name for a while: one in service, and one that replaces it.
#[derive(Default)]
struct UpstreamState {
    /// It is the one that the gauge `genkan_upstream_up` tells of.
    in_service: bool,
    up: bool,
}

impl UpstreamMetrics {
    /// Looks the handles up. [`UpstreamMetrics::take_over`] shows whether the upstream is up.
    pub fn new(upstream: &str) -> Self {
        let label = || upstream.to_owned();
        Self {
            upstream: label(),
            in_flight: gauge!(CALLS_IN_FLIGHT, "upstream" => label()),
            up: gauge!(UPSTREAM_UP, "upstream" => label()),
            reconnects: counter!(UPSTREAM_RECONNECTS, "upstream" => label()),
            late_replies: counter!(LATE_REPLIES, "upstream" => label()),
            repaired_replies: counter!(REPAIRED, "upstream" => label()),
            state: Arc::default(),
        }
    }

    /// Tells whether calls can be sent.
    pub fn set_up(&self, up: bool) {
        self.change(|state| state.up = up);
    }

    /// From now on this is the upstream of its name.
    pub fn take_over(&self) {
        self.change(|state| state.in_service = true);
    }

    /// Another one of its name, or none, is in service now.
    pub fn retire(&self) {
        self.change(|state| state.in_service = false);
    }

    fn change(&self, change: impl FnOnce(&mut UpstreamState)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if state.in_service {
            self.up.set(if state.up { 1.0 } else { 0.0 });
        }
    }

    /// Counts a connection made after the first.
    pub fn reconnected(&self) {
        self.reconnects.increment(1);
    }

    /// Counts a reply that no call was waiting for any more.
    pub fn late_reply(&self) {
        self.late_replies.increment(1);
    }

    /// Counts a reply in which `NaN` or `Infinity` became `null`.
    pub fn repaired_reply(&self) {
        self.repaired_replies.increment(1);
    }

    /// Counts a stream's receipt that came where a service's answer is awaited.
    pub fn receipt(&self) {
        counter!(RECEIPTS, "upstream" => self.upstream.clone()).increment(1);
    }

    /// The upstream's name.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Counts something refused because it would harm the peer.
    pub fn refused(&self, reason: &'static str) {
        counter!(REFUSED, "upstream" => self.upstream.clone(), "reason" => reason).increment(1);
    }
}

/// The metrics of the budget of bytes in flight.
pub struct MemoryMetrics {
    held: Gauge,
    /// Messages for which a connection's part was too small.
    pub refused_connection: Counter,
    /// Messages for which there was no room in the whole.
    pub refused_process: Counter,
}

impl MemoryMetrics {
    /// Looks the handles up.
    pub fn new() -> Self {
        Self {
            held: gauge!(MEMORY_HELD),
            refused_connection: counter!(MEMORY_REFUSED, "limit" => "connection"),
            refused_process: counter!(MEMORY_REFUSED, "limit" => "process"),
        }
    }

    /// Shows how many bytes are held.
    pub fn set_held(&self, bytes: usize) {
        // Memory is far below 2^53.
        self.held.set(bytes as f64);
    }
}

impl Default for MemoryMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The metrics of the hub, beside those that it has as an upstream and as an ingress.
pub struct HubMetrics {
    active: Gauge,
    waiting: Gauge,
    unregistered: Gauge,
    /// Hooks that went into a listener's queue.
    pub hooks_delivered: Counter,
    /// Hooks that a listener will not get, because it did not take those before.
    pub hooks_dropped: Counter,
    /// Hooks that a listener will not get, because their line is longer than it may be.
    pub hooks_too_large: Counter,
    /// Connections ended because they did not take what was sent to them.
    pub slow: Counter,
    /// Connections ended because there was no memory for what they did not take.
    pub no_memory: Counter,
    /// Connections ended because of a line without an end.
    pub endless_lines: Counter,
    /// Connections ended because the rest of a line did not come.
    pub half_lines: Counter,
    /// Connections ended because they did not begin with a module's frames.
    pub strangers: Counter,
    /// Connections ended because no module registered.
    pub unregistered_too_long: Counter,
    /// Lines that were no JSON.
    pub ignored_lines: Counter,
    /// Requests to the hub itself that were refused, in the order of [`FaultKind::ALL`].
    refused: Vec<Counter>,
}

impl HubMetrics {
    /// Looks the handles up.
    pub fn new() -> Self {
        let metrics = Self {
            active: gauge!(HUB_MODULES, "state" => "active"),
            waiting: gauge!(HUB_MODULES, "state" => "waiting"),
            unregistered: gauge!(HUB_MODULES, "state" => "unregistered"),
            hooks_delivered: counter!(HUB_HOOKS, "outcome" => "delivered"),
            hooks_dropped: counter!(HUB_HOOKS, "outcome" => "dropped"),
            hooks_too_large: counter!(HUB_HOOKS, "outcome" => "too_large"),
            slow: counter!(HUB_DISCONNECTS, "reason" => "slow"),
            no_memory: counter!(HUB_DISCONNECTS, "reason" => "no_memory"),
            endless_lines: counter!(HUB_DISCONNECTS, "reason" => "endless_line"),
            half_lines: counter!(HUB_DISCONNECTS, "reason" => "half_line"),
            strangers: counter!(HUB_DISCONNECTS, "reason" => "no_module"),
            unregistered_too_long: counter!(HUB_DISCONNECTS, "reason" => "unregistered"),
            ignored_lines: counter!(HUB_IGNORED),
            refused: FaultKind::ALL
                .iter()
                .map(|kind| counter!(HUB_REFUSED, "reason" => kind.as_str()))
                .collect(),
        };
        metrics.set_modules(0, 0, 0);
        metrics
    }

    /// Counts a request of a module to the hub itself, a registration say, that was refused.
    pub fn refused(&self, kind: FaultKind) {
        // The enum is declared in the order of `FaultKind::ALL`.
        if let Some(counter) = self.refused.get(kind as usize) {
            counter.increment(1);
        }
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
