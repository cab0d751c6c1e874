//! Faults as Juno's error numbers, and back (CONTRACT, section 5).

use std::fmt::Write as _;

use super::frame::{Frame, text};
use super::members::Key;
use super::number;
use super::outgoing::quoted;
use crate::call::Payload;
use crate::fault::{Fault, FaultKind, RemoteCode, RemoteError};

/// The number that a Juno caller is told for a fault.
pub(in crate::protocol::juno) fn number_of(kind: FaultKind) -> i64 {
    match kind {
        FaultKind::ParseError
        | FaultKind::InvalidRequest
        | FaultKind::InvalidParams
        | FaultKind::TooLarge => number::MALFORMED,
        FaultKind::UnknownMethod => number::UNKNOWN_FUNCTION,
        FaultKind::UnknownService | FaultKind::Unavailable => number::UNKNOWN_MODULE,
        FaultKind::AccessDenied => number::UNREGISTERED,
        FaultKind::Internal
        | FaultKind::Application
        | FaultKind::Timeout
        | FaultKind::Overloaded => number::UNKNOWN_REQUEST,
    }
}

/// The fault that a callee's type 0 frame is: its own error, whatever its number. It was sent what it
/// had declared, and a module passes on what a call of its own got: so 0, 1, 3, 4 or 5 say nothing
/// of this call, and it has run.
pub(in crate::protocol::juno) fn from_callee(frame: &Frame<'_>, called: &str) -> Fault {
    let number = frame.raw(Key::Error).and_then(integer);
    let own = frame.text(Key::Message).or_else(|| frame.text(Key::Error));
    let message = match (own, number) {
        (Some(message), _) => message.into_owned(),
        (None, Some(number)) => format!("`{called}` answered with error {number}"),
        (None, None) => format!("`{called}` answered with an error"),
    };
    let (info, code) = (info(frame), number.map(RemoteCode::Number));
    let remote = RemoteError { info, code, ..RemoteError::default() };
    Fault::application(message, remote)
}

/// An integer as an error frame may carry one.
fn integer(raw: &str) -> Option<i64> {
    raw.parse().ok()
}

/// What else a callee said of its error: its `data`; an `error` that is no number and a `message`
/// that is no text have no other place. Where there are several of them, an object holds them.
fn info(frame: &Frame<'_>) -> Option<Payload> {
    let odd_error = |raw: &&str| *raw != "null" && integer(raw).is_none();
    let odd_message = |raw: &&str| *raw != "null" && text(raw).is_none();
    let said = [
        ("error", frame.raw(Key::Error).filter(odd_error)),
        ("message", frame.raw(Key::Message).filter(odd_message)),
        ("data", frame.raw(Key::Data)),
    ];
    let said: Vec<_> = said.into_iter().filter_map(|(key, raw)| Some((key, raw?))).collect();
    let json = match said.as_slice() {
        [] => return None,
        [(_, raw)] => (*raw).to_owned(),
        several => {
            let members = several.iter().map(|(key, raw)| format!("\"{key}\":{raw}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    };
    Some(Payload::from_validated(json.into()))
}

/// What stands in `data` beside an error's number: the fault, as JSON-RPC callers are told it.
pub(in crate::protocol::juno) fn data_of(fault: &Fault) -> String {
    let mut data = format!(
        "{{\"kind\":\"{}\",\"outcome\":\"{}\",\"retryable\":{}",
        fault.kind().as_str(),
        fault.outcome().as_str(),
        fault.retryable()
    );
    if let Some(remote) = fault.remote() {
        let texts = [("class", &remote.class), ("path", &remote.path)];
        for (key, text) in texts {
            if let Some(text) = text {
                push(&mut data, key, &quoted(text));
            }
        }
        for (key, payload) in [("info", &remote.info), ("args", &remote.args)] {
            if let Some(payload) = payload {
                push(&mut data, key, payload.as_str());
            }
        }
        if let Some(code) = &remote.code {
            push(&mut data, "code", code.to_payload().as_str());
        }
    }
    data.push('}');
    data
}

/// The result that stands for an error where `hub.errors = "data"`: `{"error": {…}}`.
pub(in crate::protocol::juno) fn as_result(number: i64, message: &str, data: &str) -> String {
    let message = quoted(message);
    format!("{{\"error\":{{\"error\":{number},\"message\":{message},\"data\":{data}}}}}")
}

fn push(to: &mut String, key: &str, raw: &str) {
    // Writing to a String cannot fail.
    let written = write!(to, ",\"{key}\":{raw}");
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Line, scan};
    use super::*;
    use crate::fault::Outcome;

    #[test]
    fn every_kind_has_the_contracts_number() {
        let expected = [0, 0, 5, 4, 0, 2, 2, 3, 2, 4, 2, 0];
        let numbers = FaultKind::ALL.map(number_of);
        assert_eq!(numbers, expected);
    }

    #[test]
    fn callees_errors() {
        let cases = [
            (r#"{"error":5}"#, "`m.f` answered with error 5"),
            (r#"{"error":4}"#, "`m.f` answered with error 4"),
            (r#"{"error":3}"#, "`m.f` answered with error 3"),
            (r#"{"error":2,"message":"no"}"#, "no"),
            (r#"{"error":1}"#, "`m.f` answered with error 1"),
            (r#"{"error":0}"#, "`m.f` answered with error 0"),
            (r#"{"error":-7}"#, "`m.f` answered with error -7"),
            (r#"{"error":"x","message":5}"#, "x"),
            (r#"{"error":1.5}"#, "`m.f` answered with an error"),
            (r#"{}"#, "`m.f` answered with an error"),
        ];
        for (line, message) in cases {
            let Line::Object(members) = scan(line.as_bytes()) else { panic!("{line}") };
            let fault = from_callee(&Frame::new(members), "m.f");
            assert_eq!(fault.message(), message, "{line}");
            let end = (fault.kind(), fault.outcome());
            assert_eq!(end, (FaultKind::Application, Outcome::Executed), "{line}");
        }
    }

    #[test]
    fn what_else_a_callee_said() {
        let cases = [
            (r#"{"error":2}"#, None),
            (r#"{"error":null,"message":null}"#, None),
            (r#"{"error":2,"message":"no","data":[1.10]}"#, Some("[1.10]")),
            (r#"{"error":{"code":-5}}"#, Some(r#"{"code":-5}"#)),
            (r#"{"error":1.5,"message":"no"}"#, Some("1.5")),
            (r#"{"error":"text"}"#, Some(r#""text""#)),
            (r#"{"error":99999999999999999999}"#, Some("99999999999999999999")),
            (
                r#"{"data":{},"error":"text","message":5}"#,
                Some(r#"{"error":"text","message":5,"data":{}}"#),
            ),
        ];
        for (line, info) in cases {
            let Line::Object(members) = scan(line.as_bytes()) else { panic!("{line}") };
            let fault = from_callee(&Frame::new(members), "m.f");
            let said = fault.remote().and_then(|remote| remote.info.as_ref());
            assert_eq!(said.map(Payload::as_str), info, "{line}");
        }
    }

    #[test]
    fn what_a_caller_is_told() {
        let remote = RemoteError {
            class: Some("ValueError".to_owned()),
            info: Some(Payload::from_text("bad 1")),
            code: Some(RemoteCode::Number(-7)),
            ..RemoteError::default()
        };
        let data = data_of(&Fault::application("bad 1", remote));
        let expected = r#"{"kind":"application","outcome":"executed","retryable":false,"class":"ValueError","info":"bad 1","code":-7}"#;
        assert_eq!(data, expected);
        assert_eq!(
            as_result(2, "a\"b", "{}"),
            r#"{"error":{"error":2,"message":"a\"b","data":{}}}"#
        );
    }
}
