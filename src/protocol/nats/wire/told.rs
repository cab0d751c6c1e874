//! A fault as one gateway tells another over NATS: whichever dialect the two speak, it ends as it
//! would through one.
//!
//! A header of the answer, which no service's library looks at, says `KIND OUTCOME`. Another repeats the
//! subject that is answered to: a service that ran, and passes on an answer that it got with all of its
//! headers, passes on its own inbox there. The body is the dialect's: Picom's holds the text, the
//! others' whatever else is known.

use bytes::Bytes;
use serde_json::{Value, json};

use super::headers::Headers;
use crate::call::Payload;
use crate::fault::{Fault, FaultKind, Outcome, RemoteCode, RemoteError};
use crate::json::REPLY_DEPTH;
use crate::json::members::foreign;

pub(super) const HEADER: &str = "Genkan-Fault";
/// Which call it is of: the subject that it is an answer to.
pub(super) const CALL: &str = "Genkan-Call";

/// The header's value.
pub(super) fn header(fault: &Fault) -> String {
    format!("{} {}", fault.kind().as_str(), fault.outcome().as_str())
}

/// The body where the dialect has none of its own for errors: `{"error":"…","kind":…}`.
pub(super) fn body(fault: &Fault, text: &str) -> String {
    let mut members = vec![
        ("error", Value::from(text).to_string()),
        ("kind", json!(fault.kind().as_str()).to_string()),
        ("outcome", json!(fault.outcome().as_str()).to_string()),
        ("retryable", fault.retryable().to_string()),
    ];
    if let Some(RemoteError { class, info, args, path, code, stated: _ }) = fault.remote() {
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text).to_string());
        let payload = |value: &Option<Payload>| value.as_ref().map(|it| it.as_str().to_owned());
        let code = code.as_ref().map(|code| code.to_payload().as_str().to_owned());
        let known = [
            ("class", text(class)),
            ("info", payload(info)),
            ("args", payload(args)),
            ("path", text(path)),
            ("code", code),
        ];
        members.extend(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
    }
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// The fault that another gateway tells of the call whose answer came to `subject`, if it is one's.
pub(super) fn read(headers: Headers<'_>, subject: &[u8], body: &Bytes) -> Option<Fault> {
    let value = headers.get(HEADER)?;
    if headers.get(CALL)?.as_bytes() != subject {
        return None;
    }
    let (kind, outcome) = value.trim().split_once(' ')?;
    let (kind, outcome) = (FaultKind::of(kind)?, Outcome::of(outcome.trim())?);
    let names = ["error", "class", "info", "args", "path", "code"];
    let members = foreign(body, names, REPLY_DEPTH).map(|read| read.members.values);
    let [error, class, info, args, path, code] = members.unwrap_or_default();
    let text = |json: Bytes| serde_json::from_slice::<String>(&json).ok();
    let message = error.and_then(text).filter(|text| !text.is_empty());
    let message = message.unwrap_or_else(|| "another gateway told of a fault".to_owned());
    let code = code.and_then(|code| match serde_json::from_slice(&code) {
        Ok(number) => Some(RemoteCode::Number(number)),
        Err(_) => text(code).map(RemoteCode::Word),
    });
    let remote = RemoteError {
        class: class.and_then(text),
        info: info.map(Payload::from_validated),
        args: args.filter(|args| args.starts_with(b"[")).map(Payload::from_validated),
        path: path.and_then(text),
        code,
        stated: None,
    };
    let fault = Fault::new(kind, outcome, message);
    // Also where nothing but the message is a peer's.
    Some(match remote == RemoteError::default() {
        true => fault.scrubbed(),
        false => fault.with_remote(remote),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(fault: &Fault) -> Fault {
        let block = format!("NATS/1.0\r\n{HEADER}: {}\r\n{CALL}: a.b\r\n\r\n", header(fault));
        let body = body(fault, fault.message());
        read(Headers::new(block.as_bytes()), b"a.b", &body.into()).expect("a fault")
    }

    #[test]
    fn each_fault_arrives_as_it_left() {
        for kind in FaultKind::ALL {
            for outcome in Outcome::ALL {
                let fault = Fault::new(kind, outcome, "it \"broke\"");
                let told = again(&fault);
                assert_eq!((told.kind(), told.outcome()), (kind, outcome));
                assert_eq!((told.message(), told.remote()), (fault.message(), None));
            }
        }
        let remote = RemoteError {
            class: Some("PizzaError".to_owned()),
            info: Some(Payload::from_validated(r#"{"n":1.10}"#.into())),
            args: Some(Payload::from_validated("[1]".into())),
            path: Some("service.PizzaError".to_owned()),
            code: Some(RemoteCode::Word("E42".to_owned())),
            stated: None,
        };
        let told = again(&Fault::application("bad", remote.clone()));
        assert_eq!(told.remote(), Some(&remote));
    }

    #[test]
    fn what_no_gateway_says_is_no_fault_of_one() {
        for value in ["", "timeout", "nonsense unknown", "timeout perhaps"] {
            let block = format!("NATS/1.0\r\n{HEADER}: {value}\r\n{CALL}: a.b\r\n\r\n");
            assert!(
                read(Headers::new(block.as_bytes()), b"a.b", &"{}".into()).is_none(),
                "{value}"
            );
        }
        let block = format!("NATS/1.0\r\n{HEADER}: timeout unknown\r\n{CALL}: a.b\r\n\r\n");
        for body in ["", "null", "{", "[1]", r#"{"error":7,"info":1,"info":2}"#] {
            let fault =
                read(Headers::new(block.as_bytes()), b"a.b", &body.into()).expect("a fault");
            assert!(!fault.message().is_empty(), "{body}");
        }
    }

    #[test]
    fn what_is_told_of_another_call_is_no_fault_of_this_one() {
        for call in ["", "Genkan-Call: a.c\r\n", "Genkan-Call:\r\n"] {
            let block = format!("NATS/1.0\r\n{HEADER}: unavailable not_sent\r\n{call}\r\n");
            let fault = read(Headers::new(block.as_bytes()), b"a.b", &"{}".into());
            assert!(fault.is_none(), "{call}");
        }
    }
}
