use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};

use super::*;
use crate::fault::FaultKind;

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
    credential_refused("expired");
    let issuer = IssuerMetrics::new();
    issuer.fetched(true);
    issuer.show(1, Some(std::time::SystemTime::now()));
    certificate("http.tls", "cert_file", std::time::UNIX_EPOCH, std::time::SystemTime::now());
    limited("a.*", "rate");
    drop(WaitingCall::new("a.*"));
    BreakerMetrics::new("nats").opened();
    BreakerMetrics::new("nats").move_open(1.0);
    retried("a.*", "ok");
    keyed("a.*", "first");
    let idempotency = IdempotencyMetrics::new();
    idempotency.set_held(1, 1);
    idempotency.forgotten_keys.increment(1);
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
    let events = EventMetrics::new("hub:a.b", "web:x");
    events.count(EventOutcome::Delivered);
    events.source_fails(true);
    drop(TargetFailing::new(&events));
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
    config_in_force();
    config_refused();
    drop(RefusedFile::new("cert_file"));
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
