//! Cuts text into lexemes that was checked before, or will be: it takes whatever stands between two
//! of JSON's marks, and text may come in pieces. Nothing is copied, and nothing allocated: bytes
//! in, spans out. What the grammar says of lexemes, and of their order, [`super::outline`] knows.

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
    /// A number, a word, or what stands in the place of one.
    Scalar,
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
pub(crate) struct Lexer<'a> {
    json: &'a [u8],
    at: usize,
    depth: usize,
    half: Half,
}

impl<'a> Lexer<'a> {
    /// Reads a text from its beginning.
    pub(crate) fn new(json: &'a [u8]) -> Self {
        Self::resume(json, Break::default())
    }

    /// Goes on where the piece before broke off: the rest of a string is a lexeme of its own, and
    /// so is the rest of anything else.
    pub(crate) fn resume(json: &'a [u8], Break { depth, half }: Break) -> Self {
        #[cfg(test)]
        super::walks::add(json.len());
        Self { json, at: 0, depth, half }
    }

    /// At the end of a piece: what to resume the next one with.
    pub(crate) fn pause(&self) -> Break {
        Break { depth: self.depth, half: self.half }
    }

    /// How many containers are open behind the last lexeme.
    #[inline]
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    fn open(&mut self, container: Container) -> Kind {
        self.depth += 1;
        Kind::Open(container)
    }

    fn close(&mut self, container: Container) -> Kind {
        self.depth = self.depth.saturating_sub(1);
        Kind::Close(container)
    }

    /// Passes a string, or what there is of it.
    fn text(&mut self) -> Kind {
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

    fn scalar(&mut self) -> Kind {
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

impl Iterator for Lexer<'_> {
    type Item = Lexeme;

    fn next(&mut self) -> Option<Lexeme> {
        if self.half != Half::Nothing {
            // A string without an end ends with the piece.
            let start = self.at;
            let kind = (start < self.json.len()).then(|| self.text())?;
            return Some(Lexeme { kind, start, end: self.at });
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let rest = &self.json[self.at..];
        let start = self.at + rest.iter().position(|byte| !is_blank(byte))?;
        self.at = start + 1;
        let kind = match self.json[start] {
            b'"' => self.text(),
            b',' => Kind::Comma,
            b':' => Kind::Colon,
            b'{' => self.open(Container::Object),
            b'[' => self.open(Container::Array),
            b'}' => self.close(Container::Object),
            b']' => self.close(Container::Array),
            _ => self.scalar(),
        };
        Some(Lexeme { kind, start, end: self.at })
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
        assert_eq!(shown(json, Lexer::new(json.as_bytes())), expected);
    }

    #[test]
    fn everything_is_taken() {
        for (json, expected) in [
            ("[NaN,-Infinity]", vec!["[", "NaN", ",", "-Infinity", "]"]),
            ("nul x\"", vec!["nul", "x", "\""]),
            ("\"a\\", vec!["\"a\\"]),
            ("01}é", vec!["01", "}", "é"]),
            ("", vec![]),
        ] {
            assert_eq!(shown(json, Lexer::new(json.as_bytes())), expected, "{json}");
        }
    }

    #[test]
    fn depth_is_that_behind_the_lexeme() {
        let mut lexer = Lexer::new(b"[{}]]1[");
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
            let mut first = Lexer::new(before);
            let mut joined: Vec<u8> = Vec::new();
            for lexeme in first.by_ref() {
                joined.extend_from_slice(&before[lexeme.start..lexeme.end]);
            }
            let mut second = Lexer::resume(behind, first.pause());
            for lexeme in second.by_ref() {
                joined.extend_from_slice(&behind[lexeme.start..lexeme.end]);
            }
            let mut whole = Lexer::new(json);
            let mut expected = Vec::new();
            for lexeme in whole.by_ref() {
                expected.extend_from_slice(&json[lexeme.start..lexeme.end]);
            }
            prop_assert_eq!(joined, expected);
            prop_assert_eq!(second.depth(), whole.depth());
        }
    }
}
