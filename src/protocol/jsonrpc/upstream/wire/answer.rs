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
mod tests;
