//! Reads one line of the Juno protocol: which keys it has, and where their values stand.
//!
//! The text is checked once, against all of JSON's grammar, and nothing is copied or parsed:
//! payloads leave as the slices of the line that they came in. Nesting is counted in a word of
//! bits instead of the stack, so no line can exhaust it.

use memchr::memchr2;

use super::members::{Key, Members};
use super::skim::{Head, Skim};

/// How deep arrays and objects may nest, the frame included.
pub(crate) const MAX_DEPTH: usize = 128;

/// What a line holds.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// A JSON object.
    Object(Members<'a>),
    /// JSON, and no object.
    Other,
    /// No JSON: the protocol ignores it.
    Broken,
    /// JSON that nests deeper than [`MAX_DEPTH`]: an object or an array. What can be told of it.
    TooDeep(Head),
}

/// Reads a line without its end.
pub(crate) fn scan(line: &[u8]) -> Line<'_> {
    let Ok(text) = std::str::from_utf8(line) else { return Line::Broken };
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0 };
    match scanner.document() {
        Ok(line) => line,
        Err(Stop::Broken) => Line::Broken,
        Err(Stop::TooDeep) => too_deep(text),
    }
}

/// No depth exhausts the stack: what is ignored is passed over in a loop.
fn too_deep(text: &str) -> Line<'_> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Line::Broken;
    }
    if text.trim_ascii_start().starts_with('[') {
        return Line::Other;
    }
    let mut skim = Skim::default();
    skim.pass(text.as_bytes());
    Line::TooDeep(skim.head())
}

enum Stop {
    Broken,
    TooDeep,
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn document(&mut self) -> Result<Line<'a>, Stop> {
        self.blanks();
        let line = if self.peek() == Some(b'{') {
            Line::Object(self.members()?)
        } else {
            self.value(0)?;
            Line::Other
        };
        self.blanks();
        if self.at == self.bytes.len() { Ok(line) } else { Err(Stop::Broken) }
    }

    fn members(&mut self) -> Result<Members<'a>, Stop> {
        let mut members = Members::default();
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(members);
        }
        loop {
            let start = self.at;
            let (name, escaped) = self.string()?;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            let value_start = self.at;
            self.value(1)?;
            let (text, value) = (self.text, &self.text[value_start..self.at]);
            match key(name, escaped) {
                Some(key) => members.values[key as usize] = Some(value),
                None => members.others.push(&text[start..self.at]),
            }
            self.blanks();
            match self.next()? {
                b',' => self.blanks(),
                b'}' => return Ok(members),
                _ => return Err(Stop::Broken),
            }
        }
    }

    /// Passes one value. `depth` containers are open around it.
    fn value(&mut self, depth: usize) -> Result<(), Stop> {
        // One bit for each open container: set where it is an object.
        let (mut open, mut objects) = (depth, 0_u128);
        loop {
            // Here a value begins.
            match self.peek().ok_or(Stop::Broken)? {
                b'"' => {
                    self.string()?;
                }
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    if open == MAX_DEPTH {
                        return Err(Stop::TooDeep);
                    }
                    open += 1;
                    let object = bracket == b'{';
                    objects = (objects << 1) | u128::from(object);
                    self.blanks();
                    let end = if object { b'}' } else { b']' };
                    if self.peek() != Some(end) {
                        if object {
                            self.member_name()?;
                        }
                        continue;
                    }
                    self.at += 1;
                    open -= 1;
                    objects >>= 1;
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // Here a value has ended.
            loop {
                if open == depth {
                    return Ok(());
                }
                self.blanks();
                let object = objects & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.blanks();
                        if object {
                            self.member_name()?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ => return Err(Stop::Broken),
                }
                open -= 1;
                objects >>= 1;
            }
        }
    }

    fn member_name(&mut self) -> Result<(), Stop> {
        self.string()?;
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Ok(())
    }

    /// Passes a string: what stands between its quotes, and whether that holds escapes.
    fn string(&mut self) -> Result<(&'a str, bool), Stop> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = &self.bytes[self.at..];
            let length = memchr2(b'"', b'\\', rest).ok_or(Stop::Broken)?;
            if rest[..length].iter().any(|byte| *byte < b' ') {
                return Err(Stop::Broken);
            }
            self.at += length + 1;
            if rest[length] == b'"' {
                return Ok((&self.text[start..self.at - 1], escaped));
            }
            escaped = true;
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => {
                    for _ in 0..4 {
                        if !self.next()?.is_ascii_hexdigit() {
                            return Err(Stop::Broken);
                        }
                    }
                }
                _ => return Err(Stop::Broken),
            }
        }
    }

    fn number(&mut self) -> Result<(), Stop> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(Stop::Broken),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), Stop> {
        if !self.next()?.is_ascii_digit() {
            return Err(Stop::Broken);
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Stop> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Stop::Broken);
        }
        self.at += word.len();
        Ok(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek().ok_or(Stop::Broken)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, expected: u8) -> Result<(), Stop> {
        if self.next()? == expected { Ok(()) } else { Err(Stop::Broken) }
    }
}

fn key(name: &str, escaped: bool) -> Option<Key> {
    if !escaped {
        return Key::of(name.as_bytes());
    }
    let decoded: String = serde_json::from_str(&format!("\"{name}\"")).ok()?;
    Key::of(decoded.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn is_json(line: &[u8]) -> bool {
        !matches!(scan(line), Line::Broken)
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
    fn depth_is_limited_and_never_the_stack() {
        let nest = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(matches!(scan(nest(MAX_DEPTH - 1).as_bytes()), Line::Object(_)));
        assert!(matches!(scan(nest(MAX_DEPTH).as_bytes()), Line::TooDeep(_)));
        assert!(matches!(scan("[".repeat(1 << 20).as_bytes()), Line::Broken));
        let (open, close) = ("[".repeat(400_000), "]".repeat(400_000));
        assert!(matches!(scan(format!("{open}{close}").as_bytes()), Line::Other));
        assert!(matches!(scan(format!("{open}{close}]").as_bytes()), Line::Broken));
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
