//! What a NATS micro service says in its own way: errors, in headers (ADR-32). Plain services may, too.

use bytes::Bytes;

use super::answer::{SERVICE_ERROR, SERVICE_ERROR_CODE};
use super::headers::Headers;
use crate::call::Payload;
use crate::fault::{Fault, RemoteCode, RemoteError};
use crate::json::REPLY_DEPTH;
use crate::json::members::foreign;

/// ADR-32: an error is in the headers, whatever the body holds. Its description is the message, and
/// what the service says beside it, in the body, is kept.
pub(super) fn error(headers: Headers<'_>, body: &Bytes) -> Option<Fault> {
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
    match foreign(body, [], REPLY_DEPTH) {
        Ok(read) if !read.repaired => Some(Payload::from_validated(read.value)),
        _ => Some(Payload::from_text(&String::from_utf8_lossy(body))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::super::testing::{decoded, reply_with};
    use super::*;
    use crate::fault::FaultKind;

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
}
