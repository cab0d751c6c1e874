//! Whoever takes events slowly, and what is kept of them meanwhile.

use super::super::state::MOST_LEFT_BEHIND;
use super::*;

/// Publishes one event of some KiB to each of the topics in turn, so many times.
fn publish_large(topics: &Topics, names: &[&str], times: usize) {
    let data = Payload::from_text(&"x".repeat(16 << 10));
    for name in (0..times).flat_map(|_| names) {
        assert!(topics.publish(name, &data, UNIX_EPOCH));
    }
}

fn row(pattern: &str, keep: usize, lag: Lag) -> TopicRule {
    TopicRule { keep_bytes: 16 << 20, ..rule_of(pattern, keep, lag) }
}

/// The numbers of the events that wait, all that waits being events.
fn numbers(subscription: &Subscription) -> Vec<u64> {
    let next = || match subscription.try_next()? {
        Notice::Event(told) => Some(told.number()),
        Notice::Lagged { topic, missed } => panic!("{topic} lagged {missed}"),
        Notice::Gap { topic, .. } => panic!("a gap in {topic}"),
        _ => panic!("no event"),
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn what_is_kept_is_missed_by_nobody_and_comes_in_its_order() {
    let topics = Topics::new(vec![row("?", 300, Lag::Disconnect)]);
    let (all, one) = (listen(&topics, &["?"]), listen(&topics, &["a"]));
    publish_large(&topics, &["a", "b", "a"], 100);
    let held = |subscription: &Subscription| {
        let mut held = numbers(subscription);
        let begin = held[0];
        held.iter_mut().for_each(|number| *number -= begin);
        held
    };
    assert_eq!(held(&all), (0..300).collect::<Vec<_>>());
    let of_a: Vec<_> = (0..300).filter(|number| number % 3 != 1).collect();
    assert_eq!(held(&one), of_a);
    // Having caught up, it is told as before.
    publish(&topics, "b", 1);
    assert_eq!((numbers(&all).len(), numbers(&one).len()), (1, 0));
}

#[test]
fn what_comes_while_it_catches_up_comes_behind() {
    let topics = Topics::new(vec![row("?", 500, Lag::Tell)]);
    let listener = listen(&topics, &["?"]);
    let mut heard = Vec::new();
    publish_large(&topics, &["a"], 100);
    for _ in 0..200 {
        publish_large(&topics, &["b"], 1);
        let Some(Notice::Event(told)) = listener.try_next() else { panic!("an event") };
        heard.push(told.number());
    }
    heard.extend(numbers(&listener));
    let begin = heard[0];
    assert_eq!(heard, (begin..begin + 300).collect::<Vec<_>>());
}

#[test]
fn what_is_kept_no_more_is_told_of_each_topic() {
    let topics = Topics::new(vec![row("a", 10, Lag::Tell), row("b", 500, Lag::Tell)]);
    let listener = listen(&topics, &["a", "b"]);
    publish_large(&topics, &["a", "b"], 100);
    let told = heard(&listener, 0);
    let lagged: Vec<_> = told.iter().filter(|told| told.contains("lagged")).collect();
    assert_eq!(lagged, ["a lagged 58"]);
    let count = |topic: &str| told.iter().filter(|told| told.starts_with(topic)).count();
    assert_eq!((count("a "), count("b ")), (32 + 1 + 10, 100));
}

#[test]
fn who_is_disconnected_has_missed_something() {
    let topics = Topics::new(vec![row("a", 10, Lag::Disconnect)]);
    let listener = listen(&topics, &["a"]);
    publish_large(&topics, &["a"], 74);
    assert!(!listener.is_too_slow(), "the last ten are kept");
    publish_large(&topics, &["a"], 2);
    assert!(listener.is_too_slow(), "though it does not read");
}

#[test]
fn a_backlog_ends_with_what_is_listened_to() {
    let topics = Topics::new(vec![row("?", 500, Lag::Tell)]);
    let listener = listen(&topics, &["a", "b"]);
    publish_large(&topics, &["a", "b"], 100);
    topics.remove(&listener, &patterns(&["a"]));
    let told = heard(&listener, 0);
    let count = |topic: &str| told.iter().filter(|told| told.starts_with(topic)).count();
    assert_eq!((count("a "), count("b ")), (32, 100));
    publish_large(&topics, &["b"], 100);
    topics.set_rules(vec![row("a", 500, Lag::Tell)]);
    assert_eq!(heard(&listener, 0), ["refused b"]);
}

#[test]
fn of_a_topic_that_was_forgotten_nobody_knows_how_much() {
    let topics = Topics::new(vec![row("*", 500, Lag::Tell)]);
    let listener = listen(&topics, &["a*"]);
    publish_large(&topics, &["a"], 100);
    topics.state().forget_one();
    publish(&topics, "a", 1);
    let told = heard(&listener, 0);
    assert_eq!((told.len(), &*told[64]), (66, "a gap None"), "{told:?}");
}

/// All that waits is given back, so that what is let go meanwhile is seen.
#[test]
fn who_comes_back_holds_no_more_than_who_is_slow() {
    let topics = Topics::new(vec![row("a", 1_000, Lag::Tell)]);
    let first = listen(&topics, &["a"]);
    publish_large(&topics, &["a"], 1);
    let Some(Notice::Event(told)) = first.try_next() else { panic!("an event") };
    let behind = Resume::Id(told.id());
    publish_large(&topics, &["a"], 700);
    let back = || topics.subscribe(Caller::NOBODY, &patterns(&["a"]), &behind).expect("admitted");
    let (quick, slow) = (back(), back());
    let all: Vec<_> = (told.number() + 1..=told.number() + 700).collect();
    assert_eq!(numbers(&quick), all, "all that is kept, in its order");
    // What it has not taken when that is kept no more, it has missed, but for the first MiB.
    publish_large(&topics, &["a"], 1_000);
    let told = heard(&slow, 0);
    let kept = topics.state().topics["a"].ring.kept_from(0).count();
    let lagged = format!("a lagged {}", 1_700 - 64 - kept);
    assert_eq!((told.len(), &told[64]), (64 + 1 + kept, &lagged), "{:?}", &told[60..70]);
}

#[test]
fn who_comes_back_is_not_too_slow_before_it_has_read() {
    let topics = Topics::new(vec![row("a", 50, Lag::Disconnect)]);
    publish_large(&topics, &["a"], 50);
    let back = topics.subscribe(Caller::NOBODY, &patterns(&["a"]), &Resume::Number(0));
    let back = back.expect("admitted");
    publish_large(&topics, &["a"], 10);
    assert!(!back.is_too_slow());
    assert!(matches!(back.try_next(), Some(Notice::Gap { .. })));
    assert_eq!(numbers(&back).len(), 60);
}

#[test]
fn what_waits_for_all_who_are_slow_is_bounded_and_who_is_not_misses_nothing() {
    let topics = Topics::new(vec![row("a", 2, Lag::Tell)]);
    let quick = listen(&topics, &["a"]);
    let (mut slow, mut heard) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        // A mebibyte would wait for each, and of other events.
        slow.push(listen(&topics, &["a"]));
        for _ in 0..32 {
            publish_large(&topics, &["a"], 2);
            heard.extend(numbers(&quick));
        }
    }
    let state = topics.state();
    let waits = state.alive.bytes() - state.kept;
    drop(state);
    assert!(waits <= 2 * MOST_LEFT_BEHIND, "{waits}");
    let first = heard.first().copied().expect("events");
    assert_eq!(heard, (first..first + 3_840).collect::<Vec<_>>());
    // They hear that they have missed some, and what is kept.
    let last = slow.pop().expect("somebody");
    let mut told = std::iter::from_fn(|| last.try_next());
    assert!(told.by_ref().any(|notice| matches!(notice, Notice::Lagged { .. })));
    let Some(Notice::Event(newest)) = told.last() else { panic!("an event") };
    assert_eq!(newest.number(), first + 3_839);
    drop((last, newest, slow));
    let state = topics.state();
    assert_eq!(state.alive.bytes(), state.kept, "nothing is held for who has left");
}
