//! What an answer means: strict ones, Gemstone's, and what is none.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap};

use super::super::super::mark::{CALL, FAULT};
use super::error;
use crate::call::{Payload, Reply};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::json::lexer::Container;
use crate::json::members::{Foreign, Unreadable, foreign};
use crate::json::{REPLY_DEPTH, whole_number};
use crate::redact::scrub;
use crate::trace::TraceParent;

/// An answer that has been read.
pub(in super::super) struct Received {
    /// What the caller gets.
    pub(in super::super) result: Result<Reply, Fault>,
    /// Whether `NaN` or `Infinity` had to become `null`.
    pub(in super::super) repaired: bool,
    /// Whether it is the service's own answer; else it is somebody's who stands for one that does
    /// not work, or another gateway's that has none.
    pub(in super::super) is_own: bool,
}

/// What another gateway says of the call that had the mark.
fn told(headers: &HeaderMap, mark: &str) -> Option<(FaultKind, Outcome)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (kind, outcome) = text(FAULT).filter(|_| text(CALL) == Some(mark))?.split_once(' ')?;
    Some((FaultKind::of(kind)?, Outcome::of(outcome)?))
}

/// The answer that an error is.
fn erred(
    error: &Bytes,
    (status, headers, mark): (StatusCode, &HeaderMap, &str),
) -> (Result<Reply, Fault>, bool) {
    let told = told(headers, mark);
    let is_refusal = told
        .is_some_and(|(kind, _)| matches!(kind, FaultKind::Unavailable | FaultKind::Overloaded));
    (Err(error::fault(text(error), told, denied(status))), !is_refusal)
}

/// What a status says that lets nobody in, though it says why as an error.
fn denied(status: StatusCode) -> Option<(FaultKind, Outcome)> {
    let is_denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    is_denied.then_some((FaultKind::AccessDenied, Outcome::Unknown))
}

/// Reads the answer to the call `id` of `called`, which had a mark.
pub(in super::super) fn decode(
    called: impl fmt::Display,
    (id, mark): (u64, &str),
    (status, headers, body): (StatusCode, &HeaderMap, Bytes),
) -> Received {
    let mut repaired = false;
    let parts = split(&body, &mut repaired);
    let received = |(result, is_own)| Received { result, repaired, is_own };
    if !status.is_success() {
        let own = parts.ok().and_then(|parts| parts.error);
        return match own.filter(|error| error::is_json_rpc(text(error))) {
            Some(error) => received(erred(&error, (status, headers, mark))),
            None => received((Err(by_status(called, status, headers)), false)),
        };
    }
    let parts = match parts {
        Ok(parts) => parts,
        Err(flaw) => return received((Err(unread(called, flaw, headers, &body)), false)),
    };
    if let Some(other) = parts.id.filter(|other| !is_id(text(other), id)) {
        // One that could not read the call cannot know its id either: `null`.
        if parts.error.is_none() || &*other != b"null" {
            let complaint = "the answer to another call: its id is not this one's";
            let mend = "it has to give back the id that it was sent";
            return received((Err(broken(called, complaint, mend)), false));
        }
    }
    match (parts.error, parts.result) {
        (Some(error), _) => received(erred(&error, (status, headers, mark))),
        (None, Some(result)) => {
            let trace = headers.get("traceparent").and_then(|value| value.to_str().ok());
            let payload = Payload::from_validated(result);
            received((Ok(Reply { payload, trace: trace.and_then(TraceParent::parse) }), true))
        }
        (None, None) => {
            let complaint = "neither a result nor an error";
            received((Err(broken(called, complaint, WRONG_URL)), false))
        }
    }
}

/// Reads the answer to a notification: it need have no body, and what it has may be a service's own way to say that it
/// is there. Where it is an error, as a call's could be, or nobody's who speaks JSON-RPC, it has failed.
pub(in super::super) fn decode_receipt(
    called: impl fmt::Display,
    (status, headers, body): (StatusCode, &HeaderMap, Bytes),
) -> Received {
    let is_error = |error: &Bytes| status.is_success() || error::is_json_rpc(text(error));
    let (result, is_own) = match split(&body, &mut false) {
        Ok(Parts { error: Some(error), .. }) if is_error(&error) => {
            (Err(error::fault(text(&error), None, denied(status))), true)
        }
        _ if !status.is_success() => (Err(by_status(called, status, headers)), false),
        Err(flaw @ Flaw::Unreadable(_)) if is_nobodys(headers, &body) => {
            (Err(unread(called, flaw, headers, &body)), false)
        }
        _ => (Ok(Reply::new(Payload::NULL)), true),
    };
    Received { result, repaired: false, is_own }
}

/// Whether what is no JSON is no JSON-RPC service's either: a page, or what was to be JSON.
fn is_nobodys(headers: &HeaderMap, body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    let says = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let says = says.unwrap_or_default().to_ascii_lowercase();
    let is_page = body.starts_with(b"<") || says.contains("html");
    !body.is_empty() && (is_page || says.contains("json"))
}

/// The members of an answer, sliced out of its body.
#[derive(Default)]
struct Parts {
    /// Where it is there; it may be `null`.
    result: Option<Bytes>,
    /// Where it is there and not `null`.
    error: Option<Bytes>,
    id: Option<Bytes>,
}

fn text(json: &Bytes) -> &str {
    std::str::from_utf8(json).unwrap_or_default()
}

/// Why an answer has no members.
#[derive(Clone, Copy)]
enum Flaw {
    Unreadable(Unreadable),
    Batch,
    NoObject,
}

fn split(body: &Bytes, repaired: &mut bool) -> Result<Parts, Flaw> {
    let read = foreign(body, ["result", "error", "id"], REPLY_DEPTH + 1);
    let Foreign { members, repaired: mended, .. } = read.map_err(Flaw::Unreadable)?;
    match members.container {
        Some(Container::Object) => {}
        Some(Container::Array) => return Err(Flaw::Batch),
        None => return Err(Flaw::NoObject),
    }
    *repaired = mended;
    let [result, error, id] = members.values;
    Ok(Parts { result, error: error.filter(|error| **error != *b"null"), id })
}

/// The fault of an answer that cannot be read, with what helps against what is wrong with it.
fn unread(called: impl fmt::Display, flaw: Flaw, headers: &HeaderMap, body: &[u8]) -> Fault {
    let coding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    if let Some(coding) = coding.filter(|coding| *coding != "identity") {
        let coding: String = scrub(coding).chars().take(40).collect();
        let complaint = format!("a body that is packed, as {coding}, which nobody asked for");
        return broken(called, &complaint, "have it answer without Content-Encoding");
    }
    let complaint = match flaw {
        Flaw::Unreadable(_) if body.trim_ascii().is_empty() => "nothing at all",
        Flaw::Unreadable(Unreadable::NotText) => "something that is not UTF-8",
        Flaw::Unreadable(Unreadable::NotJson) => "something that is not JSON",
        Flaw::Unreadable(Unreadable::TooDeep) => {
            let complaint = format!("JSON that nests more than {REPLY_DEPTH} levels deep");
            return broken(called, &complaint, "have it answer with less deep lists and objects");
        }
        Flaw::Batch => "a batch, and none was sent",
        Flaw::NoObject => "JSON that is no object",
    };
    broken(called, &format!("{complaint}{}", content_type(headers)), WRONG_URL)
}

/// What the answer says it is, where that is not JSON. It comes from the peer: its beginning is
/// enough to find it.
fn content_type(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(header::CONTENT_TYPE).filter(|says| !says.to_ascii_lowercase().contains("json")) {
        Some(says) => format!(" (it says {})", scrub(says).chars().take(40).collect::<String>()),
        None => String::new(),
    }
}

/// What helps where something else may have answered.
const WRONG_URL: &str = "check that the upstream's URL leads to a JSON-RPC service";

fn broken(called: impl fmt::Display, complaint: &str, mend: &str) -> Fault {
    let message = format!("the service answered `{called}` with {complaint}: {mend}");
    Fault::new(FaultKind::Internal, Outcome::Unknown, message)
}

/// Whether an id is the one that was sent. Some services make text of it, and some a double.
fn is_id(json: &str, id: u64) -> bool {
    let mut digits = itoa::Buffer::new();
    let bare = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json);
    bare == digits.format(id)
        || whole_number(bare).is_some_and(|number| u64::try_from(number) == Ok(id))
}

/// The fault that a status without a JSON-RPC error is. It may be the service's or that of whoever
/// stands before it: of most it is not known what became of the call.
fn by_status(called: impl fmt::Display, status: StatusCode, headers: &HeaderMap) -> Fault {
    let (kind, outcome, mend) = match status.as_u16() {
        300..=399 => (
            FaultKind::Internal,
            Outcome::Unknown,
            "redirects are not followed: write the final URL",
        ),
        401 | 403 => (
            FaultKind::AccessDenied,
            Outcome::Unknown,
            "check the credentials in the upstream's URL or `headers`",
        ),
        404 | 410 => {
            (FaultKind::UnknownService, Outcome::Unknown, "check the path in the upstream's URL")
        }
        405 => (FaultKind::Internal, Outcome::Unknown, "check the path in the upstream's URL"),
        413 => (FaultKind::TooLarge, Outcome::Unknown, "send less, or raise the service's limit"),
        414 => (FaultKind::Internal, Outcome::Unknown, "write a shorter URL"),
        431 => (
            FaultKind::Internal,
            Outcome::Unknown,
            "send fewer or shorter headers: some are those of the upstream's `headers` and `forward_headers`",
        ),
        429 => (FaultKind::Overloaded, Outcome::Unknown, "it may have run, or not"),
        502 | 503 => (FaultKind::Unavailable, Outcome::Unknown, "it may have run, or not"),
        504 | 408 => (FaultKind::Timeout, Outcome::Unknown, "it may have run, or not"),
        _ => (FaultKind::Internal, Outcome::Unknown, "its own log may tell more"),
    };
    let status = status.as_u16();
    let message = format!("the service answered `{called}` with the HTTP status {status}: {mend}");
    let fault = Fault::new(kind, outcome, message);
    match retry_after(headers) {
        Some(after) => fault.with_retry_after(after),
        None => fault,
    }
}

/// `Retry-After` in seconds; a date is nobody's here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(24 * 3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Received {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        decode("a.f", (7, "mark"), (status, &map, Bytes::copy_from_slice(body)))
    }

    fn result(body: &str) -> Result<String, String> {
        let received = received(200, &[], body.as_bytes());
        received.result.map(|reply| reply.payload.as_str().to_owned()).map_err(|fault| {
            format!("{} {} {}", fault.kind().as_str(), fault.outcome().as_str(), fault.message())
        })
    }

    #[test]
    fn results_pass_byte_for_byte() {
        for value in [
            "null",
            "1180591620717411303424",
            "1e400",
            "1.10",
            r#"{"b":1,"a":2,"b":3}"#,
            r#""\ud800\u00e9""#,
            r#"[ 1 , {"x": "NaN Infinity"} ]"#,
        ] {
            for answer in [
                format!("\u{feff}{{\"result\":{value},\"id\":7}}"),
                format!(r#"{{"jsonrpc":"2.0","result":{value},"id":7}}"#),
                format!(r#"{{"jsonrpc": "2.0", "result": {value}, "error": null, "id": 7}}"#),
                format!(r#"{{"jsonrpc": "2.0", "result": {value}, "error": null}}"#),
                format!(r#" {{"id":"7","result":{value}}} "#),
            ] {
                assert_eq!(result(&answer).as_deref(), Ok(value), "{answer}");
            }
        }
    }

    #[test]
    fn an_id_is_a_number_however_it_is_written() {
        for id in ["7", "\"7\"", "7.0", "7e0", "70e-1", "0.7E+1", "\"7.0\""] {
            let found = result(&format!(r#"{{"jsonrpc":"2.0","result":1,"id":{id}}}"#));
            assert_eq!(found.as_deref(), Ok("1"), "{id}");
        }
    }

    #[test]
    fn pythons_numbers_are_repaired() {
        let received = received(200, &[], br#"{"result": [NaN, -Infinity], "id": 7}"#);
        assert!(received.repaired && received.is_own);
        assert_eq!(received.result.expect("a result").payload.as_str(), "[null, null]");
    }

    #[test]
    fn another_calls_answer_is_nobodys() {
        for id in ["8", "\"8\"", "0", "\"\"", "[7]", "7.5", "null"] {
            let fault = result(&format!(r#"{{"result":1,"id":{id}}}"#)).expect_err(id);
            assert!(
                fault.starts_with("internal unknown") && fault.contains("another call"),
                "{fault}"
            );
        }
        let error = r#""error":{"code":-32700,"message":"Parse error"}"#;
        let fault = result(&format!("{{{error},\"id\":null}}")).expect_err("an error");
        assert_eq!(fault, "application unknown Parse error");
        let fault = result(&format!("{{{error},\"id\":8}}")).expect_err("an error");
        assert!(fault.contains("another call"), "{fault}");
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for (body, words) in [
            ("", "nothing at all"),
            (" \n", "nothing at all"),
            ("<html>", "not JSON"),
            ("{\"result\":1", "not JSON"),
            ("[{\"result\":1,\"id\":7}]", "a batch"),
            ("\"ok\"", "no object"),
            ("{}", "neither a result nor an error"),
            ("{\"error\":null,\"id\":7}", "neither a result nor an error"),
        ] {
            let fault = result(body).expect_err(body);
            assert!(
                fault.starts_with("internal unknown ") && fault.contains(words),
                "{body}: {fault}"
            );
        }
        let html = received(200, &[("content-type", "text/html; charset=x")], b"<p>");
        let fault = html.result.expect_err("html");
        assert!(fault.message().contains("(it says text/html; charset=x)"), "{}", fault.message());
        let packed = received(200, &[("content-encoding", "gzip")], b"\x1f\x8b\x08");
        let fault = packed.result.expect_err("packed");
        assert!(fault.message().contains("is packed, as gzip,"), "{}", fault.message());
    }

    #[test]
    fn the_mend_is_one_for_what_is_wrong() {
        let url = "check that the upstream's URL leads to a JSON-RPC service";
        let deep = format!("{{\"result\":{}{},\"id\":7}}", "[".repeat(5000), "]".repeat(5000));
        for (headers, body, mend) in [
            (&[][..], &*deep, "have it answer with less deep lists and objects"),
            (&[("content-encoding", "gzip")], "\u{1f}", "have it answer without Content-Encoding"),
            (&[], r#"{"result":1,"id":8}"#, "it has to give back the id that it was sent"),
            (&[], "<html>", url),
            (&[], "[]", url),
        ] {
            let fault = received(200, headers, body.as_bytes()).result.expect_err(mend);
            let message = fault.message();
            assert!(message.contains(mend), "{message}");
            assert_eq!(message.contains(url), mend == url, "{message}");
        }
        for (status, mend) in [(414, "shorter URL"), (431, "fewer or shorter headers")] {
            let fault = received(status, &[], b"").result.expect_err(mend);
            assert!(fault.message().contains(mend), "{}", fault.message());
        }
    }

    #[test]
    fn a_notification_has_failed_where_its_answer_is_an_error() {
        let receipt = |status: u16, body: &'static str| {
            let status = StatusCode::from_u16(status).expect("a status");
            let received = decode_receipt("a.b", (status, &HeaderMap::new(), body.into()));
            (received.result.err().map(|fault| fault.message().to_owned()), received.is_own)
        };
        let error = r#"{"jsonrpc":"2.0","error":{"code":5,"message":"mine"},"id":null}"#;
        for status in [200, 202, 500] {
            assert_eq!(receipt(status, error), (Some("mine".to_owned()), true), "{status}");
        }
        // Of any shape, as a call's would be.
        for (body, message) in [
            (r#"{"error":"boom"}"#, "boom"),
            (r#"{"error":{"code":"5","message":"mine"}}"#, "mine"),
            (r#"{"error":{"message":"mine"},"result":1}"#, "mine"),
        ] {
            assert_eq!(receipt(200, body), (Some(message.to_owned()), true), "{body}");
        }
        for body in ["", " \n", "ok", "[]", "null", r#"{"error":null,"result":1,"id":null}"#] {
            assert_eq!(receipt(200, body), (None, true), "{body}");
        }
    }

    /// JSON-RPC 2.0 has nothing answered to a notification, and by HTTP something always is. Words, or JSON that is
    /// no error, are a service's own way to say that it is there. A page is somebody else's: where a proxy asks to
    /// log in, or one web application answers every path, no service has had what was sent. And in JSON that
    /// is cut off an error may have stood.
    #[test]
    fn a_notification_has_failed_where_no_json_rpc_service_answers() {
        let receipt = |content_type: &'static str, body: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
            let received = decode_receipt("a.b", (StatusCode::OK, &headers, body.into()));
            let told = received.result.err().map(|fault| {
                assert_eq!(
                    (fault.kind(), fault.outcome()),
                    (FaultKind::Internal, Outcome::Unknown)
                );
                fault.message().to_owned()
            });
            (told, received.is_own)
        };
        for (content_type, body) in [
            ("text/html; charset=utf-8", "Welcome"),
            ("application/xhtml+xml", "Welcome"),
            ("text/plain", " <!DOCTYPE html>"),
            ("application/octet-stream", "<html>"),
            ("application/json", r#"{"error":"#),
        ] {
            let (told, is_own) = receipt(content_type, body);
            let told = told.unwrap_or_else(|| panic!("{content_type} {body} is no receipt"));
            assert!(told.contains("leads to a JSON-RPC service") && !is_own, "{told}");
        }
        for (content_type, body) in [
            ("text/plain", "ok"),
            ("text/html", " "),
            ("application/json", "\"ok\""),
            ("text/html", r#"{"result":1}"#),
        ] {
            assert_eq!(receipt(content_type, body), (None, true), "{content_type} {body}");
        }
    }

    #[test]
    fn another_gateway_that_takes_no_calls_is_no_service_that_answers() {
        for (told, mark, is_own) in [
            ("unavailable not_sent", "mark", false),
            ("overloaded not_sent", "mark", false),
            ("unavailable unknown", "mark", false),
            ("unavailable not_sent", "another", true),
            ("application executed", "mark", true),
            ("invalid_params not_sent", "mark", true),
        ] {
            let headers = [("genkan-fault", told), ("genkan-call", mark)];
            let error = br#"{"jsonrpc":"2.0","error":{"code":-32004,"message":"down"},"id":7}"#;
            for status in [200, 503] {
                assert_eq!(received(status, &headers, error).is_own, is_own, "{told} {mark}");
            }
        }
    }

    #[test]
    fn statuses() {
        for (status, kind, outcome, words) in [
            (301, "internal", "unknown", "redirects are not followed: write the final URL"),
            (307, "internal", "unknown", "redirects are not followed"),
            (400, "internal", "unknown", "status 400"),
            (401, "access_denied", "unknown", "credentials"),
            (403, "access_denied", "unknown", "credentials"),
            (404, "unknown_service", "unknown", "path"),
            (413, "too_large", "unknown", "send less"),
            (429, "overloaded", "unknown", "it may have run, or not"),
            (500, "internal", "unknown", "status 500"),
            (502, "unavailable", "unknown", "may have run"),
            (503, "unavailable", "unknown", "may have run"),
            (504, "timeout", "unknown", "may have run"),
        ] {
            for body in [&b"<html>"[..], b"", br#"{"error":"no"}"#, br#"{"result":1,"id":7}"#] {
                let received = received(status, &[("retry-after", "3")], body);
                assert!(!received.is_own);
                let fault = received.result.expect_err("a fault");
                let found = (fault.kind().as_str(), fault.outcome().as_str());
                assert_eq!(found, (kind, outcome), "{status}");
                assert!(fault.message().contains(words), "{}", fault.message());
                let after = (outcome == "rejected").then_some(Duration::from_secs(3));
                assert_eq!(fault.retry_after(), after, "{status}");
            }
            for id in ["7", "null"] {
                let body = format!(
                    r#"{{"jsonrpc":"2.0","error":{{"code":5,"message":"mine"}},"id":{id}}}"#
                );
                let received = received(status, &[], body.as_bytes());
                assert!(received.is_own, "{status}");
                let fault = received.result.expect_err("an error");
                let found = (fault.message(), fault.kind().as_str(), fault.outcome().as_str());
                let expected = match status {
                    401 | 403 => ("mine", "access_denied", "unknown"),
                    _ => ("mine", "application", "executed"),
                };
                assert_eq!(found, expected, "{status}");
            }
        }
    }
}
