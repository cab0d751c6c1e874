//! Checks text against all of JSON's grammar, and tells where the members of an object stand.
//!
//! Values are passed, not built. What is open is kept in bits instead of the stack, so no text can
//! exhaust it.

use super::lexer::{Container, Kind, Lexer};

/// The most that a limit can allow.
const MOST: usize = 640;
const WORD: usize = u64::BITS as usize;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// An object, an array or neither.
    pub(crate) container: Option<Container>,
    /// How deep its arrays and objects nest.
    pub(crate) depth: usize,
}

/// Why a text has no outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is no JSON.
    Broken,
    /// It nests deeper than the limit. Whether it is JSON is not known.
    TooDeep,
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// The key, as it was written between its quotes.
    pub(crate) key: &'a str,
    /// The value.
    pub(crate) value: &'a str,
    /// Both, with the key's quotes and the colon.
    pub(crate) whole: &'a str,
}

/// Passes a text that nests at most `limit` deep. Where it is an object, `member` is told of its
/// members, in their order, before it is known whether the rest is JSON.
pub(crate) fn outline<'a>(
    text: &'a str,
    limit: usize,
    mut member: impl FnMut(Member<'a>),
) -> Result<Outline, Flaw> {
    debug_assert!(limit <= MOST, "no more is kept of what is open");
    let mut reader = Reader::new(text, limit.min(MOST));
    let first = reader.next()?;
    let container = match first {
        Kind::Open(container) => Some(container),
        _ => None,
    };
    if container == Some(Container::Object) {
        reader.members(&mut member)?;
    } else {
        reader.value(first)?;
    }
    match reader.lexer.advance() {
        None => Ok(Outline { container, depth: reader.deepest }),
        Some(_) => Err(Flaw::Broken),
    }
}

struct Reader<'a> {
    text: &'a str,
    lexer: Lexer<'a, true>,
    limit: usize,
    deepest: usize,
    /// A bit for each open container: set where it is an object.
    objects: [u64; MOST / WORD],
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, limit: usize) -> Self {
        let (lexer, objects) = (Lexer::strict(text.as_bytes()), [0; MOST / WORD]);
        Self { text, lexer, limit, deepest: 0, objects }
    }

    #[inline]
    fn next(&mut self) -> Result<Kind, Flaw> {
        self.lexer.advance().ok_or(Flaw::Broken)
    }

    /// Passes an object's members and its end, from behind its opening bracket.
    fn members(&mut self, member: &mut impl FnMut(Member<'a>)) -> Result<(), Flaw> {
        self.enter(Container::Object)?;
        let mut key = self.next()?;
        if key == Kind::Close(Container::Object) {
            return Ok(());
        }
        loop {
            let (text, start, key_end) = (self.text, self.lexer.start(), self.lexer.end());
            let first = self.behind_key(key)?;
            let value = self.lexer.start();
            let end = self.value(first)?;
            member(Member {
                key: &text[start + 1..key_end - 1],
                value: &text[value..end],
                whole: &text[start..end],
            });
            match self.next()? {
                Kind::Comma => key = self.next()?,
                Kind::Close(Container::Object) => return Ok(()),
                _ => return Err(Flaw::Broken),
            }
        }
    }

    /// Passes the colon behind a key: the first lexeme of its value.
    #[inline]
    fn behind_key(&mut self, key: Kind) -> Result<Kind, Flaw> {
        if key != Kind::Text || self.next()? != Kind::Colon {
            return Err(Flaw::Broken);
        }
        self.next()
    }

    /// Passes the value that `lexeme` begins: where it ends.
    fn value(&mut self, mut lexeme: Kind) -> Result<usize, Flaw> {
        let Kind::Open(mut inside) = lexeme else {
            let is_value = matches!(lexeme, Kind::Text | Kind::Scalar);
            return if is_value { Ok(self.lexer.end()) } else { Err(Flaw::Broken) };
        };
        let around = self.lexer.depth() - 1;
        loop {
            // Here a value begins.
            match lexeme {
                Kind::Text | Kind::Scalar => {}
                Kind::Open(container) => {
                    self.enter(container)?;
                    inside = container;
                    lexeme = self.next()?;
                    if lexeme != Kind::Close(container) {
                        if container == Container::Object {
                            lexeme = self.behind_key(lexeme)?;
                        }
                        continue;
                    }
                    if self.lexer.depth() == around {
                        return Ok(self.lexer.end());
                    }
                    inside = self.opened();
                }
                Kind::Close(_) | Kind::Comma | Kind::Colon | Kind::Broken => {
                    return Err(Flaw::Broken);
                }
            }
            // Here one has ended.
            loop {
                match self.next()? {
                    Kind::Comma => {
                        lexeme = self.next()?;
                        if inside == Container::Object {
                            lexeme = self.behind_key(lexeme)?;
                        }
                        break;
                    }
                    Kind::Close(container) if container == inside => {
                        if self.lexer.depth() == around {
                            return Ok(self.lexer.end());
                        }
                        inside = self.opened();
                    }
                    _ => return Err(Flaw::Broken),
                }
            }
        }
    }

    /// The last lexeme has opened a container.
    fn enter(&mut self, container: Container) -> Result<(), Flaw> {
        let depth = self.lexer.depth();
        if depth > self.limit {
            return Err(Flaw::TooDeep);
        }
        self.deepest = self.deepest.max(depth);
        let (word, bit) = place(depth);
        if container == Container::Object {
            self.objects[word] |= bit;
        } else {
            self.objects[word] &= !bit;
        }
        Ok(())
    }

    /// What the last lexeme stands in, where that is a container.
    fn opened(&self) -> Container {
        let (word, bit) = place(self.lexer.depth());
        if self.objects[word] & bit == 0 { Container::Array } else { Container::Object }
    }
}

/// The bit of a depth, which counts from one.
fn place(depth: usize) -> (usize, u64) {
    ((depth - 1) / WORD, 1 << ((depth - 1) % WORD))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn depth(text: &str, limit: usize) -> Result<usize, Flaw> {
        outline(text, limit, |_| {}).map(|outline| outline.depth)
    }

    #[test]
    fn members_in_their_order() {
        let text = r#" { "a" : 1,"b":[{"c":"}"}], "a":{} } "#;
        let mut members = Vec::new();
        let found = outline(text, 9, |Member { key, value, whole }| {
            members.push((key, value, whole));
        });
        assert_eq!(found, Ok(Outline { container: Some(Container::Object), depth: 3 }));
        let expected = [
            ("a", "1", r#""a" : 1"#),
            ("b", r#"[{"c":"}"}]"#, r#""b":[{"c":"}"}]"#),
            ("a", "{}", r#""a":{}"#),
        ];
        assert_eq!(members, expected);
    }

    #[test]
    fn the_limit_is_on_depth_alone() {
        assert_eq!(depth("[[],[],[[]]]", 3), Ok(3));
        assert_eq!(depth("[[],[],[[]]]", 2), Err(Flaw::TooDeep));
        assert_eq!(depth("7", 0), Ok(0));
        assert_eq!(depth("{}", 0), Err(Flaw::TooDeep));
        for limit in [1, 63, 64, 65, 128, 129, MOST] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let nest = |depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
                assert_eq!(depth(&nest(limit), limit), Ok(limit));
                assert_eq!(depth(&nest(limit + 1), limit), Err(Flaw::TooDeep));
                let wrong = nest(limit).replacen(close, if close == "]" { "}" } else { "]" }, 1);
                assert_eq!(depth(&wrong, limit), Err(Flaw::Broken), "{limit}");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"([\[\]{},:"\\ 0-9.eE+\-truefalsnu]|"a"|"\\u00e9":|\{"a":1\}|\[1,2\]){0,24}"#) {
            let known: Result<&RawValue, _> = serde_json::from_str(&text);
            prop_assert_eq!(depth(&text, MOST).is_ok(), known.is_ok(), "{}", text);
        }
    }
}
