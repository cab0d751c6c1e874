//! The router over a fake upstream: matching, renaming, deadlines, limits, and what is handed
//! back.

mod charging;
mod lines;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::Router;
use super::answers::Answers;
use super::ledger::Ledger;
use super::table::{NO_ROUTE, Row, Table};
use super::target::Target;
use crate::budget::Budget;
use crate::call::{Call, CallKind, CallName, Context, Params, Payload, Reply, Request};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::UpstreamMetrics;
use crate::route::idempotency::Room;
use crate::route::{HUB, Rule};
use crate::tasks::Tasks;
use crate::trace::TraceParent;
use crate::upstream::{Readiness, Upstream};

/// Answers with what it was asked, and takes notifications over, once `gate` lets it.
pub(super) struct Fake {
    gate: Arc<Semaphore>,
    /// What it says instead.
    fault: Mutex<Option<Fault>>,
    /// What it says before that, each once.
    pub(super) faults: Mutex<VecDeque<Fault>>,
    pub(super) asked: AtomicUsize,
    /// Holds what it is given until the gate opens, instead of sending it first.
    pub(super) holds: AtomicBool,
    /// How long a call stands in a line of its own.
    pub(super) line: Mutex<Duration>,
    /// How long it runs.
    pub(super) run: Mutex<Duration>,
    notified: Mutex<Vec<String>>,
}

impl Fake {
    async fn pass(&self, request: &Request<'_>) -> Result<String, Fault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = self.faults.lock().expect("whole").pop_front() {
            return Err(fault);
        }
        let held = request.departure.hold();
        let (line, run) = (*self.line.lock().expect("whole"), *self.run.lock().expect("whole"));
        if !line.is_zero() {
            let _waits = request.departure.wait();
            sleep(line).await;
        }
        if !self.holds.load(Ordering::Relaxed) {
            held.release();
            drop(self.gate.acquire().await);
        } else {
            drop(self.gate.acquire().await);
            held.release();
        }
        if !run.is_zero() {
            sleep(run).await;
        }
        match self.fault.lock().expect("whole").clone() {
            Some(fault) => Err(fault),
            None => Ok(format!("{}.{}", request.service, request.method)),
        }
    }
}

impl Upstream for Fake {
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        async move {
            let name = self.pass(request).await?;
            let text = format!("\"{name} {}ms\"", request.deadline.timeout().as_millis());
            Ok(Reply::new(Payload::from_validated(Bytes::from(text))))
        }
        .boxed()
    }

    fn notify<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let name = self.pass(request).await?;
            self.notified.lock().expect("whole").push(name);
            Ok(())
        }
        .boxed()
    }

    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}

pub(super) fn rule(pattern: &str, upstream: &str) -> Rule {
    Rule::new(pattern, upstream, Duration::from_secs(5))
}

pub(super) struct Fixture {
    pub(super) router: Router,
    pub(super) ledger: Arc<Ledger>,
    pub(super) target: Arc<Target>,
    pub(super) upstream: Arc<Fake>,
    pub(super) gate: Arc<Semaphore>,
    pub(super) answers: Arc<Answers>,
}

impl Fixture {
    pub(super) fn new(rules: Vec<Rule>, max_in_flight: usize) -> Self {
        let gate = Arc::new(Semaphore::new(1_000));
        let upstream = Arc::new(Fake {
            gate: Arc::clone(&gate),
            fault: Mutex::default(),
            faults: Mutex::default(),
            asked: AtomicUsize::new(0),
            holds: AtomicBool::new(false),
            line: Mutex::default(),
            run: Mutex::default(),
            notified: Mutex::default(),
        });
        let metrics = UpstreamMetrics::new("fake");
        let target = Arc::new(Target::new("fake", upstream.clone(), max_in_flight, metrics));
        let ledger = Ledger::new(["http"]);
        let answers = Answers::new(Room::default(), Tasks::new());
        let table = table(rules, &target, &ledger, &answers);
        let router = Router::new(table, Arc::clone(&ledger), Budget::new(1 << 20));
        Self { router, ledger, target, upstream, gate, answers }
    }

    pub(super) fn hold_answers(&self) {
        self.gate.forget_permits(1_000);
    }

    async fn call(&self, name: &str, timeout: Option<Duration>) -> Result<String, Fault> {
        self.dispatch(name, CallKind::Call, timeout).await
    }

    async fn notify(&self, name: &str) -> Result<String, Fault> {
        self.dispatch(name, CallKind::Notification, None).await
    }

    async fn dispatch(
        &self,
        name: &str,
        kind: CallKind,
        timeout: Option<Duration>,
    ) -> Result<String, Fault> {
        let call = call(name, kind, timeout);
        let dispatched = self.router.dispatch(self.router.ingress("http"), call).await;
        dispatched.result.map(|reply| reply.payload.as_str().to_owned())
    }

    fn notified(&self) -> Vec<String> {
        self.upstream.notified.lock().expect("whole").clone()
    }
}

fn table(
    rules: Vec<Rule>,
    target: &Arc<Target>,
    ledger: &Arc<Ledger>,
    answers: &Arc<Answers>,
) -> Table {
    let rows = rules.into_iter().map(|rule| {
        let label = rule.pattern.to_string();
        let target = (rule.upstream != HUB).then(|| Arc::clone(target));
        let budget = (rule.retries > 0).then(Arc::default);
        let answers = rule.idempotency.map(|_| Arc::clone(answers));
        Row::new(rule, &label, target, ledger).retrying(budget).remembering(answers)
    });
    Table::new(rows.collect(), Row::new(rule("*", HUB), NO_ROUTE, None, ledger))
}

pub(super) fn call(name: &str, kind: CallKind, timeout: Option<Duration>) -> Call {
    Call {
        name: CallName::parse(name.to_owned()).expect("service.method"),
        params: Params::None,
        kind,
        caller: Caller::NOBODY,
        context: Arc::new(Context::new(TraceParent::generate())),
        received: Instant::now(),
        timeout,
        may_have_run: false,
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

#[tokio::test(start_paused = true)]
async fn what_was_held_until_its_deadline_has_not_run() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 10);
    fixture.hold_answers();
    for (holds, outcome) in [(true, Outcome::NotSent), (false, Outcome::Unknown)] {
        fixture.upstream.holds.store(holds, Ordering::Relaxed);
        for kind in [CallKind::Call, CallKind::Notification] {
            let fault = fixture.dispatch("orders.m", kind, None).await.expect_err("a fault");
            assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Timeout, outcome), "{kind:?}");
            assert_eq!(fault.retryable(), holds, "{kind:?}");
        }
    }
    assert_eq!(fixture.notified(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_notification_is_over_once_the_upstream_has_taken_it() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 1);
    fixture.hold_answers();
    let mut waiting = Box::pin(fixture.notify("orders.m"));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!((fixture.target.in_flight(), fixture.notified().len()), (1, 0));
    fixture.gate.add_permits(1);
    assert_eq!(waiting.await.expect("taken"), "null");
    assert_eq!(fixture.notified(), ["orders.m"]);
    assert_eq!(fixture.target.in_flight(), 0);
}

#[tokio::test]
async fn a_notification_that_the_upstream_refuses_is_a_fault() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 1);
    let refusal = Fault::not_sent(FaultKind::Unavailable, "the broker is away");
    *fixture.upstream.fault.lock().expect("whole") = Some(refusal);
    let fault = fixture.notify("orders.m").await.expect_err("a fault");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Unavailable, Outcome::NotSent));
    assert_eq!(fixture.notified(), [""; 0]);
}

#[tokio::test]
async fn a_new_table_is_in_force_at_once() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 1);
    let Fixture { target, ledger, answers, .. } = &fixture;
    fixture.router.replace(table(vec![rule("bills.*", "fake")], target, ledger, answers));
    assert!(fixture.call("orders.m", None).await.is_err());
    assert!(fixture.call("bills.m", None).await.is_ok());
}

#[tokio::test]
async fn what_may_have_run_runs_again_only_where_its_row_says_so() {
    let twice = Rule { idempotent: true, ..rule("reports.*", "fake") };
    let fixture = Fixture::new(vec![twice, rule("orders.*", "fake")], 10);
    let ingress = fixture.ledger.ingress("http");
    let again = |name| Call { may_have_run: true, ..call(name, CallKind::Call, None) };
    let report = fixture.router.dispatch(ingress, again("reports.make")).await;
    assert!(report.result.is_ok(), "its row lets it run twice");
    let order = fixture.router.dispatch(ingress, again("orders.create")).await;
    let fault = order.result.expect_err("it may have run");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Unavailable, Outcome::Unknown));
    assert_eq!(order.service_time, None, "it is not sent");
}

#[tokio::test]
async fn a_call_that_goes_round_between_gateways_ends() {
    let fixture = Fixture::new(vec![rule("orders.*", "fake")], 10);
    let ingress = fixture.ledger.ingress("http");
    let come = |hops| {
        let context = Arc::new(Context { hops, ..Context::new(TraceParent::generate()) });
        Call { context, ..call("orders.create", CallKind::Call, None) }
    };
    assert!(fixture.router.dispatch(ingress, come(15)).await.result.is_ok());
    let fault = fixture.router.dispatch(ingress, come(16)).await.result.expect_err("enough");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::NotSent));
    assert!(fault.message().contains("in a circle"), "{}", fault.message());
}

/// How a call of `reports.make` ends that meets these faults first, and how often it is sent.
async fn met(
    rule: Rule,
    faults: impl IntoIterator<Item = Fault>,
) -> (Result<String, Fault>, usize) {
    let fixture = Fixture::new(vec![rule], 10);
    fixture.upstream.faults.lock().expect("whole").extend(faults);
    let ended = fixture.call("reports.make", None).await;
    (ended, fixture.upstream.asked.load(Ordering::Relaxed))
}

fn retried(retries: usize) -> Rule {
    Rule { idempotent: true, retries, ..rule("reports.*", "fake") }
}

#[tokio::test(start_paused = true)]
async fn what_did_not_get_there_is_tried_again_and_what_was_answered_is_not() {
    let fault = |kind, outcome| Fault::new(kind, outcome, "");
    let cases = [
        (fault(FaultKind::Unavailable, Outcome::NotSent), true),
        (fault(FaultKind::Unavailable, Outcome::Rejected), true),
        (fault(FaultKind::Unavailable, Outcome::Unknown), true),
        (fault(FaultKind::Overloaded, Outcome::NotSent), true),
        (fault(FaultKind::Unavailable, Outcome::Executed), false),
        (fault(FaultKind::Timeout, Outcome::Unknown), false),
        (fault(FaultKind::TooLarge, Outcome::NotSent), false),
        (fault(FaultKind::InvalidParams, Outcome::Rejected), false),
        (fault(FaultKind::Application, Outcome::Executed), false),
    ];
    for (fault, again) in cases {
        let (ended, sent) = met(retried(1), [fault.clone()]).await;
        assert_eq!((ended.is_ok(), sent), (again, 1 + usize::from(again)), "{fault:?}");
        assert_eq!(met(rule("reports.*", "fake"), [fault]).await.1, 1);
    }
    let away = || fault(FaultKind::Unavailable, Outcome::NotSent);
    assert_eq!(met(retried(3), [away(), away(), away()]).await.1, 4);
    assert_eq!(met(retried(2), [away(), away(), away(), away()]).await.1, 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_for_a_retry_than_the_deadline() {
    let started = Instant::now();
    let full = Fault::not_sent(FaultKind::Overloaded, "full");
    let after = |seconds| full.clone().with_retry_after(Duration::from_secs(seconds));
    let (ended, sent) = met(retried(1), [after(60)]).await;
    assert_eq!((ended.expect_err("a fault").message(), sent), ("full", 1));
    assert_eq!(met(retried(1), [after(u64::MAX)]).await.1, 1);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(met(retried(1), [after(2)]).await.1, 2);
    assert_eq!(started.elapsed(), Duration::from_secs(2), "what it was asked to wait");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_run_once_is_not_told_to_have_not() {
    let cut = Fault::new(FaultKind::Unavailable, Outcome::Unknown, "cut");
    let away = Fault::not_sent(FaultKind::Unavailable, "away");
    let (ended, sent) = met(retried(2), [cut, away.clone(), away]).await;
    let fault = ended.expect_err("a fault");
    assert_eq!((fault.outcome(), fault.message(), sent), (Outcome::Unknown, "cut", 3));
}
