//! The router over a fake upstream: matching, renaming, deadlines, limits, and what is handed
//! back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Router;
use super::ledger::Ledger;
use super::table::{NO_ROUTE, Row, Table};
use super::target::Target;
use crate::call::{
    Call, CallKind, CallName, Context, Params, Payload, Reply, Request, TraceParent,
};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::route::{HUB, Rule};
use crate::upstream::{Readiness, Upstream};

/// Answers with what it was asked, once `gate` lets it.
struct Echo {
    gate: Arc<Semaphore>,
}

impl Upstream for Echo {
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        async move {
            drop(self.gate.acquire().await);
            let text = format!(
                "\"{}.{} {}ms\"",
                request.service,
                request.method,
                request.deadline.timeout().as_millis()
            );
            Ok(Reply::new(Payload::from_validated(Bytes::from(text))))
        }
        .boxed()
    }

    fn notify<'a>(&'a self, _: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        async { Ok(()) }.boxed()
    }

    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}

fn rule(pattern: &str, upstream: &str) -> Rule {
    Rule::new(pattern, upstream, Duration::from_secs(5))
}

struct Fixture {
    router: Router,
    ledger: Arc<Ledger>,
    target: Arc<Target>,
    gate: Arc<Semaphore>,
}

impl Fixture {
    fn new(rules: Vec<Rule>, max_in_flight: usize) -> Self {
        let gate = Arc::new(Semaphore::new(1_000));
        let upstream = Arc::new(Echo { gate: Arc::clone(&gate) });
        let metrics = UpstreamMetrics::new("fake");
        let target = Arc::new(Target::new("fake", upstream, max_in_flight, metrics));
        let ledger = Ledger::new(["http"]);
        let router = Router::new(table(rules, &target, &ledger), Arc::clone(&ledger));
        Self { router, ledger, target, gate }
    }

    fn hold_answers(&self) {
        self.gate.forget_permits(1_000);
    }

    async fn call(&self, name: &str, timeout: Option<Duration>) -> Result<String, Fault> {
        let call = call(name, CallKind::Call, timeout);
        let dispatched = self.router.dispatch(self.router.ingress("http"), call).await;
        dispatched.result.map(|reply| reply.payload.as_str().to_owned())
    }
}

fn table(rules: Vec<Rule>, target: &Arc<Target>, ledger: &Arc<Ledger>) -> Table {
    let rows = rules.into_iter().map(|rule| {
        let label = rule.pattern.to_string();
        let target = (rule.upstream != HUB).then(|| Arc::clone(target));
        Row::new(rule, &label, target, ledger)
    });
    Table::new(rows.collect(), Row::new(rule("*", HUB), NO_ROUTE, None, ledger))
}

fn call(name: &str, kind: CallKind, timeout: Option<Duration>) -> Call {
    Call {
        name: CallName::parse(name.to_owned()).expect("service.method"),
        params: Params::None,
        kind,
        context: Arc::new(Context::new(TraceParent::generate())),
        received: Instant::now(),
        timeout,
    }
}

#[tokio::test]
async fn the_first_row_that_matches_wins_and_renames() {
    let renamed = Rule {
        service: Some("orders_service".to_owned()),
        method: Some("make".to_owned()),
        ..rule("orders.create", "fake")
    };
    let fixture = Fixture::new(vec![renamed, rule("orders.*", "fake")], 10);
    assert_eq!(
        fixture.call("orders.create", None).await.expect("ok"),
        "\"orders_service.make 5000ms\""
    );
    assert_eq!(fixture.call("orders.list", None).await.expect("ok"), "\"orders.list 5000ms\"");
}

#[tokio::test]
async fn what_no_row_matches_goes_to_the_hub_which_nobody_has_joined() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake"), rule("late.*", HUB)], 10);
    for name in ["order.create", "late.m"] {
        let fault = fixture.call(name, None).await.expect_err("a fault");
        assert_eq!(fault.kind(), FaultKind::UnknownService);
        assert_eq!(fault.outcome(), Outcome::NotSent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_can_shorten_the_timeout_and_not_lengthen_it() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 10);
    let asked = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(fixture.call("orders.m", asked(1)).await.expect("ok"), "\"orders.m 1000ms\"");
    assert_eq!(fixture.call("orders.m", asked(9)).await.expect("ok"), "\"orders.m 5000ms\"");
    fixture.hold_answers();
    let started = Instant::now();
    let fault = fixture.call("orders.m", asked(1)).await.expect_err("a fault");
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Timeout, Outcome::Unknown));
    assert_eq!(fixture.target.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_limit_is_refused_at_once() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 2);
    fixture.hold_answers();
    let first = fixture.call("orders.m", None);
    let second = fixture.call("orders.m", None);
    let third = async {
        tokio::task::yield_now().await;
        let fault = fixture.call("orders.m", None).await.expect_err("a fault");
        fixture.gate.add_permits(10);
        fault
    };
    let (first, second, fault) = tokio::join!(first, second, third);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Overloaded, Outcome::NotSent));
    assert!(fault.retryable() && fault.retry_after().is_some());
    assert_eq!(fixture.target.in_flight(), 0);
    assert!(fixture.call("orders.m", None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_gives_its_place_back() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 1);
    fixture.hold_answers();
    let gone = tokio::time::timeout(Duration::from_millis(1), fixture.call("orders.m", None)).await;
    assert!(gone.is_err());
    assert_eq!(fixture.target.in_flight(), 0);
}

#[tokio::test]
async fn a_notification_needs_no_answer() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 1);
    fixture.hold_answers();
    let notification = call("orders.m", CallKind::Notification, None);
    let dispatched = fixture.router.dispatch(fixture.router.ingress("http"), notification).await;
    assert!(dispatched.result.is_ok());
}

#[tokio::test]
async fn a_new_table_is_in_force_at_once() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 1);
    fixture.router.replace(table(vec![rule("bills.*", "fake")], &fixture.target, &fixture.ledger));
    assert!(fixture.call("orders.m", None).await.is_err());
    assert!(fixture.call("bills.m", None).await.is_ok());
}
