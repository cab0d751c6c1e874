//! `POST /call/{service}/{method}`: no envelope. The body is the params, the answer is the bare
//! result, and a fault is an HTTP status with a problem document (RFC 9457).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::super::{answer, envelope, name};
use super::{Connected, Http, HttpRequest, HttpState, body, headers, json, rpc};
use crate::budget::Account;
use crate::call::{Call, CallKind, CallName, Context, Params, Reply};
use crate::caller::Caller;
use crate::fault::{Challenge, Fault, FaultKind};
use crate::idempotency_key::IdempotencyKey;
use crate::router::{Called, Dispatched};
use crate::trace::TraceParent;
use crate::units::{format_duration, whole_seconds};

const PROBLEM: &str = "application/problem+json";

pub(super) async fn call(
    State(http): HttpState,
    path: Result<Path<(String, String)>, PathRejection>,
    request: HttpRequest,
) -> Response {
    let Ok(Path((service, method))) = path else {
        let (caller, fault) = (http.connected(&request).caller, rpc::unreadable_path());
        let parts = body::leave(&http, request).await;
        return refuse(&http, (&caller, &parts.headers), StatusCode::BAD_REQUEST, &fault);
    };
    let mut received = Instant::now();
    let Connected { account, caller, .. } = http.connected(&request);
    let (parts, body) = request.into_parts();
    let caller = http.identify(&caller, &parts.headers).await;
    let forward = http.config.forward_authorization;
    let wanted = http.router.wanted_headers();
    let wanted = wanted.as_ref().map(|wanted| wanted.as_slice());
    let mut context = headers::read_context(&parts.headers, &caller, forward, wanted);
    let name = name::read(Some(&service), method);
    let read = read(&http, &account, &parts, body, &mut received).await;
    let whom = (&caller, &context);
    let (name, Read { params, timeout, key }) = match (name, read) {
        (Ok(name), Ok(read)) => (name, read),
        (Err(fault), Ok(_)) => return decline(&http, whom, received, (None, fault.into())),
        (name, Err(declined)) => return decline(&http, whom, received, (name.ok(), declined)),
    };
    context.idempotency_key = key;
    let context = Arc::new(context);
    let kind = CallKind::Call;
    let call = Call {
        name,
        params,
        kind,
        caller,
        context: Arc::clone(&context),
        received,
        timeout,
        may_have_run: false,
    };
    let dispatched = http.router.dispatch(http.ingress, call).await;
    let Dispatched { service_time, allowance, replayed, .. } = dispatched;
    let result = dispatched.result.and_then(|reply| keep(&account, reply));
    let (mut response, trace) = match result {
        Ok((body, trace)) => {
            let mut response = Response::new(axum::body::Body::from(body));
            let content_type = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            (response, trace)
        }
        Err(fault) => (problem_within(&account, &fault), None),
    };
    headers::write(response.headers_mut(), &context, trace, received.elapsed(), service_time);
    headers::write_allowance(response.headers_mut(), allowance);
    headers::write_replayed(response.headers_mut(), replayed);
    response
}

/// Answers a request that never becomes a call, of which it may be known what it calls.
fn decline(
    http: &Http,
    (caller, context): (&Caller, &Context),
    received: Instant,
    (name, declined): (Option<CallName>, Declined),
) -> Response {
    // It counts for its caller, as a call does that is refused.
    let charged = http.router.charge(caller, "POST /call");
    let (Declined { fault, status }, allowance) = match charged {
        Ok(allowance) => (declined, allowance),
        Err((too_many, allowance)) => (too_many.into(), allowance),
    };
    let called = name.as_ref().map_or(Called::Unknown, |name| Called::Routed(name.as_str()));
    http.router.refuse(http.ingress, (called, caller, &context.trace), received, &fault);
    let mut response = problem(&fault, status);
    headers::write(response.headers_mut(), context, None, received.elapsed(), None);
    headers::write_allowance(response.headers_mut(), allowance);
    response
}

/// Takes a result over. A large one is copied: the message that it came in counts as the
/// upstream's, which is nobody's to hold who reads slowly.
fn keep(account: &Account, reply: Reply) -> Result<(Bytes, Option<TraceParent>), Fault> {
    let body = reply.payload.into_bytes();
    let body = match body::place(account, body.len())? {
        Some(share) => share.keep_with(Bytes::copy_from_slice(&body)),
        None => body,
    };
    Ok((body, reply.trace))
}

/// The problem document of a call's fault, which counts as a result does.
fn problem_within(account: &Account, fault: &Fault) -> Response {
    let status = answer::status(fault);
    let document = document(fault, status);
    match body::place(account, document.len()) {
        Ok(None) => problem_with(fault, status, document.into()),
        Ok(Some(share)) => problem_with(fault, status, share.keep_with(document.into())),
        Err(no_room) => problem(&no_room, answer::status(&no_room)),
    }
}

/// A path that nothing is served at.
pub(super) async fn not_found(State(http): HttpState, request: HttpRequest) -> Response {
    let message = "nothing is served at this path: POST to /api, /api/{service} or \
                   /call/{service}/{method}";
    let fault = Fault::not_sent(FaultKind::UnknownService, message);
    let caller = http.connected(&request).caller;
    let parts = body::leave(&http, request).await;
    refuse(&http, (&caller, &parts.headers), StatusCode::NOT_FOUND, &fault)
}

/// `GET /call/…` and the like.
pub(super) async fn not_post(State(http): HttpState, request: HttpRequest) -> Response {
    let fault = envelope::invalid("calls are sent with the HTTP method POST");
    let caller = http.connected(&request).caller;
    let parts = body::leave(&http, request).await;
    let mut response =
        refuse(&http, (&caller, &parts.headers), StatusCode::METHOD_NOT_ALLOWED, &fault);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// Why a request never becomes a call, and what HTTP calls that.
struct Declined {
    fault: Fault,
    status: StatusCode,
}

impl From<Fault> for Declined {
    fn from(fault: Fault) -> Self {
        let status = answer::status(&fault);
        Self { fault, status }
    }
}

fn unsupported(fault: Fault) -> Declined {
    Declined { fault, status: StatusCode::UNSUPPORTED_MEDIA_TYPE }
}

/// How a request calls something.
struct Read {
    params: Params,
    timeout: Option<Duration>,
    key: Option<IdempotencyKey>,
}

async fn read(
    http: &Http,
    account: &Account,
    parts: &Parts,
    body: axum::body::Body,
    received: &mut Instant,
) -> Result<Read, Declined> {
    let request_headers = &parts.headers;
    let plain = headers::check_content_encoding(request_headers).map_err(unsupported);
    let told = plain.and_then(|()| {
        let timeout = headers::read_timeout(request_headers)?;
        Ok((timeout, headers::read_idempotency_key(request_headers)?))
    });
    let (timeout, key) = match told {
        Ok(told) => told,
        Err(declined) => {
            body::discard(http, parts, body).await;
            return Err(declined);
        }
    };
    let asked = Instant::now();
    let body = body::read(http, parts, body, account).await;
    // What the client took to send it is no part of its call.
    *received += asked.elapsed();
    let body = body?;
    if !body.is_empty() {
        headers::check_content_type(request_headers).map_err(unsupported)?;
    }
    let params = envelope::parse_bare(&body)?;
    Ok(Read { params, timeout, key })
}

/// Refuses a request whose body has been taken off the wire.
pub(super) fn refuse(
    http: &Http,
    (caller, request_headers): (&Caller, &HeaderMap),
    status: StatusCode,
    fault: &Fault,
) -> Response {
    let received = Instant::now();
    let context: Context = headers::read_context(request_headers, &Caller::NOBODY, false, None);
    let whom = (Called::Unknown, caller, &context.trace);
    http.router.refuse(http.ingress, whom, received, fault);
    let mut response = problem(fault, status);
    headers::write(response.headers_mut(), &context, None, received.elapsed(), None);
    response
}

/// The answer to a request whose head did not come in time.
pub(super) fn head_too_slow(http: &Http, caller: &Caller) -> Vec<u8> {
    let (limit, now) = (http.config.read_timeout, Instant::now());
    let message = format!("the request's head did not arrive within {}", format_duration(limit));
    let fault = Fault::not_sent(FaultKind::Timeout, message);
    let began = now.checked_sub(limit).unwrap_or(now);
    last_words(http, caller, StatusCode::REQUEST_TIMEOUT, &fault, began)
}

/// The answer to a request of whose head half had come when the gateway began to drain.
pub(super) fn head_too_late(http: &Http, caller: &Caller) -> Vec<u8> {
    let fault = body::too_late();
    last_words(http, caller, answer::status(&fault), &fault, Instant::now())
}

/// An answer as it goes over the wire: there is no request that hyper could answer. It is counted
/// and logged like every refusal.
fn last_words(
    http: &Http,
    caller: &Caller,
    status: StatusCode,
    fault: &Fault,
    began: Instant,
) -> Vec<u8> {
    let whom = (Called::Unknown, caller, &TraceParent::generate());
    http.router.refuse(http.ingress, whom, began, fault);
    let document = document(fault, status);
    let length = document.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {PROBLEM}\r\n\
         content-length: {length}\r\n\r\n"
    );
    [head.into_bytes(), document].concat()
}

/// The problem document of a fault, as an answer.
fn problem(fault: &Fault, status: StatusCode) -> Response {
    problem_with(fault, status, document(fault, status).into())
}

fn problem_with(fault: &Fault, status: StatusCode, document: Bytes) -> Response {
    let mut response = json(status, PROBLEM, document);
    if let Some(after) = fault.retry_after() {
        let seconds = HeaderValue::from(whole_seconds(after).as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    // RFC 6750, section 3: what was shown is told of only where something was.
    let challenge = fault.challenge().map(|challenge| match challenge {
        Challenge::Missing => "Bearer realm=\"genkan\"",
        Challenge::Invalid => "Bearer realm=\"genkan\", error=\"invalid_token\"",
    });
    if let Some(challenge) = challenge {
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The document (RFC 9457, section 3).
fn document(fault: &Fault, status: StatusCode) -> Vec<u8> {
    let kind = fault.kind();
    let mut out = Vec::with_capacity(256 + fault.size());
    out.extend_from_slice(b"{\"type\":\"urn:genkan:fault:");
    out.extend_from_slice(kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"title\":");
    answer::write_text(&mut out, &title(kind));
    out.extend_from_slice(format!(",\"status\":{},\"detail\":", status.as_u16()).as_bytes());
    answer::write_text(&mut out, fault.message());
    out.push(b',');
    answer::write_fault_members(&mut out, fault);
    out.push(b'}');
    out
}

/// `unknown_service` as a title: `Unknown service`.
fn title(kind: FaultKind) -> String {
    let mut title = kind.as_str().replace('_', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}
