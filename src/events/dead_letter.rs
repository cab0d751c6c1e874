//! What is laid down of an event that did not get to its target. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::call::Payload;
use crate::event::Event;

/// What a letter's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The event's own.
    Event,
    /// What came in its place, which is no JSON: a string of it.
    Text,
    /// What came, which is no text either: a string of its base64.
    Bytes,
}

impl Held {
    /// What came, as a letter holds it.
    pub(super) fn of(body: &[u8]) -> (Payload, Self) {
        // Each of them would be six characters.
        let is_control = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
        match std::str::from_utf8(body) {
            Ok(text) if !text.contains(is_control) => (Payload::from_text(text), Self::Text),
            _ => (Payload::from_text(&STANDARD.encode(body)), Self::Bytes),
        }
    }

    /// What says so in the letter.
    fn member(self) -> &'static str {
        match self {
            Self::Event => "",
            Self::Text => r#","encoding":"text""#,
            Self::Bytes => r#","encoding":"base64""#,
        }
    }
}

/// What is laid down: `{"topic", "id", "reason", "data"}`, with `encoding` where the data stands for what came; the
/// data is `null` where it is left out.
pub(super) fn dead_letter(event: &Event, reason: &str, held: Option<Held>) -> Payload {
    let text = format!(
        r#"{{"topic":{},"id":{},"reason":{},"data":{}{}}}"#,
        Payload::from_text(&event.topic).as_str(),
        Payload::from_text(&event.id).as_str(),
        Payload::from_text(reason).as_str(),
        if held.is_some() { event.data.as_str() } else { "null" },
        held.map_or("", Held::member),
    );
    Payload::from_validated(text.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::call::Context;
    use crate::trace::TraceParent;

    fn letter(data: Payload, held: Option<Held>) -> String {
        let context = Arc::new(Context::new(TraceParent::generate()));
        let (topic, id, time) = ("a".into(), "1".into(), SystemTime::UNIX_EPOCH);
        let event = Event { topic, id, data, time, context };
        dead_letter(&event, "no", held).as_str().to_owned()
    }

    #[test]
    fn a_letter_says_what_its_data_is() {
        let own = letter(Payload::from_validated("1.10".into()), Some(Held::Event));
        assert_eq!(own, r#"{"topic":"a","id":"1","reason":"no","data":1.10}"#);
        for (body, end) in [
            (&b"{\"a\""[..], r#""data":"{\"a\"","encoding":"text"}"#),
            (b"\x00\xff\xfe", r#""data":"AP/+","encoding":"base64"}"#),
            (b"a\0", r#""data":"YQA=","encoding":"base64"}"#),
            (b"", r#""data":"","encoding":"text"}"#),
        ] {
            let (data, held) = Held::of(body);
            let letter = letter(data, Some(held));
            assert!(letter.ends_with(end), "{letter}");
        }
        assert!(letter(Payload::NULL, None).ends_with(r#""data":null}"#));
    }
}
