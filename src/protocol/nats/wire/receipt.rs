//! A JetStream stream's receipt for a message that it stores: no service's answer.
//!
//! `{"stream":"S", "seq":1}`, where there is reason also with `domain`, `duplicate` and others, or
//! with an `error` object, if the stream could not store it. A service may answer an object that
//! looks like it; one that has any other key, or headers, is not taken for a receipt.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Message;

/// Longer than any receipt.
const LONGEST: usize = 2048;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipt {
    stream: String,
    #[serde(rename = "seq")]
    _seq: u64,
    #[serde(rename = "domain")]
    _domain: Option<String>,
    #[serde(rename = "duplicate")]
    _duplicate: Option<bool>,
    #[serde(rename = "error")]
    _error: Option<StreamError>,
    #[serde(rename = "batch")]
    _batch: Option<String>,
    #[serde(rename = "count")]
    _count: Option<u64>,
    #[serde(rename = "val")]
    _value: Option<String>,
}

#[derive(Deserialize)]
struct StreamError {
    #[serde(rename = "code")]
    _code: u64,
    #[serde(flatten)]
    _rest: std::collections::HashMap<String, IgnoredAny>,
}

/// The name of the stream, if the message is a receipt.
pub(in crate::protocol::nats) fn receipt(message: &Message) -> Option<String> {
    let body = &message.payload;
    // Nearly every reply ends here.
    if !message.headers.is_empty()
        || body.len() > LONGEST
        || body.first() != Some(&b'{')
        || memchr::memmem::find(body, b"\"stream\"").is_none()
    {
        return None;
    }
    serde_json::from_slice::<Receipt>(body).ok().map(|receipt| receipt.stream)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_a_stream_says() {
        for (body, stream) in [
            (r#"{"stream":"acmes", "seq":1}"#, Some("acmes")),
            (r#"{"stream":"acmes","seq":1}"#, Some("acmes")),
            ("{ \"seq\" : 1 ,\n\"stream\" : \"acmes\" }", Some("acmes")),
            (r#"{"stream":"a","domain":"hub","seq":7,"duplicate":true}"#, Some("a")),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"a","seq":0}"#,
                Some("a"),
            ),
            (r#"{"stream":"a","seq":1,"batch":"b","count":2}"#, Some("a")),
            (r#"{"stream":"a","seq":1,"title":"x"}"#, None),
            (r#"{"stream":"a"}"#, None),
            (r#"{"stream":"a","seq":"1"}"#, None),
            (r#"{"stream":"a","seq":-1}"#, None),
            (r#"{"stream":["a"],"seq":1}"#, None),
            (r#"{"stream":"a","seq":1,"error":"text"}"#, None),
            (r#"{"payload":{"stream":"a","seq":1}}"#, None),
            (r#"[{"stream":"a","seq":1}]"#, None),
            ("", None),
        ] {
            let message = Message { payload: body.into(), ..Message::default() };
            assert_eq!(receipt(&message).as_deref(), stream, "{body}");
            let headers = Bytes::from_static(b"NATS/1.0\r\ntraceparent: x\r\n\r\n");
            assert_eq!(receipt(&Message { headers, ..message }), None, "{body}, with headers");
        }
    }
}
