//! Calls that have keys, over a fake upstream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::{Call, CallKind, Context};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::idempotency_key::IdempotencyKey;
use crate::route::Rule;
use crate::route::idempotency::Idempotency;
use crate::router::Dispatched;
use crate::router::tests::{Fixture, call, rule};
use crate::trace::TraceParent;

const TTL: Duration = Duration::from_secs(60);

/// One whose row keeps answers.
fn fixture(idempotent: bool) -> Fixture {
    let idempotency = Some(Idempotency { ttl: TTL, required: false });
    Fixture::new(vec![Rule { idempotency, idempotent, ..rule("till.*", "fake") }], 10)
}

fn keyed(key: &str, timeout: Option<Duration>) -> Call {
    let idempotency_key = Some(IdempotencyKey::new(key).expect("a key"));
    let context = Context { idempotency_key, ..Context::new(TraceParent::generate()) };
    Call { context: Arc::new(context), ..call("till.pay", CallKind::Call, timeout) }
}

async fn dispatch(fixture: &Fixture, call: Call) -> Dispatched {
    fixture.router.dispatch(fixture.ledger.ingress("http"), call).await
}

fn sent(fixture: &Fixture) -> usize {
    fixture.upstream.asked.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn each_waits_until_its_own_deadline_and_the_call_until_its_rows() {
    let fixture = fixture(false);
    fixture.hold_answers();
    let began = Instant::now();
    let short = |seconds| Some(Duration::from_secs(seconds));
    let (one, two, all) = tokio::join!(
        async { (dispatch(&fixture, keyed("k", short(1))).await, began.elapsed()) },
        async { (dispatch(&fixture, keyed("k", short(2))).await, began.elapsed()) },
        async { (dispatch(&fixture, keyed("k", None)).await, began.elapsed()) },
    );
    for ((dispatched, after), seconds, replayed) in
        [(one, 1, false), (two, 2, false), (all, 5, true)]
    {
        let fault = dispatched.result.expect_err("a fault");
        assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Timeout, Outcome::Unknown));
        assert_eq!(after, Duration::from_secs(seconds));
        assert_eq!((dispatched.replayed, dispatched.service_time), (replayed, None));
    }
    assert_eq!((sent(&fixture), fixture.target.in_flight()), (1, 0));
    fixture.gate.add_permits(10);
    assert!(dispatch(&fixture, keyed("k", None)).await.result.is_err(), "nobody knows");
    assert_eq!(sent(&fixture), 1);
    tokio::time::advance(TTL).await;
    assert!(dispatch(&fixture, keyed("k", None)).await.result.is_ok());
    assert_eq!(sent(&fixture), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_place_when_its_time_is_over_has_not_run() {
    let fixture = fixture(false);
    fixture.upstream.holds.store(true, Ordering::Relaxed);
    fixture.hold_answers();
    let first = dispatch(&fixture, keyed("k", None)).await.result.expect_err("a fault");
    assert_eq!((first.kind(), first.outcome()), (FaultKind::Timeout, Outcome::NotSent));
    fixture.gate.add_permits(10);
    let again = dispatch(&fixture, keyed("k", None)).await;
    assert!(again.result.is_ok() && !again.replayed && again.service_time.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_a_broker_delivers_again_gets_the_answer_that_is_known_and_else_does_not_run() {
    let again = |key| Call { may_have_run: true, ..keyed(key, None) };
    let strict = fixture(false);
    assert!(dispatch(&strict, keyed("known", None)).await.result.is_ok());
    let known = dispatch(&strict, again("known")).await;
    assert!(known.result.is_ok() && known.replayed);
    let fault = dispatch(&strict, again("unknown")).await.result.expect_err("it may have run");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Unavailable, Outcome::Unknown));
    assert_eq!(sent(&strict), 1);
    let lenient = fixture(true);
    assert!(dispatch(&lenient, again("unknown")).await.result.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_leaves_the_call_which_counts_for_its_upstream() {
    let fixture = fixture(false);
    fixture.hold_answers();
    let gone = dispatch(&fixture, keyed("k", None));
    assert!(tokio::time::timeout(Duration::from_millis(1), gone).await.is_err());
    assert_eq!(fixture.target.in_flight(), 1);
    let until = Instant::now() + Duration::from_secs(1);
    assert!(!fixture.answers.settle(until).await, "it is under way");
    fixture.gate.add_permits(1);
    assert!(fixture.answers.settle(until + Duration::from_secs(1)).await);
    assert_eq!(fixture.target.in_flight(), 0);
    let back = dispatch(&fixture, keyed("k", None)).await;
    assert!(back.result.is_ok() && back.replayed);
    assert_eq!(sent(&fixture), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_is_tried_again_as_its_row_says_and_all_get_how_that_ends() {
    let idempotency = Some(Idempotency { ttl: TTL, required: false });
    let row = Rule { idempotency, idempotent: true, retries: 2, ..rule("till.*", "fake") };
    let fixture = Fixture::new(vec![row], 10);
    let away = Fault::not_sent(FaultKind::Unavailable, "away");
    fixture.upstream.faults.lock().expect("whole").extend([away.clone(), away]);
    let (first, joined) =
        tokio::join!(dispatch(&fixture, keyed("k", None)), dispatch(&fixture, keyed("k", None)));
    assert!(first.result.is_ok() && joined.result.is_ok());
    assert_eq!((first.replayed, joined.replayed, sent(&fixture)), (false, true, 3));
}
