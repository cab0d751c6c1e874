//! Lays out JSON text without reading its values: spaces between tokens come and go, the tokens
//! stay as they were written. So 2^70, `1e400`, `-0`, `1.10`, lone surrogates, duplicate keys
//! and the order of keys come out as they went in.
//!
//! The text must be valid JSON. Other text comes out unharmed, though not laid out well.

use std::borrow::Cow;

use super::output::{Paint, Role};
use crate::json::lexer::{Container, Kind, Lexer};
use crate::printable::is_unprintable;

/// Containers deeper than this stay on one line: each level costs its indentation again.
const DEEPEST: usize = 64;
const INDENT: &str = "  ";

/// Indented, for a person on a terminal. Characters in strings that would steer the terminal
/// are written as the escapes that mean the same.
pub fn pretty(raw: &str, paint: Paint) -> String {
    let mut layout = Layout { text: String::with_capacity(raw.len() * 2), paint, open: Vec::new() };
    let mut lexemes = lexemes(raw).peekable();
    while let Some((kind, text)) = lexemes.next() {
        match kind {
            Kind::Open(container) => {
                layout.open.push(container == Container::Object);
                layout.push(Role::Faint, text);
                let empty = matches!(lexemes.peek(), Some((Kind::Close(_), _)) | None);
                if empty {
                    if let Some((Kind::Close(_), bracket)) = lexemes.next() {
                        layout.push(Role::Faint, bracket);
                    }
                    layout.open.pop();
                } else {
                    layout.line_break();
                }
            }
            Kind::Close(_) => {
                let depth = layout.open.len();
                layout.open.pop();
                layout.line_break_at(depth);
                layout.push(Role::Faint, text);
            }
            Kind::Comma => {
                layout.push(Role::Faint, ",");
                layout.line_break();
            }
            Kind::Colon => {
                layout.push(Role::Faint, ":");
                layout.text.push(' ');
            }
            Kind::Text | Kind::Scalar => {
                let is_key = matches!(lexemes.peek(), Some((Kind::Colon, _)));
                layout.scalar(text, is_key);
            }
        }
    }
    layout.text
}

/// On one line: as it came, without the white space that holds line breaks, if there are any.
pub fn one_line(raw: &str, paint: Paint) -> String {
    let raw = raw.trim_matches([' ', '\t', '\r', '\n']);
    // JSON strings hold no raw line breaks, so one that is there is white space between lexemes.
    if !raw.contains(['\n', '\r']) && !paint.colours() {
        return raw.to_owned();
    }
    let mut layout = Layout { text: String::with_capacity(raw.len()), paint, open: Vec::new() };
    let mut lexemes = lexemes(raw).peekable();
    while let Some((kind, text)) = lexemes.next() {
        match kind {
            Kind::Open(_) | Kind::Close(_) | Kind::Comma | Kind::Colon => {
                layout.push(Role::Faint, text);
            }
            Kind::Text | Kind::Scalar => {
                let role = role_of(text, matches!(lexemes.peek(), Some((Kind::Colon, _))));
                layout.push(role, text);
            }
        }
    }
    layout.text
}

struct Layout {
    text: String,
    paint: Paint,
    /// The containers that are open, by whether they are objects.
    open: Vec<bool>,
}

impl Layout {
    fn push(&mut self, role: Role, token: &str) {
        self.paint.push(&mut self.text, role, token);
    }

    fn scalar(&mut self, scalar: &str, is_key: bool) {
        let role = role_of(scalar, is_key);
        self.push(role, &escaped(scalar));
    }

    fn line_break(&mut self) {
        self.line_break_at(self.open.len());
    }

    /// Breaks the line around what stands at `depth`, and indents the next for what is open.
    fn line_break_at(&mut self, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        self.text.push('\n');
        for _ in 0..self.open.len() {
            self.text.push_str(INDENT);
        }
    }
}

/// JSON text on one line, for a terminal: with the escapes that mean the same in the place of characters that would
/// steer it. Colours stay, which JSON text has none of.
pub fn escaped(text: &str) -> Cow<'_, str> {
    let steers = |c: char| is_unprintable(c) && !matches!(c, '\n' | '\t' | '\x1b');
    if !text.contains(steers) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

fn role_of(scalar: &str, is_key: bool) -> Role {
    match scalar.as_bytes().first() {
        Some(b'"') if is_key => Role::Key,
        Some(b'"') => Role::Text,
        Some(b'-' | b'0'..=b'9') => Role::Number,
        _ => Role::Word,
    }
}

/// The lexemes of a text, each with what stands there.
fn lexemes(raw: &str) -> impl Iterator<Item = (Kind, &str)> {
    // Every lexeme begins and ends beside ASCII, or where the text does.
    Lexer::new(raw.as_bytes())
        .map(|lexeme| (lexeme.kind, raw.get(lexeme.start..lexeme.end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_comes_out_as_it_went_in() {
        let tokens = [
            "1180591620717411303424",
            "1e400",
            "-0",
            "1.10",
            "9007199254740993",
            r#""\ud800 \u00e9 \/ \"x\" \\""#,
            r#""玄関""#,
            "true",
            "null",
        ];
        for token in tokens {
            assert_eq!(pretty(token, Paint::PLAIN), token);
            assert_eq!(one_line(token, Paint::PLAIN), token);
            let raw = format!("{{\"a\":[{token},{token}],\"a\":{token}}}");
            let shown =
                format!("{{\n  \"a\": [\n    {token},\n    {token}\n  ],\n  \"a\": {token}\n}}");
            assert_eq!(pretty(&raw, Paint::PLAIN), shown);
            assert_eq!(one_line(&raw, Paint::PLAIN), raw);
            assert_eq!(one_line(&shown, Paint::PLAIN), raw);
        }
    }

    #[test]
    fn layout() {
        let cases = [
            ("{}", "{}"),
            ("[ ]", "[]"),
            (r#"{"b":{},"a":[]}"#, "{\n  \"b\": {},\n  \"a\": []\n}"),
            (r#"["a:b","{[,"]"#, "[\n  \"a:b\",\n  \"{[,\"\n]"),
            ("[[1],[2]]", "[\n  [\n    1\n  ],\n  [\n    2\n  ]\n]"),
        ];
        for (raw, shown) in cases {
            assert_eq!(pretty(raw, Paint::PLAIN), shown);
            assert_eq!(pretty(shown, Paint::PLAIN), shown, "laid out twice");
        }
    }

    #[test]
    fn one_line_is_the_text_itself_where_it_has_no_line_break() {
        let cases = [
            (" {\"a\": 1, \"b\": [1, 2]} \n", "{\"a\": 1, \"b\": [1, 2]}"),
            ("{\n  \"a\": \"x y\",\r\n \"b\": 2\n}", "{\"a\":\"x y\",\"b\":2}"),
        ];
        for (raw, line) in cases {
            assert_eq!(one_line(raw, Paint::PLAIN), line);
        }
    }

    #[test]
    fn colours_tell_keys_strings_numbers_and_words_apart() {
        let shown = pretty(r#"{"k":["s",1,null]}"#, Paint::COLOUR);
        for part in ["\x1b[34;1m\"k\"", "\x1b[32m\"s\"", "\x1b[36m1", "\x1b[35mnull"] {
            assert!(shown.contains(part), "{part:?} in {shown:?}");
        }
    }

    #[test]
    fn strings_cannot_steer_the_terminal() {
        assert_eq!(pretty("\"\u{9b}31m\u{7f}\"", Paint::PLAIN), r#""\u009b31m\u007f""#);
        assert_eq!(pretty("\"\u{e0041}\"", Paint::PLAIN), r#""\udb40\udc41""#);
        assert_eq!(escaped("[\"\u{202e}\u{feff}é\"]\n"), "[\"\\u202e\\ufeffé\"]\n");
    }

    #[test]
    fn nesting_costs_no_more_than_its_own_length() {
        let raw = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(pretty(&raw, Paint::PLAIN).len() < 250_000);
    }

    #[test]
    fn broken_text_does_no_harm() {
        for raw in ["", "{", "[1", "\"abc", "\"abc\\", "}}", ",", "{]"] {
            let shown = pretty(raw, Paint::PLAIN);
            assert!(shown.len() <= raw.len() + 8, "{raw:?}");
        }
    }
}
