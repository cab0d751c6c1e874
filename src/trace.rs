//! W3C Trace Context, as far as a call carries it.

use std::fmt;

use crate::hex::write_hex;

/// W3C trace context: the value of `traceparent`, given by the caller or made here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceParent([u8; Self::LENGTH]);

impl TraceParent {
    /// The length of a version 00 header: `00-{32 hex}-{16 hex}-{2 hex}`.
    pub const LENGTH: usize = 55;

    /// Makes a new one for a call that came without.
    pub fn generate() -> Self {
        let mut text = *b"00-................................-................-01";
        // An all-zero id is invalid (Trace Context, section 3.2.2.3); `| 1` rules it out.
        write_hex(&mut text[3..35], &(fastrand::u128(..) | 1).to_be_bytes());
        write_hex(&mut text[36..52], &(fastrand::u64(..) | 1).to_be_bytes());
        Self(text)
    }

    /// Reads a header value; `None` for what Trace Context says to ignore.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = text.as_bytes().get(..Self::LENGTH)?.try_into().ok()?;
        let part = |from: usize, to: usize| {
            let part = &bytes[from..to];
            let hex = part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            (hex && (to - from == 2 || part.iter().any(|b| *b != b'0'))).then_some(())
        };
        let dashes = bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
        let length_fits = text.len() == Self::LENGTH
            || (&bytes[..2] != b"00" && text.as_bytes()[Self::LENGTH] == b'-');
        part(0, 2).and(part(3, 35)).and(part(36, 52)).and(part(53, 55))?;
        (dashes && length_fits && &bytes[..2] != b"ff").then_some(Self(*bytes))
    }

    /// The header's value.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The trace id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.as_str()[3..35]
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_traceparent_is_valid_and_new() {
        let (one, other) = (TraceParent::generate(), TraceParent::generate());
        assert_eq!(TraceParent::parse(one.as_str()), Some(one));
        assert_ne!(one.trace_id(), other.trace_id());
    }

    #[test]
    fn traceparents_are_read_as_the_standard_says() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceParent::parse(valid).expect("valid").trace_id(), &valid[3..35]);
        let cases = [
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later", true),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01later", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(TraceParent::parse(text).is_some(), expected, "{text}");
        }
    }
}
