use crate::caller::{Denial, Evidence, Identity, Judge, Scheme};
use crate::fault::FaultKind;
use crate::route::access::Grant;
use std::time::Duration;

use super::state::{MOST_KEPT, MOST_TOPICS};
use super::*;

mod backlogs;
mod bounds;
mod forgetting;
mod rows;

fn rule_of(pattern: &str, keep: usize, lag: Lag) -> TopicRule {
    TopicRule {
        pattern: Pattern::new(pattern),
        keep,
        keep_bytes: 1 << 20,
        access: Access::Open,
        lag,
    }
}

fn publish(topics: &Topics, topic: &str, count: usize) {
    for number in 0..count {
        let data = Payload::from_validated(number.to_string().into());
        assert!(topics.publish(topic, &data, UNIX_EPOCH + Duration::from_millis(1)), "{topic}");
    }
}

fn patterns(names: &[&str]) -> Vec<Pattern> {
    names.iter().map(|name| Pattern::new(name)).collect()
}

fn listen(topics: &Topics, names: &[&str]) -> Subscription {
    topics.subscribe(Caller::NOBODY, &patterns(names), &Resume::Now).expect("admitted")
}

/// All that waits, as words; the first id of a topic is 1 there.
fn heard(subscription: &Subscription, base: u64) -> Vec<String> {
    let mut heard = Vec::new();
    while let Some(notice) = subscription.try_next() {
        heard.push(match notice {
            Notice::Event(told) => format!("{} {}", told.topic(), told.id() - base),
            Notice::Gap { topic, missed } => format!("{topic} gap {missed:?}"),
            Notice::Lagged { topic, missed } => format!("{topic} lagged {missed}"),
            Notice::Ended(denial) => panic!("{denial:?}"),
            Notice::Look => "look".to_owned(),
            Notice::Refused(gone) => format!("refused {}", gone[0].as_str()),
            Notice::TooSlow => {
                heard.push("too slow".to_owned());
                return heard;
            }
        });
    }
    heard
}

#[test]
fn an_event_is_written_out_once_for_all() {
    let topics = Topics::new(vec![rule_of("orders.*", 10, Lag::Tell)]);
    let (one, other) = (listen(&topics, &["orders.a"]), listen(&topics, &["orders.*", "orders.a"]));
    let data = Payload::from_validated("{\"n\":\n1.10}".into());
    assert!(topics.publish("orders.a", &data, UNIX_EPOCH));
    let (Some(Notice::Event(told)), Some(Notice::Event(same))) = (one.try_next(), other.try_next())
    else {
        panic!("both hear it");
    };
    assert!(Arc::ptr_eq(&told, &same) && other.try_next().is_none(), "once each");
    let (id, number) = (told.id(), told.number());
    let event = format!(
        "{{\"topic\":\"orders.a\",\"id\":{id},\"data\":{{\"n\":\n1.10}},\"time\":\"1970-01-01T00:00:00.000Z\"}}"
    );
    let notification = format!(r#"{{"jsonrpc":"2.0","method":"event","params":{event}}}"#);
    assert_eq!(told.notification(), notification);
    let lines = event.replace('\n', "\ndata: ");
    assert_eq!(told.frame(false), format!("id: {id}\ndata: {lines}\n\n"));
    let of_several = (1_u64 << 52) + number;
    assert_eq!(told.frame(true), format!("id: {of_several}\ndata: {lines}\n\n"));
}

#[test]
fn what_no_row_names_is_nobodys_to_hear() {
    let topics = Topics::new(vec![rule_of("orders.*", 10, Lag::Tell)]);
    let refused = |names: &[&str]| {
        topics
            .subscribe(Caller::NOBODY, &patterns(names), &Resume::Now)
            .map(|_| ())
            .expect_err("refused")
            .kind()
    };
    assert_eq!(refused(&["users.created"]), FaultKind::AccessDenied);
    assert_eq!(refused(&["orders.a", "users.*"]), FaultKind::AccessDenied);
    assert_eq!(refused(&[]), FaultKind::InvalidParams);
    assert_eq!(refused(&[""]), FaultKind::InvalidParams);
    assert_eq!(refused(&[&"*".repeat(300)]), FaultKind::InvalidParams);
    let globs: Vec<String> = (0..101).map(|number| format!("orders.{number}*")).collect();
    let globs: Vec<&str> = globs.iter().map(String::as_str).collect();
    assert_eq!(refused(&globs), FaultKind::InvalidParams);
    assert!(!topics.publish("users.created", &Payload::NULL, UNIX_EPOCH));
    // A glob that holds more than the rows hears what they name of it.
    let all = listen(&topics, &["*"]);
    publish(&topics, "orders.new", 1);
    assert_eq!(heard(&all, 0).len(), 1);
}

#[test]
fn who_was_away_hears_what_it_missed_or_how_much() {
    let topics = Topics::new(vec![rule_of("a", 3, Lag::Tell), rule_of("b", 3, Lag::Tell)]);
    let first = listen(&topics, &["a"]);
    publish(&topics, "a", 5);
    let Some(Notice::Event(told)) = first.try_next() else { panic!("an event") };
    let base = told.id() - 1;
    let resumed = |resume| {
        heard(&topics.subscribe(Caller::NOBODY, &patterns(&["a"]), &resume).expect("ok"), base)
    };
    assert_eq!(resumed(Resume::Id(base + 4)), ["a 5"]);
    assert_eq!(resumed(Resume::Id(base + 5)), [""; 0]);
    assert_eq!(resumed(Resume::Id(base + 1)), ["a gap Some(1)", "a 3", "a 4", "a 5"]);
    assert_eq!(resumed(Resume::Id(7)), ["a gap None", "a 3", "a 4", "a 5"]);
    // Another gateway's: nobody knows where that was.
    assert_eq!(resumed(Resume::Id(u64::MAX)), ["a gap None", "a 3", "a 4", "a 5"]);
    assert_eq!(resumed(Resume::Number(u64::MAX)), ["a gap None", "a 3", "a 4", "a 5"]);
    assert_eq!(resumed(Resume::Ids([("a".to_owned(), base + 4)].into())), ["a 5"]);
    publish(&topics, "b", 1);
    publish(&topics, "a", 1);
    let both = topics.subscribe(
        Caller::NOBODY,
        &patterns(&["b", "a"]),
        &Resume::Number(told.number() + 3),
    );
    let both = both.expect("ok");
    let order: Vec<_> = heard(&both, 0).iter().map(|told| told[..1].to_owned()).collect();
    assert_eq!(order, ["a", "b", "a"]);
}

#[test]
fn one_id_for_several_topics_is_the_place_of_its_event_in_all_of_them() {
    let topics = Topics::new(vec![rule_of("?", 3, Lag::Tell)]);
    let first = listen(&topics, &["?"]);
    for topic in ["a", "b", "b", "a", "b"] {
        publish(&topics, topic, 1);
    }
    let mut ids = Vec::new();
    while let Some(Notice::Event(told)) = first.try_next() {
        ids.push(told.id());
    }
    let resumed = |wanted: &[&str], resume| {
        let listener = topics.subscribe(Caller::NOBODY, &patterns(wanted), &resume).expect("ok");
        heard(&listener, 0).iter().map(|told| told[..1].to_owned()).collect::<String>()
    };
    // The second event of `a`, the fourth of all, has the id of the first of `b`.
    let second = |topic: &str| Resume::Event(topic.to_owned(), ids[3]);
    assert_eq!(resumed(&["?"], second("a")), "b");
    assert_eq!(resumed(&["?"], second("b")), "bab");
    assert_eq!(resumed(&["a", "b"], Resume::Id(ids[3])), "bab", "rather twice than never");
    assert_eq!(resumed(&["?"], Resume::Id(ids[4])), "", "no other has that id");
    // Nothing has ever been told under other names, so nothing of them was missed.
    assert_eq!(resumed(&["?", "x", "y"], second("a")), "b");
    assert_eq!(resumed(&["?"], second("a")), "b", "they are known now");
    assert_eq!(resumed(&["x"], Resume::Id(ids[4])), "");
    assert_eq!(
        resumed(&["b"], Resume::Event("c".to_owned(), 7)),
        "bbbb",
        "a gap, and what is kept"
    );
    // What had no event yet has missed none.
    assert_eq!(resumed(&["b"], Resume::Event("c".to_owned(), ids[0] - 1)), "bbb");
}

#[test]
fn one_id_for_several_topics_that_none_keeps_any_more_loses_nothing() {
    let topics = Topics::new(vec![rule_of("a", 1, Lag::Tell), rule_of("b", 9, Lag::Tell)]);
    let both = listen(&topics, &["a", "b"]);
    for (topic, count) in [("a", 3), ("b", 3), ("a", 1)] {
        publish(&topics, topic, count);
    }
    let Some(Notice::Event(first)) = both.try_next() else { panic!("an event") };
    // Of both topics there was a second event, and `a` has let go of its own, which came before all of `b`.
    let resume = Resume::Id(first.id() + 1);
    let back = topics.subscribe(Caller::NOBODY, &patterns(&["a", "b"]), &resume).expect("ok");
    let told = ["a gap None", "b 1", "b 2", "b 3", "a 4"];
    assert_eq!(heard(&back, first.id() - 1), told);
}

#[test]
fn a_stream_of_several_topics_counts_where_no_topic_does() {
    let topics = Topics::new(vec![rule_of("?", 9, Lag::Tell)]);
    let all = listen(&topics, &["?"]);
    for topic in ["a", "b", "a", "b", "a", "a"] {
        publish(&topics, topic, 1);
    }
    let mut ids = Vec::new();
    while let Some(Notice::Event(told)) = all.try_next() {
        let frame = told.frame(true);
        let text = std::str::from_utf8(&frame).expect("UTF-8");
        let id = text.strip_prefix("id: ").and_then(|rest| rest.lines().next());
        ids.push(id.and_then(|id| id.parse().ok()).expect("a number"));
    }
    // Whoever read both up to the second comes back for one of them.
    let back = topics.subscribe(Caller::NOBODY, &patterns(&["a"]), &Resume::behind(ids[1]));
    assert_eq!(heard(&back.expect("ok"), 0).len(), 3);
    let back = topics.subscribe(Caller::NOBODY, &patterns(&["a", "b"]), &Resume::behind(ids[1]));
    assert_eq!(heard(&back.expect("ok"), 0).len(), 4);
}

#[test]
fn globs_that_go_on_behind_another_process_hear_of_a_gap_in_each_topic() {
    let topics = Topics::new(vec![rule_of("?", 3, Lag::Tell)]);
    let resumed =
        |resume| topics.subscribe(Caller::NOBODY, &patterns(&["?"]), &resume).expect("admitted");
    let by_number = resumed(Resume::Number(7));
    let by_later_number = resumed(Resume::Number(u64::MAX));
    let by_ids = resumed(Resume::Ids([("a".to_owned(), 7)].into()));
    let now = resumed(Resume::Now);
    publish(&topics, "a", 2);
    publish(&topics, "b", 1);
    let words = |subscription: &Subscription| {
        let heard = heard(subscription, 0);
        heard.iter().map(|told| told[..5].to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words(&by_number).matches("gap").count(), 2, "each once");
    assert_eq!(words(&by_later_number).matches("gap").count(), 2, "each once");
    assert_eq!(words(&by_ids).matches("a gap").count(), 1, "of what it has heard");
    assert_eq!(words(&now).matches("gap").count(), 0);
}

#[test]
fn what_was_forgotten_may_have_been_missed() {
    let topics = Topics::new(vec![rule_of("a", 3, Lag::Tell), rule_of("b", 3, Lag::Tell)]);
    let first = listen(&topics, &["a"]);
    publish(&topics, "a", 2);
    let Some(Notice::Event(told)) = first.try_next() else { panic!("an event") };
    topics.set_rules(vec![rule_of("b", 3, Lag::Tell)]);
    topics.set_rules(vec![rule_of("a", 3, Lag::Tell)]);
    let resume = Resume::Id(told.id());
    let again = topics.subscribe(Caller::NOBODY, &patterns(&["a"]), &resume).expect("ok");
    assert_eq!(heard(&again, 0), ["a gap None"]);
}

#[test]
fn who_is_too_slow_hears_so_and_holds_up_nobody() {
    let topics = Topics::new(vec![rule_of("a", 3, Lag::Tell), rule_of("b", 3, Lag::Disconnect)]);
    let (slow, quick) = (listen(&topics, &["a"]), listen(&topics, &["a"]));
    let cut = listen(&topics, &["b"]);
    let mut base = 0;
    let data = Payload::from_text(&"x".repeat(16 << 10));
    for _ in 0..100 {
        for topic in ["a", "b"] {
            assert!(topics.publish(topic, &data, UNIX_EPOCH));
        }
        let Some(Notice::Event(told)) = quick.try_next() else { panic!("an event") };
        base = if base == 0 { told.id() - 1 } else { base };
    }
    let slowly = heard(&slow, base);
    assert_eq!(slowly.len(), 68, "what waited, and what is kept");
    assert_eq!(slowly[63..66], ["a 64", "a lagged 33", "a 98"]);
    publish(&topics, "a", 3000);
    assert_eq!(heard(&slow, base).len(), 3000, "small ones have room");
    assert_eq!(heard(&cut, 0), ["too slow"]);
}

#[test]
fn somebody_listens_to_more_and_to_less() {
    let topics = Topics::new(vec![rule_of("?", 3, Lag::Tell)]);
    let listener = Topics::listener(Caller::NOBODY);
    topics.add(&listener, &patterns(&["a"]), &Resume::Now).expect("ok");
    topics.add(&listener, &patterns(&["a", "*", "b"]), &Resume::Now).expect("ok");
    publish(&topics, "a", 1);
    publish(&topics, "b", 1);
    publish(&topics, "c", 1);
    assert_eq!(heard(&listener, 0).len(), 3, "once each");
    topics.remove(&listener, &patterns(&["*", "b", "never"]));
    publish(&topics, "a", 1);
    publish(&topics, "b", 1);
    publish(&topics, "d", 1);
    let left: Vec<_> = heard(&listener, 0).iter().map(|told| told[..1].to_owned()).collect();
    assert_eq!(left, ["a"]);
}

#[test]
fn rows_come_and_go() {
    let topics = Topics::new(vec![rule_of("a", 3, Lag::Tell)]);
    let listener = listen(&topics, &["a"]);
    publish(&topics, "a", 2);
    topics.set_rules(vec![rule_of("b", 3, Lag::Tell)]);
    assert!(!topics.publish("a", &Payload::NULL, UNIX_EPOCH) && !topics.has("a"));
    assert_eq!(heard(&listener, 0), ["refused a"]);
    topics.set_rules(vec![rule_of("?", 1, Lag::Tell)]);
    publish(&topics, "a", 2);
    let late = topics.subscribe(Caller::NOBODY, &patterns(&["?"]), &Resume::Number(1)).expect("ok");
    assert_eq!(heard(&late, 0).len(), 2, "a gap, and the one that is kept");
    assert_eq!(heard(&listener, 0), [""; 0], "what has ended does not begin again");
}

fn key(name: &str) -> (Arc<Identity>, Caller) {
    let identity = Arc::new(Identity::new(Scheme::Key, name));
    (Arc::clone(&identity), Caller::NOBODY.showing(Ok(identity)))
}

fn only(pattern: &str, word: &str) -> TopicRule {
    let access = Access::Only(vec![Grant::parse(word).expect("a word")]);
    TopicRule { access, ..rule_of(pattern, 3, Lag::Tell) }
}

#[test]
fn whoever_may_not_listen_hears_nothing_by_a_glob_neither() {
    let topics = Topics::new(vec![only("orders.secret", "key:boss"), only("orders.*", "key:*")]);
    let (_, web) = key("web");
    let refused = |caller: &Caller, name: &str| {
        topics.subscribe(caller.clone(), &patterns(&[name]), &Resume::Now).map(|_| ()).err()
    };
    let kind =
        |fault: Option<Fault>| fault.map(|fault| (fault.kind(), fault.challenge().is_some()));
    assert_eq!(kind(refused(&web, "orders.secret")), Some((FaultKind::AccessDenied, false)));
    assert_eq!(kind(refused(&Caller::NOBODY, "orders.*")), Some((FaultKind::AccessDenied, true)));
    let all = topics.subscribe(web, &patterns(&["*"]), &Resume::Now).expect("some of it");
    for topic in ["orders.secret", "orders.open", "orders.open", "orders.secret"] {
        assert!(topics.publish(topic, &Payload::NULL, SystemTime::now()));
    }
    let Some(Notice::Event(first)) = all.try_next() else { panic!("one is heard") };
    let Some(Notice::Event(second)) = all.try_next() else { panic!("the other, too") };
    assert_eq!((&**first.topic(), &**second.topic()), ("orders.open", "orders.open"));
    // Nor does it learn, by where it is said to go on, that the second secret came behind both.
    let (_, again) = key("web");
    let behind = Resume::Event("orders.secret".to_owned(), first.id());
    let resumed = topics.subscribe(again, &patterns(&["orders.*"]), &behind).expect("some of it");
    let Some(Notice::Event(told)) = resumed.try_next() else { panic!("an event") };
    assert_eq!(told.number(), second.number());
    assert!(all.try_next().is_none());
    topics.set_rules(vec![only("orders.*", "key:boss")]);
    topics.publish("orders.open", &Payload::NULL, SystemTime::now());
    assert_eq!(heard(&all, 0), ["refused *"], "it may not any more");
}

#[test]
fn rules_that_allow_less_end_what_they_do_not_allow() {
    let topics = Topics::new(vec![only("a.*", "key:*"), only("b", "key:*"), only("c", "key:*")]);
    let listener = |name, wanted: &[&str]| {
        topics.subscribe(key(name).1, &patterns(wanted), &Resume::Now).expect("admitted")
    };
    let (web, boss) = (listener("web", &["a.*", "b", "c"]), listener("boss", &["a.x", "b"]));
    publish(&topics, "b", 1);
    // The same ones again end nothing.
    topics.set_rules(vec![only("a.*", "key:*"), only("b", "key:*"), only("c", "key:*")]);
    // A row allows less, one comes in front of another, and one goes.
    topics.set_rules(vec![only("a.x", "key:boss"), only("a.*", "key:*"), only("b", "key:boss")]);
    for topic in ["a.x", "a.y", "b"] {
        publish(&topics, topic, 1);
    }
    let Some(Notice::Refused(gone)) = web.try_next() else { panic!("it is told") };
    assert_eq!(gone, patterns(&["b", "c"]));
    let topics_of = |subscription: &Subscription| {
        let words = heard(subscription, 0);
        words.iter().map(|word| word.split(' ').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(topics_of(&web), ["a.y"], "of a glob it hears what it may, and nothing that waited");
    assert_eq!(web.wanted(), patterns(&["a.*"]));
    assert_eq!(topics_of(&boss), ["b", "a.x", "b"]);
    topics.set_rules(vec![only("b", "key:boss")]);
    assert!(matches!(web.try_next(), Some(Notice::Refused(gone)) if gone == patterns(&["a.*"])));
    assert!(!web.wants_any() && boss.wants_any());
}

#[tokio::test(start_paused = true)]
async fn what_was_shown_ends_and_with_it_the_subscription() {
    let topics = Topics::new(vec![only("a", "key:web")]);
    let (identity, web) = key("web");
    let listener = topics.subscribe(web, &patterns(&["a"]), &Resume::Now).expect("admitted");
    topics.publish("a", &Payload::NULL, SystemTime::now());
    assert!(matches!(listener.next().await, Notice::Event(_)));
    identity.standing.withdraw();
    topics.publish("a", &Payload::NULL, SystemTime::now());
    assert!(matches!(listener.next().await, Notice::Ended(_)));
    let (_, again) = key("web");
    topics.renew(&listener, again);
    assert!(matches!(listener.next().await, Notice::Event(_)));
}

#[test]
fn whoever_is_known_anew_hears_what_it_may_hear_as_that() {
    let topics = Topics::new(vec![only("ev.secret", "scope:ev.read"), only("*", "sub:*")]);
    let alice = |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let alice = Identity { scopes, ..Identity::new(Scheme::Token, "alice") };
        Caller::NOBODY.showing(Ok(Arc::new(alice)))
    };
    let wanted = patterns(&["ev.secret", "ev.*", "open"]);
    let listener = topics.subscribe(alice(&["ev.read"]), &wanted, &Resume::Now).expect("admitted");
    for topic in ["ev.secret", "open"] {
        publish(&topics, topic, 1);
    }
    topics.renew(&listener, alice(&[]));
    for topic in ["ev.secret", "ev.open", "open"] {
        publish(&topics, topic, 1);
    }
    let Some(Notice::Refused(gone)) = listener.try_next() else { panic!("it is told") };
    assert_eq!(gone, patterns(&["ev.secret"]));
    let topic = |notice| match notice {
        Some(Notice::Event(told)) => Some(told.topic().to_string()),
        _ => None,
    };
    let heard: Vec<_> = std::iter::from_fn(|| topic(listener.try_next())).collect();
    assert_eq!(heard, ["open", "ev.open", "open"]);
    assert_eq!(listener.wanted(), patterns(&["ev.*", "open"]));
    // The last one goes as well, and that is told before nothing is wanted any more.
    topics.renew(&listener, Caller::NOBODY);
    assert!(listener.wanted().is_empty() && listener.wants_any());
    assert!(matches!(listener.try_next(), Some(Notice::Refused(gone)) if gone.len() == 2));
    assert!(!listener.wants_any());
}

/// Judges a token as whoever judges may: while nobody holds the topics.
struct Looks(Arc<Mutex<State>>, std::sync::atomic::AtomicUsize);

impl Judge for Looks {
    fn judge(&self, _shown: &str) -> Result<Arc<Identity>, Denial> {
        assert!(self.0.try_lock().is_ok(), "a signature holds up what is published");
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Arc::new(Identity::new(Scheme::Token, "bob")))
    }
}

#[test]
fn tokens_are_judged_by_other_rules_while_events_are_told() {
    let topics = Topics::new(vec![only("a", "sub:*"), only("b", "sub:*")]);
    let judge = Arc::new(Looks(Arc::clone(&topics.0), Default::default()));
    let alice = Arc::new(Identity::new(Scheme::Token, "alice"));
    let shown = Evidence::new("a.b.c", Arc::clone(&judge) as Arc<dyn Judge>);
    let caller = Caller::NOBODY.showing(Ok(Arc::clone(&alice))).with_evidence(Some(shown));
    let listen = |names: &[&str]| {
        topics.subscribe(caller.clone(), &patterns(names), &Resume::Now).expect("admitted")
    };
    let (one, other) = (listen(&["a", "b"]), listen(&["?"]));
    alice.standing.supersede();
    topics.set_rules(vec![only("a", "sub:bob"), only("b", "sub:alice")]);
    assert_eq!(judge.1.load(std::sync::atomic::Ordering::Relaxed), 2, "once for each");
    publish(&topics, "a", 1);
    publish(&topics, "b", 1);
    assert_eq!(heard(&one, 0)[0], "refused b");
    assert_eq!(heard(&other, 0).len(), 1, "the one that bob may hear");
}
