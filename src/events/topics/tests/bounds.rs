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
