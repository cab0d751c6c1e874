//! What an event is on AMQP, whichever way it goes (WIRE 1.5). Its body is the bare payload.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};

use super::compression::{self, Packed};
use super::content_header::{MENDED, NO_ROOM, TOO_LARGE, headers_left_out};
use super::request::{self, PERSISTENT, SHORT_STRING};
use crate::call::Payload;
use crate::event::Event;
use crate::json::REQUEST_DEPTH;
use crate::json::members::{Unreadable, foreign};
use crate::units::format_size;

/// The properties of an event that is published, as a dispatcher gives them; and its id and time.
pub(in super::super) fn properties(event: &Event) -> BasicProperties {
    let since = event.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    BasicProperties::default()
        .with_content_type(ShortString::from("application/json"))
        .with_content_encoding(ShortString::from("utf-8"))
        .with_delivery_mode(PERSISTENT)
        .with_priority(0)
        .with_message_id(message_id(&event.id))
        .with_timestamp(since.as_secs())
        .with_headers(request::headers(&event.context, &event.id))
}

/// An id as AMQP has room for: a longer one becomes its hash.
fn message_id(id: &str) -> ShortString {
    if id.len() <= SHORT_STRING {
        return ShortString::from(id);
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    ShortString::from(format!("{:016x}", hasher.finish()))
}

/// The id that an event has brought; `None` where its publisher gives none, as Nameko's.
pub(in super::super) fn id(properties: &BasicProperties) -> Option<&str> {
    let id = properties.message_id().as_ref().map(ShortString::as_str);
    id.filter(|id| !id.is_empty() && !id.contains(char::is_control))
}

/// What tells an event from others, where it has no id.
pub(in super::super) fn content(
    routing_key: &str,
    properties: &BasicProperties,
    body: &[u8],
) -> u64 {
    let mut hasher = DefaultHasher::new();
    routing_key.hash(&mut hasher);
    body.hash(&mut hasher);
    properties.timestamp().hash(&mut hasher);
    let stack = properties.headers().as_ref().and_then(|it| it.inner().get("nameko.call_id_stack"));
    stack.map(|stack| format!("{stack:?}")).hash(&mut hasher);
    hasher.finish()
}

/// When an event was published, where its publisher says so.
pub(in super::super) fn time(properties: &BasicProperties) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs((*properties.timestamp())?))
}

/// The payload of a body that is not packed; else why it is none.
pub(in super::super) fn payload(body: &Bytes) -> Result<Payload, &'static str> {
    match foreign(body, [], REQUEST_DEPTH) {
        Ok(found) => Ok(Payload::from_validated(found.value)),
        Err(Unreadable::NotText) => Err("it is not valid UTF-8"),
        Err(Unreadable::NotJson) => Err("it is not JSON"),
        Err(Unreadable::TooDeep) => Err("it is nested too deep"),
    }
}

/// What of an event has not come, and how large it was.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum LeftOut {
    /// Its headers, and why.
    Headers(String),
    /// Its body: it is larger than it may be.
    TooLarge(u64),
    /// The same: there was no room for it.
    NoRoom(u64),
}

/// Whether something of an event was left out.
pub(in super::super) fn left_out(properties: &BasicProperties) -> Option<LeftOut> {
    let AMQPValue::LongString(why) = properties.headers().as_ref()?.inner().get(MENDED)? else {
        return None;
    };
    let why = why.to_string();
    if let Some(why) = headers_left_out(&why) {
        return Some(LeftOut::Headers(format!("it {why}")));
    }
    let size = |after: &str| why.strip_prefix(after)?.parse().ok();
    size(TOO_LARGE).map(LeftOut::TooLarge).or_else(|| size(NO_ROOM).map(LeftOut::NoRoom))
}

/// Why an event is never taken for which there is never room.
pub(in super::super) fn never_fits(size: u64, cap: usize) -> String {
    format!("it is {size} bytes, and there is never more room than {cap}: raise `max_memory`")
}

/// Unpacks a body that its properties call compressed, to `largest` bytes at the most.
pub(in super::super) fn unpack(
    properties: &BasicProperties,
    body: Bytes,
    largest: usize,
) -> Result<Bytes, String> {
    compression::unpack(properties, body, largest).map_err(|packed| match packed {
        Packed::TooLarge => format!(
            "it is larger than {} when it is unpacked: raise the upstream's `max_reply`",
            format_size(largest)
        ),
        Packed::Broken(complaint) => format!("it is {complaint}"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::context;
    use super::*;
    use crate::call::Context;
    use crate::trace::TraceParent;

    fn event(id: &str) -> Event {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut context = Context::new(TraceParent::parse(trace).unwrap());
        context.hops = 2;
        Event {
            topic: "orders.created".into(),
            id: id.into(),
            data: Payload::NULL,
            time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_900),
            context: Arc::new(context),
        }
    }

    #[test]
    fn id_time_and_context_come_back() {
        let properties = properties(&event("e-1"));
        assert_eq!(id(&properties), Some("e-1"));
        assert_eq!(time(&properties), Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        assert_eq!(context::read(&properties, crate::exposer::Credence::NONE).hops, 3);
        assert_eq!(
            properties.content_type().as_ref().map(ShortString::as_str),
            Some("application/json")
        );
        assert_eq!(*properties.delivery_mode(), Some(2));
    }

    #[test]
    fn an_id_of_any_length_has_room() {
        let long = properties(&event(&"x".repeat(300)));
        assert_eq!(id(&long).map(str::len), Some(16));
        assert_eq!(id(&properties(&event(&"x".repeat(255)))).map(str::len), Some(255));
        assert_eq!(id(&BasicProperties::default().with_message_id("".into())), None);
        assert_eq!(id(&BasicProperties::default().with_message_id("a\nb".into())), None);
    }

    #[test]
    fn payloads_are_json_and_nothing_else() {
        let read = |text: &'static [u8]| payload(&Bytes::from_static(text));
        assert_eq!(read(b" {\"a\": 1e400} ").unwrap().as_str(), "{\"a\": 1e400}");
        assert_eq!(read(b"null").unwrap().as_str(), "null");
        assert_eq!(read(b"[NaN]").unwrap().as_str(), "[null]");
        assert_eq!(read(b""), Err("it is not JSON"));
        assert_eq!(read(b"{"), Err("it is not JSON"));
        assert_eq!(read(b"\"\xff\""), Err("it is not valid UTF-8"));
    }
}
