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

/// The whole number that JSON text is, however it is written: `7`, `7.0` and `70e-1` are the same one, as programs
/// write it that know floating point alone. From 2^53 on only digits are, since there a double is several.
pub(crate) fn whole_number(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let is_exact = |number: &f64| number.fract() == 0.0 && number.abs() < MOST_EXACT;
    // What JSON has of numbers, and no `inf`.
    let number = serde_json::from_str::<f64>(text).ok().filter(is_exact)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
    Some(number as i64)
}

/// 2^53.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;

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
    fn numbers_are_the_same_however_they_are_written() {
        for text in ["7", "7.0", "7e0", "70e-1", "0.7E1", "7.000"] {
            assert_eq!(whole_number(text), Some(7), "{text}");
        }
        assert_eq!(whole_number("-32601.0"), Some(-32_601));
        assert_eq!(whole_number("-0.0"), Some(0));
        assert_eq!(whole_number("9223372036854775807"), Some(i64::MAX));
        for text in ["7.5", "1e400", "1e30", "9007199254740993.0e3", "inf", "NaN", "", "\"7\"", "x"]
        {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }

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
