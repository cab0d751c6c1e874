use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(90);

fn key(name: &str) -> Key {
    Key { name: name.to_owned(), url: format!("http://h/{name}") }
}

fn book() -> (Book, Instant) {
    (Book::new(TTL, 3), Instant::now())
}

fn hear(book: &mut Book, now: Instant, name: &str) -> (Heard, usize) {
    book.hear(now, key(name), Form::Url)
}

/// Probes everything that is due.
fn probe(book: &mut Book, now: Instant, finding: &Finding) -> Vec<String> {
    let mut probed = Vec::new();
    while let Some(key) = book.take_due(now) {
        book.probed(now, &key, finding.clone());
        probed.push(key.name.clone());
    }
    probed
}

fn believed(book: &Book) -> Vec<&str> {
    let believed = book.entries().filter(|entry| entry.standing == Standing::Believed);
    let mut names: Vec<_> = believed.map(|entry| entry.key.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn an_entry_is_believed_when_it_was_probed() {
    let (mut book, now) = book();
    assert_eq!(hear(&mut book, now, "a"), (Heard::Noted, 0));
    assert_eq!(believed(&book), [""; 0]);
    assert!(!book.take_change());
    assert_eq!(probe(&mut book, now, &Finding::Service), ["a"]);
    assert_eq!(believed(&book), ["a"]);
    assert!(book.take_change() && !book.take_change());
    assert_eq!(book.next(), Some(now + TTL / 3), "and probed again");
    let nobody = Finding::Nobody("nobody listens there".to_owned());
    assert_eq!(probe(&mut book, now + TTL / 3, &nobody), ["a"]);
    assert_eq!(believed(&book), [""; 0], "one that has gone is not believed any more");
}

#[test]
fn one_that_is_busy_is_not_gone() {
    let (mut book, now) = book();
    let busy = Finding::Busy("it has not answered within 2s".to_owned());
    hear(&mut book, now, "a");
    assert_eq!(probe(&mut book, now, &busy), ["a"]);
    assert_eq!(believed(&book), [""; 0], "it was never found there");
    let found = book.next().expect("it is asked again");
    probe(&mut book, found, &Finding::Service);
    book.take_change();
    let mut at = found;
    for _ in 0..10 {
        at += TTL / 3;
        hear(&mut book, at, "a");
        assert_eq!(probe(&mut book, at, &busy), ["a"]);
        assert_eq!(book.next(), Some(at + TTL / 3), "and it is not pestered");
        assert_eq!(believed(&book), ["a"]);
    }
    assert!(!book.take_change());
    let why = book.entries().next().and_then(|entry| entry.why());
    assert_eq!(why, Some("it has not answered within 2s"));
    probe(&mut book, at + TTL / 3, &Finding::Service);
    assert_eq!(book.entries().next().and_then(|entry| entry.why()), None);
    assert_eq!(book.expire(at + TTL), 1, "unless it is not heard of either");
}

#[test]
fn one_that_does_not_answer_is_asked_again_less_and_less_often() {
    let (mut book, now) = book();
    hear(&mut book, now, "a");
    let nobody = Finding::Nobody("nobody listens there".to_owned());
    let mut at = now;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(probe(&mut book, at, &nobody), ["a"]);
        let next = book.next().expect("it is asked again");
        pauses.push((next - at).as_millis());
        at = next;
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    hear(&mut book, at - SECOND, "a");
    assert_eq!(probe(&mut book, at - SECOND, &Finding::Service), ["a"], "heard of, asked at once");
}

#[test]
fn what_is_being_probed_is_not_probed_twice() {
    let (mut book, now) = book();
    hear(&mut book, now, "a");
    let first = book.take_due(now).expect("due");
    hear(&mut book, now, "a");
    assert_eq!(book.take_due(now), None);
    book.probed(now, &first, Finding::Service);
    assert_eq!(book.take_due(now), None);
}

#[test]
fn what_is_something_else_is_asked_again_when_it_is_heard_of_and_not_before() {
    let (mut book, now) = book();
    hear(&mut book, now, "a");
    probe(&mut book, now, &Finding::SomethingElse("it is b".to_owned()));
    assert_eq!(probe(&mut book, now + 80 * SECOND, &Finding::Service), [""; 0]);
    let (heard, _) = hear(&mut book, now + 80 * SECOND, "a");
    assert_eq!(heard, Heard::Refuted("it is b".to_owned()));
    assert_eq!(probe(&mut book, now + 80 * SECOND, &Finding::Service), ["a"]);
    assert_eq!(hear(&mut book, now + 81 * SECOND, "a").0, Heard::Noted);
}

#[test]
fn what_is_not_heard_of_any_more_goes() {
    let (mut book, now) = book();
    hear(&mut book, now, "a");
    probe(&mut book, now, &Finding::Service);
    hear(&mut book, now + SECOND, "b");
    book.take_change();
    assert_eq!(book.expire(now + TTL - SECOND), 0);
    hear(&mut book, now + 2 * SECOND, "b");
    assert_eq!(book.expire(now + TTL), 1);
    assert!(book.take_change());
    assert_eq!(book.expire(now + TTL + SECOND), 0, "`b` was heard of since");
    assert_eq!(book.expire(now + TTL + 2 * SECOND), 1);
    assert_eq!((book.next(), book.entries().count()), (None, 0));
}

#[test]
fn where_there_is_no_room_the_oldest_goes_and_first_who_is_not_believed() {
    let (mut book, now) = book();
    hear(&mut book, now, "a");
    probe(&mut book, now, &Finding::Service);
    for name in ["b", "c"] {
        assert_eq!(hear(&mut book, now, name), (Heard::Noted, 0));
    }
    hear(&mut book, now, "b");
    assert_eq!(hear(&mut book, now, "d"), (Heard::Noted, 1), "c, which is the oldest now");
    let names = |book: &Book| {
        let mut names: Vec<_> = book.entries().map(|e| e.key.name.clone()).collect();
        names.sort_unstable();
        names.concat()
    };
    assert_eq!(names(&book), "abd");
    probe(&mut book, now, &Finding::Service);
    hear(&mut book, now, "e");
    assert_eq!(names(&book), "bde");
    assert_eq!(book.set_limits(TTL, 1), 2);
    assert_eq!(names(&book), "d", "e was not believed, b was older");
}

#[test]
fn a_flood_takes_no_more_than_its_room() {
    let mut book = Book::new(TTL, 1_000);
    let now = Instant::now();
    for nth in 0..100_000 {
        hear(&mut book, now, &format!("flood.{nth}"));
        while let Some(key) = book.take_due(now) {
            book.probed(now, &key, Finding::Nobody("no".to_owned()));
        }
    }
    let held = (book.entries.len(), book.order.len(), book.due.len());
    assert_eq!(held, (1_000, 1_000, 1_000));
    book.retain(|_| false);
    assert_eq!((book.order.len(), book.due.len(), book.next()), (0, 0, None));
}
