//! JSON text, known without parsing it into values: one lexer, and what is built on it.
//!
//! - `lexer` cuts text into lexemes, strictly or leniently, and counts how deep they nest.
//! - `outline` checks text against the grammar, and tells an object's members as slices.
//! - `repair` makes Python's `NaN` and `Infinity` JSON again.

pub(crate) mod lexer;
pub(crate) mod outline;
mod repair;

use lexer::Lexer;

pub(crate) use repair::repair;

/// How deep a request's arrays and objects may nest, its envelope included, however it comes in.
pub(crate) const REQUEST_DEPTH: usize = 128;
/// How deep a result's or an error's may, whoever answers. Nothing that a program means nests
/// deeper, and the caller's parser may not survive it.
pub(crate) const REPLY_DEPTH: usize = 512;

/// Whether arrays and objects nest more than `limit` deep, in text that need not be valid.
pub(crate) fn nests_deeper_than(json: &[u8], limit: usize) -> bool {
    // Nearly every text has fewer brackets than that, and counting them takes no branches.
    if json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= limit {
        return false;
    }
    let mut lexer = Lexer::lenient(json);
    while lexer.next().is_some() {
        if lexer.depth() > limit {
            return true;
        }
    }
    false
}

/// Which byte a parser stumbled over, counted from one: its error says that in lines.
pub(crate) fn broken_at(json: &[u8], error: &serde_json::Error) -> usize {
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
    fn depth_counts_brackets_outside_strings() {
        let cases = [
            ("[[[]]]", 3, false),
            ("[[[]]]", 2, true),
            (r#"{"a":[{"b":1}]}"#, 3, false),
            (r#"{"a":[{"b":1}]}"#, 2, true),
            (r#"["[[[[","{{{{"]"#, 1, false),
            ("[[],[],[],[]]", 2, false),
            (r#"["\"[[["]"#, 1, false),
            ("1", 0, false),
        ];
        for (json, limit, expected) in cases {
            assert_eq!(nests_deeper_than(json.as_bytes(), limit), expected, "{json}");
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
            let error = serde_json::from_str::<serde_json::Value>(json).unwrap_err();
            assert_eq!(broken_at(json.as_bytes(), &error), at, "{json:?}: {error}");
        }
    }
}
