//! Who speaks to the hub and is no module. Pure.
//!
//! Any web page can make a browser send a POST of plain text to a port of this machine. Its body's
//! lines could be frames; but its request line comes first. So a connection on which no module
//! has registered ends with the first thing that is no frame, and all that is behind it is not
//! looked at. Once a module has registered, what it sends that is no JSON is ignored (WIRE 3.3).

use std::fmt;

use crate::fault::{Fault, FaultKind};

/// What is spoken instead of Juno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http,
    Tls,
    Other,
}

/// A TLS client's first byte: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// What HTTP requests begin with, HTTP/2's preface among them.
const METHODS: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI ",
];

impl Spoken {
    /// What a connection speaks whose first bytes these are; `None` where a frame may begin so.
    pub(super) fn of_beginning(bytes: &[u8]) -> Option<Self> {
        let begun = bytes.trim_ascii_start();
        let blank_line = bytes[..bytes.len() - begun.len()].contains(&b'\n');
        match begun.first() {
            None | Some(b'{') if !blank_line => None,
            _ => Some(Self::of(begun)),
        }
    }

    /// What a connection speaks one of whose lines this is.
    pub(super) fn of(line: &[u8]) -> Self {
        // Of a method that comes in pieces, the first piece is enough.
        let is_http = |method: &&[u8]| line.starts_with(method) || method.starts_with(line);
        match line.first() {
            Some(&TLS_HANDSHAKE) => Spoken::Tls,
            Some(_) if METHODS.iter().any(is_http) => Spoken::Http,
            _ => Spoken::Other,
        }
    }

    /// What whoever speaks it is told.
    pub(super) fn fault(self) -> Fault {
        let message = format!(
            "this is {self}, and the hub speaks Juno: one JSON object a line, the first of which \
             registers a module ([http] listen is for HTTP)"
        );
        Fault::not_sent(FaultKind::ParseError, message)
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spoken::Http => "HTTP",
            Spoken::Tls => "TLS",
            Spoken::Other => "something else",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings() {
        let cases: [(&[u8], Option<Spoken>); 17] = [
            (b"", None),
            (b" \r", None),
            (b" \r\n", Some(Spoken::Other)),
            (b" {\"type\":1", None),
            (b"\n{\"type\":1", Some(Spoken::Other)),
            (b"[1]", Some(Spoken::Other)),
            (b"5", Some(Spoken::Other)),
            (b"nonsense", Some(Spoken::Other)),
            (b"POST / HTTP/1.1\r\n{", Some(Spoken::Http)),
            (b"\r\nGET /", Some(Spoken::Http)),
            (b"PO", Some(Spoken::Http)),
            (b"PRI * HTTP/2.0", Some(Spoken::Http)),
            (b"\x16\x03\x01", Some(Spoken::Tls)),
            (b"SSH-2.0-x", Some(Spoken::Other)),
            (b"\0\x01", Some(Spoken::Other)),
            (b"\xef\xbb\xbf{", Some(Spoken::Other)),
            ("é".as_bytes(), Some(Spoken::Other)),
        ];
        for (bytes, spoken) in cases {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(Spoken::of_beginning(bytes), spoken, "{shown:?}");
        }
        assert_eq!(Spoken::of(b"nonsense"), Spoken::Other);
    }
}
