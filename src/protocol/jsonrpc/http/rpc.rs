//! `POST /api` and `POST /api/{service}`: JSON-RPC 2.0 with its envelope, single or batch.
//!
//! Every answer is HTTP 200, a fault's too; a notification's is empty (CONTRACT, section 4).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::super::envelope::{self, Envelope, invalid};
use super::requester::{Answered, Requester};
use super::{Connected, Denied, Http, HttpRequest, HttpState, body, headers};
use crate::budget::Account;
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};
use crate::idempotency_key::IdempotencyKey;

/// An answer, whose body is at hand: no allocation hides what kind of body it is.
type Response = http::Response<Full<Bytes>>;

pub(super) async fn api(State(http): HttpState, request: HttpRequest) -> axum::response::Response {
    let connected = http.connected(&request);
    serve(&http, &connected, None, request).await.map(Body::new)
}

pub(super) async fn service_api(
    State(http): HttpState,
    service: Result<Path<String>, PathRejection>,
    request: HttpRequest,
) -> axum::response::Response {
    let connected = http.connected(&request);
    let response = match service {
        Ok(Path(service)) => serve(&http, &connected, Some(service), request).await,
        Err(_) => {
            let parts = body::leave(&http, request).await;
            refuse(&http, (&connected.caller, &parts.headers), StatusCode::OK, &unreadable_path())
        }
    };
    response.map(Body::new)
}

/// A path whose percent-encoding is no text.
pub(super) fn unreadable_path() -> Fault {
    invalid("the path's percent-encoding is not UTF-8")
}

/// `GET /api` and the like, where no WebSocket is asked for.
pub(super) async fn not_post(
    State(http): HttpState,
    request: HttpRequest,
) -> axum::response::Response {
    let fault = invalid(
        "JSON-RPC calls are sent with the HTTP method POST, or over WebSocket. A request that is to open one \
         has the headers Upgrade and Connection: a proxy on its way may have dropped them",
    );
    let caller = http.connected(&request).caller;
    let parts = body::leave(&http, request).await;
    let mut response =
        refuse(&http, (&caller, &parts.headers), StatusCode::METHOD_NOT_ALLOWED, &fault);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response.map(Body::new)
}

/// Refuses a request, whose body has been taken off the wire, with a status that is no answer of
/// JSON-RPC's.
pub(super) fn refuse(
    http: &Arc<Http>,
    (caller, request_headers): (&Caller, &http::HeaderMap),
    status: StatusCode,
    fault: &Fault,
) -> Response {
    let requester = requester(http, caller.clone(), None, request_headers, Instant::now());
    let mut response = respond(&requester, requester.refuse(fault), request_headers);
    *response.status_mut() = status;
    response
}

/// Answers a request, whose path has been looked at already.
pub(super) async fn serve<B>(
    http: &Arc<Http>,
    connected: &Connected,
    service: Option<String>,
    request: http::Request<B>,
) -> Response
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let Connected { account, caller, .. } = connected;
    let service = service.as_deref();
    let caller = http.identify(caller, &parts.headers).await;
    let mut requester = requester(http, caller, service, &parts.headers, started);
    match read(&mut requester, &parts, body, account).await {
        Ok(envelope) => {
            let answered = requester.carry_out(envelope, account, ()).await;
            respond(&requester, answered, &parts.headers)
        }
        Err(fault) => respond(&requester, requester.refuse_call(fault), &parts.headers),
    }
}

fn requester<'a>(
    http: &'a Arc<Http>,
    caller: Caller,
    service: Option<&'a str>,
    request_headers: &'a http::HeaderMap,
    started: Instant,
) -> Requester<'a> {
    let forward = http.config.forward_authorization;
    let wanted = http.router.wanted_headers();
    let wanted = wanted.as_ref().map(|wanted| wanted.as_slice());
    Requester {
        ears: None,
        http,
        ingress: http.ingress,
        service,
        gemstone: headers::is_gemstone(request_headers),
        context: Arc::new(headers::read_context(request_headers, &caller, forward, wanted)),
        caller,
        timeout: None,
        key: None,
        headers: Some(request_headers),
        received: started,
    }
}

async fn read<B>(
    requester: &mut Requester<'_>,
    parts: &http::request::Parts,
    body: B,
    account: &Account,
) -> Result<Envelope, Fault>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let http = requester.http;
    let checked = headers::check_content_type(&parts.headers)
        .and_then(|()| headers::check_content_encoding(&parts.headers));
    if let Err(fault) = checked {
        body::discard(http, parts, body).await;
        return Err(fault);
    }
    let asked = Instant::now();
    let body = body::read(http, parts, body, account).await;
    // What the client took to send it is no part of its calls.
    requester.received += asked.elapsed();
    let mut envelope = envelope::parse(&body?, http.config.max_batch)?;
    let told = headers::read_timeout(&parts.headers)
        .and_then(|timeout| Ok((timeout, read_key(&parts.headers, &envelope)?)));
    match told {
        Ok((timeout, key)) => (requester.timeout, requester.key) = (timeout, key),
        // Each is told by its own id.
        Err(fault) => envelope.refuse(&fault),
    }
    Ok(envelope)
}

/// A key in the header is that of one call.
fn read_key(
    request_headers: &http::HeaderMap,
    envelope: &Envelope,
) -> Result<Option<IdempotencyKey>, Fault> {
    let key = headers::read_idempotency_key(request_headers)?;
    match envelope {
        Envelope::Batch(_) if key.is_some() => Err(invalid(
            "the header Idempotency-Key is the key of one call, and this is a batch: give each of its \
             requests a key of its own, as `\"meta\": {\"idempotencyKey\": \"…\"}`",
        )),
        _ => Ok(key),
    }
}

fn respond(
    requester: &Requester<'_>,
    answered: Answered,
    request_headers: &http::HeaderMap,
) -> Response {
    let Answered { text, trace, service_time, fault, allowance, replayed } = answered;
    let (name, value) = if text.is_empty() {
        (header::CONTENT_LENGTH, "0")
    } else {
        (header::CONTENT_TYPE, "application/json")
    };
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    if fault.is_some_and(|(kind, _)| kind == FaultKind::AccessDenied) {
        response.extensions_mut().insert(Denied);
    }
    if let Some(fault) = fault {
        headers::write_fault(response.headers_mut(), fault, request_headers);
    }
    let total = requester.received.elapsed();
    headers::write(response.headers_mut(), &requester.context, trace, total, service_time);
    headers::write_allowance(response.headers_mut(), allowance);
    headers::write_replayed(response.headers_mut(), replayed);
    response
}
