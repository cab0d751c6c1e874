//! The key by which a caller says that two requests of its are one: a repetition is not run again.
//!
//! Pure text. Over HTTP and NATS it is the header `Idempotency-Key`, a quoted string as
//! draft-ietf-httpapi-idempotency-key-header has it, or bare, as most clients send it; elsewhere a text.

use std::borrow::Cow;
use std::fmt;

use crate::fault::{Fault, FaultKind};
use crate::json::REQUEST_DEPTH;
use crate::json::members::members;

/// The longest key, in bytes.
pub const LONGEST: usize = 255;

/// A key. What it is made of can be sent on in any protocol's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: Box<str>,
    /// It came in a header, without quotes.
    is_bare: bool,
    claimed: Option<Box<str>>,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// There is nothing in it.
    Empty,
    /// It has so many bytes.
    TooLong(usize),
    /// It has something in it that headers cannot carry.
    Unprintable,
    /// It is neither a quoted string nor one bare word.
    Malformed,
    /// It is no text at all.
    NoText,
    /// There is more than one.
    Several,
}

impl IdempotencyKey {
    /// The key that is this text.
    pub fn new(text: &str) -> Result<Self, BadKey> {
        Self::of(text.to_owned(), false)
    }

    /// The key in the value of a header.
    pub fn from_header(value: &[u8]) -> Result<Self, BadKey> {
        let value = value.trim_ascii();
        // Looked at first: nothing that is longer, all of it escaped, is a key.
        if value.len() > 2 * LONGEST + 2 {
            return Err(BadKey::TooLong(value.len()));
        }
        let text = std::str::from_utf8(value).map_err(|_| BadKey::Unprintable)?;
        match text.strip_prefix('"') {
            Some(quoted) => Self::of(unquoted(quoted)?, false),
            // Where a line of several was made one, nobody can say which is meant.
            None if text.contains(['"', '\\', ',', ';', ' ']) => Err(BadKey::Malformed),
            None => Self::of(text.to_owned(), true),
        }
    }

    fn of(key: String, is_bare: bool) -> Result<Self, BadKey> {
        if key.is_empty() {
            return Err(BadKey::Empty);
        }
        if key.len() > LONGEST {
            return Err(BadKey::TooLong(key.len()));
        }
        let fits = key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !fits || key.starts_with(' ') || key.ends_with(' ') {
            return Err(BadKey::Unprintable);
        }
        Ok(Self { key: key.into(), is_bare, claimed: None })
    }

    /// The same, of a caller who says that it is somebody. Nobody need have verified that: it tells callers
    /// apart that are one to Genkan, and makes none another's equal.
    #[must_use]
    pub fn claimed_by(self, claimed: Option<&str>) -> Self {
        Self { claimed: claimed.map(Box::from), ..self }
    }

    /// Who its caller says that it is.
    pub fn claimed(&self) -> Option<&str> {
        self.claimed.as_deref()
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// The key as the header has it: bare where it came so, else quoted.
    pub fn to_header(&self) -> Cow<'_, str> {
        if self.is_bare {
            return Cow::Borrowed(&self.key);
        }
        let mut quoted = String::with_capacity(self.key.len() + 2);
        quoted.push('"');
        for char in self.key.chars() {
            if matches!(char, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(char);
        }
        quoted.push('"');
        Cow::Owned(quoted)
    }
}

/// What stands between quotes, of which the first has been taken (RFC 8941, section 4.2.5).
fn unquoted(text: &str) -> Result<String, BadKey> {
    let mut key = String::with_capacity(text.len());
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('"') if chars.as_str().is_empty() => return Ok(key),
            Some('\\') => match chars.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                _ => return Err(BadKey::Malformed),
            },
            None | Some('"') => return Err(BadKey::Malformed),
            Some(char) => key.push(char),
        }
    }
}

/// The key in the raw value of an envelope's `meta`: its member `idempotencyKey`. Whatever else stands there
/// is somebody else's.
pub fn of_meta(raw: &str) -> Result<Option<IdempotencyKey>, Fault> {
    if !raw.starts_with('{') {
        return Ok(None);
    }
    let found = members(raw, ["idempotencyKey"], REQUEST_DEPTH).ok();
    let value = found.and_then(|found| found.values[0]).filter(|value| *value != "null");
    let Some(value) = value else { return Ok(None) };
    let key = serde_json::from_str::<String>(value).map_err(|_| BadKey::NoText);
    let key = key.and_then(|text| IdempotencyKey::new(&text));
    key.map(Some).map_err(|bad| bad.fault("`meta.idempotencyKey`"))
}

impl BadKey {
    /// As the caller is told, who has put it into `place`. What it has put there is not repeated.
    pub fn fault(self, place: &str) -> Fault {
        let message = format!("{place} holds no idempotency key: {self}");
        Fault::not_sent(FaultKind::InvalidRequest, message)
    }
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadKey::Empty => write!(f, "it is empty: send a text that is new for each request"),
            BadKey::TooLong(length) => {
                write!(f, "it is {length} bytes, and {LONGEST} are taken at most: a UUID has 36")
            }
            BadKey::Unprintable => write!(
                f,
                "it has characters that are not visible ASCII, or a blank at an end: a UUID has none"
            ),
            BadKey::Malformed => {
                write!(f, "write one quoted string, \"8e03978e\", or the same without quotes")
            }
            BadKey::NoText => write!(f, "it must be a text: \"8e03978e\""),
            BadKey::Several => write!(f, "there are several: send one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_quoted_strings_or_bare() {
        let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        let long = "k".repeat(LONGEST);
        for (header, key, again) in [
            (uuid.to_owned(), uuid, uuid.to_owned()),
            (format!("  \"{uuid}\" "), uuid, format!("\"{uuid}\"")),
            (r#""a \"b\" \\ c""#.to_owned(), r#"a "b" \ c"#, r#""a \"b\" \\ c""#.to_owned()),
            ("a+/=:.~*'b".to_owned(), "a+/=:.~*'b", "a+/=:.~*'b".to_owned()),
            (long.clone(), &long, long.clone()),
        ] {
            let read = IdempotencyKey::from_header(header.as_bytes()).expect(&header);
            assert_eq!((read.as_str(), &*read.to_header()), (key, &*again));
        }
        for (header, why) in [
            ("", BadKey::Empty),
            ("  ", BadKey::Empty),
            ("\"\"", BadKey::Empty),
            ("\"", BadKey::Malformed),
            ("\"a", BadKey::Malformed),
            ("\"a\"b", BadKey::Malformed),
            ("\"a\";b=1", BadKey::Malformed),
            ("\"a\", \"b\"", BadKey::Malformed),
            (r#""a\b""#, BadKey::Malformed),
            ("a, b", BadKey::Malformed),
            ("a b", BadKey::Malformed),
            ("a\"b", BadKey::Malformed),
            ("a\tb", BadKey::Unprintable),
            ("\"a\tb\"", BadKey::Unprintable),
            ("\" a\"", BadKey::Unprintable),
            ("schl\u{fc}ssel", BadKey::Unprintable),
        ] {
            assert_eq!(IdempotencyKey::from_header(header.as_bytes()), Err(why), "{header:?}");
        }
        assert_eq!(IdempotencyKey::from_header(b"\xff"), Err(BadKey::Unprintable));
        let long = "k".repeat(LONGEST + 1);
        assert_eq!(IdempotencyKey::from_header(long.as_bytes()), Err(BadKey::TooLong(256)));
        let huge = "k".repeat(1 << 20);
        assert_eq!(IdempotencyKey::from_header(huge.as_bytes()), Err(BadKey::TooLong(1 << 20)));
    }

    #[test]
    fn a_fault_does_not_repeat_what_was_sent() {
        let fault = BadKey::Unprintable.fault("the header Idempotency-Key");
        assert_eq!(fault.kind(), FaultKind::InvalidRequest);
        assert!(fault.message().starts_with("the header Idempotency-Key holds no"), "{fault:?}");
    }

    #[test]
    fn an_envelope_has_it_in_its_meta() {
        let key = |raw| of_meta(raw).expect(raw).map(|key| key.as_str().to_owned());
        for (raw, expected) in [
            ("{}", None),
            ("7", None),
            (r#""idempotencyKey""#, None),
            (r#"{"idempotencyKey":null}"#, None),
            (r#"{"other":{"idempotencyKey":"a"}}"#, None),
            (r#"{"other":1,"idempotencyKey":"a b"}"#, Some("a b")),
            (r#"{ "idempotency\u004bey" : "\u0061" }"#, Some("a")),
        ] {
            assert_eq!(key(raw).as_deref(), expected, "{raw}");
        }
        for raw in ["7", "[]", r#""""#, r#""\n""#, r#""\ud800""#, r#"" ""#] {
            let raw = format!("{{\"idempotencyKey\":{raw}}}");
            assert_eq!(of_meta(&raw).expect_err(&raw).kind(), FaultKind::InvalidRequest);
        }
    }

    proptest! {
        #[test]
        fn what_is_a_key_is_the_same_one_in_a_header(text in "[ -~]{1,40}") {
            if let Ok(key) = IdempotencyKey::new(&text) {
                let read = IdempotencyKey::from_header(key.to_header().as_bytes()).expect("a key");
                prop_assert_eq!(read, key);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(key) = IdempotencyKey::from_header(&value) {
                prop_assert!(key.as_str().len() <= LONGEST);
            }
        }
    }
}
