//! What is bounded: topics, what listeners cost who have gone, and those who ask for much.

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

#[test]
fn where_the_rules_stay_those_alone_are_looked_at_who_are_known_as_somebody_else() {
    let rules = || vec![only("a", "sub:alice"), only("b", "sub:*")];
    let topics = Topics::new(rules());
    let judge: Arc<dyn Judge> = Arc::new(Looks(Arc::clone(&topics.0), Default::default()));
    let [one, other] = ["one", "other"].map(|shown| {
        let alice = Arc::new(Identity::new(Scheme::Token, "alice"));
        let evidence = Evidence::new(shown, Arc::clone(&judge));
        let caller = Caller::NOBODY.showing(Ok(Arc::clone(&alice))).with_evidence(Some(evidence));
        let listener = topics.subscribe(caller, &patterns(&["a", "b"]), &Resume::Now);
        (alice, listener.expect("admitted"))
    });
    topics.set_rules(rules());
    one.0.standing.supersede();
    // Somebody has looked who it is before the rules were.
    assert_eq!(one.1.caller().name().as_deref(), Some("sub:bob"));
    assert!(one.1.listener().is_known_anew() && !other.1.listener().is_known_anew());
    topics.set_rules(rules());
    assert!(!one.1.listener().is_known_anew());
    publish(&topics, "a", 1);
    publish(&topics, "b", 1);
    assert_eq!(heard(&one.1, 0)[0], "refused a");
    assert_eq!(one.1.wanted(), patterns(&["b"]));
    assert_eq!(heard(&other.1, 0).len(), 2);
}

#[test]
fn topics_are_bounded_and_the_most_silent_makes_room() {
    let topics = Topics::new(vec![rule_of("*", 1, Lag::Tell)]);
    for number in 0..MOST_TOPICS + 5 {
        publish(&topics, &number.to_string(), 1);
    }
    let state = topics.state();
    assert_eq!(state.topics.len(), MOST_TOPICS);
    assert!(!state.topics.contains_key("0") && state.topics.contains_key("5"));
    let kept: usize = state.topics.values().map(|topic| topic.ring.bytes()).sum();
    assert_eq!(kept, state.kept);
}
