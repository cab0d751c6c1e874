use super::*;
use crate::call::{CallName, Payload};
use crate::caller::Caller;
use crate::idempotency_key::IdempotencyKey;
use crate::router::fingerprint::of_key;

const HOUR: Duration = Duration::from_secs(3_600);

fn print(text: &str) -> Fingerprint {
    let name = CallName::parse("a.b".to_owned()).expect("a name");
    of_key(&Caller::NOBODY, name.as_str(), &IdempotencyKey::new(text).expect("a key"))
}

fn asked(params: &str) -> Asked {
    Asked { params: print(params), kind: CallKind::Call }
}

fn answers(max_keys: usize, max_bytes: usize) -> Arc<Answers> {
    Answers::new(Room { max_keys, max_bytes }, Tasks::new())
}

fn result(length: usize) -> Told {
    let text = format!("\"{}\"", "x".repeat(length - 2));
    Told::of(Ok(Reply::new(Payload::from_validated(text.into()))))
}

fn claim(answers: &Arc<Answers>, key: &str, now: Instant, ttl: Duration) -> Claim {
    answers.claim(&Caller::NOBODY, (print(key), asked("body")), (now, now + HOUR), ttl)
}

#[test]
fn a_call_is_not_answered_by_a_notification_and_a_notification_is_by_a_call() {
    let (answers, now) = (answers(10, 1_000), Instant::now());
    let ask = |key: &str, kind| {
        answers.claim(
            &Caller::NOBODY,
            (print(key), Asked { kind, ..asked("body") }),
            (now, now + HOUR),
            HOUR,
        )
    };
    for (key, first, second, became) in [
        ("a", CallKind::Notification, CallKind::Call, "refused"),
        ("b", CallKind::Call, CallKind::Notification, "replayed"),
        ("c", CallKind::Notification, CallKind::Notification, "replayed"),
    ] {
        let Claim::First(run, _) = ask(key, first) else { panic!("{key} is known") };
        run.end(result(5), false, now);
        assert_eq!(ask(key, second).became(), became, "{key}");
    }
}

/// The bytes and keys that are known.
fn held(answers: &Answers) -> (usize, usize) {
    let known = answers.lock();
    (known.bytes, known.keys.len())
}

/// What is known of a key: what becomes of a call under it, which is not run.
fn known(answers: &Arc<Answers>, key: &str, now: Instant) -> &'static str {
    match claim(answers, key, now, HOUR) {
        Claim::First(run, _) => {
            run.end(Told::of(Err(Fault::not_sent(FaultKind::Unavailable, ""))), false, now);
            "nothing"
        }
        Claim::Joined(_) => "under way",
        Claim::Ended(Ok(_)) => "a result",
        Claim::Ended(Err(_)) => "a fault",
        Claim::Forgotten(_) => "the outcome",
        Claim::Other => "another",
        Claim::Unanswered => "unanswered",
        Claim::Full(_) => "full",
    }
}

/// Runs a call of that key.
fn run(answers: &Arc<Answers>, key: &str, now: Instant, ttl: Duration, told: Told) {
    let Claim::First(run, _) = claim(answers, key, now, ttl) else { panic!("{key} is known") };
    run.end(told, false, now);
}

#[tokio::test]
async fn a_key_is_known_until_its_time_ends() {
    let (answers, now) = (answers(10, 1_000), Instant::now());
    run(&answers, "a", now, HOUR, result(5));
    run(&answers, "b", now, HOUR / 2, result(5));
    for (after, a, b) in [
        (Duration::ZERO, "a result", "a result"),
        (HOUR / 2 - Duration::from_millis(1), "a result", "a result"),
        (HOUR / 2, "a result", "nothing"),
        (HOUR, "nothing", "nothing"),
    ] {
        assert_eq!((known(&answers, "a", now + after), known(&answers, "b", now + after)), (a, b));
    }
    assert_eq!(held(&answers), (0, 0));
}

#[tokio::test]
async fn what_may_have_run_is_known_and_what_did_not_is_not() {
    let (answers, now) = (answers(10, 1_000), Instant::now());
    for (outcome, may_run_again, expected) in [
        (Outcome::NotSent, false, "nothing"),
        (Outcome::Rejected, false, "nothing"),
        (Outcome::Executed, false, "a fault"),
        (Outcome::Unknown, false, "a fault"),
        (Outcome::Unknown, true, "nothing"),
    ] {
        let key = format!("{outcome:?}{may_run_again}");
        let Claim::First(run, waiting) = claim(&answers, &key, now, HOUR) else { panic!("known") };
        assert_eq!(known(&answers, &key, now), "under way");
        let fault = Fault::new(FaultKind::Unavailable, outcome, "away");
        run.end(Told::of(Err(fault)), may_run_again, now);
        assert_eq!(waiting.end().await.result.expect_err("a fault").outcome(), outcome);
        assert_eq!(known(&answers, &key, now), expected, "{key}");
    }
}

#[tokio::test]
async fn a_call_that_was_given_up_may_have_run() {
    let (answers, now) = (answers(10, 1_000), Instant::now());
    let Claim::First(run, waiting) = claim(&answers, "a", now, HOUR) else { panic!("it is known") };
    drop(run);
    let fault = waiting.end().await.result.expect_err("a fault");
    assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::Unknown));
    assert_eq!(known(&answers, "a", now), "a fault");
}

#[tokio::test]
async fn the_keys_go_first_whose_time_ends_first() {
    let (answers, now) = (answers(3, 1_000), Instant::now());
    run(&answers, "long", now, HOUR, result(5));
    run(&answers, "short", now, HOUR / 2, result(5));
    let Claim::First(under_way, _) = claim(&answers, "under way", now, HOUR) else { panic!() };
    run(&answers, "new", now, HOUR, result(5));
    let all = ["long", "short", "under way", "new"];
    let of_all = |answers| all.map(|key| known(answers, key, now));
    // Each that is not known takes the place of another one for a moment.
    assert_eq!(of_all(&answers)[0], "a result");
    assert_eq!(known(&answers, "short", now), "nothing");
    assert_eq!(known(&answers, "under way", now), "under way");
    under_way.end(result(5), false, now);
    assert!(answers.lock().overflow.keys >= 1);
    answers.set_room(Room { max_keys: 1, max_bytes: 1_000 });
    assert_eq!(held(&answers).1, 1);
    let Claim::First(_run, _) = claim(&answers, "last", now, HOUR) else { panic!("it is known") };
    assert_eq!(known(&answers, "one more", now), "full");
}

#[tokio::test]
async fn answers_go_before_their_keys() {
    let (answers, now) = (answers(100, 400), Instant::now());
    run(&answers, "too large", now, HOUR, result(101));
    for key in ["a", "b", "c", "d", "e"] {
        run(&answers, key, now, HOUR, result(100));
    }
    let of_all = ["too large", "a", "b", "c", "d", "e"].map(|key| known(&answers, key, now));
    let result = "a result";
    assert_eq!(of_all, ["the outcome", "the outcome", result, result, result, result]);
    assert_eq!((held(&answers).0, answers.lock().overflow.answers), (400, 2));
    answers.set_room(Room { max_keys: 100, max_bytes: 100 });
    assert_eq!((held(&answers).0, known(&answers, "e", now)), (100, result));
    let later = now + HOUR;
    answers.upkeep(later);
    let known = answers.lock();
    assert_eq!(
        (known.bytes, known.keys.len(), known.ends.len(), known.answers.len()),
        (0, 0, 0, 0)
    );
}

#[tokio::test]
async fn another_request_is_another_one_under_way_and_after() {
    let (answers, now) = (answers(10, 1_000), Instant::now());
    let other = |answers: &Arc<Answers>| {
        answers.claim(&Caller::NOBODY, (print("a"), asked("other")), (now, now + HOUR), HOUR)
    };
    let Claim::First(run, _) = claim(&answers, "a", now, HOUR) else { panic!("it is known") };
    assert!(matches!(other(&answers), Claim::Other));
    run.end(result(5), false, now);
    assert!(matches!(other(&answers), Claim::Other));
}

#[test]
fn a_flood_of_keys_costs_no_more_than_there_is_room_for() {
    let (answers, now) = (answers(1_000, 10_000), Instant::now());
    for nth in 0..20_000_u64 {
        let at = now + Duration::from_millis(nth);
        let key = (Fingerprint::of(nth), asked("body"));
        let Claim::First(run, _) = answers.claim(&Caller::NOBODY, key, (at, at + HOUR), HOUR)
        else {
            panic!()
        };
        run.end(result(12), false, at);
    }
    let known = answers.lock();
    assert_eq!((known.keys.len(), known.ends.len()), (1_000, 1_000));
    assert!(known.bytes <= 10_000 && known.answers.len() <= 1_000);
    assert_eq!(known.overflow.keys, 19_000);
}

/// Runs a call of that key, of a caller there. How it was taken.
fn run_of(answers: &Arc<Answers>, host: u8, key: u64, now: Instant) -> &'static str {
    let caller = Caller::at([192, 0, 2, host].into());
    let key = (Fingerprint::of(u64::from(host) << 32 | key), asked("body"));
    let claim = answers.claim(&caller, key, (now, now + HOUR), HOUR);
    let became = claim.became();
    if let Claim::First(run, _) = claim {
        run.end(result(5), false, now);
    }
    became
}

#[test]
fn whoever_floods_it_with_keys_loses_his_own() {
    let (answers, now) = (answers(1_000, 10_000), Instant::now());
    for key in 0..10 {
        assert_eq!(run_of(&answers, 1, key, now), "first");
    }
    for key in 0..20_000 {
        let later = now + Duration::from_millis(key);
        assert_eq!(run_of(&answers, 2, key, later), "first");
    }
    let later = now + HOUR / 2;
    for key in 0..10 {
        assert_eq!(run_of(&answers, 1, key, later), "replayed", "{key}");
    }
    assert_eq!(run_of(&answers, 2, 19_999, later), "replayed");
    for key in 0..10 {
        assert_eq!(run_of(&answers, 3, key, later), "first", "there is room for others");
    }
    assert_eq!(run_of(&answers, 1, 0, later), "replayed");
    answers.upkeep(now + 2 * HOUR);
    assert!(answers.lock().holders.is_empty());
}

#[test]
fn who_holds_most_and_has_nothing_to_lose_takes_nothing_from_others() {
    let (answers, now) = (answers(10, 1_000), Instant::now());
    let caller = Caller::at([192, 0, 2, 2].into());
    assert_eq!(run_of(&answers, 1, 0, now), "first");
    let claim = |key| {
        let key = (Fingerprint::of(key), asked("body"));
        answers.claim(&caller, key, (now, now + HOUR), HOUR)
    };
    let under_way: Vec<_> = (0..9).map(claim).collect();
    assert!(under_way.iter().all(|claim| matches!(claim, Claim::First(..))));
    assert!(matches!(claim(9), Claim::Full(10)), "all of his are under way");
    assert_eq!(run_of(&answers, 1, 0, now), "replayed");
    assert_eq!(run_of(&answers, 1, 1, now), "first", "in the place of his other one");
    assert_eq!(run_of(&answers, 1, 0, now), "first", "and so on");
}
