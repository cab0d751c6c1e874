//! Every metric's name, labels and description (CONTRACT, section 7), and the only file with
//! metrics macros.
//!
//! A series exists from its first use: it is looked up then, and its handle kept where it is used,
//! so that counting on the hot path is an atomic addition, and a row that nobody calls costs
//! nothing. No label takes a value that a caller chose.

#![expect(clippy::disallowed_macros, reason = "this is the one file that names metrics")]

use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::fault::{Fault, FaultKind};

const CALLS: &str = "genkan_calls_total";
const CALL_DURATION: &str = "genkan_call_duration_seconds";
const CALLS_IN_FLIGHT: &str = "genkan_calls_in_flight";
const UPSTREAM_UP: &str = "genkan_upstream_up";
const UPSTREAM_RECONNECTS: &str = "genkan_upstream_reconnects_total";
const LATE_REPLIES: &str = "genkan_late_replies_total";
const UNSENT_REPLIES: &str = "genkan_unsent_replies_total";
const REFUSED: &str = "genkan_refused_total";
const REPAIRED: &str = "genkan_repaired_replies_total";
const RECEIPTS: &str = "genkan_stream_receipts_total";
const HUB_MODULES: &str = "genkan_hub_modules";
const HUB_HOOKS: &str = "genkan_hub_hooks_total";
const HUB_DISCONNECTS: &str = "genkan_hub_disconnects_total";
const HUB_IGNORED: &str = "genkan_hub_ignored_lines_total";
const HUB_REFUSED: &str = "genkan_hub_refused_total";
const REGISTRY_SERVICES: &str = "genkan_registry_services";
const REGISTRY_REQUESTS: &str = "genkan_registry_requests_total";
const REGISTRY_GONE: &str = "genkan_registry_gone_total";
const REGISTRY_ANNOUNCED: &str = "genkan_registry_announced_total";
const EVENTS: &str = "genkan_events_total";
const SUBSCRIBERS: &str = "genkan_subscribers";
const MEMORY_HELD: &str = "genkan_memory_held_bytes";
const MEMORY_REFUSED: &str = "genkan_memory_refused_total";
const LOG_LOST: &str = "genkan_log_lost_lines_total";
const LIMITED: &str = "genkan_limited_total";
const CALLS_WAITING: &str = "genkan_calls_waiting";
const BREAKERS_OPEN: &str = "genkan_breakers_open";
const BREAKER_OPENED: &str = "genkan_breaker_opened_total";
const RETRIES: &str = "genkan_retries_total";
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
        build_info();
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
    describe_counter!(
        UNSENT_REPLIES,
        "Replies to callers of exposed services that could not be sent to them"
    );
    describe_counter!(REFUSED, "What was refused before it could harm a peer, by reason");
    describe_counter!(REPAIRED, "Replies and requests with NaN or Infinity, null in JSON");
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
    describe_gauge!(
        REGISTRY_SERVICES,
        "Services that have announced themselves, by what is thought of them"
    );
    describe_counter!(REGISTRY_REQUESTS, "What the registry was asked, by method and outcome");
    describe_counter!(REGISTRY_GONE, "Announced services that are forgotten, by reason");
    describe_counter!(REGISTRY_ANNOUNCED, "Announcements to other registries, by outcome");
    describe_counter!(EVENTS, "Events of a bridge, by what became of them");
    describe_gauge!(SUBSCRIBERS, "Who listens to topics now");
    describe_gauge!(MEMORY_HELD, Unit::Bytes, "Payloads that are held, of max_memory");
    describe_counter!(
        MEMORY_REFUSED,
        "Messages refused because of max_memory: the whole of it, or a connection's part"
    );
    describe_counter!(LOG_LOST, "Lines of the log that nobody read in time");
    describe_counter!(LIMITED, "Calls refused for a limit, by route and limit");
    describe_gauge!(CALLS_WAITING, "Calls that wait for their turn, by route");
    describe_gauge!(BREAKERS_OPEN, "Services that a breaker leaves alone");
    describe_counter!(BREAKER_OPENED, "Times that a breaker has opened for a service");
    describe_counter!(RETRIES, "Calls tried again, by route and how that ended");
    describe_gauge!(BUILD_INFO, "Always 1; the label holds the version");
}

fn build_info() {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Counts a call that was refused for the limit that this key sets.
pub fn limited(route: &str, limit: &'static str) {
    counter!(LIMITED, "route" => route.to_owned(), "limit" => limit).increment(1);
}

/// A call that waits for its turn: counted until it is dropped.
pub struct WaitingCall(Gauge);

impl WaitingCall {
    /// One of a route. Its series is looked up: whoever waits has the time.
    pub fn new(route: &str) -> Self {
        let waiting = gauge!(CALLS_WAITING, "route" => route.to_owned());
        waiting.increment(1.0);
        Self(waiting)
    }
}

impl Drop for WaitingCall {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counts an attempt at a call after its first, or that there was no budget for one.
pub fn retried(route: &str, outcome: &'static str) {
    counter!(RETRIES, "route" => route.to_owned(), "outcome" => outcome).increment(1);
}

/// The metrics of an upstream's breaker. Their series are looked up when they change, which is seldom.
pub struct BreakerMetrics {
    upstream: String,
}

impl BreakerMetrics {
    /// Those of an upstream.
    pub fn new(upstream: &str) -> Self {
        Self { upstream: upstream.to_owned() }
    }

    /// A service is left alone.
    pub fn opened(&self) {
        counter!(BREAKER_OPENED, "upstream" => self.upstream.clone()).increment(1);
        self.open().increment(1.0);
    }

    /// It is not any more.
    pub fn closed(&self) {
        self.open().decrement(1.0);
    }

    fn open(&self) -> Gauge {
        gauge!(BREAKERS_OPEN, "upstream" => self.upstream.clone())
    }
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

/// Whose calls are counted: the labels of [`CallMetrics`].
#[derive(Clone, Copy)]
pub struct CallLabels<'a> {
    /// The way in.
    pub ingress: &'static str,
    /// The pattern in the configuration, or `none`.
    pub route: &'a str,
    /// Where the calls go.
    pub upstream: &'a str,
}

/// The counters of one ingress × route × upstream: a word until the first call has ended.
#[derive(Default)]
pub struct CallMetrics(OnceLock<Box<CallSeries>>);

struct CallSeries {
    ended: [OnceLock<Counter>; 2 + FaultKind::ALL.len()],
    duration: Histogram,
}

impl CallMetrics {
    /// Counts a call that has ended. The labels are always the same ones.
    pub fn ended(&self, labels: CallLabels<'_>, outcome: CallOutcome, duration: Duration) {
        let series = self.0.get_or_init(|| Box::new(CallSeries::new(labels)));
        let ended = &series.ended[outcome.index()];
        ended.get_or_init(|| labels.ended(outcome)).increment(1);
        series.duration.record(duration.as_secs_f64());
    }
}

impl CallSeries {
    fn new(labels: CallLabels<'_>) -> Self {
        Self { ended: std::array::from_fn(|_| OnceLock::new()), duration: labels.duration() }
    }
}

impl CallLabels<'_> {
    fn ended(self, outcome: CallOutcome) -> Counter {
        let (route, upstream) = (self.route.to_owned(), self.upstream.to_owned());
        counter!(CALLS, "ingress" => self.ingress, "route" => route, "upstream" => upstream,
            "outcome" => outcome.as_str())
    }

    fn duration(self) -> Histogram {
        let (route, upstream) = (self.route.to_owned(), self.upstream.to_owned());
        histogram!(CALL_DURATION, "ingress" => self.ingress, "route" => route,
            "upstream" => upstream)
    }
}

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

/// A counter whose series exists from its first count.
pub type LazyCounter = LazyLock<Counter>;

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
    delivered: OnceLock<Counter>,
}

impl EventMetrics {
    /// Those of the bridge by that name, which an operator gave.
    pub fn new(bridge: &str) -> Self {
        Self(Arc::new(EventSeries { bridge: bridge.to_owned(), delivered: OnceLock::new() }))
    }

    /// The bridge's name.
    pub fn bridge(&self) -> &str {
        &self.0.bridge
    }

    /// Counts an event.
    pub fn count(&self, outcome: EventOutcome) {
        let counter = || {
            let bridge = self.0.bridge.clone();
            counter!(EVENTS, "bridge" => bridge, "outcome" => outcome.as_str())
        };
        match outcome {
            EventOutcome::Delivered => self.0.delivered.get_or_init(counter).increment(1),
            _ => counter().increment(1),
        }
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

/// The metrics of the budget of bytes in flight.
pub struct MemoryMetrics {
    held: Gauge,
    /// Messages for which a connection's part was too small.
    pub refused_connection: LazyCounter,
    /// Messages for which there was no room in the whole.
    pub refused_process: LazyCounter,
}

impl MemoryMetrics {
    /// Shows that nothing is held.
    pub fn new() -> Self {
        Self {
            held: gauge!(MEMORY_HELD),
            refused_connection: LazyCounter::new(
                || counter!(MEMORY_REFUSED, "limit" => "connection"),
            ),
            refused_process: LazyCounter::new(|| counter!(MEMORY_REFUSED, "limit" => "process")),
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

/// The metrics of the registry. Their series are looked up when they are counted, which is seldom.
#[derive(Default)]
pub struct RegistryMetrics(());

impl RegistryMetrics {
    /// Shows how many services are in service, unproven and refuted.
    pub fn set_services(&self, counts: [usize; 3]) {
        for (state, count) in ["in_service", "unproven", "refuted"].into_iter().zip(counts) {
            // The limit on services keeps the numbers far below 2^53.
            gauge!(REGISTRY_SERVICES, "state" => state).set(count as f64);
        }
    }

    /// Counts a request, and how it ended.
    pub fn asked(&self, method: &'static str, outcome: Result<(), &Fault>) {
        let outcome = outcome.map_or_else(|fault| fault.kind().as_str(), |()| "ok");
        counter!(REGISTRY_REQUESTS, "method" => method, "outcome" => outcome).increment(1);
    }

    /// Counts services that are forgotten.
    pub fn gone(&self, count: usize, reason: &'static str) {
        if count > 0 {
            counter!(REGISTRY_GONE, "reason" => reason).increment(count as u64);
        }
    }

    /// Counts an announcement to another registry.
    pub fn told(&self, taken: bool) {
        let outcome = if taken { "ok" } else { "failed" };
        counter!(REGISTRY_ANNOUNCED, "outcome" => outcome).increment(1);
    }
}

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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use metrics::{Key, KeyName, Metadata, Recorder, SharedString, with_local_recorder};

    use super::*;

    /// Notes what is described, and which labels each series has.
    #[derive(Default)]
    struct Notes {
        described: Mutex<BTreeSet<String>>,
        labels: Mutex<BTreeMap<String, BTreeSet<String>>>,
    }

    impl Notes {
        fn describe(&self, name: &KeyName) {
            self.described.lock().expect("no panic").insert(name.as_str().to_owned());
        }

        fn series(&self, key: &Key) {
            let labels = key.labels().map(|label| label.key().to_owned()).collect();
            let name = key.name().to_owned();
            let old = self.labels.lock().expect("no panic").insert(name, BTreeSet::clone(&labels));
            assert!(old.is_none_or(|old| old == labels), "{key}: one name has one set of labels");
        }
    }

    impl Recorder for Notes {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            self.series(key);
            Counter::noop()
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            self.series(key);
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            self.series(key);
            Histogram::noop()
        }
    }

    /// Moves every metric once.
    fn move_all() {
        build_info();
        log_line_lost();
        limited("a.*", "rate");
        drop(WaitingCall::new("a.*"));
        BreakerMetrics::new("nats").opened();
        retried("a.*", "ok");
        let labels = CallLabels { ingress: "http", route: "a.*", upstream: "nats" };
        CallMetrics::default().ended(labels, CallOutcome::Ok, Duration::ZERO);
        let upstream = UpstreamMetrics::new("nats");
        upstream.take_over();
        upstream.set_up(true);
        upstream.call_entered();
        upstream.reconnected();
        upstream.late_reply();
        upstream.repaired_reply();
        upstream.unsent_reply();
        upstream.receipt();
        upstream.refused("blank");
        EventMetrics::new("hub:a.b").count(EventOutcome::Delivered);
        drop(SubscriberCount::new("sse"));
        let memory = MemoryMetrics::new();
        memory.set_held(1);
        memory.refused_process.increment(1);
        let hub = HubMetrics::new();
        hub.set_modules(1, 0, 0);
        hub.hooks_delivered.increment(1);
        hub.slow.increment(1);
        hub.ignored_lines.increment(1);
        hub.refused(FaultKind::Internal);
        let registry = RegistryMetrics::default();
        registry.set_services([1, 0, 0]);
        registry.asked("ping", Ok(()));
        registry.gone(1, "expired");
        registry.told(true);
    }

    #[test]
    fn the_page_on_operating_has_every_metric_with_its_labels() {
        let notes = Notes::default();
        with_local_recorder(&notes, || {
            describe();
            move_all();
        });
        let described = notes.described.into_inner().expect("no panic");
        let labels = notes.labels.into_inner().expect("no panic");
        let moved: BTreeSet<_> = labels.keys().cloned().collect();
        assert_eq!(described, moved, "each that is described is moved here, and the reverse");
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let rows = page.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `genkan_")?.split('|');
            let name = format!("genkan_{}", cells.next()?.trim().trim_end_matches('`'));
            let words = cells.next()?.split('`').skip(1).step_by(2).map(str::to_owned);
            Some((name, words.collect::<BTreeSet<_>>()))
        });
        assert_eq!(rows.collect::<BTreeMap<_, _>>(), labels);
    }
}
