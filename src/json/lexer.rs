//! Cuts JSON text into lexemes: the one place that knows where strings, numbers and words end,
//! and how deep brackets nest. Nothing is copied, and nothing allocated: bytes in, spans out.
//!
//! Strict, it takes a lexeme only as JSON's grammar has it. Lenient, for text that was checked
//! before or will be, it takes whatever stands between two marks, and text may come in pieces.
//! Neither looks at the order of lexemes: [`super::outline`] does.

use memchr::memchr2;

/// A kind of container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    Array,
    Object,
}

/// A kind of lexeme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open(Container),
    Close(Container),
    Comma,
    Colon,
    /// A string, with its quotes.
    Text,
    /// A number, `true`, `false` or `null`.
    Scalar,
    /// None of these: the rest of the text is no JSON. Lenient lexers never find one.
    Broken,
}

/// What stands at `start..end` of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lexeme {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Where a piece of text broke off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Break {
    depth: usize,
    half: Half,
}

/// What was half read at the end of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Half {
    #[default]
    Nothing,
    Text,
    /// In a string, behind its backslash.
    Escape,
}

/// Reads lexemes.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a, const STRICT: bool> {
    json: &'a [u8],
    /// Where the last lexeme begins, and where it ends.
    start: usize,
    at: usize,
    depth: usize,
    half: Half,
}

impl<'a> Lexer<'a, true> {
    /// Takes what the grammar has, and nothing else.
    pub(crate) fn strict(json: &'a [u8]) -> Self {
        Self { json, start: 0, at: 0, depth: 0, half: Half::Nothing }
    }
}

impl<'a> Lexer<'a, false> {
    /// Takes everything.
    pub(crate) fn lenient(json: &'a [u8]) -> Self {
        Self::resume(json, Break::default())
    }

    /// Goes on where the piece before broke off: the rest of a string is a lexeme of its own, and
    /// so is the rest of anything else.
    pub(crate) fn resume(json: &'a [u8], Break { depth, half }: Break) -> Self {
        Self { json, start: 0, at: 0, depth, half }
    }

    /// At the end of a piece: what to resume the next one with.
    pub(crate) fn pause(&self) -> Break {
        Break { depth: self.depth, half: self.half }
    }
}

impl<const STRICT: bool> Lexer<'_, STRICT> {
    /// Passes the next lexeme. Where it stands, [`Lexer::start`] and [`Lexer::end`] tell.
    // What a byte is is decided once, here and in the caller's own match: that takes a third off
    // what the hub's scanner costs.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> Option<Kind> {
        if !STRICT && self.half != Half::Nothing {
            // A string without an end ends with the piece.
            self.start = self.at;
            return (self.at < self.json.len()).then(|| self.lenient_text());
        }
        let first = loop {
            let byte = self.peek()?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                break byte;
            }
            self.at += 1;
        };
        self.start = self.at;
        self.at += 1;
        Some(match first {
            b'"' if STRICT => self.strict_text(),
            b'"' => self.lenient_text(),
            b',' => Kind::Comma,
            b':' => Kind::Colon,
            b'{' => self.open(Container::Object),
            b'[' => self.open(Container::Array),
            b'}' => self.close(Container::Object),
            b']' => self.close(Container::Array),
            _ if STRICT => self.strict_scalar(first),
            _ => self.lenient_scalar(),
        })
    }

    /// Where the last lexeme begins.
    #[inline]
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Where the last lexeme ends.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.at
    }

    /// How many containers are open behind the last lexeme.
    #[inline]
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn open(&mut self, container: Container) -> Kind {
        self.depth += 1;
        Kind::Open(container)
    }

    fn close(&mut self, container: Container) -> Kind {
        self.depth = self.depth.saturating_sub(1);
        Kind::Close(container)
    }

    /// Passes a string from behind its opening quote.
    fn strict_text(&mut self) -> Kind {
        loop {
            let rest = &self.json[self.at..];
            let Some(length) = memchr2(b'"', b'\\', rest) else { return Kind::Broken };
            if rest[..length].iter().any(|byte| *byte < b' ') {
                return Kind::Broken;
            }
            self.at += length + 1;
            if rest[length] == b'"' {
                return Kind::Text;
            }
            let digits = match self.peek() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
                Some(b'u') => 4,
                _ => return Kind::Broken,
            };
            self.at += 1;
            let hex = self.json.get(self.at..self.at + digits);
            if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                return Kind::Broken;
            }
            self.at += digits;
        }
    }

    /// Passes a string, or what there is of it.
    fn lenient_text(&mut self) -> Kind {
        if self.half == Half::Escape && self.at < self.json.len() {
            self.at += 1;
        }
        self.half = Half::Text;
        while let Some(found) = memchr2(b'"', b'\\', &self.json[self.at..]) {
            self.at += found + 1;
            if self.json[self.at - 1] == b'"' {
                self.half = Half::Nothing;
                return Kind::Text;
            }
            if self.at == self.json.len() {
                self.half = Half::Escape;
                return Kind::Text;
            }
            self.at += 1;
        }
        self.at = self.json.len();
        Kind::Text
    }

    /// Passes the rest of a word or number, from behind its first byte.
    fn strict_scalar(&mut self, first: u8) -> Kind {
        let rest: &[u8] = match first {
            b't' => b"rue",
            b'f' => b"alse",
            b'n' => b"ull",
            _ => {
                let end = number_end(self.json, self.start, first);
                self.at = end.unwrap_or(self.at);
                return if end.is_some() { Kind::Scalar } else { Kind::Broken };
            }
        };
        if !self.json[self.at..].starts_with(rest) {
            return Kind::Broken;
        }
        self.at += rest.len();
        Kind::Scalar
    }

    fn lenient_scalar(&mut self) -> Kind {
        let ends = |byte: &u8| {
            matches!(
                byte,
                b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"' | b' ' | b'\t' | b'\r' | b'\n'
            )
        };
        let rest = &self.json[self.at..];
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
        Kind::Scalar
    }
}

/// Where the number ends that begins at `start` with the byte `first`, if it is one.
fn number_end(json: &[u8], start: usize, first: u8) -> Option<usize> {
    let byte = |at: usize| json.get(at).copied().unwrap_or_default();
    let mut at = start + usize::from(first == b'-');
    // At least one digit.
    let digits = |from: usize| {
        let mut at = from;
        while byte(at).is_ascii_digit() {
            at += 1;
        }
        (at > from).then_some(at)
    };
    at = if byte(at) == b'0' { at + 1 } else { digits(at)? };
    if byte(at) == b'.' {
        at = digits(at + 1)?;
    }
    if matches!(byte(at), b'e' | b'E') {
        at += 1;
        at = digits(at + usize::from(matches!(byte(at), b'+' | b'-')))?;
    }
    Some(at)
}

impl<const STRICT: bool> Iterator for Lexer<'_, STRICT> {
    type Item = Lexeme;

    fn next(&mut self) -> Option<Lexeme> {
        let kind = self.advance()?;
        Some(Lexeme { kind, start: self.start, end: self.at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(json: &str, lexemes: impl Iterator<Item = Lexeme>) -> Vec<&str> {
        lexemes.map(|lexeme| &json[lexeme.start..lexeme.end]).collect()
    }

    #[test]
    fn lexemes_and_their_spans() {
        let json = " {\"a\\\"b\" : [1.5e-3,true],\n\"\":null}";
        let expected =
            ["{", r#""a\"b""#, ":", "[", "1.5e-3", ",", "true", "]", ",", "\"\"", ":", "null", "}"];
        assert_eq!(shown(json, Lexer::strict(json.as_bytes())), expected);
        assert_eq!(shown(json, Lexer::lenient(json.as_bytes())), expected);
    }

    #[test]
    fn a_strict_lexer_takes_what_the_grammar_has() {
        let last = |json: &str| Lexer::strict(json.as_bytes()).next().map(|lexeme| lexeme.kind);
        for good in ["\"\"", "\"\\u00e9\\/\"", "-0", "0", "12.50", "1E+9", "true", "false", "null"]
        {
            let kind = last(good);
            assert!(matches!(kind, Some(Kind::Text | Kind::Scalar)), "{good}: {kind:?}");
        }
        for bad in [
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12",
            "\"\n\"",
            "-",
            "1.",
            "1e",
            ".5",
            "+1",
            "nul",
            "NaN",
            "-Infinity",
            "x",
        ] {
            assert_eq!(last(bad), Some(Kind::Broken), "{bad}");
        }
    }

    #[test]
    fn a_lenient_lexer_takes_everything() {
        for (json, expected) in [
            ("[NaN,-Infinity]", vec!["[", "NaN", ",", "-Infinity", "]"]),
            ("nul x\"", vec!["nul", "x", "\""]),
            ("\"a\\", vec!["\"a\\"]),
            ("01}é", vec!["01", "}", "é"]),
            ("", vec![]),
        ] {
            assert_eq!(shown(json, Lexer::lenient(json.as_bytes())), expected, "{json}");
        }
    }

    #[test]
    fn depth_is_that_behind_the_lexeme() {
        let mut lexer = Lexer::lenient(b"[{}]]1[");
        let mut depths = Vec::new();
        while lexer.next().is_some() {
            depths.push(lexer.depth());
        }
        assert_eq!(depths, [1, 2, 1, 0, 0, 0, 1]);
    }

    proptest! {
        /// The lexemes of pieces, put together where a piece ended within one.
        #[test]
        fn it_does_not_matter_where_text_is_split(
            json in r#"([\[\]{},: ]|"a"|"\\\\\\"\\\\\\\\\[é"|12|nul){0,12}"#, cut in any::<prop::sample::Index>(),
        ) {
            let json = json.as_bytes();
            let (before, behind) = json.split_at(cut.index(json.len() + 1));
            let mut first = Lexer::lenient(before);
            let mut joined: Vec<u8> = Vec::new();
            for lexeme in first.by_ref() {
                joined.extend_from_slice(&before[lexeme.start..lexeme.end]);
            }
            let mut second = Lexer::resume(behind, first.pause());
            for lexeme in second.by_ref() {
                joined.extend_from_slice(&behind[lexeme.start..lexeme.end]);
            }
            let mut whole = Lexer::lenient(json);
            let mut expected = Vec::new();
            for lexeme in whole.by_ref() {
                expected.extend_from_slice(&json[lexeme.start..lexeme.end]);
            }
            prop_assert_eq!(joined, expected);
            prop_assert_eq!(second.depth(), whole.depth());
        }
    }
}
