//! Replies: each dialect's way to say a result or an error, and NATS's own.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::headers::Headers;
use super::request::{is_falsy, last_token};
use super::{Dialect, Message};
use crate::call::{Payload, Reply, Request, TraceParent};
use crate::fault::{Fault, FaultKind, Outcome, RemoteCode, RemoteError};
use crate::json::{self, REPLY_DEPTH};

const TRACE_PARENT: &str = "traceparent";
const SERVICE_ERROR: &str = "Nats-Service-Error";
const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
/// The status of a reply that the server gives, because nobody listens.
const NO_RESPONDERS: u16 = 503;

/// What a reply says. The result is a part of the message's own bytes, unless it had to be
/// repaired, which sets `repaired`.
pub(in crate::protocol::nats) fn decode(
    dialect: Dialect,
    request: &Request<'_>,
    message: Message,
    repaired: &mut bool,
) -> Result<Reply, Fault> {
    if is_no_responders(&message) {
        return Err(no_responders(request));
    }
    let block = message.headers;
    let headers = Headers::new(&block);
    let payload = match dialect {
        Dialect::Picom => picom(request, message.payload)?,
        Dialect::Plain => plain(request, message.payload, repaired)?,
        Dialect::Micro => match service_error(headers, &message.payload) {
            Some(fault) => return Err(fault),
            None => plain(request, message.payload, repaired)?,
        },
    };
    check_depth(request, payload.as_bytes())?;
    let trace = headers.get(TRACE_PARENT);
    Ok(Reply { payload, trace: trace.and_then(|trace| TraceParent::parse(&trace)) })
}

/// Whether the server itself has answered, because nobody listens.
pub(in crate::protocol::nats) fn is_no_responders(message: &Message) -> bool {
    message.payload.is_empty() && Headers::new(&message.headers).status() == Some(NO_RESPONDERS)
}

fn no_responders(request: &Request<'_>) -> Fault {
    let (service, method) = (request.service, request.method);
    Fault::not_sent(
        FaultKind::UnknownService,
        format!("nobody on this NATS listens to `{service}.{method}`: is `{service}` running?"),
    )
}

/// ADR-32: an error is in the headers, whatever the body holds. Its description is the message, and
/// what the service says beside it, in the body, is kept.
fn service_error(headers: Headers<'_>, body: &Bytes) -> Option<Fault> {
    let text = headers.get(SERVICE_ERROR);
    let code = headers.get(SERVICE_ERROR_CODE);
    if text.is_none() && code.is_none() {
        return None;
    }
    let described = text.as_deref().filter(|text| !text.is_empty());
    let code = code.as_deref().filter(|code| !code.is_empty());
    let message = match (described, code) {
        (Some(text), _) => text.to_owned(),
        (None, Some(code)) => format!("the service answered with error {code}"),
        (None, None) => "the service answered with an error".to_owned(),
    };
    let remote = RemoteError {
        info: error_body(body).or_else(|| described.map(Payload::from_text)),
        code: code.map(RemoteCode::parse),
        ..RemoteError::default()
    };
    Some(Fault::application(message, remote))
}

/// An error's body: JSON as it is, unless it nests too deep; else its text.
fn error_body(body: &Bytes) -> Option<Payload> {
    if body.trim_ascii().is_empty() {
        return None;
    }
    let json = serde_json::from_slice::<&RawValue>(body).ok();
    match json.filter(|_| !json::nests_deeper_than(body, REPLY_DEPTH)) {
        Some(value) => Some(slice(body, value)),
        None => Some(Payload::from_text(&String::from_utf8_lossy(body))),
    }
}

/// Refuses a result or an error that nests too deep.
fn check_depth(request: &Request<'_>, json: &[u8]) -> Result<(), Fault> {
    if json::nests_deeper_than(json, REPLY_DEPTH) {
        return Err(bad_reply(request, &format!("is nested more than {REPLY_DEPTH} levels deep")));
    }
    Ok(())
}

fn plain(request: &Request<'_>, body: Bytes, repaired: &mut bool) -> Result<Payload, Fault> {
    if body.trim_ascii().is_empty() {
        return Ok(Payload::NULL);
    }
    let error = match serde_json::from_slice::<&RawValue>(&body) {
        Ok(value) => return Ok(slice(&body, value)),
        Err(error) => error,
    };
    // Python's `NaN` and `Infinity`. JavaScript, and with it Picom, writes `null` by itself.
    let mended = json::repair(&body).map(Bytes::from);
    let value = mended.as_ref().and_then(|mended| {
        let value = serde_json::from_slice::<&RawValue>(mended).ok()?;
        Some(slice(mended, value))
    });
    *repaired = value.is_some();
    value.ok_or_else(|| bad_reply(request, &no_json(&body, &error)))
}

/// Which rule the reply breaks, without the parser's own words.
fn no_json(body: &[u8], error: &serde_json::Error) -> String {
    format!("is not JSON: it breaks off at byte {}", json::broken_at(body, error))
}

/// A Picom reply as its JavaScript client reads it (WIRE, section 2.2): a true `error` wins, a
/// missing `payload` is undefined, the last of two equal keys counts, other keys do not.
fn picom(request: &Request<'_>, body: Bytes) -> Result<Payload, Fault> {
    let envelope = parse_envelope(request, &body)?;
    if let Some(error) = envelope.error.filter(|error| !is_falsy(error.get().as_bytes())) {
        check_depth(request, error.get().as_bytes())?;
        return Err(picom_error(request, &body, error));
    }
    Ok(envelope.payload.map_or(Payload::NULL, |payload| slice(&body, payload)))
}

fn picom_error(request: &Request<'_>, body: &Bytes, error: &RawValue) -> Fault {
    let info = slice(body, error);
    let Some(text) = json_text(error) else {
        let remote = RemoteError { info: Some(info), ..RemoteError::default() };
        return Fault::application(error.get().to_owned(), remote);
    };
    // The name must be ours. Even then nothing is certain: a service that ran, and passes on what a
    // call of its own got, says the same where the other method has the same name.
    let unknown = text.strip_prefix("Method not found \"").and_then(|rest| rest.strip_suffix('"'));
    if unknown == Some(last_token(request.method)) {
        let message = format!("`{}` has no method `{}`", request.service, request.method);
        return Fault::new(FaultKind::UnknownMethod, Outcome::Unknown, message);
    }
    if text == "Bad JSON request" {
        let message = format!("`{}` could not read the params: {text}", request.service);
        return Fault::new(FaultKind::InvalidParams, Outcome::Unknown, message);
    }
    let remote = RemoteError { info: Some(info), ..RemoteError::default() };
    Fault::application(text, remote)
}

/// The part of `body` that `value` was parsed from.
fn slice(body: &Bytes, value: &RawValue) -> Payload {
    Payload::from_validated(body.slice_ref(value.get().as_bytes()))
}

fn bad_reply(request: &Request<'_>, what: &str) -> Fault {
    let (service, method) = (request.service, request.method);
    Fault::new(
        FaultKind::Internal,
        Outcome::Executed,
        format!("`{service}` broke its protocol: its reply to `{service}.{method}` {what}"),
    )
}

#[derive(Default)]
struct Envelope<'a> {
    payload: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

fn parse_envelope<'a>(request: &Request<'_>, body: &'a [u8]) -> Result<Envelope<'a>, Fault> {
    let what = match body.trim_ascii().first() {
        None => "is empty".to_owned(),
        Some(b'{') => match parse_object(body) {
            Ok(envelope) => return Ok(envelope),
            Err(error) => no_json(body, &error),
        },
        Some(_) => match serde_json::from_slice::<&RawValue>(body) {
            Ok(_) => "is not a JSON object".to_owned(),
            Err(error) => no_json(body, &error),
        },
    };
    Err(bad_reply(request, &what))
}

fn parse_object(body: &[u8]) -> Result<Envelope<'_>, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(body);
    let envelope = parser.deserialize_map(EnvelopeVisitor)?;
    parser.end()?;
    Ok(envelope)
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Payload => envelope.payload = Some(map.next_value()?),
                Key::Error => envelope.error = Some(map.next_value()?),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(envelope)
    }
}

enum Key {
    Payload,
    Error,
    Other,
}

impl<'de> de::Deserialize<'de> for Key {
    /// As bytes, because JavaScript allows lone surrogates in a key, and Rust's strings do not.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E: de::Error>(self, key: &[u8]) -> Result<Key, E> {
        Ok(match key {
            b"payload" => Key::Payload,
            b"error" => Key::Error,
            _ => Key::Other,
        })
    }
}

/// A JSON string's text, lone surrogates replaced; `None` for any other value.
fn json_text(value: &RawValue) -> Option<String> {
    if !value.get().starts_with('"') {
        return None;
    }
    serde_json::Deserializer::from_str(value.get()).deserialize_bytes(TextVisitor).ok()
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

/// What the server does not permit.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Violation<'a> {
    /// To publish to this subject.
    Publish(&'a str),
    /// To subscribe to this subject.
    Subscription(&'a str),
}

/// Reads a server's error; `None` for one that is not about permissions.
pub(in crate::protocol::nats) fn violation(error: &str) -> Option<Violation<'_>> {
    let (action, rest) = error.strip_prefix("Permissions Violation for ")?.split_once(" to \"")?;
    let (subject, _) = rest.split_once('"')?;
    match action {
        "Publish" => Some(Violation::Publish(subject)),
        "Subscription" => Some(Violation::Subscription(subject)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;
    use crate::call::Params;

    fn reply_with(body: &[u8], headers: &[(&'static str, &str)]) -> Message {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let block = format!("NATS/1.0\r\n{}\r\n", lines.collect::<String>());
        Message {
            subject: "_INBOX.x.1".into(),
            headers: if headers.is_empty() { Bytes::new() } else { block.into() },
            payload: Bytes::copy_from_slice(body),
        }
    }

    fn decoded(dialect: Dialect, message: Message) -> Result<Reply, Fault> {
        decode(dialect, &Sample::new(Params::None).request(), message, &mut false)
    }

    fn result(dialect: Dialect, body: &str) -> Result<String, Fault> {
        let reply = decoded(dialect, reply_with(body.as_bytes(), &[]))?;
        Ok(reply.payload.as_str().to_owned())
    }

    #[test]
    fn picom_results() {
        for (body, expected) in [
            (r#"{"payload":7}"#, "7"),
            (r#"{"payload":"text"}"#, "\"text\""),
            (r#"{"payload":null}"#, "null"),
            (r#"{"payload":0}"#, "0"),
            (r#"{"payload":false}"#, "false"),
            ("{}", "null"),
            (r#"{"x":1}"#, "null"),
            (r#"{"jsonrpc":"2.0","result":5,"id":1}"#, "null"),
            (" \r\n\t{ \"payload\" : [ 1.10 , -0 ] , \"x\": {} } \n", "[ 1.10 , -0 ]"),
            (r#"{"payload":1,"payload":{"a":1,"a":2}}"#, r#"{"a":1,"a":2}"#),
            (r#"{"pay\u006coad":1}"#, "1"),
            (r#"{"\ud800":1,"payload":"\ud800"}"#, r#""\ud800""#),
            (
                r#"{"payload":[9007199254740993,1180591620717411303424,1e400]}"#,
                "[9007199254740993,1180591620717411303424,1e400]",
            ),
            (r#"{"error":null,"payload":1}"#, "1"),
            (r#"{"error":"","payload":1}"#, "1"),
            (r#"{"error":""}"#, "null"),
            (r#"{"error":false}"#, "null"),
            (r#"{"error":0,"payload":2}"#, "2"),
            (r#"{"error":1e-999,"payload":2}"#, "2"),
            (r#"{"error":"first","error":null,"payload":3}"#, "3"),
        ] {
            let found = result(Dialect::Picom, body).map_err(|fault| fault.message().to_owned());
            assert_eq!(found.as_deref(), Ok(expected), "{body}");
        }
    }

    #[test]
    fn a_result_is_a_part_of_the_reply() {
        let message = reply_with(br#"{"payload":{"a":1}}"#, &[]);
        let whole = message.payload.as_ptr_range();
        let payload = decoded(Dialect::Picom, message).expect("a result").payload;
        assert!(whole.contains(&payload.as_bytes().as_ptr()));
    }

    #[test]
    fn nesting_is_limited() {
        let nest = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let picom = |part: &str| result(Dialect::Picom, &format!(r#"{{"{part}":{}}}"#, nest(512)));
        assert_eq!(picom("payload").ok(), Some(nest(512)));
        assert_eq!(picom("error").unwrap_err().kind(), FaultKind::Application);
        assert_eq!(result(Dialect::Plain, &nest(512)).ok(), Some(nest(512)));
        for depth in [513, 100_000] {
            let deep = nest(depth);
            for (dialect, body) in [
                (Dialect::Picom, format!(r#"{{"payload":{deep}}}"#)),
                (Dialect::Picom, format!(r#"{{"error":{deep}}}"#)),
                (Dialect::Plain, deep.clone()),
                (Dialect::Micro, deep),
            ] {
                let fault = result(dialect, &body).expect_err("too deep");
                assert_eq!(
                    (fault.kind(), fault.outcome()),
                    (FaultKind::Internal, Outcome::Executed)
                );
                assert!(fault.message().contains("more than 512 levels"), "{}", fault.message());
            }
        }
    }

    #[test]
    fn picom_errors() {
        for (body, message, info) in [
            (r#"{"error":"an Error"}"#, "an Error", r#""an Error""#),
            (r#"{"payload":1,"error":"e"}"#, "e", r#""e""#),
            (r#"{"error":"e","payload":1}"#, "e", r#""e""#),
            (r#"{"error":"{\"n\":1}"}"#, r#"{"n":1}"#, r#""{\"n\":1}""#),
            (r#"{"error":5}"#, "5", "5"),
            (r#"{"error":{"code": 7}}"#, r#"{"code": 7}"#, r#"{"code": 7}"#),
            (r#"{"error":[]}"#, "[]", "[]"),
            (r#"{"error":true}"#, "true", "true"),
            (r#"{"error":"x\ud800"}"#, "x\u{fffd}\u{fffd}\u{fffd}", r#""x\ud800""#),
            (
                r#"{"error":"Method not found \"other\""}"#,
                "Method not found \"other\"",
                r#""Method not found \"other\"""#,
            ),
        ] {
            let fault = result(Dialect::Picom, body).expect_err(body);
            assert_eq!(fault.kind(), FaultKind::Application, "{body}");
            assert_eq!(fault.outcome(), Outcome::Executed);
            assert_eq!(fault.message(), message);
            let remote = fault.remote().expect("what the service said");
            assert_eq!(remote.info.as_ref().map(Payload::as_str), Some(info));
            assert_eq!((&remote.class, &remote.args, &remote.code), (&None, &None, &None));
        }
    }

    #[test]
    fn picom_errors_that_mean_more() {
        for (body, kind) in [
            (r#"{"error":"Method not found \"send\""}"#, FaultKind::UnknownMethod),
            (r#"{"error":"Bad JSON request"}"#, FaultKind::InvalidParams),
        ] {
            let fault = result(Dialect::Picom, body).expect_err(body);
            assert_eq!((fault.kind(), fault.outcome()), (kind, Outcome::Unknown), "{body}");
            assert!(fault.message().contains("mailer"), "{}", fault.message());
        }
    }

    #[test]
    fn replies_that_are_none() {
        let picom: [(&[u8], &str); 11] = [
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"null", "is not a JSON object"),
            (b"0", "is not a JSON object"),
            (b"[1]", "is not a JSON object"),
            (b"\"s\"", "is not a JSON object"),
            (b"{\"payload\":", "is not JSON"),
            (b"{\"payload\":1}x", "is not JSON"),
            (b"{\"payload\":NaN}", "is not JSON"),
            (b"{\"payload\":\"\xff\"}", "is not JSON"),
            (b"oops", "is not JSON"),
        ];
        let plain: [(&[u8], &str); 3] =
            [(b"oops", "is not JSON"), (b"1 2", "is not JSON"), (b"\"\xff\"", "is not JSON")];
        let cases = picom.map(|case| (Dialect::Picom, case)).into_iter();
        let others = plain.map(|case| (Dialect::Plain, case)).into_iter();
        for (dialect, (body, what)) in cases.chain(others) {
            let fault = decoded(dialect, reply_with(body, &[])).expect_err("no reply");
            assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::Executed));
            let message = fault.message();
            assert!(message.contains("`mailer`") && message.contains(what), "{message}");
            assert!(!message.contains("line"), "a parser's words: {message}");
        }
        let fault = decoded(Dialect::Plain, reply_with(b"[1, x]", &[])).expect_err("no JSON");
        assert!(fault.message().ends_with("byte 5"), "{}", fault.message());
    }

    #[test]
    fn python_numbers_are_repaired_and_told() {
        for dialect in [Dialect::Plain, Dialect::Micro] {
            for (body, expected, repairs) in [
                (r#"[NaN, 1, -Infinity, "NaN"]"#, Some(r#"[null, 1, null, "NaN"]"#), true),
                (" Infinity ", Some("null"), true),
                (r#"["NaN"]"#, Some(r#"["NaN"]"#), false),
                ("[NaN", None, false),
            ] {
                let (sample, mut repaired) = (Sample::new(Params::None), false);
                let message = reply_with(body.as_bytes(), &[]);
                let reply = decode(dialect, &sample.request(), message, &mut repaired);
                let found = reply.ok().map(|reply| reply.payload.as_str().to_owned());
                assert_eq!((found.as_deref(), repaired), (expected, repairs), "{body}");
            }
        }
    }

    #[test]
    fn plain_and_micro_results() {
        for dialect in [Dialect::Plain, Dialect::Micro] {
            for (body, expected) in [
                ("", "null"),
                (" \r\n ", "null"),
                (" 1.10\n", "1.10"),
                (r#"{"error":"e"}"#, r#"{"error":"e"}"#),
                (r#"{"payload":1}"#, r#"{"payload":1}"#),
                ("\"\\ud800\"", "\"\\ud800\""),
            ] {
                let found = result(dialect, body).map_err(|fault| fault.message().to_owned());
                assert_eq!(found.as_deref(), Ok(expected), "{body:?}");
            }
        }
    }

    #[test]
    fn micro_errors_are_in_headers() {
        const ERROR: &str = "Nats-Service-Error";
        const CODE: &str = "Nats-Service-Error-Code";
        for (body, headers, message, info, code) in [
            (
                "",
                &[(ERROR, "bad \"id\""), (CODE, "422")][..],
                "bad \"id\"",
                Some(r#""bad \"id\"""#),
                Some("422"),
            ),
            ("{\"result\":1}", &[(ERROR, "late")], "late", Some("{\"result\":1}"), None),
            (
                "not json",
                &[(CODE, "500")],
                "the service answered with error 500",
                Some("\"not json\""),
                Some("500"),
            ),
            ("", &[(ERROR, "x"), (CODE, "E42")], "x", Some("\"x\""), Some("\"E42\"")),
            (
                "1",
                &[(ERROR, ""), (CODE, "")],
                "the service answered with an error",
                Some("1"),
                None,
            ),
        ] {
            let fault = decoded(Dialect::Micro, reply_with(body.as_bytes(), headers))
                .expect_err("an error");
            assert_eq!(fault.kind(), FaultKind::Application);
            assert_eq!(fault.message(), message);
            let remote = fault.remote().expect("what the service said");
            assert_eq!(remote.info.as_ref().map(Payload::as_str), info);
            let found = remote.code.as_ref().map(RemoteCode::to_payload);
            assert_eq!(found.as_ref().map(Payload::as_str), code);
        }
        let others = decoded(Dialect::Picom, reply_with(b"{}", &[(ERROR, "x")]));
        assert!(others.is_ok(), "the headers mean nothing to Picom");
    }

    #[test]
    fn no_responders_are_an_unknown_service() {
        for dialect in [Dialect::Picom, Dialect::Plain, Dialect::Micro] {
            let headers = Bytes::from_static(b"NATS/1.0 503\r\n\r\n");
            let message = Message { headers, ..Message::default() };
            let fault = decoded(dialect, message).expect_err("nobody is there");
            assert_eq!(fault.kind(), FaultKind::UnknownService);
            assert_eq!(fault.outcome(), Outcome::NotSent);
            assert!(fault.message().contains("mailer.send"));
        }
    }

    #[test]
    fn a_trace_comes_back() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (header, expected) in [(trace, Some(trace)), ("nonsense", None)] {
            let message = reply_with(b"{}", &[("traceparent", header)]);
            let reply = decoded(Dialect::Picom, message).expect("a result");
            assert_eq!(reply.trace.as_ref().map(TraceParent::as_str), expected);
        }
    }

    #[test]
    fn violations() {
        for (text, expected) in [
            ("Permissions Violation for Publish to \"a.b\"", Some(Violation::Publish("a.b"))),
            (
                "Permissions Violation for Subscription to \"_INBOX.x.*\"",
                Some(Violation::Subscription("_INBOX.x.*")),
            ),
            ("Permissions Violation for Publish to a.b", None),
            ("Unknown Protocol Operation", None),
        ] {
            assert_eq!(violation(text), expected, "{text}");
        }
    }
}
