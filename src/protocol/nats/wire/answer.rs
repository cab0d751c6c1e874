//! What goes back to whoever called an exposed service, in its dialect's terms (CONTRACT 5, WIRE 2.2;
//! ADR-32 for the headers of errors). It is the mirror of `reply`.
//!
//! What would kill or silence a Picom caller is never sent: it gets `{"payload":…}`, or
//! `{"error":"…"}` with a text that is not empty.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::block::names;
use super::{Dialect, nest, told};
use crate::call::Reply;
use crate::fault::{Fault, FaultKind, RemoteCode};
use crate::trace::TraceParent;

/// The error's text, in NATS's own terms.
pub(super) const SERVICE_ERROR: &str = "Nats-Service-Error";
/// Its code.
pub(super) const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
/// What says that an answer is another call's, and the end of the block.
pub(in crate::protocol::nats) const REPLAYED: &str = "Idempotency-Replayed: true\r\n\r\n";
/// How much of a text is put into a header. All of it is in the body.
const LONGEST_HEADER: usize = 512;

/// An answer, but for where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Answer {
    /// The block of headers.
    pub(in crate::protocol::nats) headers: String,
    pub(in crate::protocol::nats) body: Bytes,
}

impl Answer {
    /// What a server counts.
    pub(in crate::protocol::nats) fn size(&self) -> usize {
        self.headers.len() + self.body.len()
    }

    /// The same, that says that it is another call's under the same key.
    pub(in crate::protocol::nats) fn replayed(mut self) -> Self {
        // Before the line that ends the block.
        self.headers.truncate(self.headers.len().saturating_sub(2));
        self.headers.push_str(REPLAYED);
        self
    }
}

/// By what a caller knows its answer.
pub(in crate::protocol::nats) struct Asked {
    /// Its trace.
    pub(in crate::protocol::nats) trace: TraceParent,
    /// Its id, where the dialect has ids; JSON.
    pub(in crate::protocol::nats) id: Option<Bytes>,
    /// The subject of its inbox; empty where it waits for nothing.
    pub(in crate::protocol::nats) inbox: Arc<str>,
}

/// The answer for a result.
pub(in crate::protocol::nats) fn result(dialect: Dialect, reply: &Reply, asked: &Asked) -> Answer {
    let trace = reply.trace.as_ref().unwrap_or(&asked.trace);
    let body = match dialect {
        Dialect::Picom => {
            let parts: [&[u8]; 3] = [br#"{"payload":"#, reply.payload.as_bytes(), b"}"];
            parts.concat().into()
        }
        Dialect::Plain | Dialect::Micro => reply.payload.clone().into_bytes(),
        Dialect::Nest => nest::response(&reply.payload, asked.id.as_ref()),
    };
    Answer { headers: block(trace, &[]), body }
}

/// The answer for a fault of a call of `method`.
pub(in crate::protocol::nats) fn fault(
    dialect: Dialect,
    fault: &Fault,
    method: &str,
    asked: &Asked,
) -> Answer {
    let Asked { trace, id, inbox } = asked;
    let told = (told::HEADER, told::header(fault));
    let call = (told::CALL, inbox.as_ref().to_owned());
    match dialect {
        Dialect::Picom => {
            let body = format!(r#"{{"error":{}}}"#, Value::from(picom_text(fault, method)));
            Answer { headers: block(trace, &[told, call]), body: body.into() }
        }
        Dialect::Nest => {
            let body = nest::err(fault, &text(fault), id.as_ref());
            Answer { headers: block(trace, &[told, call]), body }
        }
        Dialect::Plain | Dialect::Micro => {
            let text = text(fault);
            let rows = [
                (SERVICE_ERROR, header_text(&text)),
                (SERVICE_ERROR_CODE, header_text(&code(fault))),
                told,
                call,
            ];
            Answer { headers: block(trace, &rows), body: told::body(fault, &text).into() }
        }
    }
}

/// A fault in a service's statistics: its code and text.
pub(in crate::protocol::nats) fn last_error(fault: &Fault) -> String {
    format!("{}:{}", one_line(&code(fault)), one_line(&text(fault)))
}

/// Picom knows two texts and no codes (WIRE 2.4); all else is what a person reads.
fn picom_text(fault: &Fault, method: &str) -> String {
    match fault.kind() {
        FaultKind::ParseError | FaultKind::InvalidRequest => "Bad JSON request".to_owned(),
        FaultKind::UnknownMethod => format!("Method not found \"{method}\""),
        FaultKind::UnknownService
        | FaultKind::InvalidParams
        | FaultKind::Internal
        | FaultKind::Application
        | FaultKind::AccessDenied
        | FaultKind::Timeout
        | FaultKind::Unavailable
        | FaultKind::Overloaded
        | FaultKind::TooLarge => text(fault),
    }
}

/// What a person reads; never empty.
fn text(fault: &Fault) -> String {
    match fault.message() {
        "" => "the service reported an error and did not say which".to_owned(),
        message => message.to_owned(),
    }
}

/// The service's own code, or HTTP's for the kind, which is what services use (CONTRACT 5).
fn code(fault: &Fault) -> String {
    let own = fault.remote().and_then(|remote| remote.code.as_ref());
    match own.filter(|_| fault.kind() == FaultKind::Application) {
        Some(RemoteCode::Number(number)) => number.to_string(),
        Some(RemoteCode::Word(word)) => word.clone(),
        None => status(fault.kind()).to_string(),
    }
}

fn status(kind: FaultKind) -> u16 {
    match kind {
        FaultKind::ParseError | FaultKind::InvalidRequest => 400,
        FaultKind::UnknownMethod | FaultKind::UnknownService => 404,
        FaultKind::InvalidParams => 422,
        FaultKind::Internal | FaultKind::Application => 500,
        FaultKind::AccessDenied => 403,
        FaultKind::Timeout => 504,
        FaultKind::Unavailable => 503,
        FaultKind::Overloaded => 429,
        FaultKind::TooLarge => 413,
    }
}

/// One line, not too long.
fn one_line(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(LONGEST_HEADER).collect::<String>().trim().to_owned()
}

/// The same in ASCII, with JSON's escapes: up to 2.14 nats-py drops all headers where one holds more than
/// that, and takes the error for a result; other clients read question marks.
fn header_text(text: &str) -> String {
    let line = one_line(text);
    if line.is_ascii() {
        return line;
    }
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        if escaped.len() >= LONGEST_HEADER {
            break;
        }
        if character.is_ascii() {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

fn block(trace: &TraceParent, rows: &[(&str, String)]) -> String {
    let mut block = String::with_capacity(128);
    block.extend(["NATS/1.0\r\n", names::TRACE_PARENT, ": ", trace.as_str(), "\r\n"]);
    for (name, value) in rows {
        block.extend([name, ": ", value, "\r\n"]);
    }
    block.push_str("\r\n");
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Payload;
    use crate::fault::{Outcome, RemoteError};

    fn body(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).expect("UTF-8")
    }

    #[test]
    fn results() {
        let asked = Asked { trace: TraceParent::generate(), id: None, inbox: "in.x".into() };
        let answer = |dialect, json: &'static str| {
            result(dialect, &Reply::new(Payload::from_validated(json.into())), &asked)
        };
        for json in ["null", "0", "[1.10]", "{\"a\":1180591620717411303424}"] {
            assert_eq!(body(&answer(Dialect::Picom, json)), format!("{{\"payload\":{json}}}"));
            assert_eq!(body(&answer(Dialect::Plain, json)), json);
            assert_eq!(body(&answer(Dialect::Micro, json)), json);
        }
        let headers = format!("NATS/1.0\r\ntraceparent: {}\r\n\r\n", asked.trace.as_str());
        assert_eq!(answer(Dialect::Micro, "1").headers, headers);
        let marked = headers.replacen("\r\n\r\n", "\r\nIdempotency-Replayed: true\r\n\r\n", 1);
        assert_eq!(answer(Dialect::Micro, "1").replayed().headers, marked);
    }

    #[test]
    fn each_kind_has_its_text_and_code() {
        let expected = [
            ("400", "Bad JSON request"),
            ("400", "Bad JSON request"),
            ("404", "Method not found \"send\""),
            ("404", "it \"broke\""),
            ("422", "it \"broke\""),
            ("500", "it \"broke\""),
            ("500", "it \"broke\""),
            ("403", "it \"broke\""),
            ("504", "it \"broke\""),
            ("503", "it \"broke\""),
            ("429", "it \"broke\""),
            ("413", "it \"broke\""),
        ];
        let asked = Asked { trace: TraceParent::generate(), id: None, inbox: "in.x".into() };
        for (kind, (code, text)) in FaultKind::ALL.into_iter().zip(expected) {
            let broken = Fault::new(kind, Outcome::Unknown, "it \"broke\"");
            let picom = fault(Dialect::Picom, &broken, "send", &asked);
            assert_eq!(body(&picom), format!("{{\"error\":{}}}", Value::from(text)));
            let told = format!("Genkan-Fault: {} unknown\r\n", kind.as_str());
            assert!(picom.headers.contains(&told), "{}", picom.headers);
            let micro = fault(Dialect::Micro, &broken, "send", &asked);
            let lines = format!(
                "Nats-Service-Error: it \"broke\"\r\nNats-Service-Error-Code: {code}\r\n{told}"
            );
            assert!(micro.headers.contains(&lines), "{}", micro.headers);
            assert_eq!(last_error(&broken), format!("{code}:it \"broke\""));
        }
    }

    #[test]
    fn nothing_that_is_said_kills_or_forges() {
        let asked = Asked { trace: TraceParent::generate(), id: None, inbox: "in.x".into() };
        let empty = Fault::application("", RemoteError::default());
        let words = "the service reported an error and did not say which";
        let picom = fault(Dialect::Picom, &empty, "send", &asked);
        assert_eq!(body(&picom), format!("{{\"error\":\"{words}\"}}"));
        let code = Some(RemoteCode::Word("E42\r\nEvil: 1".to_owned()));
        let remote = RemoteError { code, ..RemoteError::default() };
        let forged = Fault::application("bad\r\nEvil: 1\u{0}", remote);
        let micro = fault(Dialect::Micro, &forged, "send", &asked);
        assert!(!micro.headers.contains("\r\nEvil"), "{}", micro.headers);
        assert!(micro.headers.contains("Error-Code: E42  Evil: 1\r\n"), "{}", micro.headers);
    }

    #[test]
    fn headers_are_ascii_and_short() {
        let asked = Asked { trace: TraceParent::generate(), id: None, inbox: "in.x".into() };
        let foreign = Fault::application("ungültig \u{1f355}", RemoteError::default());
        let micro = fault(Dialect::Micro, &foreign, "send", &asked);
        let line = "Nats-Service-Error: ung\\u00fcltig \\ud83c\\udf55\r\n";
        assert!(micro.headers.contains(line), "{}", micro.headers);
        assert!(body(&micro).contains("ungültig \u{1f355}"), "{}", body(&micro));
        assert_eq!(last_error(&foreign), "500:ungültig \u{1f355}");
        assert!(header_text(&"\u{1f355}".repeat(1_000)).len() < LONGEST_HEADER + 12);
    }
}
