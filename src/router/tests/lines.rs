//! Lines in which calls wait: a limit's, and an upstream's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Fixture, call, rule};
use crate::call::{CallKind, Context};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::idempotency_key::IdempotencyKey;
use crate::route::breaker::BreakerRule;
use crate::route::idempotency::Idempotency;
use crate::route::rate::Limits;
use crate::route::{HUB, Rule};
use crate::router::breaker::Breaker;
use crate::router::limits::LimitsInForce;
use crate::router::table::{NO_ROUTE, Row, Table};
use crate::trace::TraceParent;

const MS: Duration = Duration::from_millis(1);

/// Its one row is as `row` makes it.
fn fixture(row: impl FnOnce(Row) -> Row) -> Fixture {
    let fixture = Fixture::new(Vec::new(), 100);
    let target = Some(Arc::clone(&fixture.target));
    let of = Row::new(rule("orders.*", "fake"), "orders.*", target, &fixture.ledger);
    let last = Row::new(rule("*", HUB), NO_ROUTE, None, &fixture.ledger);
    fixture.router.replace(Table::new(vec![row(of)], last));
    fixture
}

/// One call at a time, and a line.
fn with_a_line() -> Fixture {
    let limits = Limits { max_in_flight: Some(1), queue: 9, ..Limits::default() };
    let limits = Arc::new(LimitsInForce::new(&limits, None));
    fixture(|row| row.limited(limits, Arc::default()))
}

impl Fixture {
    fn set_run(&self, run: Duration) {
        *self.upstream.run.lock().expect("whole") = run;
    }

    fn set_line(&self, line: Duration) {
        *self.upstream.line.lock().expect("whole") = line;
    }

    fn asked(&self) -> usize {
        self.upstream.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_call_waits_in_its_upstreams_line_does_not_open_the_breaker() {
    let rule = BreakerRule {
        failures: 0.5,
        least: 2,
        window: Duration::from_secs(60),
        open_for: Duration::from_secs(60),
        slow: None,
    };
    let breaker = Arc::new(Breaker::new("fake", rule));
    let fixture = fixture(|row| row.guarded(Some(Arc::clone(&breaker))));
    fixture.set_run(Duration::from_secs(60));
    fixture.set_line(4_000 * MS);
    for _ in 0..5 {
        let fault = fixture.call("orders.m", None).await.expect_err("one second is not enough");
        assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Timeout, Outcome::Unknown));
    }
    assert_eq!(breaker.open(), []);
    fixture.set_line(MS);
    for _ in 0..2 {
        fixture.call("orders.m", None).await.expect_err("nor are five");
    }
    assert_eq!(breaker.open().len(), 1, "but those were the service's");
}

#[tokio::test(start_paused = true)]
async fn who_could_not_be_answered_in_time_does_not_wait() {
    let fixture = with_a_line();
    fixture.set_run(600 * MS);
    fixture.call("orders.m", None).await.expect("it is known now how long one runs");
    let (first, second) = tokio::join!(fixture.call("orders.m", None), async {
        sleep(10 * MS).await;
        timeout(MS, fixture.call("orders.m", Some(1_000 * MS))).await.expect("at once")
    });
    let fault = second.expect_err("0.6 s to wait, and 0.6 s to run");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Overloaded, Outcome::NotSent));
    assert!(fault.message().contains("as its calls take 600ms of late"), "{}", fault.message());
    assert!(first.is_ok());
    let both =
        tokio::join!(fixture.call("orders.m", None), fixture.call("orders.m", Some(1_300 * MS)));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    assert_eq!(fixture.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_waits_longer_than_was_reckoned_is_not_sent_for_nothing() {
    let fixture = with_a_line();
    fixture.set_run(600 * MS);
    fixture.call("orders.m", None).await.expect("it is known now how long one runs");
    fixture.set_run(900 * MS);
    let both =
        tokio::join!(fixture.call("orders.m", None), fixture.call("orders.m", Some(1_300 * MS)));
    let fault = both.1.expect_err("0.4 s are left");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Overloaded, Outcome::NotSent));
    assert!(fault.retry_after().is_some() && both.0.is_ok());
    assert_eq!(fixture.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn how_long_a_call_runs_may_be_known_only_when_its_turn_comes() {
    let fixture = with_a_line();
    fixture.set_run(600 * MS);
    let both =
        tokio::join!(fixture.call("orders.m", None), fixture.call("orders.m", Some(1_000 * MS)));
    let fault = both.1.expect_err("0.4 s are left");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Overloaded, Outcome::NotSent));
    assert_eq!((fixture.asked(), both.0.is_ok()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn notifications_say_nothing_of_how_long_calls_run() {
    let fixture = with_a_line();
    fixture.set_run(900 * MS);
    fixture.dispatch("orders.m", CallKind::Notification, None).await.expect("taken");
    assert_eq!(fixture.router.table().rows()[0].usual().run(), Duration::ZERO);
}

/// Two rows to one service, of which the first lets one call at a time through, and a breaker that has opened.
/// Its time has passed.
async fn with_a_breaker_to_be_tried(idempotency: Option<Idempotency>) -> (Fixture, Arc<Breaker>) {
    let open_for = Duration::from_secs(1);
    let window = Duration::from_secs(60);
    let rule_of_it = BreakerRule { failures: 0.5, least: 2, window, open_for, slow: None };
    let breaker = Arc::new(Breaker::new("fake", rule_of_it));
    let fixture = Fixture::new(Vec::new(), 100);
    let limits = Limits { max_in_flight: Some(1), queue: 9, ..Limits::default() };
    let limits = Arc::new(LimitsInForce::new(&limits, None));
    let row = |rule: Rule, limits| {
        let target = Some(Arc::clone(&fixture.target));
        let row = Row::new(rule, "orders", target, &fixture.ledger);
        let row = row.limited(limits, Arc::default()).guarded(Some(Arc::clone(&breaker)));
        row.remembering(Some(Arc::clone(&fixture.answers)))
    };
    let slow = Rule { idempotency, ..rule("orders.slow", "fake") };
    let rows = vec![row(slow, limits), row(rule("orders.*", "fake"), Arc::default())];
    let last = Row::new(rule("*", HUB), NO_ROUTE, None, &fixture.ledger);
    fixture.router.replace(Table::new(rows, last));
    (fixture, breaker)
}

/// Lets the breaker open, and its time pass.
async fn fail(fixture: &Fixture, breaker: &Breaker) {
    let away = || Fault::new(FaultKind::Unavailable, Outcome::Unknown, "away");
    fixture.upstream.faults.lock().expect("whole").extend([away(), away()]);
    for _ in 0..2 {
        fixture.call("orders.quick", None).await.expect_err("away");
    }
    assert_eq!(breaker.open().len(), 1);
    sleep(1_100 * MS).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_keeps_nobody_from_trying_the_service() {
    for idempotency in [None, Some(Idempotency { ttl: 1_000 * MS, required: false })] {
        let (fixture, breaker) = with_a_breaker_to_be_tried(idempotency).await;
        fixture.set_run(2_000 * MS);
        let held = fixture.call("orders.slow", None);
        let rest = async {
            sleep(MS).await;
            fixture.set_run(Duration::ZERO);
            fail(&fixture, &breaker).await;
            let key = idempotency.map(|_| IdempotencyKey::new("k").expect("a key"));
            let mut waits = call("orders.slow", CallKind::Call, None);
            let mut context = Context::new(TraceParent::generate());
            context.idempotency_key = key;
            waits.context = Arc::new(context);
            let waits = fixture.router.dispatch(fixture.router.ingress("http"), waits);
            let quick = async {
                sleep(MS).await;
                fixture.call("orders.quick", None).await.expect("nobody else tries it");
                assert_eq!(breaker.open(), []);
            };
            let (waited, ()) = tokio::join!(waits, quick);
            waited.result.expect("its turn came");
        };
        let (held, ()) = tokio::join!(held, rest);
        held.expect("an answer");
    }
}
