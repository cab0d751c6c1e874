//! Reads one line of the Juno protocol: which keys it has, and where their values stand.
//!
//! The text is checked once, against all of JSON's grammar, and nothing is copied or parsed:
//! payloads leave as the slices of the line that they came in.

use super::frame::FrameType;
use super::members::{Key, Members};
use super::skim::{Head, Skim};
use crate::json::lexer::Container;
use crate::json::outline::{Flaw, Outline, outline};
use crate::json::{self, REPLY_DEPTH, REQUEST_DEPTH, repair};

/// How deep an answer may nest, the frame included.
const ANSWER_DEPTH: usize = REPLY_DEPTH + 1;

/// What a line holds.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// A JSON object.
    Object(Members<'a>),
    /// JSON, and no object.
    Other,
    /// Nothing at all.
    Blank,
    /// No JSON. What can be told of it.
    Broken(Head),
    /// An object that nests deeper than a frame of its type may. What can be told of it.
    TooDeep(Head),
}

/// Reads a line without its end.
pub(crate) fn scan(line: &[u8]) -> Line<'_> {
    let Some(text) = json::text(line) else { return Line::Broken(head(line)) };
    let mut members = Members::default();
    match outline(text, ANSWER_DEPTH, |member| members.add(member)) {
        Ok(Outline { container: Some(Container::Object), depth }) => {
            if depth > REQUEST_DEPTH && depth > max_depth(members.get(Key::Type)) {
                return Line::TooDeep(head(line));
            }
            Line::Object(members)
        }
        Ok(_) => Line::Other,
        Err(Flaw::Broken) if text.trim_ascii().is_empty() => Line::Blank,
        Err(Flaw::Broken | Flaw::Python) => Line::Broken(head(line)),
        Err(Flaw::TooDeep) => too_deep(text),
    }
}

/// No depth exhausts the stack: what is ignored is passed over in a loop.
fn too_deep(text: &str) -> Line<'_> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Line::Broken(head(text.as_bytes()));
    }
    if text.trim_ascii_start().starts_with('[') {
        return Line::Other;
    }
    Line::TooDeep(head(text.as_bytes()))
}

/// An answer in which Python's `NaN` and `Infinity` are `null`, where that alone makes it JSON.
/// `broken` is the head of the line. What a module asks for is not mended: it can be told.
pub(crate) fn mend(line: &[u8], broken: &Head) -> Option<Vec<u8>> {
    if !broken.is_answer() {
        return None;
    }
    repair(line).filter(|mended| !matches!(scan(mended), Line::Broken(_)))
}

fn head(line: &[u8]) -> Head {
    let mut skim = Skim::default();
    skim.pass(line);
    skim.head()
}

/// How deep a frame of a raw type may nest, itself included.
fn max_depth(raw_type: Option<&str>) -> usize {
    match raw_type.and_then(FrameType::of) {
        Some(FrameType::Answer | FrameType::Error) => ANSWER_DEPTH,
        _ => REQUEST_DEPTH,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn is_json(line: &[u8]) -> bool {
        !matches!(scan(line), Line::Broken(_) | Line::Blank)
    }

    #[test]
    fn finds_members() {
        let line = br#" { "type" : 3,"x":[1,{"y":"}"}], "arguments":{"a":[2,"\""]} ,"type":4, "\u0064ata":null} "#;
        let Line::Object(members) = scan(line) else { panic!("an object") };
        assert_eq!(members.get(Key::Type), Some("4"));
        assert_eq!(members.get(Key::Arguments), Some(r#"{"a":[2,"\""]}"#));
        assert_eq!(members.get(Key::Data), Some("null"));
        assert_eq!(members.get(Key::Hook), None);
        assert_eq!(members.others(), [r#""x":[1,{"y":"}"}]"#]);
    }

    #[test]
    fn tells_json_from_the_rest() {
        let good = [
            "{}",
            "[]",
            "1",
            "-0",
            "-0.5e+10",
            "1E9",
            "\"\"",
            "\"\\ud800\"",
            "null",
            "[[],{}]",
            " 7 ",
        ];
        for text in good {
            assert!(is_json(text.as_bytes()), "{text}");
        }
        let bad: [&[u8]; 26] = [
            b"",
            b"{",
            b"}",
            b"[1,]",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{a:1}",
            b"01",
            b"1.",
            b".5",
            b"+1",
            b"1e",
            b"nul",
            b"\"",
            b"\"\\x\"",
            b"\"\\u12g4\"",
            b"{} {}",
            b"[1 2]",
            b"[1}",
            b"\"\x01\"",
            b"\"\x00\"",
            b"\xff",
            b"\"\xc3\"",
            b"NaN",
            b"{\"a\":1]",
        ];
        for text in bad {
            assert!(!is_json(text), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn answers_with_pythons_numbers_are_mended_and_nothing_else() {
        let mended = |line: &[u8]| {
            let Line::Broken(head) = scan(line) else { panic!("it is JSON") };
            mend(line, &head).map(|text| String::from_utf8(text).expect("text"))
        };
        let nan = br#"{"requestId":"x","type":4,"data":[NaN,"NaN",-Infinity]}"#;
        let null = r#"{"requestId":"x","type":4,"data":[null,"NaN",null]}"#;
        assert_eq!(mended(nan).as_deref(), Some(null));
        let unmended: [&[u8]; 4] = [
            br#"{"requestId":"x","type":3,"arguments":{"a":NaN}}"#,
            br#"{"requestId":"x","type":4,"data":NaN"#,
            br#"{"requestId":"x","type":4,"data":nan}"#,
            b"{\"requestId\":\"x\",\"type\":4,\"data\":[NaN,\"\xff\"]}",
        ];
        for line in unmended {
            assert_eq!(mended(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_is_broken_may_tell_what_it_was_meant_to_be() {
        for line in [
            &b"{\"type\":4,\"requestId\":\"x\",\"data\":\"\xff\"}"[..],
            b"{\"type\":4,\"requestId\":\"x\",\"data\":{\"a\":[1,",
            b"{\"data\":NaN,\"requestId\":\"x\",\"type\":4}",
        ] {
            let Line::Broken(head) = scan(line) else { panic!("it is JSON") };
            assert!(head.is_answer() && head.request_id.as_deref() == Some("\"x\""), "{head:?}");
        }
        assert!(matches!(scan(b" \r"), Line::Blank) && matches!(scan(b""), Line::Blank));
    }

    #[test]
    fn depth_is_limited_and_never_the_stack() {
        let typed = |number: usize, depth: usize| {
            format!("{{\"type\":{number},\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth))
        };
        let nest = |depth: usize| typed(3, depth);
        for (number, most) in [(3, 127), (7, 127), (99, 127), (4, 512), (0, 512)] {
            let line = typed(number, most);
            assert!(matches!(scan(line.as_bytes()), Line::Object(_)), "{number}");
            let line = typed(number, most + 1);
            assert!(matches!(scan(line.as_bytes()), Line::TooDeep(_)), "{number}");
        }
        assert!(matches!(scan("[".repeat(1 << 20).as_bytes()), Line::Broken(_)));
        let (open, close) = ("[".repeat(400_000), "]".repeat(400_000));
        assert!(matches!(scan(format!("{open}{close}").as_bytes()), Line::Other));
        assert!(matches!(scan(format!("{open}{close}]").as_bytes()), Line::Broken(_)));
        assert!(matches!(scan(nest(400_000).as_bytes()), Line::TooDeep(_)));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(line in r#"([\[\]{},:"\\ 0-9.eE+\-truefalsnu]|"a"|"\\u00e9":|\{"a":1\}|\[1,2\]){0,24}"#) {
            let known: Result<&RawValue, _> = serde_json::from_str(&line);
            prop_assert_eq!(is_json(line.as_bytes()), known.is_ok(), "{}", line);
        }

        #[test]
        fn passes_everything_that_serde_json_writes(text in ".{0,40}", number in any::<f64>(), whole in any::<i64>()) {
            let value = serde_json::json!({"type": whole, "data": [text, {"n": number, &text: [null]}]});
            let line = value.to_string();
            let Line::Object(members) = scan(line.as_bytes()) else { panic!("{line}") };
            prop_assert_eq!(members.get(Key::Type).map(str::to_owned), Some(whole.to_string()));
            prop_assert_eq!(members.get(Key::Data).map(str::to_owned), Some(value["data"].to_string()));
        }

        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let known: Result<&RawValue, _> = serde_json::from_slice(&line);
            prop_assert_eq!(is_json(&line), known.is_ok());
        }
    }
}
