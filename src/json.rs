//! What protocols have to know about JSON text without parsing it into values: how deep it nests,
//! where its strings end, where it breaks off, and how Python's `NaN` and `Infinity` are made JSON
//! again.

/// Finds the end of a string: `start` is the index after its opening quote, the result the
/// index of its closing quote, or the end of the text where there is none.
pub(crate) fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(found) = memchr::memchr2(b'"', b'\\', json.get(at..).unwrap_or_default()) {
        at += found;
        if json[at] == b'"' {
            return at;
        }
        at += 2;
    }
    json.len()
}

/// Whether arrays and objects nest more than `limit` deep.
pub(crate) fn nests_deeper_than(json: &[u8], limit: usize) -> bool {
    // Without that many brackets there cannot be that many levels: no look at the strings.
    if memchr::memchr2_iter(b'[', b'{', json).nth(limit).is_none() {
        return false;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < json.len() {
        match json[at] {
            b'"' => at = string_end(json, at + 1),
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
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

/// Replaces `NaN`, `Infinity` and `-Infinity` outside strings by `null`, as Python writes them
/// and JSON forbids them (WIRE 1.8, rule 7). `None` where there are none. The result still has
/// to be parsed: this only looks for the words.
pub(crate) fn repair(json: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut repaired: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while at < json.len() {
        match json[at] {
            b'"' => at = string_end(json, at + 1) + 1,
            b'N' | b'I' | b'-' => {
                let word = WORDS.iter().find(|word| json[at..].starts_with(word));
                let Some(word) = word else {
                    at += 1;
                    continue;
                };
                let out = repaired.get_or_insert_with(|| Vec::with_capacity(json.len()));
                out.extend_from_slice(&json[copied..at]);
                out.extend_from_slice(b"null");
                at += word.len();
                copied = at;
            }
            _ => at += 1,
        }
    }
    let mut repaired = repaired?;
    repaired.extend_from_slice(json.get(copied..).unwrap_or_default());
    Some(repaired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_numbers_become_null() {
        let cases = [
            ("NaN", Some("null")),
            ("[NaN,Infinity,-Infinity]", Some("[null,null,null]")),
            (r#"{"a": NaN, "b": 1}"#, Some(r#"{"a": null, "b": 1}"#)),
            (r#"{"NaN": "Infinity -Infinity"}"#, None),
            (r#"["a\"NaN", NaN]"#, Some(r#"["a\"NaN", null]"#)),
            (r#"["a\\",NaN]"#, Some(r#"["a\\",null]"#)),
            ("[-1, -0, 1e-5]", None),
            ("[1e400, true]", None),
            (r#""unfinished NaN"#, None),
            (r#""\"#, None),
            ("", None),
        ];
        for (json, expected) in cases {
            let repaired = repair(json.as_bytes()).map(|text| String::from_utf8(text).unwrap());
            assert_eq!(repaired.as_deref(), expected, "{json}");
        }
    }

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
