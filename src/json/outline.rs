//! Checks text against all of JSON's grammar, and tells where the members of an object stand: the
//! one walk that a payload gets.
//!
//! Values are passed, not built. What is open is kept in bits instead of the stack, so no text can
//! exhaust it.

use super::lexer::Container;
use super::repair::python_word;
use super::scanner::{Scanner, behind_scalar};

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
    /// It would be JSON up to here, but for `NaN` or `Infinity`, as Python writes them.
    Python,
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
    let mut reader = Reader::new(text, limit);
    let first = reader.next()?;
    let container = reader.whole(first, &mut member)?;
    reader.end(container)
}

/// What is told of each of several values.
pub(crate) enum Part<'a> {
    /// A member of the one that has begun.
    Member(Member<'a>),
    /// That one has ended; it is an object, an array or neither.
    End(Option<Container>),
}

/// The same where a text may be an array: its elements are told of, else the text itself is.
pub(crate) fn outline_each<'a>(
    text: &'a str,
    limit: usize,
    mut part: impl FnMut(Part<'a>),
) -> Result<Outline, Flaw> {
    let mut reader = Reader::new(text, limit);
    let mut at = reader.next()?;
    if reader.byte(at) != b'[' {
        let container = reader.whole(at, &mut |member| part(Part::Member(member)))?;
        part(Part::End(container));
        return reader.end(container);
    }
    reader.open(Container::Array)?;
    at = reader.next()?;
    while reader.byte(at) != b']' {
        let container = reader.whole(at, &mut |member| part(Part::Member(member)))?;
        part(Part::End(container));
        at = reader.next()?;
        match reader.byte(at) {
            b',' => at = reader.next()?,
            b']' => break,
            _ => return Err(Flaw::Broken),
        }
        if reader.byte(at) == b']' {
            return Err(Flaw::Broken);
        }
    }
    reader.end(Some(Container::Array))
}

struct Reader<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    limit: usize,
    /// How many containers are open.
    depth: usize,
    deepest: usize,
    /// A bit for each of them: set where it is an object.
    objects: [u64; MOST / WORD],
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, limit: usize) -> Self {
        debug_assert!(limit <= MOST, "no more is kept of what is open");
        let limit = limit.min(MOST);
        let (scanner, objects) = (Scanner::new(text.as_bytes()), [0; MOST / WORD]);
        Self { text, scanner, limit, depth: 0, deepest: 0, objects }
    }

    /// Passes the value that begins there, whose members are told: what it is.
    fn whole(
        &mut self,
        at: usize,
        member: &mut impl FnMut(Member<'a>),
    ) -> Result<Option<Container>, Flaw> {
        if self.byte(at) == b'{' {
            self.members(member)?;
            return Ok(Some(Container::Object));
        }
        self.value(at)?;
        Ok((self.byte(at) == b'[').then_some(Container::Array))
    }

    /// Nothing may stand behind the value.
    fn end(mut self, container: Option<Container>) -> Result<Outline, Flaw> {
        match self.scanner.next() {
            None if self.scanner.is_sound() => Ok(Outline { container, depth: self.deepest }),
            _ => Err(Flaw::Broken),
        }
    }

    /// Where the next lexeme begins.
    #[inline(always)]
    fn next(&mut self) -> Result<usize, Flaw> {
        self.scanner.next().ok_or(Flaw::Broken)
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes()[at]
    }

    /// What stands between the beginning of a value and that of the lexeme behind it.
    fn slice(&self, start: usize, behind: usize) -> &'a str {
        self.text[start..behind].trim_end_matches([' ', '\t', '\r', '\n'])
    }

    /// Passes an object's members and its end, from behind its opening bracket.
    fn members(&mut self, member: &mut impl FnMut(Member<'a>)) -> Result<(), Flaw> {
        self.open(Container::Object)?;
        let mut start = self.next()?;
        if self.byte(start) == b'}' {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            let colon = self.behind_key(start)?;
            let value = self.next()?;
            self.value(value)?;
            let behind = self.next()?;
            let key = self.slice(start, colon);
            member(Member {
                key: &key[1..key.len() - 1],
                value: self.slice(value, behind),
                whole: self.slice(start, behind),
            });
            match self.byte(behind) {
                b',' => start = self.next()?,
                b'}' => {
                    self.depth -= 1;
                    return Ok(());
                }
                _ => return Err(Flaw::Broken),
            }
        }
    }

    /// Passes the key that stands there: where its colon is.
    #[inline(always)]
    fn behind_key(&mut self, key: usize) -> Result<usize, Flaw> {
        if self.byte(key) != b'"' {
            return Err(Flaw::Broken);
        }
        let colon = self.next()?;
        if self.byte(colon) == b':' { Ok(colon) } else { Err(Flaw::Broken) }
    }

    /// Passes the value that begins there.
    fn value(&mut self, mut at: usize) -> Result<(), Flaw> {
        let around = self.depth;
        let mut inside = Container::Array;
        loop {
            // Here a value begins.
            match self.byte(at) {
                b'"' => {}
                bracket @ (b'{' | b'[') => {
                    inside = if bracket == b'{' { Container::Object } else { Container::Array };
                    self.open(inside)?;
                    at = self.next()?;
                    if self.byte(at) != closing(inside) {
                        at = self.behind_key_of(inside, at)?;
                        continue;
                    }
                    self.close(&mut inside);
                }
                _ => self.scalar(at)?,
            }
            // Here one has ended.
            loop {
                if self.depth == around {
                    return Ok(());
                }
                at = self.next()?;
                match self.byte(at) {
                    b',' => {
                        at = self.next()?;
                        at = self.behind_key_of(inside, at)?;
                        break;
                    }
                    bracket if bracket == closing(inside) => self.close(&mut inside),
                    _ => return Err(Flaw::Broken),
                }
            }
        }
    }

    /// Where the value begins of a container's element or member that begins there.
    #[inline(always)]
    fn behind_key_of(&mut self, container: Container, at: usize) -> Result<usize, Flaw> {
        match container {
            Container::Array => Ok(at),
            Container::Object => {
                self.behind_key(at)?;
                self.next()
            }
        }
    }

    /// Passes a number or word.
    #[inline(always)]
    fn scalar(&self, at: usize) -> Result<(), Flaw> {
        let text = &self.text.as_bytes()[at..];
        match behind_scalar(text) {
            Some([] | [b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n', ..]) => Ok(()),
            _ if python_word(text).is_some() => Err(Flaw::Python),
            _ => Err(Flaw::Broken),
        }
    }

    fn open(&mut self, container: Container) -> Result<(), Flaw> {
        self.depth += 1;
        if self.depth > self.limit {
            return Err(Flaw::TooDeep);
        }
        self.deepest = self.deepest.max(self.depth);
        let (word, bit) = place(self.depth);
        match container {
            Container::Object => self.objects[word] |= bit,
            Container::Array => self.objects[word] &= !bit,
        }
        Ok(())
    }

    /// Closes a container: what it stands in is `inside` now, where that is one.
    #[inline(always)]
    fn close(&mut self, inside: &mut Container) {
        self.depth -= 1;
        if self.depth > 0 {
            let (word, bit) = place(self.depth);
            let is_object = self.objects[word] & bit != 0;
            *inside = if is_object { Container::Object } else { Container::Array };
        }
    }
}

fn closing(container: Container) -> u8 {
    match container {
        Container::Object => b'}',
        Container::Array => b']',
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

    #[test]
    fn elements_are_told_of_one_after_the_other() {
        let told = |text| {
            let mut told = String::new();
            let found = outline_each(text, 9, |part| match part {
                Part::Member(Member { key, value, .. }) => {
                    told.push_str(&format!("{key}={value} "))
                }
                Part::End(container) => told.push_str(&format!("{container:?};")),
            });
            found.map(|_| told)
        };
        let several = told(r#"[ {"a":1,"b":[2]} , [3],{}, 4]"#).expect("JSON");
        assert_eq!(several, "a=1 b=[2] Some(Object);Some(Array);Some(Object);None;");
        assert_eq!(told(r#" {"a":{}} "#).expect("JSON"), "a={} Some(Object);");
        assert_eq!(told("7").expect("JSON"), "None;");
        assert_eq!(told(" [ ] ").expect("JSON"), "");
        for broken in ["[", "[]]", "[1,]", "[,1]", "[1 2]", "[{}}", "[{]", "[[]", "[1}"] {
            assert_eq!(told(broken), Err(Flaw::Broken), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"([\[\]{},:"\\ 0-9.eE+\-truefalsnu]|"a"|"\\u00e9":|\{"a":1\}|\[1,2\]){0,24}"#) {
            let known: Result<&RawValue, _> = serde_json::from_str(&text);
            prop_assert_eq!(depth(&text, MOST).is_ok(), known.is_ok(), "{}", text);
            let each = outline_each(&text, MOST, |_| {});
            prop_assert_eq!(each.is_ok(), known.is_ok(), "{}", text);
        }

        /// Wherever a block of the scanner's begins and ends.
        #[test]
        fn agrees_with_serde_json_however_long_it_is(
            parts in prop::collection::vec(prop_oneof![
                Just("\"\\\\\\\"".to_owned()), Just("\\".to_owned()), Just("\"".to_owned()),
                Just(" ".to_owned()), Just(",".to_owned()), Just("é".to_owned()),
                Just("\"a\":".to_owned()), Just("\u{1}".to_owned()), "[x\"\\\\]{1,70}", "[0-9]{1,70}",
            ], 0..6),
            broken in any::<bool>(),
        ) {
            let inside = parts.concat();
            let text = if broken {
                format!("[\"{inside}\"]")
            } else {
                format!("[{}, 1.5]", serde_json::Value::from(inside))
            };
            let known: Result<&RawValue, _> = serde_json::from_str(&text);
            prop_assert_eq!(depth(&text, MOST).is_ok(), known.is_ok(), "{}", text);
        }
    }
}
