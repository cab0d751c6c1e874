//! Picom's replies: an object with a `payload` or an `error`.

use bytes::Bytes;

use super::reply::{bad_reply, unreadable};
use super::request::is_falsy;
use super::subject::last_token;
use crate::call::{Payload, Request};
use crate::fault::{Fault, FaultKind, Outcome, RemoteError};
use crate::json::REPLY_DEPTH;
use crate::json::lexer::Container;
use crate::json::members::{Foreign, foreign, unescaped};

/// A Picom reply as its JavaScript client reads it (WIRE, section 2.2): a true `error` wins, a
/// missing `payload` is undefined, the last of two equal keys counts, other keys do not. What Python writes for
/// what is no number is `null`, as JavaScript writes it by itself: that sets `repaired`.
pub(super) fn result(
    request: &Request<'_>,
    body: &Bytes,
    repaired: &mut bool,
) -> Result<Payload, Fault> {
    if body.trim_ascii().is_empty() {
        return Err(bad_reply(request, "is empty"));
    }
    let read = foreign(body, ["payload", "error"], REPLY_DEPTH + 1);
    let Foreign { members, repaired: mended, .. } =
        read.map_err(|why| unreadable(request, body, why))?;
    *repaired = mended;
    if members.container != Some(Container::Object) {
        return Err(bad_reply(request, "is not a JSON object"));
    }
    match members.values {
        [_, Some(error)] if !is_falsy(&error) => Err(picom_error(request, error)),
        [payload, _] => Ok(payload.map_or(Payload::NULL, Payload::from_validated)),
    }
}

fn picom_error(request: &Request<'_>, error: Bytes) -> Fault {
    let text = json_text(&error);
    let info = Payload::from_validated(error);
    let Some(text) = text else {
        let message = info.as_str().to_owned();
        let remote = RemoteError { info: Some(info), ..RemoteError::default() };
        return Fault::application(message, remote);
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

/// A JSON string's text, lone surrogates replaced; `None` for any other value.
fn json_text(value: &[u8]) -> Option<String> {
    let raw = std::str::from_utf8(value).ok()?.strip_prefix('"')?.strip_suffix('"')?;
    Some(String::from_utf8_lossy(&unescaped(raw)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::super::testing::{decoded, reply_with, result};
    use super::*;

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
}
