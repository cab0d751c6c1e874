//! Events: a message's body as it is, and what travels with it in the headers that calls have too
//! (CONTRACT 6).
//!
//! A publisher's `Nats-Msg-Id` is its event's id. Of what Genkan publishes, `Genkan-Event-Id` is: a stream drops
//! every message whose `Nats-Msg-Id` it has, so that one names the way too by which the event comes there.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::block::{Block, is_header_value, names, travelling};
use super::call::context;
use super::confirm::EXPECTED_STREAM;
use super::headers::Headers;
use super::nest::packet;
use super::stored::Stored;
use super::subject::flaw_as_told;
use super::{Dialect, Message, Unkept};
use crate::call::{Context, Payload};
use crate::event::{DedupKey, Event, Unusable};
use crate::exposer::Credence;
use crate::fault::Outcome;
use crate::json::REQUEST_DEPTH;
use crate::json::members::{Unreadable, foreign};
use crate::token::random_uuid;
use crate::units::format_size;

const MESSAGE_ID: &str = "Nats-Msg-Id";
/// An id that is longer is nobody's.
const LONGEST_ID: usize = 256;

/// Why nothing can be published to a subject.
pub(in crate::protocol::nats) fn publishable(
    subject: &str,
    inbox_prefix: &str,
) -> Result<(), String> {
    flaw_as_told(subject, inbox_prefix)
        .map_or(Ok(()), |(_, flaw)| Err(format!("it can be no event's subject on NATS: {flaw}")))
}

/// Reads an event.
pub(in crate::protocol::nats) fn event(
    dialect: Dialect,
    message: &Message,
    credence: Credence,
) -> Result<Event, Unusable> {
    let context = context(message, credence);
    // A trace may have several.
    let id = id(message).unwrap_or_else(|| random_uuid().into());
    read(dialect, message, context, id, SystemTime::now())
}

/// Reads an event that a stream hands over.
pub(in crate::protocol::nats) fn stored_event(
    dialect: Dialect,
    message: &Message,
    stored: &Stored<'_>,
    credence: Credence,
) -> Result<Event, Unusable> {
    let context = context(message, credence);
    let id = id(message).unwrap_or_else(|| stored_id(stored));
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(stored.time));
    read(dialect, message, context, id, time.unwrap_or_else(SystemTime::now))
}

/// The id of a message that has none: the same whenever it is handed over, and no other stream's.
pub(in crate::protocol::nats) fn stored_id(stored: &Stored<'_>) -> Arc<str> {
    let Stored { stream, number, time, .. } = stored;
    format!("{stream}.{number}.{time}").into()
}

fn read(
    dialect: Dialect,
    message: &Message,
    context: Context,
    id: Arc<str>,
    time: SystemTime,
) -> Result<Event, Unusable> {
    let topic: Arc<str> = String::from_utf8_lossy(&message.subject).into();
    let body = &message.payload;
    let data = if body.trim_ascii().is_empty() {
        Payload::NULL
    } else {
        match data(dialect, body) {
            Ok(data) => Payload::from_validated(data),
            Err(why) => {
                let reason = match why {
                    Unreadable::NotText => "it is not valid UTF-8".to_owned(),
                    Unreadable::NotJson => "it is not JSON".to_owned(),
                    Unreadable::TooDeep => {
                        format!("it nests more than {REQUEST_DEPTH} levels deep")
                    }
                };
                let body = Some(message.payload.clone());
                return Err(Unusable { topic, id, reason, body });
            }
        }
    };
    Ok(Event { topic, id, data, time, context: Arc::new(context) })
}

/// What a message says: all of it, but for Nest's envelope. That of an event has always a pattern; `data` alone is a
/// part of what others say.
fn data(dialect: Dialect, body: &Bytes) -> Result<Bytes, Unreadable> {
    if dialect != Dialect::Nest {
        return foreign(body, [], REQUEST_DEPTH).map(|read| read.value);
    }
    let read = foreign(body, ["pattern", "data"], REQUEST_DEPTH + 1)?;
    let [pattern, data] = read.members.values;
    Ok(match pattern {
        Some(_) => data.unwrap_or_else(|| Bytes::from_static(b"null")),
        None => read.value,
    })
}

/// The body of an event: Nest's servers have its data out of their envelope. What a stream keeps is as it came.
pub(in crate::protocol::nats) fn event_body(
    dialect: Dialect,
    subject: &str,
    data: &Payload,
    is_for_stream: bool,
) -> Bytes {
    match dialect {
        Dialect::Nest if !is_for_stream => packet(subject, data.as_bytes(), None),
        _ => data.clone().into_bytes(),
    }
}

/// An event that was thrown away as it came.
pub(in crate::protocol::nats) fn unkept_event(
    message: &Message,
    unkept: Unkept,
    largest: usize,
) -> Unusable {
    let reason = match unkept {
        Unkept::TooLarge(size) => format!(
            "it is {size} bytes with its headers, and {} are taken at most: raise the upstream's `max_request`",
            format_size(largest)
        ),
        Unkept::NoRoom(exceeded) => exceeded.fault(Outcome::NotSent).message().to_owned(),
    };
    let topic = String::from_utf8_lossy(&message.subject).into();
    let id = random_uuid().into();
    Unusable { topic, id, reason, body: None }
}

/// The id that its publisher gave it.
fn id(message: &Message) -> Option<Arc<str>> {
    let headers = Headers::new(&message.headers);
    let id = headers.get(names::EVENT_ID).or_else(|| headers.get(MESSAGE_ID))?;
    (is_header_value(&id) && id.len() <= LONGEST_ID).then(|| (*id).into())
}

/// The block of an event's headers, with the stream that it is for.
pub(in crate::protocol::nats) fn event_headers(
    event: &Event,
    key: DedupKey,
    stream: Option<&str>,
) -> String {
    let mut block = Block::new();
    if is_header_value(&event.id) {
        block.push(names::EVENT_ID, &event.id);
        block.push_args(MESSAGE_ID, format_args!("{}.{key}", event.id));
    }
    if let Some(stream) = stream {
        block.push(EXPECTED_STREAM, stream);
    }
    block.push(names::HOPS, itoa::Buffer::new().format(event.context.next_hop()));
    travelling(&event.context, |name, value| block.push(name, value));
    block.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Passage;

    fn message(headers: &str, body: &[u8]) -> Message {
        Message {
            subject: "orders.created".into(),
            headers: headers.to_owned().into(),
            payload: body.to_vec().into(),
            ..Message::default()
        }
    }

    #[test]
    fn events_go_as_they_came() {
        const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = format!(
            "NATS/1.0\r\nnats-msg-id: order-7\r\ntraceparent: {TRACE}\r\nX-Request-Id: r\r\nGenkan-Hops: 2\r\n\r\n"
        );
        let read = event(Dialect::Plain, &message(&headers, b" {\"n\":1.10} "), Credence::NONE)
            .expect("an event");
        assert_eq!((&*read.topic, &*read.id), ("orders.created", "order-7"));
        assert_eq!((read.data.as_str(), read.context.hops), ("{\"n\":1.10}", 2));
        let key = Passage::of_events("a", "b").key("orders.created", 0);
        assert_eq!(
            event_headers(&read, key, None),
            format!(
                "NATS/1.0\r\nGenkan-Event-Id: order-7\r\nNats-Msg-Id: order-7.{key}\r\nGenkan-Hops: 3\r\ntraceparent: {TRACE}\r\n\
                 X-Request-Id: r\r\n\r\n"
            )
        );
    }

    #[test]
    fn what_a_stream_has_is_known_again() {
        let at = Stored {
            stream: "S",
            deliveries: 1,
            number: 7,
            count: 1,
            time: 1_500_000_000,
            pending: 0,
        };
        let again = Stored { deliveries: 2, ..at };
        let read = stored_event(Dialect::Plain, &message("", b"1"), &at, Credence::NONE)
            .expect("an event");
        assert_eq!((&*read.id, stored_id(&again)), ("S.7.1500000000", Arc::clone(&read.id)));
        let since = read.time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since, Duration::from_millis(1_500));
        let headers = "NATS/1.0\r\nNats-Msg-Id: order-7\r\n\r\n";
        let read = stored_event(Dialect::Plain, &message(headers, b"1"), &at, Credence::NONE)
            .expect("an event");
        assert_eq!(&*read.id, "order-7");
        let key = Passage::of_events("a", "b").key("orders.created", at.mark());
        let headers = event_headers(&read, key, Some("T"));
        assert!(headers.contains("\r\nNats-Expected-Stream: T\r\n"), "{headers}");
        let there = event(Dialect::Plain, &message(&headers, b"1"), Credence::NONE);
        assert_eq!(&*there.expect("an event").id, "order-7", "it is the same one there");
    }

    #[test]
    fn nests_envelope_is_taken_off_and_put_on() {
        let read = |dialect, body: &str| {
            event(dialect, &message("", body.as_bytes()), Credence::NONE).expect("an event").data
        };
        let nest = |body: &str| read(Dialect::Nest, body).as_str().to_owned();
        assert_eq!(nest(r#"{"pattern":"a.b","data":{"n":1.10}}"#), r#"{"n":1.10}"#);
        assert_eq!(nest(r#"{"data":[7],"pattern":{"cmd":"x"},"id":"a call's"}"#), "[7]");
        assert_eq!(nest(r#"{"pattern":"a.b"}"#), "null");
        for plain in ["7", r#"{"n":1}"#, r#"{"topic":"a","data":1}"#] {
            assert_eq!(nest(plain), plain);
        }
        let enveloped = r#"{"pattern":"a.b","data":{"n":1}}"#;
        assert_eq!(read(Dialect::Plain, enveloped).as_str(), enveloped);
        let data = Payload::from_validated(r#"{"n":1}"#.into());
        let body = |dialect, is_for_stream| event_body(dialect, "a.b", &data, is_for_stream);
        assert_eq!(body(Dialect::Nest, false), enveloped);
        assert_eq!(body(Dialect::Nest, true), data.as_str());
        assert_eq!(body(Dialect::Plain, false), data.as_str());
    }

    #[test]
    fn what_says_nothing_of_itself_is_an_event_too() {
        let read = event(Dialect::Plain, &message("", b""), Credence::NONE).expect("an event");
        assert_eq!(read.data.as_str(), "null");
        let other = event(Dialect::Plain, &message("", b""), Credence::NONE).expect("an event");
        assert_ne!(read.id, other.id);
        let long = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", "x".repeat(LONGEST_ID + 1));
        let read =
            event(Dialect::Plain, &message(&long, b"[1]"), Credence::NONE).expect("an event");
        assert!(read.id.len() <= LONGEST_ID, "{}", read.id);
    }

    #[test]
    fn what_is_none_keeps_its_bytes() {
        let deep = [[b'['; 129], [b']'; 129]].concat();
        for (body, words) in
            [(&b"{\"a\":"[..], "not JSON"), (b"\xff", "UTF-8"), (&deep, "levels deep")]
        {
            let unusable =
                event(Dialect::Plain, &message("", body), Credence::NONE).expect_err("none");
            assert!(unusable.reason.contains(words), "{}", unusable.reason);
            assert_eq!(unusable.body.as_deref(), Some(body));
        }
    }
}
