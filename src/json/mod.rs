//! JSON text, known without parsing it into values.
//!
//! - `outline` checks a text against the grammar, in one walk, and tells an object's members as
//!   slices. Below it, `scanner` finds where lexemes begin, in a `block` of 64 bytes at a time.
//! - `members` finds those with given names; of what a peer wrote, in spite of Python's words.
//! - `repair` makes Python's `NaN` and `Infinity` JSON again.
//! - `lexer` cuts text into lexemes that is not checked, and text in pieces.

mod block;
pub(crate) mod lexer;
pub(crate) mod members;
pub(crate) mod outline;
mod repair;
mod scanner;
#[cfg(test)]
pub(crate) mod walks;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub(crate) use repair::repair;

/// How deep a request's arrays and objects may nest, its envelope included, however it comes in.
pub(crate) const REQUEST_DEPTH: usize = 128;
/// How deep a result's or an error's may, whoever answers. Nothing that a program means nests
/// deeper, and the caller's parser may not survive it.
pub(crate) const REPLY_DEPTH: usize = 512;

/// Keeps a `null` that is there apart from a key that is not.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The text that bytes are, if they are UTF-8: which of them is not, is not told.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

/// Which byte, counted from one, a parser stumbles over in a text that is no JSON.
pub(crate) fn broken_at(json: &[u8]) -> usize {
    let Err(error) = serde_json::from_slice::<&RawValue>(json) else { return json.len() };
    let breaks = memchr::memchr_iter(b'\n', json);
    let before = match error.line() {
        0 | 1 => 0,
        line => breaks.take(line - 1).last().map_or(0, |at| at + 1),
    };
    before + error.column().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_breaks_off() {
        for (json, at) in [
            ("oops", 1),
            ("[1, x]", 5),
            ("[1,\n\n  x]", 8),
            ("[1", 2),
            ("{\"a\":\nNaN}", 7),
            ("", 1),
        ] {
            assert_eq!(broken_at(json.as_bytes()), at, "{json:?}");
        }
    }
}
