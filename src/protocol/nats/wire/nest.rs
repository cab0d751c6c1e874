//! NestJS's envelopes over NATS, as `@nestjs/microservices` 11 writes and reads them (its `client-nats`,
//! `server-nats` and their serializers; WIRE 8).
//!
//! ```text
//! call     {"pattern":"orders.create","data":{…},"id":"x"}     an event has no id
//! answers  {"response":1,"id":"x"} … {"response":2,"isDisposed":true,"id":"x"}, or {"isDisposed":true,…}
//! error    {"err":…,"isDisposed":true,"id":"x"}
//! ```
//!
//! The subject is the pattern: text as it is, an object as JSON text with its keys in order. A service
//! dies of a body that is no JSON, so none but these is sent.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::headers::Headers;
use super::reply::{bad_reply, is_no_responders, unreadable};
use super::request::is_falsy;
use super::{Message, told};
use crate::call::{Payload, Request};
use crate::fault::{Fault, FaultKind, Outcome, RemoteCode, RemoteError};
use crate::json::REPLY_DEPTH;
use crate::json::lexer::Container;
use crate::json::members::{Unreadable, foreign, unescaped};

/// What a service says of a pattern that it subscribes to and does not know.
const NO_HANDLER: &str = "There is no matching message handler defined in the remote service.";

/// The subject of a pattern: of an object, in whatever form somebody wrote it, the one that services
/// subscribe to (`transformPatternToRoute` in `@nestjs/microservices`).
pub(super) fn subject(pattern: &str) -> String {
    let object = pattern.starts_with('{').then(|| serde_json::from_str::<Value>(pattern).ok());
    object.flatten().map_or_else(|| pattern.to_owned(), |object| route(&object))
}

fn route(pattern: &Value) -> String {
    let mut entries: Vec<(String, &Value)> = match pattern {
        Value::Object(entries) => entries.iter().map(|(key, it)| (key.clone(), it)).collect(),
        // A list is an object to Nest.
        Value::Array(items) => {
            items.iter().enumerate().map(|(at, it)| (at.to_string(), it)).collect()
        }
        other => return other.to_string(),
    };
    // As JavaScript compares texts by locale: letters first, and of the same ones the small.
    entries.sort_by(|(one, _), (other, _)| {
        collated(one).cmp(collated(other)).then_with(|| other.cmp(one))
    });
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(key, value)| format!("{}:{}", Value::from(key), route(value)))
        .collect();
    format!("{{{}}}", entries.join(","))
}

/// ASCII's marks in the order that locales give them, before digits and letters.
const MARKS: &str = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";

/// What a text is sorted by.
fn collated(text: &str) -> impl Iterator<Item = (bool, usize, char)> + '_ {
    text.chars().flat_map(char::to_lowercase).map(|it| match MARKS.find(it) {
        Some(place) => (false, place, it),
        None => (true, 0, it),
    })
}

/// The body of a call; of an event where there is no id.
pub(in crate::protocol::nats) fn packet(subject: &str, data: &[u8], id: Option<&str>) -> Bytes {
    // Nest's own clients refuse to send nothing; an empty object is how they say it.
    let data = if data.is_empty() { b"{}" } else { data };
    let is_json = subject.starts_with('{') && serde_json::from_str::<&RawValue>(subject).is_ok();
    let pattern = if is_json { subject.to_owned() } else { Value::from(subject).to_string() };
    let mut packet = Vec::with_capacity(data.len() + pattern.len() + 64);
    packet.extend_from_slice(b"{\"pattern\":");
    packet.extend_from_slice(pattern.as_bytes());
    packet.extend_from_slice(b",\"data\":");
    packet.extend_from_slice(data);
    if let Some(id) = id {
        packet.extend_from_slice(b",\"id\":");
        packet.extend_from_slice(Value::from(id).to_string().as_bytes());
    }
    packet.push(b'}');
    packet.into()
}

/// What one message of an answer is: a stream has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Part {
    /// A value; more messages follow.
    More,
    /// The end, with a value or an error.
    Last,
    /// The end: the value before it was the last one.
    End,
}

/// Which part of an answer a message is.
pub(in crate::protocol::nats) fn part(message: &Message) -> Part {
    if is_no_responders(message) {
        return Part::Last;
    }
    // What cannot be read is told when it is.
    let Ok(answer) = Answer::read(&message.payload) else { return Part::Last };
    match answer {
        Answer { error: Some(_), .. } => Part::Last,
        Answer { response: None, is_disposed: true, .. } => Part::End,
        Answer { is_disposed: true, .. } => Part::Last,
        Answer { .. } => Part::More,
    }
}

/// An answer as Nest's client reads it. What is no envelope of Nest's is all of it a response.
struct Answer {
    response: Option<Bytes>,
    error: Option<Bytes>,
    is_disposed: bool,
    repaired: bool,
}

impl Answer {
    fn read(body: &Bytes) -> Result<Self, Unreadable> {
        let read = foreign(body, ["response", "err", "isDisposed"], REPLY_DEPTH + 1)?;
        let repaired = read.repaired;
        let [response, error, is_disposed] = read.members.values;
        let is_object = read.members.container == Some(Container::Object);
        if !is_object || response.is_none() && error.is_none() && is_disposed.is_none() {
            return Ok(Self {
                response: Some(read.value),
                error: None,
                is_disposed: true,
                repaired,
            });
        }
        let is_true = |json: &Bytes| !is_falsy(json);
        let is_disposed = is_disposed.as_ref().is_some_and(is_true);
        Ok(Self { response, error: error.filter(is_true), is_disposed, repaired })
    }
}

/// What the last message of an answer says.
pub(super) fn result(
    request: &Request<'_>,
    (headers, subject): (Headers<'_>, &[u8]),
    body: &Bytes,
    repaired: &mut bool,
) -> Result<Payload, Fault> {
    if body.trim_ascii().is_empty() {
        return Err(bad_reply(request, "is empty"));
    }
    let answer = Answer::read(body).map_err(|why| unreadable(request, body, why))?;
    if let Some(error) = answer.error {
        return Err(
            told::read(headers, subject, &error).unwrap_or_else(|| service_error(request, error))
        );
    }
    *repaired = answer.repaired;
    Ok(answer.response.map_or(Payload::NULL, Payload::from_validated))
}

/// An `err`: a text, or the object that an `RpcException` was made with.
fn service_error(request: &Request<'_>, error: Bytes) -> Fault {
    let [message, code] = match foreign(&error, ["message", "code"], REPLY_DEPTH + 1) {
        Ok(read) => read.members.values,
        Err(_) => [None, None],
    };
    let text = |json: &Bytes| {
        let raw = std::str::from_utf8(json).ok()?.strip_prefix('"')?.strip_suffix('"')?;
        Some(String::from_utf8_lossy(&unescaped(raw)).into_owned())
    };
    let said = text(&error).or_else(|| message.as_ref().and_then(text));
    if said.as_deref() == Some(NO_HANDLER) {
        let message = format!("`{}` has no method `{}`", request.service, request.method);
        return Fault::new(FaultKind::UnknownMethod, Outcome::Unknown, message);
    }
    let code = code.and_then(|code| match serde_json::from_slice(&code) {
        Ok(number) => Some(RemoteCode::Number(number)),
        Err(_) => text(&code).map(RemoteCode::Word),
    });
    let info = Payload::from_validated(error);
    let said = said.filter(|said| !said.is_empty()).unwrap_or_else(|| info.as_str().to_owned());
    Fault::application(said, RemoteError { info: Some(info), code, ..RemoteError::default() })
}

/// The body for a result.
pub(super) fn response(result: &Payload, id: Option<&Bytes>) -> Bytes {
    with_id(&[b"{\"response\":", result.as_bytes(), b",\"isDisposed\":true"], id)
}

/// The body for a fault: an `err` as an `RpcException` makes it, and what else is known.
pub(super) fn err(fault: &Fault, text: &str, id: Option<&Bytes>) -> Bytes {
    let known = told::body(fault, text);
    let known = known.strip_prefix('{').unwrap_or_default();
    let begin = format!("{{\"err\":{{\"status\":\"error\",\"message\":{},", json!(text));
    with_id(&[begin.as_bytes(), known.as_bytes(), b",\"isDisposed\":true"], id)
}

fn with_id(parts: &[&[u8]], id: Option<&Bytes>) -> Bytes {
    let mut body = parts.concat();
    if let Some(id) = id {
        body.extend_from_slice(b",\"id\":");
        body.extend_from_slice(id);
    }
    body.push(b'}');
    body.into()
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::super::testing::{decoded, reply_with, result};
    use super::*;

    #[test]
    fn a_pattern_is_the_subject_that_services_subscribe_to() {
        for (pattern, expected) in [
            ("orders.create", "orders.create"),
            (r#"{ "cmd": "sum" }"#, r#"{"cmd":"sum"}"#),
            (r#"{"role":"a","cmd":{"y":1,"x":true}}"#, r#"{"cmd":{"x":true,"y":1},"role":"a"}"#),
            (r#"{"B":1,"a":2,"b":3}"#, r#"{"a":2,"b":3,"B":1}"#),
            (r#"{"a1":1,"ab":2,"a_b":3,"_id":4}"#, r#"{"_id":4,"a_b":3,"a1":1,"ab":2}"#),
            (r#"{"cmd":[1,"x"]}"#, r#"{"cmd":{"0":1,"1":"x"}}"#),
            ("{cmd", "{cmd"),
        ] {
            assert_eq!(subject(pattern), expected);
        }
    }

    #[test]
    fn packets() {
        let text = |subject, data: &[u8], id| {
            String::from_utf8(packet(subject, data, id).to_vec()).expect("UTF-8")
        };
        assert_eq!(
            text("a.b", b"{\"n\":1.10}", Some("x")),
            r#"{"pattern":"a.b","data":{"n":1.10},"id":"x"}"#
        );
        assert_eq!(text("a.b", b"", None), r#"{"pattern":"a.b","data":{}}"#);
        assert_eq!(
            text(r#"{"cmd":"sum"}"#, b"[1,2]", None),
            r#"{"pattern":{"cmd":"sum"},"data":[1,2]}"#
        );
    }

    #[test]
    fn parts_of_an_answer() {
        for (body, expected) in [
            (r#"{"response":1,"id":"x"}"#, Part::More),
            (r#"{"response":1,"isDisposed":false,"id":"x"}"#, Part::More),
            (r#"{"response":1,"isDisposed":true,"id":"x"}"#, Part::Last),
            (r#"{"isDisposed":true,"id":"x"}"#, Part::End),
            (r#"{"err":"no","id":"x"}"#, Part::Last),
            (r#"{"err":null,"response":1}"#, Part::More),
            (r#"{"n":1}"#, Part::Last),
            ("7", Part::Last),
            ("broken", Part::Last),
            ("", Part::Last),
        ] {
            assert_eq!(part(&reply_with(body.as_bytes(), &[])), expected, "{body}");
        }
    }

    #[test]
    fn answers() {
        for (body, expected) in [
            (r#"{"response":1.10,"isDisposed":true,"id":"x"}"#, "1.10"),
            (r#"{"response":null,"isDisposed":true}"#, "null"),
            (r#"{"isDisposed":true}"#, "null"),
            (r#"{"err":"","response":[2],"isDisposed":true}"#, "[2]"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("7", "7"),
        ] {
            let found = result(Dialect::Nest, body).map_err(|fault| fault.message().to_owned());
            assert_eq!(found.as_deref(), Ok(expected), "{body}");
        }
    }

    #[test]
    fn errors() {
        for (body, message, info, code) in [
            (r#"{"err":"no"}"#, "no", "\"no\"", None),
            (
                r#"{"err":{"status":"error","message":"m"},"isDisposed":true}"#,
                "m",
                r#"{"status":"error","message":"m"}"#,
                None,
            ),
            (
                r#"{"err":{"code":"E42","message":"m","details":[1.10]}}"#,
                "m",
                r#"{"code":"E42","message":"m","details":[1.10]}"#,
                Some("\"E42\""),
            ),
            (r#"{"err":{"code":7}}"#, r#"{"code":7}"#, r#"{"code":7}"#, Some("7")),
        ] {
            let fault = result(Dialect::Nest, body).expect_err(body);
            assert_eq!((fault.kind(), fault.message()), (FaultKind::Application, message));
            let remote = fault.remote().expect("what the service said");
            assert_eq!(remote.info.as_ref().map(Payload::as_str), Some(info));
            let found = remote.code.as_ref().map(RemoteCode::to_payload);
            assert_eq!(found.as_ref().map(Payload::as_str), code);
        }
        let unknown = format!(r#"{{"err":"{NO_HANDLER}","status":"error"}}"#);
        let fault = result(Dialect::Nest, &unknown).expect_err("unknown");
        assert_eq!(fault.kind(), FaultKind::UnknownMethod);
        for body in ["", "{", "[1"] {
            let fault = decoded(Dialect::Nest, reply_with(body.as_bytes(), &[])).expect_err(body);
            assert_eq!(fault.kind(), FaultKind::Internal, "{body}");
        }
    }

    #[test]
    fn what_goes_back() {
        let id = Bytes::from_static(b"\"x\"");
        let payload = Payload::from_validated("1.10".into());
        assert_eq!(
            response(&payload, Some(&id)),
            r#"{"response":1.10,"isDisposed":true,"id":"x"}"#
        );
        assert_eq!(response(&payload, None), r#"{"response":1.10,"isDisposed":true}"#);
        let fault = Fault::not_sent(FaultKind::Timeout, "late");
        let body = err(&fault, "late", Some(&id));
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&answer["isDisposed"], &answer["id"]), (&json!(true), &json!("x")));
        let err = &answer["err"];
        assert_eq!((&err["status"], &err["message"]), (&json!("error"), &json!("late")));
        assert_eq!((&err["kind"], &err["outcome"]), (&json!("timeout"), &json!("not_sent")));
    }
}
