//! Every metric's name and description (CONTRACT, section 7). The files beside it, one for each subject, move
//! them, and have the only metrics macros.
//!
//! A series exists from its first use: it is looked up then, and its handle kept where it is used,
//! so that counting on the hot path is an atomic addition, and a row that nobody calls costs
//! nothing. No label takes a value that a caller chose.

#![expect(clippy::disallowed_macros, reason = "this is the one folder that moves metrics")]

mod auth;
mod calls;
mod certificates;
mod events;
mod hub;
mod idempotency;
mod limits;
mod memory;
mod registry;
mod reloads;
#[cfg(test)]
mod tests;
mod upstream;

use std::sync::LazyLock;

use metrics::{
    Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use auth::{IssuerMetrics, credential_refused};
pub use calls::{CallLabels, CallMetrics, CallOutcome};
pub use certificates::{certificate, no_certificate};
pub use events::{EventMetrics, EventOutcome, SubscriberCount, TargetFailing};
pub use hub::HubMetrics;
pub use idempotency::{IdempotencyMetrics, keyed};
pub use limits::{BreakerMetrics, WaitingCall, limited, retried};
pub use memory::MemoryMetrics;
pub use registry::RegistryMetrics;
pub use reloads::{RefusedFile, config_in_force, config_refused};
pub use upstream::UpstreamMetrics;

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
const SOURCES_FAILING: &str = "genkan_event_sources_failing";
const TARGETS_FAILING: &str = "genkan_event_targets_failing";
const SUBSCRIBERS: &str = "genkan_subscribers";
const MEMORY_HELD: &str = "genkan_memory_held_bytes";
const MEMORY_REFUSED: &str = "genkan_memory_refused_total";
const LOG_LOST: &str = "genkan_log_lost_lines_total";
const LIMITED: &str = "genkan_limited_total";
const CALLS_WAITING: &str = "genkan_calls_waiting";
const BREAKERS_OPEN: &str = "genkan_breakers_open";
const BREAKER_OPENED: &str = "genkan_breaker_opened_total";
const RETRIES: &str = "genkan_retries_total";
const KEYED: &str = "genkan_idempotency_calls_total";
const KEYS: &str = "genkan_idempotency_keys";
const KEPT_ANSWERS: &str = "genkan_idempotency_held_bytes";
const KEYS_FORGOTTEN: &str = "genkan_idempotency_forgotten_total";
const CREDENTIALS_REFUSED: &str = "genkan_credentials_refused_total";
const ISSUER_KEYS: &str = "genkan_issuer_keys";
const ISSUER_FETCHED: &str = "genkan_issuer_fetched_timestamp_seconds";
const ISSUER_FETCHES: &str = "genkan_issuer_fetches_total";
const CERTIFICATE_BEGINS: &str = "genkan_certificate_begins_timestamp_seconds";
const CERTIFICATE_ENDS: &str = "genkan_certificate_expires_timestamp_seconds";
const RELOAD_SUCCESSFUL: &str = "genkan_config_last_reload_successful";
const RELOAD_SUCCEEDED: &str = "genkan_config_last_reload_success_timestamp_seconds";
const FILES_REFUSED: &str = "genkan_files_refused";
const BUILD_INFO: &str = "genkan_build_info";

/// Seconds. From a tenth of a millisecond, because a gateway's own share is that small.
const DURATION_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// What a gauge is set to when what it tells of has gone: it is shown no more.
const GONE: f64 = f64::NAN;

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
        shown(&self.handle.render())
    }

    /// Folds the samples that histograms have gathered, which otherwise pile up until somebody
    /// scrapes. To be called every second or so.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// Without what has gone; the CPU's time only grows, and its collector has parts of seconds as a gauge.
fn shown(rendered: &str) -> String {
    let mut text = String::with_capacity(rendered.len());
    let lines = rendered.split_inclusive('\n').filter(|line| !line.ends_with(" NaN\n"));
    for line in lines {
        text.push_str(match line {
            "# TYPE process_cpu_seconds_total gauge\n" => {
                "# TYPE process_cpu_seconds_total counter\n"
            }
            line => line,
        });
    }
    text
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
    describe_gauge!(SOURCES_FAILING, "Sources of events that are not listened to");
    describe_gauge!(
        TARGETS_FAILING,
        "Targets and dead letters that take no events, which wait for them"
    );
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
    describe_counter!(KEYED, "Calls with idempotency keys, by route and what became of them");
    describe_gauge!(KEYS, "Idempotency keys that are known");
    describe_gauge!(KEPT_ANSWERS, Unit::Bytes, "Answers that are kept for repetitions");
    describe_counter!(KEYS_FORGOTTEN, "Idempotency keys and answers forgotten for a limit");
    describe_counter!(CREDENTIALS_REFUSED, "Keys and tokens that callers showed and are not taken");
    describe_gauge!(ISSUER_KEYS, "Keys of the issuer of tokens that are known");
    describe_gauge!(
        ISSUER_FETCHED,
        Unit::Seconds,
        "When the keys of the issuer of tokens were fetched, since 1970"
    );
    describe_counter!(ISSUER_FETCHES, "Fetches of the keys of the issuer of tokens");
    describe_gauge!(
        CERTIFICATE_BEGINS,
        Unit::Seconds,
        "From when on a file's certificates are good, since 1970"
    );
    describe_gauge!(CERTIFICATE_ENDS, Unit::Seconds, "When a file's certificates end, since 1970");
    describe_reloads();
    describe_gauge!(BUILD_INFO, "Always 1; the label holds the version");
}

fn describe_reloads() {
    describe_gauge!(
        RELOAD_SUCCESSFUL,
        "1 while the configuration that was read last is in force, 0 where it was refused"
    );
    describe_gauge!(
        RELOAD_SUCCEEDED,
        Unit::Seconds,
        "When the configuration in force was put there, since 1970"
    );
    describe_gauge!(
        FILES_REFUSED,
        "Files of secrets and certificates that cannot be used: what they held before stays"
    );
}

fn build_info() {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Counts a line of the log that nobody read in time.
pub fn log_line_lost() {
    counter!(LOG_LOST).increment(1);
}

/// A counter whose series exists from its first count.
pub type LazyCounter = LazyLock<Counter>;
