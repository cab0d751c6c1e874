//! HTTP headers that carry context, deadlines and timings, on the way in and on the way out.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::super::envelope::invalid;
use super::super::mark;
use crate::call::Context;
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::idempotency_key::{BadKey, IdempotencyKey};
use crate::router::Allowance;
use crate::trace::TraceParent;
use crate::units::{parse_patience, whole_seconds};
use crate::web::SEC_FETCH_SITE;

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(super) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
pub(super) const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
pub(super) const HOPS: HeaderName = HeaderName::from_static("genkan-hops");
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The longest mark of a call that comes back: a gateway's has 32.
const LONGEST_MARK: usize = 64;

/// Reads what travels with the call. A header that is not visible text is left behind.
/// Who the user is, is told by whoever verified it, and by no header.
pub(super) fn read_context(
    headers: &HeaderMap,
    caller: &Caller,
    forward_authorization: bool,
    wanted: Option<&[Arc<str>]>,
) -> Context {
    let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
    // Which of two it belongs to, nobody can say.
    let trace = single(headers, &TRACEPARENT).and_then(|value| value.to_str().ok());
    let known = trace.and_then(TraceParent::parse);
    let mut context = Context::new(known.unwrap_or_else(TraceParent::generate));
    if known.is_some() {
        context.trace_state = text(&TRACESTATE);
    }
    context.request_id = text(&REQUEST_ID);
    context.user_id = caller.user_id().map(str::to_owned);
    context.language = text(&header::ACCEPT_LANGUAGE);
    context.user_agent = text(&header::USER_AGENT);
    let hops = headers.get(&HOPS).and_then(|value| value.to_str().ok());
    context.hops = hops.and_then(|hops| hops.trim().parse().ok()).unwrap_or_default();
    if forward_authorization {
        context.authorization = text(&header::AUTHORIZATION);
    }
    let wanted = wanted.unwrap_or_default().iter();
    context.headers =
        wanted.filter_map(|name| Some((Arc::clone(name), joined(headers, name)?))).collect();
    context
}

/// All of a header that is there. HTTP/2 may cut cookies (RFC 9113, section 8.2.3).
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let values: Vec<&str> = values.collect();
    let between = if name == header::COOKIE { "; " } else { ", " };
    (!values.is_empty()).then(|| values.join(between))
}

/// The caller's own limit: `X-Request-Timeout: 800ms`.
pub(super) fn read_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    if !headers.contains_key(REQUEST_TIMEOUT) {
        return Ok(None);
    }
    let value = single(headers, &REQUEST_TIMEOUT).and_then(|value| value.to_str().ok());
    value.and_then(parse_patience).map(Some).ok_or_else(|| {
        invalid("the header X-Request-Timeout must be one duration such as `800ms` or `5s`, more than none")
    })
}

/// By what the caller knows its request again (draft-ietf-httpapi-idempotency-key-header-07). Whom another
/// gateway says that it is for tells its callers apart.
pub(super) fn read_idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Fault> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = match values.next() {
        None => IdempotencyKey::from_header(value.as_bytes()),
        Some(_) => Err(BadKey::Several),
    };
    match key {
        Ok(key) => Ok(Some(key.claimed_by(claimed_user(headers)))),
        Err(bad) => Err(invalid(bad.fault("the header Idempotency-Key").message())),
    }
}

/// Who the user is to whoever sends a request. Nobody has verified it.
pub(super) fn claimed_user(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_ID)?.to_str().ok()
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether a body says that it is JSON: `application/json` or `application/json-rpc`, with
/// parameters or not. Anything else is refused, because a web page may send it to a foreign
/// server without asking first; saying nothing, where it may be a page that does so.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Fault> {
    let mend = "send the header `Content-Type: application/json`";
    let mut values = headers.get_all(header::CONTENT_TYPE).into_iter();
    let Some(value) = values.next() else {
        let browser = headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
        return if browser {
            Err(invalid(format!("the body has no Content-Type: {mend}")))
        } else {
            Ok(())
        };
    };
    // Which of two holds, whoever stands in between may see otherwise.
    if values.next().is_some() {
        return Err(invalid("the request has two Content-Types: send one, `application/json`"));
    }
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    let json = essence.eq_ignore_ascii_case(b"application/json")
        || essence.eq_ignore_ascii_case(b"application/json-rpc");
    if json { Ok(()) } else { Err(invalid(format!("the body's Content-Type is not JSON: {mend}"))) }
}

/// A body comes as it is: nothing here unpacks one.
pub(super) fn check_content_encoding(headers: &HeaderMap) -> Result<(), Fault> {
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    Err(invalid("the body is compressed: send it without Content-Encoding"))
}

/// Whether the client is Gemstone's own (WIRE, section 4.7).
pub(super) fn is_gemstone(headers: &HeaderMap) -> bool {
    headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes() == b"gemstone-client")
}

/// Whether a header that is a list has a member.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|listed| listed.eq_ignore_ascii_case(token))
}

/// The members of a header that is a list.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).map(str::trim)
}

/// Says by which id the request is known, and how the time was spent. `service` is the
/// service's share, the rest is the gateway's.
pub(super) fn write(
    headers: &mut HeaderMap,
    context: &Context,
    reply_trace: Option<TraceParent>,
    total: Duration,
    service: Option<Duration>,
) {
    let id = context.request_id.as_deref().unwrap_or(context.trace.trace_id());
    insert(headers, REQUEST_ID, id);
    if let Some(trace) = reply_trace {
        insert(headers, TRACEPARENT, trace.as_str());
    }
    let gateway = total.saturating_sub(service.unwrap_or_default());
    let mut timing = String::with_capacity(64);
    timing.push_str("gateway;dur=");
    push_millis(&mut timing, gateway);
    if let Some(service) = service {
        timing.push_str(", service;dur=");
        push_millis(&mut timing, service);
    }
    // Copied: an exact copy is cheaper than to share a string that has spare room.
    insert(headers, SERVER_TIMING, &timing);
}

/// Tells another gateway of the fault of its call: with the mark that it gave, so that it knows it for
/// that.
pub(super) fn write_fault(
    headers: &mut HeaderMap,
    (kind, outcome): (FaultKind, Outcome),
    request_headers: &HeaderMap,
) {
    let mark = single(request_headers, &mark::CALL).filter(|mark| mark.len() <= LONGEST_MARK);
    let Some(mark) = mark else { return };
    headers.insert(mark::CALL, mark.clone());
    insert(headers, mark::FAULT, &[kind.as_str(), " ", outcome.as_str()].concat());
}

/// Says what the caller has left of its rate, where there is a limit on that
/// (draft-ietf-httpapi-ratelimit-headers-10).
pub(super) fn write_allowance(headers: &mut HeaderMap, allowance: Option<Allowance>) {
    let Some(Allowance { rate, remaining, reset }) = allowance else { return };
    let (count, window) = (rate.count, rate.per.as_secs());
    insert(headers, RATE_LIMIT_POLICY, &format!("\"caller\";q={count};w={window}"));
    let reset = whole_seconds(reset).as_secs();
    insert(headers, RATE_LIMIT, &format!("\"caller\";r={remaining};t={reset}"));
}

/// Says that the answer is another request's, which had the same key.
pub(super) fn write_replayed(headers: &mut HeaderMap, replayed: bool) {
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
}

/// Appends milliseconds with three decimals. Every answer holds two of them, and `format!` would
/// take several times as long.
fn push_millis(text: &mut String, duration: Duration) {
    // 64 bits are far cheaper to format than 128, and hold 500,000 years.
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut digits = itoa::Buffer::new();
    text.push_str(digits.format(micros / 1_000));
    // The leading digit keeps the zeros in their places.
    let decimals = digits.format(1_000 + micros % 1_000);
    text.push('.');
    text.push_str(&decimals[1..]);
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_are_milliseconds_with_three_decimals() {
        let mut text = String::new();
        push_millis(&mut text, Duration::from_nanos(12_034_999));
        push_millis(&mut text, Duration::from_micros(7));
        assert_eq!(text, "12.0340.007");
    }

    #[test]
    fn a_caller_may_wait_for_longer_than_any_row() {
        let read = |said: &'static str| {
            read_timeout(&HeaderMap::from_iter([(REQUEST_TIMEOUT, HeaderValue::from_static(said))]))
        };
        for said in ["25h", "2147483647ms", "99999999999999999999999999h"] {
            let day = Duration::from_secs(86_400);
            assert!(read(said).ok().flatten().is_some_and(|limit| limit >= day), "{said}");
        }
        for said in ["0ms", "soon", "5"] {
            assert!(read(said).is_err(), "{said}");
        }
    }

    #[test]
    fn content_types() {
        let cases = [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON ;charset=utf-8", true),
            ("application/json-rpc", true),
            ("application/jsonx", false),
            ("text/plain", false),
            ("", false),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(check_content_type(&headers).is_ok(), expected, "{value}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_ok());
        for browsers in [header::ORIGIN, SEC_FETCH_SITE] {
            let mut headers = HeaderMap::new();
            headers.insert(browsers, HeaderValue::from_static("x"));
            assert!(check_content_type(&headers).is_err());
        }
    }
}
