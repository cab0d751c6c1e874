//! What can be told of a line that is not read: one that is too long, or nests too deep.
//!
//! The line is passed over as it comes and not kept, nor checked to be JSON. Only who must be
//! told that it was refused is looked for: the `type` and the `requestId` of the frame.

use super::frame::{FrameType, text};
use crate::json::lexer::{Break, Kind, Lexeme, Lexer};

/// The longest raw `requestId` that is remembered.
pub(in crate::protocol::juno) const MAX_REQUEST_ID: usize = 4_096;

/// What a frame is, and under which id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol::juno) struct Head {
    /// Its type, if it is one that a module may send.
    pub(in crate::protocol::juno) frame_type: Option<FrameType>,
    /// Its `requestId`, raw, if it is a string of bearable length.
    pub(in crate::protocol::juno) request_id: Option<String>,
}

impl Head {
    /// Whether a callee ends a call by it.
    pub(in crate::protocol::juno) fn is_answer(&self) -> bool {
        matches!(self.frame_type, Some(FrameType::Answer | FrameType::Error))
    }
}

/// Looks for the head of a frame in the bytes of its line.
#[derive(Debug, Default)]
pub(in crate::protocol::juno) struct Skim {
    /// Where the bytes so far broke off.
    broken_off: Break,
    /// Whether what comes next stands before a colon.
    before_colon: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    head: Head,
}

impl Skim {
    /// Passes over the next bytes of the line.
    pub(in crate::protocol::juno) fn pass(&mut self, bytes: &[u8]) {
        let mut lexer = Lexer::resume(bytes, self.broken_off);
        while let Some(Lexeme { kind, start, end }) = lexer.next() {
            // Only the frame's own members are of interest, not what is inside of them.
            match (kind, lexer.depth()) {
                (Kind::Open(_), 1) => self.before_colon = true,
                (Kind::Comma, 1) | (Kind::Close(_), 0) => self.member_ends(),
                (Kind::Colon, 1) => self.before_colon = false,
                (Kind::Text | Kind::Scalar, 1) | (Kind::Open(_), 2) => {
                    self.keep(&bytes[start..end]);
                }
                _ => {}
            }
        }
        self.broken_off = lexer.pause();
    }

    /// What was found.
    pub(in crate::protocol::juno) fn head(self) -> Head {
        self.head
    }

    fn keep(&mut self, bytes: &[u8]) {
        let part = if self.before_colon { &mut self.key } else { &mut self.value };
        // One byte more tells that it is too long.
        let room = (MAX_REQUEST_ID + 1).saturating_sub(part.len());
        part.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn member_ends(&mut self) {
        let value = std::str::from_utf8(&self.value).unwrap_or_default();
        match self.key.as_slice() {
            b"\"type\"" => self.head.frame_type = FrameType::of(value),
            b"\"requestId\"" => {
                let id = Some(value).filter(|id| id.len() <= MAX_REQUEST_ID && text(id).is_some());
                self.head.request_id =
                    id.filter(|id| !id.contains(char::is_control)).map(str::to_owned);
            }
            _ => {}
        }
        self.key.clear();
        self.value.clear();
        self.before_colon = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scan::{Line, scan};
    use super::super::{Frame, Key};
    use super::*;

    fn head(line: &str) -> (Option<FrameType>, Option<String>) {
        let mut skim = Skim::default();
        skim.pass(line.as_bytes());
        let Head { frame_type, request_id } = skim.head();
        (frame_type, request_id)
    }

    #[test]
    fn finds_the_head() {
        let id = |text: &str| Some(text.to_owned());
        let call = Some(FrameType::Call);
        let cases = [
            (r#"{"type":3,"requestId":"x"}"#, call, id(r#""x""#)),
            (r#" { "requestId" : "\"}{" , "type" : 3 } "#, call, id(r#""\"}{""#)),
            (
                r#"{"arguments":{"type":4,"requestId":"y"},"type":3,"requestId":"x"}"#,
                call,
                id(r#""x""#),
            ),
            (
                r#"{"a":[[{"requestId":"y"}],"type",4],"requestId":"x","type":4}"#,
                Some(FrameType::Answer),
                id(r#""x""#),
            ),
            (r#"{"a":"\\","requestId":"x","b":","}"#, None, id(r#""x""#)),
            (r#"{"type":"3","requestId":7}"#, None, None),
            (r#"{"type":3,"requestId":{"a":1}}"#, call, None),
            (r#"{"type":3,"requestId":"unended"#, call, None),
            (r#"["type",3]"#, None, None),
            ("}}}]{\"type\":3}", call, None),
            ("", None, None),
        ];
        for (line, frame_type, request_id) in cases {
            assert_eq!(head(line), (frame_type, request_id), "{line}");
        }
        let long = format!(r#"{{"requestId":"{}","type":3}}"#, "x".repeat(MAX_REQUEST_ID));
        assert_eq!(head(&long), (call, None));
    }

    proptest! {
        #[test]
        fn agrees_with_the_scanner(
            id in r#"[a-z"\\{},:]{0,6}"#, number in 0..12_i64, text in r#"[a-z"\\{}\[\],:]{0,8}"#, first in any::<bool>(),
        ) {
            let data = serde_json::json!({"type": 7, "requestId": text, &text: [text, {"requestId": 1}]});
            let (id, text) = (serde_json::json!(id), serde_json::json!(text));
            let head_members = format!(r#""requestId":{id},"type":{number}"#);
            let rest = format!(r#""data":{data},"x":{text}"#);
            let line = if first { format!("{{{head_members},{rest}}}") } else { format!("{{{rest},{head_members}}}") };
            let Line::Object(members) = scan(line.as_bytes()) else { panic!("{line}") };
            let frame = Frame::new(members);
            let expected = (frame.frame_type().expect("a number"), frame.raw(Key::RequestId).map(str::to_owned));
            prop_assert_eq!(head(&line), expected);
        }
    }
}
