//! `POST /api` and `POST /api/{service}`: JSON-RPC 2.0 with its envelope, single or batch.
//!
//! Every answer is HTTP 200, a fault's too; a notification's is empty (CONTRACT, section 4).

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::super::answer::{self, Dialect};
use super::super::envelope::{self, Entry, Envelope, invalid};
use super::{Http, HttpRequest, HttpState, body, headers};
use crate::call::{Call, CallKind, CallName, Context, Payload, Reply};
use crate::fault::{Fault, FaultKind};
use crate::router::Dispatched;
use std::sync::Arc;

/// An answer, whose body is at hand: no allocation hides what kind of body it is.
type Response = http::Response<Full<Bytes>>;

pub(super) async fn api(State(http): HttpState, request: HttpRequest) -> axum::response::Response {
    serve(&http, None, request).await.map(Body::new)
}

pub(super) async fn service_api(
    State(http): HttpState,
    service: Result<Path<String>, PathRejection>,
    request: HttpRequest,
) -> axum::response::Response {
    let response = match service {
        Ok(Path(service)) => serve(&http, Some(service), request).await,
        Err(_) => {
            let exchange = Exchange::new(&http, None, request.headers(), Instant::now());
            exchange.refuse(&unreadable_path())
        }
    };
    response.map(Body::new)
}

/// A path whose percent-encoding is no text.
pub(super) fn unreadable_path() -> Fault {
    invalid("the path's percent-encoding is not UTF-8")
}

/// `GET /api` and the like.
pub(super) async fn not_post(
    State(http): HttpState,
    request: HttpRequest,
) -> axum::response::Response {
    let request_headers = request.headers();
    let exchange = Exchange::new(&http, None, request_headers, Instant::now());
    let fault = invalid("JSON-RPC calls are sent with the HTTP method POST");
    let mut response = exchange.refuse(&fault);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response.map(Body::new)
}

/// Answers a request, whose path has been looked at already.
pub(super) async fn serve<B>(
    http: &Arc<Http>,
    service: Option<String>,
    request: http::Request<B>,
) -> Response
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut exchange = Exchange::new(http, service, &parts.headers, started);
    let envelope = match exchange.read(&parts.headers, body).await {
        Ok(envelope) => envelope,
        Err(fault) => return exchange.refuse(&fault),
    };
    match envelope {
        Envelope::Single(entry) => match exchange.answer(entry).await {
            Some(answered) => exchange.respond_single(&answered),
            None => exchange.respond(Vec::new(), None, None),
        },
        Envelope::Batch(items) => {
            let answers = join_all(items.into_iter().map(|item| exchange.answer(item))).await;
            exchange.respond_batch(&answers)
        }
    }
}

/// One HTTP request while it is being answered.
struct Exchange<'a> {
    http: &'a Arc<Http>,
    service: Option<String>,
    dialect: Dialect,
    context: Arc<Context>,
    timeout: Option<Duration>,
    started: Instant,
}

/// An answer that is owed: to whom, and what.
struct Answer {
    id: Payload,
    dispatched: Dispatched,
}

impl<'a> Exchange<'a> {
    fn new(
        http: &'a Arc<Http>,
        service: Option<String>,
        request_headers: &http::HeaderMap,
        started: Instant,
    ) -> Self {
        let gemstone = http.config.gemstone || headers::is_gemstone(request_headers);
        let forward = http.config.forward_authorization;
        Self {
            http,
            service,
            dialect: if gemstone { Dialect::Gemstone } else { Dialect::Strict },
            context: Arc::new(headers::read_context(request_headers, forward)),
            timeout: None,
            started,
        }
    }

    async fn read<B>(
        &mut self,
        request_headers: &http::HeaderMap,
        body: B,
    ) -> Result<Envelope, Fault>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        headers::check_content_type(request_headers)?;
        self.timeout = headers::read_timeout(request_headers)?;
        let body = body::read(request_headers, body, &self.http.config).await?;
        envelope::parse(&body, self.http.config.max_batch)
    }

    /// Carries one request out; a notification is owed no answer.
    async fn answer(&self, entry: Entry) -> Option<Answer> {
        let Entry { id, request } = entry;
        let call = request.and_then(|request| {
            let name = self.name(request.method)?;
            let kind = if id.is_some() { CallKind::Call } else { CallKind::Notification };
            Ok(Call {
                name,
                params: request.params,
                kind,
                context: Arc::clone(&self.context),
                received: self.started,
                timeout: self.timeout,
            })
        });
        match (id, call) {
            (Some(id), Ok(call)) => {
                let dispatched = self.http.router.dispatch(self.http.ingress, call).await;
                Some(Answer { id, dispatched })
            }
            (Some(id), Err(fault)) => {
                self.count(&fault);
                let dispatched = Dispatched { result: Err(fault), service_time: None };
                Some(Answer { id, dispatched })
            }
            (None, Ok(call)) => {
                // The caller does not wait, and may hang up: the call runs on without it. The
                // upstream's limit on calls in flight bounds these tasks.
                let http = Arc::clone(self.http);
                self.http.notifications.spawn_session(async move {
                    let _nobody_waits = http.router.dispatch(http.ingress, call).await;
                });
                None
            }
            (None, Err(fault)) => {
                self.count(&fault);
                None
            }
        }
    }

    /// What is called: at `/api/{service}` the method is bare.
    fn name(&self, method: String) -> Result<CallName, Fault> {
        let named = match &self.service {
            Some(service) => CallName::join(service, &method).ok_or(method),
            None if method.starts_with("rpc.") => Err(method),
            None => CallName::parse(method),
        };
        named.map_err(|method| {
            let message = match &self.service {
                Some(service) => {
                    format!("Method not found: `{method}` is no method's name at /api/{service}")
                }
                None if method.starts_with("rpc.") => format!(
                    "Method not found: `{method}` is none of JSON-RPC's own methods, to which names \
                     that begin with `rpc.` belong"
                ),
                None => format!("Method not found: `{method}` is not of the form `service.method`"),
            };
            Fault::not_sent(FaultKind::UnknownMethod, message)
        })
    }

    fn count(&self, fault: &Fault) {
        self.http.router.refuse(self.http.ingress, &self.context.trace, self.started, fault);
    }

    fn respond_single(&self, answer: &Answer) -> Response {
        let result = &answer.dispatched.result;
        let mut out = Vec::with_capacity(answer::size_hint(&answer.id, result));
        answer::write(&mut out, self.dialect, &answer.id, result);
        let trace = result.as_ref().ok().and_then(|reply: &Reply| reply.trace);
        self.respond(out, trace, answer.dispatched.service_time)
    }

    fn respond_batch(&self, answers: &[Option<Answer>]) -> Response {
        let owed = || answers.iter().flatten();
        let service_time = owed().filter_map(|answer| answer.dispatched.service_time).max();
        if owed().next().is_none() {
            let nothing =
                if self.dialect == Dialect::Gemstone { b"[]".to_vec() } else { Vec::new() };
            return self.respond(nothing, None, service_time);
        }
        let size_hint = |answer: &Answer| answer::size_hint(&answer.id, &answer.dispatched.result);
        let size = owed().map(|answer| size_hint(answer) + 1).sum::<usize>();
        let mut out = Vec::with_capacity(size + 1);
        for (index, answer) in owed().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            answer::write(&mut out, self.dialect, &answer.id, &answer.dispatched.result);
        }
        out.push(b']');
        self.respond(out, None, service_time)
    }

    fn refuse(&self, fault: &Fault) -> Response {
        self.count(fault);
        let result = Err(fault.clone());
        let mut out = Vec::with_capacity(answer::size_hint(&Payload::NULL, &result));
        answer::write(&mut out, self.dialect, &Payload::NULL, &result);
        self.respond(out, None, None)
    }

    fn respond(
        &self,
        body: Vec<u8>,
        trace: Option<crate::call::TraceParent>,
        service_time: Option<Duration>,
    ) -> Response {
        let (name, value) = if body.is_empty() {
            (header::CONTENT_LENGTH, "0")
        } else {
            (header::CONTENT_TYPE, "application/json")
        };
        let mut response = Response::new(Full::from(body));
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        let total = self.started.elapsed();
        headers::write(response.headers_mut(), &self.context, trace, total, service_time);
        response
    }
}
