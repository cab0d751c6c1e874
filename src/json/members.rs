//! The members of an object that somebody asks for by their names.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserializer, Visitor};

use super::lexer::Container;
use super::outline::{Flaw, outline};
use super::repair;

/// What is asked for of a text, in slices of it.
#[derive(Debug)]
pub(crate) struct Members<T, const N: usize> {
    /// What the text is: an object, an array or neither.
    pub(crate) container: Option<Container>,
    /// The values, in the order of the names. Of a repeated key it is the last, as in Python and
    /// JavaScript.
    pub(crate) values: [Option<T>; N],
}

/// Finds members in a text that nests at most `limit` deep.
pub(crate) fn members<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
    limit: usize,
) -> Result<Members<&'a str, N>, Flaw> {
    let mut values = [None; N];
    let found = outline(text, limit, |member| {
        let key = unescaped(member.key);
        if let Some(place) = names.iter().position(|name| name.as_bytes() == &*key) {
            values[place] = Some(member.value);
        }
    })?;
    Ok(Members { container: found.container, values })
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a peer's text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not UTF-8.
    NotText,
    /// It is no JSON.
    NotJson,
    /// It nests deeper than the limit.
    TooDeep,
}

/// What a peer wrote.
#[derive(Debug)]
pub(crate) struct Foreign<const N: usize> {
    /// The value without what stands around it.
    pub(crate) value: Bytes,
    /// Its members, where it is an object.
    pub(crate) members: Members<Bytes, N>,
    /// Whether Python's `NaN` or `Infinity` had to become `null`: then all of this is a copy.
    pub(crate) repaired: bool,
}

/// Finds members in what a peer wrote, which nests at most `limit` deep.
pub(crate) fn foreign<const N: usize>(
    body: &Bytes,
    names: [&str; N],
    limit: usize,
) -> Result<Foreign<N>, Unreadable> {
    // Some programs begin with a mark of the byte order.
    let marked = body.starts_with(BYTE_ORDER_MARK).then(|| body.slice(BYTE_ORDER_MARK.len()..));
    let body = marked.as_ref().unwrap_or(body);
    match read(body, names, limit) {
        Err(Refused::Python) => {}
        Err(Refused::Unreadable(why)) => return Err(why),
        Ok(found) => return Ok(found),
    }
    let mended = repair(body).map(Bytes::from).ok_or(Unreadable::NotJson)?;
    match read(&mended, names, limit) {
        Ok(found) => Ok(Foreign { repaired: true, ..found }),
        Err(Refused::Python) => Err(Unreadable::NotJson),
        Err(Refused::Unreadable(why)) => Err(why),
    }
}

enum Refused {
    Python,
    Unreadable(Unreadable),
}

fn read<const N: usize>(
    body: &Bytes,
    names: [&str; N],
    limit: usize,
) -> Result<Foreign<N>, Refused> {
    let text = super::text(body).ok_or(Refused::Unreadable(Unreadable::NotText))?;
    let found = members(text, names, limit).map_err(|flaw| match flaw {
        Flaw::Python => Refused::Python,
        Flaw::Broken => Refused::Unreadable(Unreadable::NotJson),
        Flaw::TooDeep => Refused::Unreadable(Unreadable::TooDeep),
    })?;
    let slice = |part: &str| body.slice_ref(part.as_bytes());
    let values = found.values.map(|value| value.map(slice));
    let members = Members { container: found.container, values };
    Ok(Foreign { value: slice(text.trim_ascii()), members, repaired: false })
}

/// A key or other string as it is meant, from what stands between its quotes: nearly no key has
/// escapes. As bytes, because it may hold lone surrogates, and Rust's strings may not.
pub(crate) fn unescaped(raw: &str) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw.as_bytes());
    }
    let quoted = format!("\"{raw}\"");
    let read = serde_json::Deserializer::from_str(&quoted).deserialize_bytes(Text);
    read.map_or(Cow::Borrowed(raw.as_bytes()), Cow::Owned)
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<Vec<u8>, E> {
        Ok(text.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::walks::bytes_walked;

    fn found(text: &str) -> [Option<&str>; 2] {
        members(text, ["a", "b"], 9).expect(text).values
    }

    #[test]
    fn the_last_of_a_name_counts_however_it_is_written() {
        assert_eq!(found(r#"{"a":1,"c":2,"a":[3] }"#), [Some("[3]"), None]);
        assert_eq!(found(r#"{"\u0061":1,"\ud800":2,"b" : "\"" }"#), [Some("1"), Some(r#""\"""#)]);
        assert_eq!(found("[1]"), [None; 2]);
        assert_eq!(members("{}}", ["a"], 9).unwrap_err(), Flaw::Broken);
    }

    #[test]
    fn what_a_peer_wrote_is_walked_once_and_python_may_have_written_it() {
        let read = |body: &str| foreign(&Bytes::copy_from_slice(body.as_bytes()), ["a"], 3);
        let body = r#" {"b":["NaN"],"a":[1.10, {}]} "#;
        let (good, walked) = bytes_walked(|| read(body).expect("JSON"));
        assert_eq!(walked, body.len());
        assert_eq!((good.value, good.repaired), (Bytes::from(body.trim().to_owned()), false));
        assert_eq!(good.members.values, [Some("[1.10, {}]".into())]);
        let python = read(r#"{"a":[NaN,-Infinity,"NaN"]}"#).expect("nearly JSON");
        assert_eq!(python.members.values, [Some(r#"[null,null,"NaN"]"#.into())]);
        assert!(python.repaired);
        for (body, why) in [
            ("", Unreadable::NotJson),
            ("NaN,", Unreadable::NotJson),
            ("NaNa", Unreadable::NotJson),
            ("[NaN,[[[1]]]]", Unreadable::TooDeep),
            ("[[[[1]]]]", Unreadable::TooDeep),
        ] {
            assert_eq!(read(body).expect_err(body), why, "{body}");
        }
        let latin = Bytes::from_static(b"\"\xe9\"");
        assert_eq!(foreign(&latin, ["a"], 3).unwrap_err(), Unreadable::NotText);
    }
}
