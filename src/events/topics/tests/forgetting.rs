//! Which topics make room for others, and who hears of them when they come back.

use super::super::admission::MOST_WANTED;
use super::*;

#[test]
fn whoever_listens_by_name_outlives_a_flood_of_topics() {
    let topics = Topics::new(vec![rule_of("*", 1, Lag::Tell)]);
    let listener = listen(&topics, &["quiet", "silent"]);
    publish(&topics, "quiet", 1);
    let Some(Notice::Event(first)) = listener.try_next() else { panic!("an event") };
    for number in 0..MOST_TOPICS + 5 {
        publish(&topics, &number.to_string(), 1);
    }
    assert_eq!(topics.state().topics.len(), MOST_TOPICS);
    publish(&topics, "quiet", 1);
    publish(&topics, "silent", 1);
    let told: Vec<_> = heard(&listener, first.id() - 1);
    assert_eq!((told.len(), told[0].as_str()), (2, "quiet 2"), "{told:?}");
    assert!(told[1].starts_with("silent "), "without a gap: {told:?}");
}

/// Listens to that many topics by their names.
fn listen_to_many(topics: &Topics, from: usize, count: usize) -> Vec<Subscription> {
    let names: Vec<String> =
        (from..from + count).map(|number| format!("named.{number:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.chunks(MOST_WANTED).map(|names| listen(topics, names)).collect()
}

#[test]
fn where_everybody_listens_a_forgotten_topic_comes_back_with_a_gap() {
    let topics = Topics::new(vec![rule_of("*", 1, Lag::Tell)]);
    let first = listen(&topics, &["a.first", "a.second"]);
    let others = listen_to_many(&topics, 0, MOST_TOPICS + 5);
    let state = topics.state();
    assert!(state.topics.len() == MOST_TOPICS && !state.topics.contains_key("a.first"));
    drop(state);
    publish(&topics, "a.first", 2);
    let told = heard(&first, 0);
    assert_eq!((told.len(), told[0].as_str()), (3, "a.first gap None"), "{told:?}");
    // One of many in one subscription, too.
    let last = others.last().expect("it is there");
    let wanted: Vec<String> =
        last.wanted().iter().map(|pattern| pattern.as_str().to_owned()).collect();
    wanted.iter().for_each(|name| publish(&topics, name, 1));
    let events = heard(last, 0).into_iter().filter(|told| !told.contains("gap")).count();
    assert_eq!(events, wanted.len(), "each is heard");
    // New rows are told to those who wait for what is forgotten.
    topics.set_rules(vec![rule_of("a.f*", 1, Lag::Tell)]);
    let Some(Notice::Refused(gone)) = first.try_next() else { panic!("it is told") };
    assert_eq!(gone, patterns(&["a.second"]));
}

#[test]
fn who_takes_a_name_back_hears_no_more_of_it_and_whom_nobody_listens_to_goes_first() {
    let topics = Topics::new(vec![rule_of("*", 1, Lag::Tell)]);
    let first = listen(&topics, &["a.first", "a.second"]);
    let mut others = listen_to_many(&topics, 0, MOST_TOPICS + 5);
    let last = others.last().expect("it is there").wanted();
    last.iter().for_each(|pattern| publish(&topics, pattern.as_str(), 1));
    // Who takes a name back hears no more of it, whether it is known or not.
    topics.remove(&first, &patterns(&["a.second"]));
    publish(&topics, "a.second", 1);
    assert_eq!(heard(&first, 0), [""; 0]);
    // And those that nobody listens to any more go first.
    others.pop();
    let name = last[0].as_str();
    let kept = listen(&topics, &["a.third"]);
    publish(&topics, "another", 1);
    let state = topics.state();
    assert!(!state.topics.contains_key(name) && state.topics.contains_key("a.third"));
    drop((state, kept));
}

#[test]
fn a_glob_that_was_taken_back_and_given_again_hears_each_event_once() {
    let topics = Topics::new(vec![rule_of("*", 3, Lag::Tell)]);
    let listener = listen(&topics, &["a.*"]);
    topics.remove(&listener, &patterns(&["a.*"]));
    topics.add(&listener, &patterns(&["a.*", "a.x", "a.x"]), &Resume::Now).expect("ok");
    publish(&topics, "a.new", 1);
    publish(&topics, "a.x", 1);
    assert_eq!(heard(&listener, 0).len(), 2);
}

#[test]
fn who_listens_to_what_is_forgotten_is_bounded() {
    let topics = Topics::new(vec![rule_of("*", 1, Lag::Tell)]);
    let _others = listen_to_many(&topics, 0, MOST_TOPICS);
    for round in 1..30 {
        // Each drives out the ones before, and leaves.
        drop(listen_to_many(&topics, round * MOST_TOPICS, MOST_WANTED));
        assert_eq!(topics.state().topics.len(), MOST_TOPICS);
    }
    let held = topics.state().absent.len();
    assert!(held <= 3 * MOST_TOPICS, "{held}");
}

#[test]
fn what_noisy_topics_keep_makes_room_and_not_what_a_quiet_one_does() {
    let row = TopicRule { keep_bytes: 16 << 20, ..rule_of("*", 100, Lag::Tell) };
    let topics = Topics::new(vec![row]);
    let first = listen(&topics, &["quiet"]);
    publish(&topics, "quiet", 2);
    let Some(Notice::Event(told)) = first.try_next() else { panic!("an event") };
    let data = Payload::from_text(&"x".repeat(1 << 20));
    for number in 0..100 {
        assert!(topics.publish(&format!("noisy{}", number % 10), &data, UNIX_EPOCH));
    }
    let behind = Resume::Id(told.id());
    let again = topics.subscribe(Caller::NOBODY, &patterns(&["quiet"]), &behind).expect("ok");
    assert_eq!(heard(&again, told.id() - 1), ["quiet 2"]);
    assert!(topics.state().kept <= MOST_KEPT);
}

#[test]
fn room_is_made_for_many_events_at_once() {
    let data = Payload::from_text(&"x".repeat(16 << 10));
    for names in [1, 1_000] {
        let row = TopicRule { keep_bytes: 256 << 20, ..rule_of("*", 100_000, Lag::Tell) };
        let topics = Topics::new(vec![row]);
        let (mut made, mut before) = (0, 0);
        for number in 0..5_000 {
            assert!(topics.publish(&format!("{}", number % names), &data, UNIX_EPOCH));
            let kept = topics.state().kept;
            assert!(kept <= MOST_KEPT);
            made += usize::from(kept <= before);
            before = kept;
        }
        assert!((10..50).contains(&made), "all topics were looked at {made} times");
        assert!(before > MOST_KEPT - (2 << 20), "{before}");
    }
}

/// Of small events what stands around them is most of what they take.
#[test]
fn what_is_kept_is_reckoned_at_what_it_takes_in_memory() {
    let topics = Topics::new(vec![rule_of("*", 1_000, Lag::Tell)]);
    let tell = |number: usize| {
        topics.publish(&format!("t{}", number % 1_000), &Payload::NULL, UNIX_EPOCH);
    };
    (0..300_000).for_each(tell);
    // Each has a text and a record of its own, and what counts who holds them.
    let least = |told: &Told| size_of::<Told>() + told.size() + 4 * size_of::<usize>();
    let held = |state: &State| -> usize {
        let rings = state.topics.values().map(|topic| &topic.ring);
        rings.flat_map(|ring| ring.kept_from(0)).map(|told| least(told)).sum()
    };
    let before = held(&topics.state());
    assert!((MOST_KEPT / 2..MOST_KEPT).contains(&before), "{before}");
    // So is what is written out of them for streams of events.
    let rings = || -> Vec<Arc<Told>> {
        let state = topics.state();
        state.topics.values().flat_map(|topic| topic.ring.kept_from(0)).cloned().collect()
    };
    let frames: usize = rings().iter().map(|told| told.frame(false).len()).sum();
    tell(0);
    let after = held(&topics.state());
    assert!(after + frames * after / before < MOST_KEPT, "{after} {frames}");
}
