//! What listeners cost who have gone, and those who ask for much.

use super::*;

#[test]
fn whoever_has_gone_takes_no_room_in_a_topic_without_events() {
    let topics = Topics::new(vec![rule_of("?", 3, Lag::Tell)]);
    let stay: Vec<_> = (0..100).map(|_| listen(&topics, &["a"])).collect();
    for _ in 0..10_000 {
        drop(listen(&topics, &["a", "*"]));
    }
    let places = topics.state().topics["a"].listeners.capacity();
    assert!(places < 1_000, "{places} for {}", stay.len());
    publish(&topics, "a", 1);
    assert!(stay.iter().all(|listener| heard(listener, 0).len() == 1));
}

#[test]
fn gaps_of_a_topic_are_told_once_and_none_that_nobody_can_count_as_a_number() {
    let topics = Topics::new(vec![rule_of("?", 1, Lag::Tell)]);
    publish(&topics, "a", 5);
    publish(&topics, "b", 5);
    let [base_a, base_b] = ["a", "b"].map(|name| topics.state().topics[name].ring.next_id() - 6);
    let missed = [("b".to_owned(), base_b + 2), ("a".to_owned(), base_a + 1)];
    let listener = |resume: &Resume| {
        let all = patterns(&["b", "a"]);
        topics.subscribe(Caller::NOBODY, &all, resume).expect("admitted")
    };
    let listener = listener(&Resume::Ids(missed.into()));
    // Three of `a` are not kept, and more may have been lost on their way.
    topics.gap("a");
    topics.gap("c");
    topics.gap("a");
    assert_eq!(heard(&listener, base_b)[..2], ["b gap Some(2)", "a gap None"]);
}

#[test]
fn of_topics_that_are_taken_back_no_gap_is_told() {
    let topics = Topics::new(vec![rule_of("?", 1, Lag::Tell)]);
    publish(&topics, "a", 5);
    let listener = listen(&topics, &["a", "b"]);
    topics.gap("?");
    topics.remove(&listener, &patterns(&["a"]));
    assert_eq!(heard(&listener, 0), ["b gap None"]);
}
