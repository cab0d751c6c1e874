//! The frames that go out, each written as one line.

use super::frame::{Frame, text};
use super::members::Key;

/// A call's id on the callee's side. Genkan's own: no two callers can share one, and one that was
/// once given out can be told from one that never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::protocol::juno) struct CallId {
    /// The place in the table of calls.
    pub(in crate::protocol::juno) index: u32,
    /// How often that place had been used before.
    pub(in crate::protocol::juno) generation: u32,
}

impl CallId {
    const MARK: u8 = b'g';

    /// Reads a `requestId` with its quotes; `None` for what Genkan never writes. A callee may
    /// write it with other escapes: `"\u00670"`.
    pub(in crate::protocol::juno) fn parse(raw: &str) -> Option<Self> {
        let inner = text(raw)?;
        let inner = inner.as_bytes();
        let digits = inner.strip_prefix(&[Self::MARK])?;
        if digits.is_empty() || digits.len() > 20 || (digits[0] == b'0' && digits.len() > 1) {
            return None;
        }
        let mut number = 0_u64;
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        }
        // Both halves are u32 by construction.
        Some(Self { index: number as u32, generation: (number >> 32) as u32 })
    }

    fn write(self, to: &mut impl Sink) {
        to.put(&[Self::MARK]);
        write_number(to, (u64::from(self.generation) << 32) | u64::from(self.index));
    }
}

/// The members that a frame has beside its own: those of another one that pass on as they are.
#[derive(Clone, Copy, Debug)]
pub(in crate::protocol::juno) struct Rest<'a> {
    frame: Option<&'a Frame<'a>>,
    /// A bit for each key that does not pass.
    except: u16,
    /// One that Genkan adds, with its key; empty for none.
    added: &'a str,
}

impl<'a> Rest<'a> {
    /// None at all.
    pub(in crate::protocol::juno) const NONE: Rest<'static> = Rest::added("");
    /// That an answer is another call's, which had the same key.
    pub(in crate::protocol::juno) const REPLAYED: Rest<'static> =
        Rest::added(r#""meta":{"idempotencyReplayed":true}"#);

    /// All of a frame's members but some.
    pub(in crate::protocol::juno) fn of(frame: &'a Frame<'a>, except: &[Key]) -> Self {
        let except = except.iter().fold(0, |bits, key| bits | 1 << *key as u16);
        Self { frame: Some(frame), except, added: "" }
    }

    /// One member that is written here, with its key.
    pub(in crate::protocol::juno) const fn added(added: &'a str) -> Self {
        Self { frame: None, except: 0, added }
    }

    fn write(self, to: &mut impl Sink) {
        if !self.added.is_empty() {
            to.put(b",");
            to.put(self.added.as_bytes());
        }
        let Some(frame) = self.frame else { return };
        for (key, name) in Key::ALL {
            if self.except & (1 << key as u16) == 0
                && let Some(value) = frame.raw(key)
            {
                to.put(b",\"");
                to.put(name.as_bytes());
                to.put(b"\":");
                to.put(value.as_bytes());
            }
        }
        for member in frame.others() {
            to.put(b",");
            to.put(member.as_bytes());
        }
    }
}

/// What frames are written to.
pub(in crate::protocol::juno) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts.
struct Length(usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// A frame for a module. Ids and texts are raw JSON strings with their quotes, payloads raw JSON.
#[derive(Clone, Copy, Debug)]
pub(in crate::protocol::juno) enum OutgoingFrame<'a> {
    /// Type 0.
    Error { request_id: &'a str, number: i64, message: &'a str, data: Option<&'a str> },
    /// Type 0, from a callee, with whatever else it sent: clients decode `error` as an integer and
    /// `message` as a string, which a callee may not have sent.
    ForeignError {
        request_id: &'a str,
        number: i64,
        message: &'a str,
        data: &'a str,
        rest: Rest<'a>,
    },
    /// Type 2.
    Registered { request_id: &'a str },
    /// Type 3. `function` is a callable name, `caller` a raw JSON string.
    Call { id: CallId, function: &'a str, caller: &'a str, arguments: &'a str, rest: Rest<'a> },
    /// Type 4, with or without data, and whatever else the callee sent.
    Answer { request_id: &'a str, data: Option<&'a str>, rest: Rest<'a> },
    /// Type 6.
    Listening { request_id: &'a str },
    /// Type 8 for whoever triggered.
    Triggered { request_id: &'a str },
    /// Type 8 for a listener: hook and data are always there.
    Hook { serial: u64, hook: &'a str, data: &'a str },
    /// Type 10: the real Rust client waits for ever without `function`.
    Declared { request_id: &'a str, function: &'a str },
}

impl OutgoingFrame<'_> {
    /// How many bytes [`OutgoingFrame::write`] writes.
    pub(in crate::protocol::juno) fn length(&self) -> usize {
        let mut length = Length(0);
        self.write(&mut length);
        length.0
    }

    /// Appends the frame and the end of its line.
    pub(in crate::protocol::juno) fn write(&self, to: &mut impl Sink) {
        match *self {
            OutgoingFrame::Error { request_id, number, message, data } => {
                head(to, request_id, b",\"type\":0,\"error\":");
                write_signed(to, number);
                to.put(b",\"message\":");
                write_text(to, message);
                member(to, b",\"data\":", data);
            }
            OutgoingFrame::ForeignError { request_id, number, message, data, rest } => {
                head(to, request_id, b",\"type\":0,\"error\":");
                write_signed(to, number);
                to.put(b",\"message\":");
                write_text(to, message);
                member(to, b",\"data\":", Some(data));
                rest.write(to);
            }
            OutgoingFrame::Registered { request_id } => head(to, request_id, b",\"type\":2"),
            OutgoingFrame::Call { id, function, caller, arguments, rest } => {
                to.put(b"{\"requestId\":\"");
                id.write(to);
                to.put(b"\",\"type\":3,\"function\":\"");
                to.put(function.as_bytes());
                to.put(b"\",\"caller\":");
                to.put(caller.as_bytes());
                to.put(b",\"arguments\":");
                to.put(arguments.as_bytes());
                rest.write(to);
            }
            OutgoingFrame::Answer { request_id, data, rest } => {
                head(to, request_id, b",\"type\":4");
                member(to, b",\"data\":", data);
                rest.write(to);
            }
            OutgoingFrame::Listening { request_id } => head(to, request_id, b",\"type\":6"),
            OutgoingFrame::Triggered { request_id } => head(to, request_id, b",\"type\":8"),
            OutgoingFrame::Hook { serial, hook, data } => {
                to.put(b"{\"requestId\":\"juno");
                write_number(to, serial);
                to.put(b"\",\"type\":8,\"hook\":");
                to.put(hook.as_bytes());
                to.put(b",\"data\":");
                to.put(data.as_bytes());
            }
            OutgoingFrame::Declared { request_id, function } => {
                head(to, request_id, b",\"type\":10");
                member(to, b",\"function\":", Some(function));
            }
        }
        to.put(b"}\n");
    }
}

fn head(to: &mut impl Sink, request_id: &str, rest: &[u8]) {
    to.put(b"{\"requestId\":");
    to.put(request_id.as_bytes());
    to.put(rest);
}

fn member(to: &mut impl Sink, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        to.put(key);
        to.put(value.as_bytes());
    }
}

fn write_signed(to: &mut impl Sink, number: i64) {
    if number < 0 {
        to.put(b"-");
    }
    write_number(to, number.unsigned_abs());
}

fn write_number(to: &mut impl Sink, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder by ten fits a byte.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.put(&digits[at..]);
}

/// Appends a text as a JSON string.
pub(in crate::protocol::juno) fn write_text(to: &mut impl Sink, text: &str) {
    to.put(serde_json::Value::from(text).to_string().as_bytes());
}

/// A text as a raw JSON string.
pub(in crate::protocol::juno) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scan::{Line, scan};
    use super::*;

    fn line(frame: &OutgoingFrame<'_>) -> String {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        assert_eq!(bytes.len(), frame.length());
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn frames_as_captured() {
        let rest = Rest::NONE;
        let id = CallId { index: 7, generation: 1 };
        let cases = [
            (
                OutgoingFrame::Registered { request_id: "\"a-1\"" },
                r#"{"requestId":"a-1","type":2}"#,
            ),
            (
                OutgoingFrame::Hook { serial: 12, hook: "\"juno.activated\"", data: "{}" },
                r#"{"requestId":"juno12","type":8,"hook":"juno.activated","data":{}}"#,
            ),
            (
                OutgoingFrame::Declared { request_id: "\"i\"", function: "\"add\"" },
                r#"{"requestId":"i","type":10,"function":"add"}"#,
            ),
            (
                OutgoingFrame::Call {
                    id,
                    function: "add",
                    caller: "\"c\"",
                    arguments: "{\"a\":1}",
                    rest,
                },
                r#"{"requestId":"g4294967303","type":3,"function":"add","caller":"c","arguments":{"a":1}}"#,
            ),
            (
                OutgoingFrame::Answer { request_id: "\"i\"", data: Some("7.0"), rest },
                r#"{"requestId":"i","type":4,"data":7.0}"#,
            ),
            (
                OutgoingFrame::Answer { request_id: "\"i\"", data: None, rest },
                r#"{"requestId":"i","type":4}"#,
            ),
            (OutgoingFrame::Listening { request_id: "\"i\"" }, r#"{"requestId":"i","type":6}"#),
            (OutgoingFrame::Triggered { request_id: "\"i\"" }, r#"{"requestId":"i","type":8}"#),
            (
                OutgoingFrame::Error {
                    request_id: "\"undefined\"",
                    number: 2,
                    message: "a \"b\"",
                    data: None,
                },
                r#"{"requestId":"undefined","type":0,"error":2,"message":"a \"b\""}"#,
            ),
        ];
        for (frame, expected) in cases {
            assert_eq!(line(&frame), format!("{expected}\n"));
        }
    }

    #[test]
    fn the_rest_passes_as_it_came() {
        let came = r#"{"type":4,"requestId":"g1","x":1.10,"data":2,"error":"é","y\u0031":[ ]}"#;
        let Line::Object(members) = scan(came.as_bytes()) else { panic!("an object") };
        let frame = Frame::new(members);
        let rest = Rest::of(&frame, &[Key::Type, Key::RequestId, Key::Data]);
        let out = OutgoingFrame::Answer { request_id: "\"i\"", data: frame.raw(Key::Data), rest };
        let expected = r#"{"requestId":"i","type":4,"data":2,"error":"é","x":1.10,"y\u0031":[ ]}"#;
        assert_eq!(line(&out), format!("{expected}\n"));
    }

    #[test]
    fn ids_that_are_not_ours() {
        for raw in
            ["\"g\"", "\"g01\"", "\"g-1\"", "\"7\"", "g7", "\"g18446744073709551616\"", "\"g1x\""]
        {
            assert_eq!(CallId::parse(raw), None, "{raw}");
        }
    }

    #[test]
    fn ids_may_be_escaped_otherwise() {
        let id = CallId { index: 7, generation: 0 };
        for raw in [r#""g7""#, r#""\u00677""#, r#""g\u0037""#, r#""\u0067\u0037""#] {
            assert_eq!(CallId::parse(raw), Some(id), "{raw}");
        }
        assert_eq!(CallId::parse(r#""g7\ud800""#), None);
    }

    proptest! {
        #[test]
        fn ids_come_back(index in any::<u32>(), generation in any::<u32>()) {
            let id = CallId { index, generation };
            let mut raw = b"\"".to_vec();
            id.write(&mut raw);
            raw.push(b'"');
            prop_assert_eq!(CallId::parse(std::str::from_utf8(&raw).expect("digits")), Some(id));
        }
    }
}
