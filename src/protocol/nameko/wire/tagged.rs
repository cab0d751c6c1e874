//! Kombu's tagged values: since 5.3 a date, time, decimal, UUID or bytes travels as an object of
//! exactly the two keys `__type__` and `__value__` (WIRE 7.3).
//!
//! In a result they become plain strings. In params they are refused: the service's kombu would
//! turn them into other types, or drop the request without a reply. A search tells at once that
//! nothing of the kind is there, which is nearly always so; only then the text is walked.

use std::ops::Range;

use crate::json::lexer::{Container, Kind, Lexeme, Lexer};

/// Whether params hold an object, at any depth, that kombu would take for a tagged value. `json`
/// is valid JSON.
pub(in super::super) fn holds_tagged_value(json: &[u8]) -> bool {
    may_hold_tagged_value(json) && {
        let mut found = false;
        walk(json, &mut |_| found = true);
        found
    }
}

/// Rewrites a result's tagged values of the known types as plain strings, and leaves everything
/// else as it is. `None` where there is nothing to rewrite. `json` is valid JSON.
pub(super) fn unwrap_tagged_values(json: &[u8]) -> Option<Vec<u8>> {
    if !may_hold_tagged_value(json) {
        return None;
    }
    let mut unwrapped = Vec::new();
    let mut copied = 0;
    walk(json, &mut |object| {
        let Some(text) = plain_string(&json[object.kind], &json[object.value]) else { return };
        unwrapped.extend_from_slice(&json[copied..object.whole.start]);
        unwrapped.extend_from_slice(&text);
        copied = object.whole.end;
    });
    if copied == 0 {
        return None;
    }
    unwrapped.extend_from_slice(&json[copied..]);
    Some(unwrapped)
}

/// One search. Python's own encoder never escapes these keys; a caller may (`\u005f` is `_`).
fn may_hold_tagged_value(json: &[u8]) -> bool {
    memchr::memmem::find(json, b"\"__type__\"").is_some()
        || memchr::memmem::find_iter(json, b"\\u00")
            .any(|at| matches!(json.get(at + 4), Some(b'5'..=b'7')))
}

/// A tagged value's plain form, JSON string or not; `None` for types that kombu does not know by
/// itself and for values that are not as kombu writes them.
fn plain_string(kind: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let kind: String = serde_json::from_slice(kind).ok()?;
    match kind.as_str() {
        "datetime" | "date" | "time" | "decimal" | "bytes" | "base64" => {
            value.starts_with(b"\"").then(|| value.to_vec())
        }
        "uuid" if value.starts_with(b"{") => {
            #[derive(serde::Deserialize)]
            struct Uuid {
                hex: String,
            }
            let Uuid { hex } = serde_json::from_slice(value).ok()?;
            let whole = hex.len() == 32 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
            whole.then(|| {
                let (a, b, c, d, e) =
                    (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
                format!("\"{a}-{b}-{c}-{d}-{e}\"").into_bytes()
            })
        }
        _ => None,
    }
}

/// Where a tagged value and its parts stand in the text.
struct Tagged {
    whole: Range<usize>,
    kind: Range<usize>,
    value: Range<usize>,
}

#[derive(Clone, Copy)]
enum Key {
    Kind,
    Value,
    Other,
}

/// An array or object that has been opened and not yet closed.
struct Open {
    start: usize,
    object: bool,
    other_keys: bool,
    /// The key whose value comes next, and where that value starts.
    key: Option<Key>,
    value_start: usize,
    kind: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl Open {
    fn new(start: usize, object: bool) -> Self {
        Self {
            start,
            object,
            other_keys: false,
            key: None,
            value_start: 0,
            kind: None,
            value: None,
        }
    }

    /// A value of this object has ended at `end`. Of a repeated key the last one counts, as in
    /// Python.
    fn close_value(&mut self, json: &[u8], end: usize) {
        let Some(key) = self.key.take() else { return };
        let trimmed = json[self.value_start..end].trim_ascii();
        let start = end - json[self.value_start..end].trim_ascii_start().len();
        let range = start..start + trimmed.len();
        match key {
            Key::Kind => self.kind = Some(range),
            Key::Value => self.value = Some(range),
            Key::Other => self.other_keys = true,
        }
    }
}

/// Walks valid JSON and reports every object whose keys are exactly the two, inner ones first.
/// Without recursion: the text's depth is not this function's.
fn walk(json: &[u8], found: &mut dyn FnMut(Tagged)) {
    let mut open: Vec<Open> = Vec::new();
    for Lexeme { kind, start, end } in Lexer::new(json) {
        match kind {
            Kind::Text => {
                if let Some(object) = open.last_mut().filter(|it| it.object && it.key.is_none()) {
                    object.key = Some(classify(&json[start..end]));
                }
            }
            Kind::Colon => {
                if let Some(object) = open.last_mut() {
                    object.value_start = end;
                }
            }
            Kind::Comma => {
                if let Some(object) = open.last_mut() {
                    object.close_value(json, start);
                }
            }
            Kind::Open(container) => open.push(Open::new(start, container == Container::Object)),
            Kind::Close(_) => {
                let Some(mut closed) = open.pop() else { return };
                closed.close_value(json, start);
                if let (false, Some(kind), Some(value)) =
                    (closed.other_keys, closed.kind, closed.value)
                {
                    found(Tagged { whole: closed.start..end, kind, value });
                }
            }
            Kind::Scalar => {}
        }
    }
}

/// `key` with its quotes.
fn classify(key: &[u8]) -> Key {
    match key {
        b"\"__type__\"" => Key::Kind,
        b"\"__value__\"" => Key::Value,
        escaped if memchr::memchr(b'\\', escaped).is_some() => {
            match serde_json::from_slice::<String>(escaped).as_deref() {
                Ok("__type__") => Key::Kind,
                Ok("__value__") => Key::Value,
                _ => Key::Other,
            }
        }
        _ => Key::Other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn params_with_tagged_values_are_found() {
        let found = [
            r#"{"__type__":"bytes","__value__":"x"}"#,
            r#"{"__value__":1,"__type__":2}"#,
            r#"[1,{"a":[{"__type__":"uuid","__value__":{"hex":"00"}}]}]"#,
            r#"{"a":{"\u005f_type__":"bytes","__value__":"x"}}"#,
            r#"{"a":{"\u005f\u005ftype\u005f\u005f":"bytes","\u005f_\u0076alue__":"x"}}"#,
            r#"{"__type__":1,"__type__":2,"__value__":3}"#,
            "{ \"__type__\" : 1 ,\n \"__value__\" : [ ] }",
            r#"{"__type__":{"__type__":1,"__value__":2},"x":1}"#,
        ];
        for params in found {
            assert!(holds_tagged_value(params.as_bytes()), "{params}");
        }
        let clean = [
            "{}",
            "[]",
            r#"{"__type__":1}"#,
            r#"{"__value__":1}"#,
            r#"{"__type__":1,"__value__":2,"more":3}"#,
            r#"["__type__","__value__"]"#,
            r#"{"a":"__type__","b":"__value__"}"#,
            r#"{"a":{"__type__":1},"b":{"__value__":2}}"#,
            r#"{"__type__":1,"b":{"__value__":2}}"#,
            r#"{"a":"{\"__type__\":1,\"__value__\":2}"}"#,
            r#"{"__TYPE__":1,"__value__":2}"#,
            r#"["\u0065"]"#,
        ];
        for params in clean {
            assert!(!holds_tagged_value(params.as_bytes()), "{params}");
        }
    }

    #[test]
    fn results_lose_their_tags() {
        let cases = [
            (
                r#"{"__type__":"datetime","__value__":"2024-01-02T03:04:05"}"#,
                r#""2024-01-02T03:04:05""#,
            ),
            (r#"{"__type__": "date", "__value__": "2024-01-02"}"#, r#""2024-01-02""#),
            (r#"{"__type__":"time","__value__":"03:04:05"}"#, r#""03:04:05""#),
            (r#"[{"__type__":"decimal","__value__":"1.10"}, 1.10]"#, r#"["1.10", 1.10]"#),
            (
                r#"{"id":{"__type__":"uuid","__value__":{"hex":"00112233445566778899aabbccddeeff"}},"n":18446744073709551616}"#,
                r#"{"id":"00112233-4455-6677-8899-aabbccddeeff","n":18446744073709551616}"#,
            ),
            (r#"{"__type__":"bytes","__value__":"\u00e9\n"}"#, r#""\u00e9\n""#),
            (r#"{"__type__":"base64","__value__":"/w=="}"#, r#""/w==""#),
            (
                r#"[ {"__type__":"date","__value__":"a"} , {"__type__":"date","__value__":"b"} ]"#,
                r#"[ "a" , "b" ]"#,
            ),
            (
                r#"{"__type__":"mine","__value__":{"__type__":"date","__value__":"b"}}"#,
                r#"{"__type__":"mine","__value__":"b"}"#,
            ),
        ];
        for (tagged, plain) in cases {
            let unwrapped = unwrap_tagged_values(tagged.as_bytes()).expect(tagged);
            assert_eq!(String::from_utf8(unwrapped).unwrap(), plain);
        }
    }

    #[test]
    fn other_results_stay_as_they_are() {
        let same = [
            r#"{"__type__":"mine","__value__":"x"}"#,
            r#"{"__type__":"date","__value__":"x","more":1}"#,
            r#"{"__type__":"date","__value__":5}"#,
            r#"{"__type__":"uuid","__value__":{"hex":"zz"}}"#,
            r#"{"__type__":"uuid","__value__":{"hex":"00112233445566778899aabbccddeefé"}}"#,
            r#"{"a":1,"a":2,"b":"\ud800"}"#,
            "[1e400,-0,1.10]",
        ];
        for result in same {
            assert_eq!(unwrap_tagged_values(result.as_bytes()), None, "{result}");
        }
    }

    /// Any JSON value, with the two keys and their look-alikes more often than chance.
    pub(in super::super) fn random_value(random: &mut fastrand::Rng, depth: usize) -> Value {
        const WORDS: [&str; 7] = ["__type__", "__value__", "a", "NaN", "q\"\\", "Infinity", "é"];
        match random.usize(..if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => json!(random.i64(..)),
            2 => json!(WORDS[random.usize(..WORDS.len())]),
            3 => json!(random.bool()),
            4 => (0..random.usize(..4)).map(|_| random_value(random, depth - 1)).collect(),
            _ => Value::Object(
                (0..random.usize(..4))
                    .map(|_| {
                        let key = WORDS[random.usize(..WORDS.len())].to_owned();
                        (key, random_value(random, depth - 1))
                    })
                    .collect(),
            ),
        }
    }

    fn model(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(model),
            Value::Object(map) => {
                let exact =
                    map.len() == 2 && map.contains_key("__type__") && map.contains_key("__value__");
                exact || map.values().any(model)
            }
            _ => false,
        }
    }

    #[test]
    fn the_walker_agrees_with_a_parser() {
        let mut random = fastrand::Rng::with_seed(42);
        let mut hits = 0;
        for _ in 0..20_000 {
            let value = random_value(&mut random, 4);
            let expected = model(&value);
            hits += usize::from(expected);
            let compact = value.to_string();
            assert_eq!(holds_tagged_value(compact.as_bytes()), expected, "{compact}");
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            assert_eq!(holds_tagged_value(pretty.as_bytes()), expected, "{pretty}");
            let escaped = compact.replace("__", "\\u005f\\u005F");
            assert_eq!(holds_tagged_value(escaped.as_bytes()), expected, "{escaped}");
        }
        assert!(hits > 20, "the generator must make what is looked for: {hits}");
    }

    #[test]
    fn repair_never_touches_valid_json() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let value = random_value(&mut random, 4);
            assert_eq!(crate::json::repair(value.to_string().as_bytes()), None, "{value}");
        }
    }
}
