//! How upstreams end: all at once, and none unawaited.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::{GRACE, Upstreams};
use crate::budget::Budget;
use crate::call::{Reply, Request};
use crate::config::{self, Config, Readers};
use crate::fault::{Fault, FaultKind};
use crate::metrics::UpstreamMetrics;
use crate::router::Router;
use crate::router::ledger::Ledger;
use crate::tasks::Tasks;
use crate::upstream::{Connected, Connector, Envelope, Readiness, Upstream};

/// A connection that takes its time to leave, and the number of those that have.
struct Slow(Duration, Arc<AtomicUsize>);

struct Nobody;

impl Upstream for Nobody {
    fn call<'a>(&'a self, _request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        std::future::ready(Err(Fault::not_sent(FaultKind::Unavailable, "nobody"))).boxed()
    }

    fn notify<'a>(&'a self, _request: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        std::future::ready(Err(Fault::not_sent(FaultKind::Unavailable, "nobody"))).boxed()
    }

    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}

impl Connector for Slow {
    fn protocol(&self) -> &'static str {
        "slow"
    }

    fn address(&self) -> String {
        "nowhere".to_owned()
    }

    fn explain(&self, _request: &Request<'_>) -> Result<Envelope, Fault> {
        Err(Fault::not_sent(FaultKind::Unavailable, "nobody"))
    }

    fn connect(&self, _metrics: UpstreamMetrics, _budget: &Budget, tasks: &Tasks) -> Connected {
        let (shutdown, takes) = (tasks.shutdown().clone(), self.0);
        let left = Arc::clone(&self.1);
        tasks.spawn("connection", async move {
            shutdown.cancelled().await;
            sleep(takes).await;
            left.fetch_add(1, Ordering::Relaxed);
        });
        Connected { upstream: Arc::new(Nobody), exposer: None, events: None }
    }
}

/// The upstreams of a configuration, and how many have left.
struct Fixture {
    upstreams: Upstreams,
    router: Arc<Router>,
    readers: Readers,
    left: Arc<AtomicUsize>,
}

impl Fixture {
    fn new(takes: Duration, toml: &str) -> Self {
        let left = Arc::<AtomicUsize>::default();
        let of_each = Arc::clone(&left);
        let read: config::ReadConnector =
            Arc::new(move |_| Box::new(Slow(takes, Arc::clone(&of_each))));
        let readers = Readers { egresses: vec![("slow", read)], ingresses: Vec::new() };
        let (ledger, budget) = (Ledger::new(["http"]), Budget::new(1 << 20));
        let mut upstreams = Upstreams::new(None, Arc::clone(&ledger), &budget, Tasks::new());
        let config = parse(toml, &readers);
        let first = upstreams.prepare(&config, Vec::new());
        let table = upstreams.turn_over(&config, first);
        let router = Arc::new(Router::new(table, ledger, budget));
        Self { upstreams, router, readers, left }
    }

    fn reload(&mut self, toml: &str) {
        let config = parse(toml, &self.readers);
        let next = self.upstreams.prepare(&config, Vec::new());
        self.router.replace(self.upstreams.turn_over(&config, next));
    }
}

fn parse(toml: &str, readers: &Readers) -> Config {
    let loaded = config::parse("genkan.toml", toml, config::Variables::new(), readers);
    loaded.into_valid().unwrap_or_else(|_| panic!("a valid configuration")).0
}

const ONE: &str = "[upstreams.one]\nprotocol = \"slow\"\n";
const TWO: &str = "[upstreams.two]\nprotocol = \"slow\"\n";

#[tokio::test(start_paused = true)]
async fn a_retired_upstream_is_waited_for_at_the_end() {
    let mut fixture = Fixture::new(GRACE / 2, ONE);
    fixture.reload("");
    fixture.upstreams.end_retired(&fixture.router);
    fixture.upstreams.end_retired(&fixture.router);
    fixture.upstreams.end(&fixture.router).await;
    assert_eq!(fixture.left.load(Ordering::Relaxed), 1, "it was not cut off");
}

#[tokio::test(start_paused = true)]
async fn upstreams_that_do_not_leave_are_waited_for_at_once() {
    let mut fixture = Fixture::new(100 * GRACE, &format!("{ONE}{TWO}"));
    let began = Instant::now();
    fixture.upstreams.end(&fixture.router).await;
    assert!(began.elapsed() < 2 * GRACE, "{:?}", began.elapsed());
}
