//! A frame that came in.

use std::borrow::Cow;

use super::members::{Key, Members};

/// What a module asks or answers, by its `type` (WIRE 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::juno) enum FrameType {
    /// 0: a callee's error.
    Error,
    /// 1: a module introduces itself.
    Register,
    /// 3: a call.
    Call,
    /// 4: a callee's answer.
    Answer,
    /// 5: listen to a hook.
    Listen,
    /// 7: trigger a hook.
    Trigger,
    /// 9: declare a function.
    Declare,
}

impl FrameType {
    /// The type that a raw value names; `None` for what no module may send.
    pub(super) fn of(raw: &str) -> Option<Self> {
        Some(match raw {
            "0" => FrameType::Error,
            "1" => FrameType::Register,
            "3" => FrameType::Call,
            "4" => FrameType::Answer,
            "5" => FrameType::Listen,
            "7" => FrameType::Trigger,
            "9" => FrameType::Declare,
            _ => return None,
        })
    }
}

/// A line that is an object, its values raw.
#[derive(Debug, Default)]
pub(in crate::protocol::juno) struct Frame<'a>(Members<'a>);

impl<'a> Frame<'a> {
    /// The frame of an object's members.
    pub(in crate::protocol::juno) fn new(members: Members<'a>) -> Self {
        Self(members)
    }

    /// `Err` where `type` is missing or no integer, `Ok(None)` where no module may send it.
    pub(in crate::protocol::juno) fn frame_type(&self) -> Result<Option<FrameType>, ()> {
        let raw = self.0.get(Key::Type).ok_or(())?;
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(());
        }
        Ok(FrameType::of(raw))
    }

    /// `requestId`, if it is a string: raw, with its quotes, to be given back as it came.
    pub(in crate::protocol::juno) fn request_id(&self) -> Option<&'a str> {
        self.0.get(Key::RequestId).filter(|raw| raw.starts_with('"'))
    }

    /// The raw value of a key.
    pub(in crate::protocol::juno) fn raw(&self, key: Key) -> Option<&'a str> {
        self.0.get(key)
    }

    /// The value of a key, if it is a string that is valid Unicode.
    pub(in crate::protocol::juno) fn text(&self, key: Key) -> Option<Cow<'a, str>> {
        self.0.get(key).and_then(text)
    }

    /// The raw value of a key, if it is an object.
    pub(in crate::protocol::juno) fn object(&self, key: Key) -> Option<&'a str> {
        self.0.get(key).filter(|raw| raw.starts_with('{'))
    }

    /// The raw value of `meta`, which is Genkan's and passes like any member that the protocol does not
    /// name.
    pub(in crate::protocol::juno) fn meta(&self) -> Option<&'a str> {
        let value = |member: &&'a str| {
            let value = member.strip_prefix("\"meta\"")?.trim_ascii_start();
            value.strip_prefix(':').map(str::trim_ascii)
        };
        self.0.others().iter().rev().find_map(value)
    }

    /// Its line again, for whoever comes back to it later.
    pub(in crate::protocol::juno) fn line(&self) -> String {
        let named = Key::ALL.iter().filter_map(|(key, word)| {
            let value = self.0.get(*key)?;
            Some(format!("\"{word}\":{value}"))
        });
        let others = self.0.others().iter().map(|member| (*member).to_owned());
        format!("{{{}}}", named.chain(others).collect::<Vec<_>>().join(","))
    }

    /// The members with keys that the protocol does not name.
    pub(in crate::protocol::juno) fn others(&self) -> &[&'a str] {
        self.0.others()
    }
}

/// A raw JSON value's text, if it is a string that is valid Unicode: `"\ud800"` is none.
pub(in crate::protocol::juno) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Line, scan};
    use super::*;

    #[test]
    fn types() {
        let cases = [
            (r#"{"type":1}"#, Ok(Some(FrameType::Register))),
            (r#"{"type":0}"#, Ok(Some(FrameType::Error))),
            (r#"{"type":2}"#, Ok(None)),
            (r#"{"type":99}"#, Ok(None)),
            (r#"{"type":-3}"#, Ok(None)),
            (r#"{"type":99999999999999999999999}"#, Ok(None)),
            (r#"{"type":3.0}"#, Err(())),
            (r#"{"type":3e0}"#, Err(())),
            (r#"{"type":"3"}"#, Err(())),
            (r#"{"type":null}"#, Err(())),
            (r#"{}"#, Err(())),
        ];
        for (line, expected) in cases {
            let Line::Object(members) = scan(line.as_bytes()) else { panic!("{line}") };
            assert_eq!(Frame::new(members).frame_type(), expected, "{line}");
        }
    }

    #[test]
    fn a_frame_is_the_same_when_it_is_read_again() {
        let line = r#"{"x" : 1.10,"type":3,"\u0064ata":{"a" :[]},"y":"\ud800","requestId":"7"}"#;
        let Line::Object(members) = scan(line.as_bytes()) else { panic!("{line}") };
        let again = Frame::new(members).line();
        let expected = r#"{"type":3,"requestId":"7","data":{"a" :[]},"x" : 1.10,"y":"\ud800"}"#;
        assert_eq!(again, expected);
    }

    #[test]
    fn meta_is_found_among_the_others() {
        for (line, meta) in [
            (r#"{"type":3}"#, None),
            (r#"{"type":3,"metal":1,"arguments":{"meta":2}}"#, None),
            (r#"{"meta" : {"a":"meta"} ,"x":1}"#, Some(r#"{"a":"meta"}"#)),
            (r#"{"meta":1,"meta":2}"#, Some("2")),
        ] {
            let Line::Object(members) = scan(line.as_bytes()) else { panic!("{line}") };
            assert_eq!(Frame::new(members).meta(), meta, "{line}");
        }
    }

    #[test]
    fn strings() {
        assert_eq!(text(r#""a""#).as_deref(), Some("a"));
        assert_eq!(text(r#""a\u00e9\n""#).as_deref(), Some("aé\n"));
        assert_eq!(text(r#""\ud800""#), None);
        assert_eq!(text("5"), None);
        assert_eq!(text("\""), None);
    }
}
