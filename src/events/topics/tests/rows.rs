//! Which row's a topic is.

use super::*;

#[test]
fn what_a_row_brings_of_another_rows_topics_is_not_told() {
    let rows = ["ev.secret*", "ev.*"];
    let topics = Topics::new(rows.map(|row| rule_of(row, 3, Lag::Tell)).into());
    let listener = listen(&topics, &["ev.*"]);
    let bring = |row: &str, topic: &str| {
        topics.publish_of(&Pattern::new(row), topic, &Payload::NULL, UNIX_EPOCH);
    };
    for topic in ["ev.secret1", "ev.a", "ev.secret1"] {
        bring("ev.secret*", topic);
        bring("ev.*", topic);
    }
    bring("*", "ev.a");
    let words = |told: Vec<String>| {
        told.iter().map(|told| told.split(' ').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(words(heard(&listener, 0)), ["ev.secret1", "ev.a", "ev.secret1"]);
    // Nor does it tell of gaps in them.
    topics.gap_of(&Pattern::new("ev.*"));
    assert_eq!(heard(&listener, 0), ["ev.a gap None"]);
    // What is a row's own may change.
    topics.set_rules(vec![rule_of("ev.*", 3, Lag::Tell)]);
    bring("ev.secret*", "ev.secret1");
    bring("ev.*", "ev.secret1");
    assert_eq!(heard(&listener, 0).len(), 1);
}

#[test]
fn numbers_begin_where_no_process_before_has_come() {
    let at =
        |millis: u64| first_number(UNIX_EPOCH + Duration::from_millis(1_704_067_200_000 + millis));
    assert_eq!((at(0), at(1_000), at(1_500)), (0, 1 << 20, (1 << 20) + (1 << 19)));
    assert!(at(7) > at(6) && first_number(UNIX_EPOCH) == 0);
}

#[test]
fn all_who_listen_are_told_to_look_once() {
    let topics = Topics::new(vec![rule_of("*", 3, Lag::Tell)]);
    let (named, glob) = (listen(&topics, &["a"]), listen(&topics, &["a.*", "b"]));
    topics.look();
    topics.look();
    publish(&topics, "a", 1);
    assert_eq!((&*heard(&named, 0)[0], heard(&glob, 0)), ("look", vec!["look".to_owned()]));
}
