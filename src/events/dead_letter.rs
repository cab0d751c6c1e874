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

/// Why an event is laid down.
pub(super) struct Cause<'a> {
    pub(super) reason: &'a str,
    /// Where the bridge's events come from.
    pub(super) bridge: &'a str,
    /// The targets that do not have it.
    pub(super) to: &'a [String],
}

/// What is laid down: `{"topic", "id", "reason", "bridge", "to", "data"}`, with `encoding` where the data stands for
/// what came; the data is `null` where it is left out.
pub(super) fn dead_letter(event: &Event, cause: &Cause<'_>, held: Option<Held>) -> Payload {
    let quoted = |text: &str| Payload::from_text(text).as_str().to_owned();
    let to: Vec<String> = cause.to.iter().map(|place| quoted(place)).collect();
    let text = format!(
        r#"{{"topic":{},"id":{},"reason":{},"bridge":{},"to":[{}],"data":{}{}}}"#,
        quoted(&event.topic),
        quoted(&event.id),
        quoted(cause.reason),
        quoted(cause.bridge),
        to.join(","),
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
        let cause = Cause { reason: "no", bridge: "bus:a", to: &["hub:b.c".to_owned()] };
        dead_letter(&event, &cause, held).as_str().to_owned()
    }

    #[test]
    fn a_letter_says_what_its_data_is() {
        let own = letter(Payload::from_validated("1.10".into()), Some(Held::Event));
        let expected =
            r#"{"topic":"a","id":"1","reason":"no","bridge":"bus:a","to":["hub:b.c"],"data":1.10}"#;
        assert_eq!(own, expected);
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
