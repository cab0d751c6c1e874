//! A message's content header: what lapin would not survive in it, and the one that takes its place.
//! Must not: do I/O.
//!
//! ```text
//! class 2 | weight 2 | the body's size 8 | flags 2 | a property for each flag that is set
//! ```

use std::str::from_utf8;

use super::frames::{FRAME_END, HEAD};
use super::table::{Reader, table_is_readable};

/// The header by which a message says that it is not as it was sent, and why.
pub(in super::super) const MENDED: &str = "genkan.mended";
/// What [`MENDED`] says of a message whose body was left out, before the size of it.
pub(in super::super) const TOO_LARGE: &str = "larger than it may be: ";
/// The same of one whose body was left out because there was no room for it.
pub(in super::super) const NO_ROOM: &str = "no room for it: ";
/// The same of one whose headers were left out because no frame takes them, before how large it was.
pub(in super::super) const NO_HEADERS: &str = "with headers that no frame takes: ";
/// The headers that messages are read for.
const KEPT: [&[u8]; 2] = [b"compression", b"traceparent"];

/// How deep tables and arrays in headers may nest: lapin reads them recursively.
pub(super) const DEEPEST: u32 = 32;
/// Class, weight and the body's size: what a content header begins with.
pub(super) const FIXED: usize = 12;

/// What is to be said of a message whose headers were left out, where they were: the mend.
pub(in super::super) fn headers_left_out(why: &str) -> Option<String> {
    let sizes = why.strip_prefix(NO_HEADERS)?;
    Some(format!(
        "comes with properties and headers of {sizes}: send shorter ones, or raise `frame_max` in the \
         upstream's `url` (`?frame_max=131072`)"
    ))
}

/// A content header's frame, or its beginning, of a message without a body.
pub(super) fn bodiless(frame: &[u8]) -> Vec<u8> {
    let mut bodiless = frame.to_vec();
    if let Some(size) = bodiless.get_mut(HEAD + 4..HEAD + FIXED) {
        size.fill(0);
    }
    bodiless
}

/// How large the message is whose header this is.
pub(super) fn body_size(frame: &[u8]) -> u64 {
    let size = frame.get(HEAD + 4..HEAD + FIXED).and_then(|size| size.try_into().ok());
    size.map_or(0, u64::from_be_bytes)
}

/// A message's properties, in the order of their flags' bits from the highest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Property {
    Text,
    Table,
    Byte,
    Timestamp,
}

const PROPERTIES: [Property; 14] = {
    use Property::{Byte, Table, Text, Timestamp};
    [Text, Text, Table, Byte, Byte, Text, Text, Text, Text, Timestamp, Text, Text, Text, Text]
};
/// The places of those that a request, a reply or an event is read for.
const CONTENT_TYPE: usize = 0;
const CONTENT_ENCODING: usize = 1;
const HEADERS: usize = 2;
const CORRELATION_ID: usize = 5;
const REPLY_TO: usize = 6;
const EXPIRATION: usize = 7;
const MESSAGE_ID: usize = 8;

const fn flag(place: usize) -> u16 {
    1 << (15 - place)
}

/// What keeps lapin from reading a content header's payload.
pub(super) fn complaint(payload: &[u8]) -> Option<&'static str> {
    const CUT: Option<&str> = Some("cut off");
    let mut reader = Reader(payload);
    let (Some(_), Some(flags)) = (reader.take(FIXED), reader.short_uint()) else { return CUT };
    for (place, property) in PROPERTIES.iter().enumerate() {
        if flags & flag(place) == 0 {
            continue;
        }
        let (text, whole) = match property {
            Property::Text => match reader.short_string() {
                Some(text) => (from_utf8(text).is_ok(), true),
                None => (true, false),
            },
            Property::Table => match reader.long_string() {
                Some(table) if table_is_readable(table, DEEPEST) => (true, true),
                Some(_) => return Some("with headers that cannot be read"),
                None => (true, false),
            },
            Property::Byte => (true, reader.byte().is_some()),
            Property::Timestamp => (true, reader.take(8).is_some()),
        };
        if !whole {
            return CUT;
        }
        if !text {
            return Some("not in UTF-8");
        }
    }
    (!reader.0.is_empty()).then_some("with properties that AMQP does not know")
}

/// A content header's frame, written anew with what can be read of what messages are read for. Of a
/// frame that is not whole, there is only the beginning.
pub(super) fn mended(frame: &[u8], why: &str) -> Vec<u8> {
    let (head, payload) = frame.split_at(HEAD.min(frame.len()));
    let mut reader = Reader(payload.strip_suffix(&[FRAME_END]).unwrap_or(payload));
    let mut fixed = reader.take(FIXED).unwrap_or_default().to_vec();
    fixed.resize(FIXED, 0);
    let flags = reader.short_uint().unwrap_or(0);
    let (mut texts, mut headers) = ([None; MESSAGE_ID + 1], Vec::new());
    for (place, property) in PROPERTIES.iter().enumerate().take(MESSAGE_ID + 1) {
        let taken = match (flags & flag(place) != 0, property) {
            (false, _) => continue,
            (true, Property::Text) => reader.short_string(),
            (true, Property::Table) => reader.long_string(),
            (true, Property::Byte) => reader.take(1),
            (true, Property::Timestamp) => reader.take(8),
        };
        match taken {
            None => break,
            Some(table) if place == HEADERS => headers = kept(table),
            Some(text) => texts[place] = from_utf8(text).ok(),
        }
    }
    let entry = |out: &mut Vec<u8>, key: &[u8], value: &[u8]| {
        let lengths = (u8::try_from(key.len()), u32::try_from(value.len()));
        if let (Ok(of_key), Ok(of_value)) = lengths {
            out.push(of_key);
            out.extend([key, b"S", &of_value.to_be_bytes(), value].concat());
        }
    };
    let mut table = Vec::new();
    for (key, value) in headers {
        entry(&mut table, key, value);
    }
    entry(&mut table, MENDED.as_bytes(), why.as_bytes());
    let mut payload = fixed;
    let places = [CONTENT_TYPE, CONTENT_ENCODING, CORRELATION_ID, REPLY_TO, EXPIRATION, MESSAGE_ID];
    let flags = places.into_iter().filter(|place| texts[*place].is_some()).map(flag);
    payload.extend((flags.sum::<u16>() | flag(HEADERS)).to_be_bytes());
    let text = |payload: &mut Vec<u8>, place: usize| {
        if let Some(text) = texts[place] {
            payload.push(u8::try_from(text.len()).unwrap_or(0));
            payload.extend(text.as_bytes());
        }
    };
    text(&mut payload, CONTENT_TYPE);
    text(&mut payload, CONTENT_ENCODING);
    payload.extend(u32::try_from(table.len()).unwrap_or(0).to_be_bytes());
    payload.extend(table);
    text(&mut payload, CORRELATION_ID);
    text(&mut payload, REPLY_TO);
    text(&mut payload, EXPIRATION);
    text(&mut payload, MESSAGE_ID);
    let mut mended = head.get(..3).unwrap_or_default().to_vec();
    mended.extend(u32::try_from(payload.len()).unwrap_or(0).to_be_bytes());
    mended.extend(payload);
    mended.push(FRAME_END);
    mended
}

/// Of a table, as far as it can be read, what messages are read for.
fn kept(table: &[u8]) -> Vec<(&[u8], &[u8])> {
    /// More than either of them takes.
    const LONGEST: usize = 128;
    let (mut reader, mut kept) = (Reader(table), Vec::new());
    while kept.len() < KEPT.len()
        && let Some(key) = reader.short_string()
        && let Some((kind, value, _)) = reader.value(0)
    {
        if kind == b'S' && value.len() <= LONGEST && KEPT.contains(&key) {
            kept.push((key, value));
        }
    }
    kept
}
