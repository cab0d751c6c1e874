//! An upstream without a gateway around it, read from TOML as an operator writes it: for what only
//! the library's own seam shows.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use genkan::budget::Budget;
use genkan::metrics::{Exporter, UpstreamMetrics};
use genkan::protocol::readers;
use genkan::tasks::Tasks;
use genkan::upstream::{Readiness, Upstream};

use super::eventually::until;

static EXPORTER: LazyLock<Exporter> = LazyLock::new(|| Exporter::install().expect("the first"));

/// An upstream with its connection, which ends with the test.
pub struct Linked {
    pub upstream: Arc<dyn Upstream>,
    pub tasks: Tasks,
    /// The name that its metrics have, which no other test's upstream has.
    pub label: String,
}

impl Linked {
    /// Makes the upstream of an `[upstreams.NAME]` table's keys, and waits for nothing.
    pub fn start(keys: &str) -> Self {
        LazyLock::force(&EXPORTER);
        let label = format!("test-{:x}", fastrand::u64(..));
        let text = format!("[upstreams.x]\n{keys}\n[[routes]]\nmatch = \"*\"\nupstream = \"x\"\n");
        let loaded = genkan::config::parse("genkan.toml", &text, HashMap::new(), &readers());
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let tasks = Tasks::new();
        let metrics = UpstreamMetrics::new(&label);
        metrics.take_over();
        let upstream = &loaded.config.upstreams[0].connector;
        let upstream = upstream.connect(metrics, &Budget::new(1 << 30), &tasks).upstream;
        Self { upstream, tasks, label }
    }

    /// Waits until calls can be sent.
    pub async fn ready(&self) {
        until("ready", async || self.upstream.readiness() == Readiness::Ready).await;
    }

    /// The value of one of this upstream's metrics; 0 where it has not been touched.
    pub fn metric(&self, name: &str) -> f64 {
        let text = EXPORTER.render();
        let ours = text.lines().filter(|line| line.starts_with(name) && line.contains(&self.label));
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
