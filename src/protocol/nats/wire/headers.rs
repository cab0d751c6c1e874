//! A message's block of headers: `NATS/1.0 [STATUS [WORDS]]`, a `Name: value` a line, an empty line.
//!
//! Read as leniently as can be: services write what they like. A line without a colon is nobody's,
//! a status that is no number is none, and a value that is not UTF-8 is taken for Latin-1, which
//! every byte is.

use std::borrow::Cow;

const VERSION: &[u8] = b"NATS/1.0";

/// A block as it came.
#[derive(Clone, Copy)]
pub(super) struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// Of a message; an empty block has no headers.
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// The status in its first line.
    pub(super) fn status(self) -> Option<u16> {
        let first = self.lines().next()?.strip_prefix(VERSION)?;
        let word = first.trim_ascii().split(u8::is_ascii_whitespace).next()?;
        std::str::from_utf8(word).ok()?.parse().ok()
    }

    /// The words behind the status.
    pub(super) fn words(self) -> Cow<'a, str> {
        let first = self.lines().next().and_then(|line| line.strip_prefix(VERSION));
        let first = first.unwrap_or_default().trim_ascii();
        let end = first.iter().position(u8::is_ascii_whitespace).unwrap_or(first.len());
        text(first[end..].trim_ascii())
    }

    /// The first header of that name.
    pub(super) fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.lines().skip(1).find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let (found, value) = (line[..colon].trim_ascii(), &line[colon + 1..]);
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| text(value.trim_ascii()))
        })
    }

    /// Whether there are several of that name.
    pub(super) fn has_several(self, name: &str) -> bool {
        let is_it = |line: &&[u8]| {
            let name_of = memchr::memchr(b':', line).map(|colon| line[..colon].trim_ascii());
            name_of.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
        };
        self.lines().skip(1).filter(is_it).nth(1).is_some()
    }

    fn lines(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.iter().copied().map(char::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_service_writes_can_be_read() {
        let block = b"NATS/1.0 503 No Responders\r\nno colon here\r\nX-Error: ung\xfcltig\r\n\
            Empty:\r\n: nameless\r\nx-utf: \xc3\xbc \r\nTwice: a\r\nTwice: b\r\nBare: 1\nA: b:c\r\n\r\n";
        let headers = Headers::new(block);
        assert_eq!((headers.status(), &*headers.words()), (Some(503), "No Responders"));
        for (name, value) in [
            ("X-Error", Some("ung\u{fc}ltig")),
            ("X-Utf", Some("\u{fc}")),
            ("Empty", Some("")),
            ("Twice", Some("a")),
            ("Bare", Some("1")),
            ("A", Some("b:c")),
            ("no colon here", None),
            ("NATS/1.0 503 No Responders", None),
        ] {
            assert_eq!(headers.get(name).as_deref(), value, "{name}");
            assert_eq!(headers.has_several(name), name == "Twice", "{name}");
        }
    }

    #[test]
    fn a_status_that_is_no_number_is_none() {
        for (block, status) in [
            (&b"NATS/1.0\r\n\r\n"[..], None),
            (b"NATS/1.0 OK\r\n\r\n", None),
            (b"NATS/1.0 \xff\r\n\r\n", None),
            (b"NATS/1.0 408\r\n\r\n", Some(408)),
            (b"NATS/1.0   404   Not Found\r\n\r\n", Some(404)),
            (b"HTTP/1.1 503\r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(Headers::new(block).status(), status, "{block:?}");
        }
    }
}
