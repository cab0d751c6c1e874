use super::*;
use crate::call::Departure;

fn call_to<'a>(pending: &'a Pending, subject: &str) -> Result<Seat<'a>, Closed> {
    pending.register(subject.into(), Box::leak(Box::<Departure>::default()).hold())
}

fn token(pending: &Pending, seat: &Seat<'_>) -> Vec<u8> {
    let mut text = String::new();
    pending.token(seat.key()).push_hex(&mut text);
    text.into_bytes()
}

fn reply() -> Answer {
    Answer::Reply(Message::default())
}

#[tokio::test]
async fn a_reply_reaches_its_call_once() {
    let pending = Pending::default();
    let first = call_to(&pending, "a.b").expect("open");
    let second = call_to(&pending, "a.b").expect("open");
    assert_ne!(token(&pending, &first), token(&pending, &second));
    let token = token(&pending, &second);
    assert!(pending.answer(&token, reply()));
    assert!(!pending.answer(&token, reply()), "a second reply has no call");
    assert!(matches!(second.answer().await, Answer::Reply(_)));
    assert_eq!(pending.table().waiters.len(), 1);
}

#[test]
fn a_token_that_was_made_up_reaches_nobody() {
    let (pending, others) = (Pending::default(), Pending::default());
    let _seat = call_to(&pending, "a.b").expect("open");
    let forged = token(&others, &call_to(&others, "a.b").expect("open"));
    for token in [&b"1"[..], b"", &[0xff; Token::HEX], &forged] {
        assert!(!pending.answer(token, reply()), "{token:?}");
    }
    assert_eq!(pending.table().waiters.len(), 1);
}

#[tokio::test]
async fn whoever_stops_waiting_leaves_nothing_behind() {
    let pending = Pending::default();
    let seat = call_to(&pending, "a.b").expect("open");
    let (key, token) = (seat.key(), token(&pending, &seat));
    drop(seat);
    assert!(pending.is_empty() && !pending.sending(key, true));
    let mut wait = Box::pin(call_to(&pending, "a.b").expect("open").answer());
    assert!(futures_util::poll!(&mut wait).is_pending());
    drop(wait);
    assert!(pending.is_empty());
    assert!(!pending.answer(&token, reply()));
}

#[tokio::test]
async fn the_end_ends_every_call_and_knows_which_were_sent() {
    let pending = Pending::default();
    let (sent, unsent) = (call_to(&pending, "a.b"), call_to(&pending, "a.b"));
    let (sent, unsent) = (sent.expect("open"), unsent.expect("open"));
    assert!(pending.sending(sent.key(), true));
    pending.end();
    assert!(matches!(sent.answer().await, Answer::Lost { sent: true }));
    assert!(matches!(unsent.answer().await, Answer::Lost { sent: false }));
    assert_eq!(call_to(&pending, "a.b").err(), Some(Closed::Ended));
}

#[tokio::test]
async fn what_only_its_connection_can_end_ends_with_that() {
    let pending = Pending::default();
    let call = call_to(&pending, "a.b").expect("open");
    let notification = call_to(&pending, "a.b").expect("open");
    let unsent = call_to(&pending, "a.b").expect("open");
    assert!(pending.sending(call.key(), true) && pending.sending(notification.key(), false));
    pending.disconnect();
    assert!(matches!(notification.answer().await, Answer::Lost { sent: true }));
    assert!(matches!(unsent.answer().await, Answer::Lost { sent: false }));
    assert_eq!(call_to(&pending, "a.b").err(), Some(Closed::Ended));
    assert!(pending.answer(&token(&pending, &call), reply()));
    assert!(matches!(call.answer().await, Answer::Reply(_)));
}

#[test]
fn whoever_goes_away_is_told_whether_the_call_had_left() {
    for sent in [false, true] {
        let (pending, departure) = (Pending::default(), Departure::default());
        let seat = pending.register("a.b".into(), departure.hold()).expect("open");
        assert!(!sent || pending.sending(seat.key(), true));
        drop(seat);
        assert_eq!(departure.was_held(), !sent);
    }
}

#[tokio::test]
async fn an_inquiry_has_many_answers_and_one_end() {
    let pending = Pending::default();
    let mut inquiry = pending.gather("$SRV.INFO.x".into()).expect("open");
    let mut token = String::new();
    pending.token(inquiry.key()).push_hex(&mut token);
    for _ in 0..MOST_ANSWERS {
        assert!(pending.answer(token.as_bytes(), reply()));
    }
    assert!(!pending.answer(token.as_bytes(), reply()), "there is no more room");
    assert!(matches!(inquiry.next().await, Some(Answer::Reply(_))));
    drop(inquiry);
    assert!(!pending.answer(token.as_bytes(), reply()));
    assert!(pending.is_empty());
}

#[tokio::test]
async fn of_a_stream_the_last_value_counts() {
    let pending = Pending::default();
    let value =
        |json: &'static str| Answer::Reply(Message { payload: json.into(), ..Message::default() });
    for (end, expected) in [
        (r#"{"isDisposed":true}"#, r#"{"response":2}"#),
        (r#"{"response":3,"isDisposed":true}"#, r#"{"response":3,"isDisposed":true}"#),
        (r#"{"err":"no"}"#, r#"{"err":"no"}"#),
    ] {
        let departure = Departure::default();
        let seat = pending.register_stream("a.b".into(), departure.hold()).expect("open");
        assert!(pending.sending(seat.key(), true));
        let token = token(&pending, &seat);
        assert!(pending.answer(&token, value(r#"{"response":1}"#)));
        assert!(pending.answer(&token, value(r#"{"response":2}"#)));
        assert!(pending.answer(&token, value(end)));
        assert!(!pending.answer(&token, value(end)), "it has ended");
        let Answer::Reply(message) = seat.answer().await else { panic!("a value") };
        assert_eq!(message.payload, expected);
    }
    assert!(pending.is_empty());
}

#[tokio::test]
async fn a_denied_subject_ends_its_calls_alone() {
    let pending = Pending::default();
    let denied = call_to(&pending, "a.b").expect("open");
    let other = call_to(&pending, "a.c").expect("open");
    let notification = call_to(&pending, "a.b").expect("open");
    for seat in [&denied, &other, &notification] {
        assert!(pending.sending(seat.key(), true));
    }
    let unsent = call_to(&pending, "a.b").expect("open");
    assert!(pending.deny("a.b"));
    assert!(!pending.deny("a.b"), "nobody is left");
    assert!(matches!(denied.answer().await, Answer::Denied));
    assert!(matches!(notification.answer().await, Answer::Denied));
    assert!(pending.sending(other.key(), true) && pending.sending(unsent.key(), true));
}

#[test]
fn the_table_is_bounded() {
    let pending = Pending::default();
    let seats: Vec<_> = (0..CAPACITY).map(|_| call_to(&pending, "a.b").expect("room")).collect();
    assert_eq!(call_to(&pending, "a.b").err(), Some(Closed::Full));
    drop(seats);
    assert!(pending.is_empty());
}
