//! What a stream says of a message that it was to store: `{"stream":"S","seq":1}`, with `"duplicate":true`
//! where it knows the message's `Nats-Msg-Id` already; or an `error` (ADR-1, and the server's `errors.json`).

use serde::Deserialize;

use super::consumer::ApiError;
use super::{Message, is_no_responders};
use crate::event::Undelivered;

/// The stream that a message is for: another one does not take it.
pub(super) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// The server's numbers for what is wrong.
const TOO_LARGE: u32 = 10054;
const STORE_FAILED: u32 = 10077;
const ANOTHER_STREAM: u32 = 10060;

#[derive(Deserialize)]
struct Confirm {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

/// What says nothing of the message: the server has no leader, no room for anything (as RabbitMQ's alarms), or too
/// much to do; or the message is being stored.
const OUTAGES: [u32; 14] = [
    10007, 10008, 10009, 10023, 10028, 10039, 10041, 10044, 10047, 10076, 10118, 10158, 10167,
    10194,
];

/// What a place says that has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Confirmed {
    /// It has it now.
    New,
    /// It had it already, by its `Nats-Msg-Id`.
    Known,
}

/// Why a stream has not stored a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Unstored {
    /// Nobody takes its subject: there is no such stream, or nobody who speaks for it now.
    Nobody(String),
    /// That is known.
    Because(Undelivered),
}

impl From<Undelivered> for Unstored {
    fn from(undelivered: Undelivered) -> Self {
        Self::Because(undelivered)
    }
}

/// Whether a stream has stored a message that went to a subject; else why not, with the mend.
pub(in crate::protocol::nats) fn confirmed(
    message: &Message,
    stream: &str,
    subject: &str,
) -> Result<Confirmed, Unstored> {
    let unavailable = |reason: String| Err(Undelivered::Unavailable(reason).into());
    if is_no_responders(message) {
        return Err(Unstored::Nobody(format!(
            "no stream takes `{subject}`: make the stream `{stream}` with that subject (nats stream add), or \
             start nats-server with JetStream (-js)"
        )));
    }
    let Ok(Confirm { seq, duplicate, error }) = serde_json::from_slice(&message.payload) else {
        return unavailable(format!(
            "what answers on `{subject}` is no stream: give the subject to `{stream}` alone"
        ));
    };
    let Some(error) = error else {
        return match seq {
            0 => unavailable(format!("the stream `{stream}` does not say that it has it")),
            _ if duplicate => Ok(Confirmed::Known),
            _ => Ok(Confirmed::New),
        };
    };
    let (code, said) = (error.err_code, error.words());
    match code {
        TOO_LARGE => Err(Undelivered::Refused(format!(
            "it is larger than the stream `{stream}` takes: raise its `max_msg_size`"
        ))
        .into()),
        code if OUTAGES.contains(&code) => Err(Undelivered::Unreachable(format!(
            "JetStream cannot store anything in `{stream}` now: {said}"
        ))
        .into()),
        STORE_FAILED => unavailable(format!(
            "the stream `{stream}` cannot store it ({said}): raise its limits, or let it discard old messages"
        )),
        ANOTHER_STREAM => unavailable(format!(
            "another stream takes `{subject}`: give the subject to `{stream}`, or correct the address"
        )),
        _ => unavailable(format!("the stream `{stream}` does not take it: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_says() {
        let said = |body: &'static str| {
            confirmed(&Message { payload: body.into(), ..Message::default() }, "S", "a.b")
        };
        assert_eq!(said(r#"{"stream":"S","seq":7}"#), Ok(Confirmed::New));
        let again = r#"{"stream":"S","seq":7,"duplicate":true,"domain":"d"}"#;
        assert_eq!(said(again), Ok(Confirmed::Known));
        for (body, words) in [
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#,
                "maximum messages exceeded",
            ),
            (
                r#"{"error":{"code":400,"err_code":10060,"description":"x"}}"#,
                "another stream takes `a.b`",
            ),
            (r#"{"error":{"code":500,"err_code":1,"description":"odd"}}"#, "odd"),
            (r#"{"stream":"S"}"#, "does not say"),
            ("[1]", "no stream"),
            ("", "no stream"),
        ] {
            let Err(Unstored::Because(Undelivered::Unavailable(reason))) = said(body) else {
                panic!("{body}")
            };
            assert!(reason.contains(words), "{body}: {reason}");
        }
        let large = said(r#"{"error":{"code":400,"err_code":10054,"description":"x"}}"#);
        assert!(
            matches!(large, Err(Unstored::Because(Undelivered::Refused(reason))) if reason.contains("max_msg_size"))
        );
        for body in [
            r#"{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}"#,
            r#"{"error":{"code":503,"err_code":10023,"description":"insufficient resources"}}"#,
        ] {
            let outage = said(body);
            assert!(
                matches!(outage, Err(Unstored::Because(Undelivered::Unreachable(_)))),
                "{outage:?}"
            );
        }
        let nobody = Message { headers: "NATS/1.0 503\r\n\r\n".into(), ..Message::default() };
        let Err(Unstored::Nobody(reason)) = confirmed(&nobody, "S", "a.b") else { panic!() };
        assert!(reason.contains("nats stream add"), "{reason}");
    }
}
