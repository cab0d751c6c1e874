//! `POST /api` and `POST /api/{service}`: JSON-RPC 2.0 with its envelope, single or batch.
//!
//! Every answer is HTTP 200, a fault's too; a notification's is empty (CONTRACT, section 4).

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::super::answer;
use super::super::envelope::{self, Entry, Envelope, invalid};
use super::super::name;
use super::{Http, HttpRequest, HttpState, body, headers};
use crate::budget::{Account, Share};
use crate::call::{Call, CallKind, Context, Payload, Reply};
use crate::fault::Fault;
use crate::route::Dialect;
use crate::router::Dispatched;
use std::sync::Arc;

/// How many calls of one batch are under way at once: it is one caller among many.
const BATCH_AT_ONCE: usize = 64;

/// An answer, whose body is at hand: no allocation hides what kind of body it is.
type Response = http::Response<Full<Bytes>>;

pub(super) async fn api(State(http): HttpState, request: HttpRequest) -> axum::response::Response {
    let account = http.account(&request);
    serve(&http, &account, None, request).await.map(Body::new)
}

pub(super) async fn service_api(
    State(http): HttpState,
    service: Result<Path<String>, PathRejection>,
    request: HttpRequest,
) -> axum::response::Response {
    let account = http.account(&request);
    let response = match service {
        Ok(Path(service)) => serve(&http, &account, Some(service), request).await,
        Err(_) => refuse(&http, request.headers(), StatusCode::OK, &unreadable_path()),
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
    let fault = invalid("JSON-RPC calls are sent with the HTTP method POST");
    let mut response = refuse(&http, request.headers(), StatusCode::METHOD_NOT_ALLOWED, &fault);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response.map(Body::new)
}

/// Refuses a request with a status that is no answer of JSON-RPC's.
pub(super) fn refuse(
    http: &Arc<Http>,
    request_headers: &http::HeaderMap,
    status: StatusCode,
    fault: &Fault,
) -> Response {
    let exchange = Exchange::new(http, None, request_headers, Instant::now());
    let mut response = exchange.refuse(fault);
    *response.status_mut() = status;
    response
}

/// Answers a request, whose path has been looked at already.
pub(super) async fn serve<B>(
    http: &Arc<Http>,
    account: &Account,
    service: Option<String>,
    request: http::Request<B>,
) -> Response
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut exchange = Exchange::new(http, service, &parts.headers, started);
    let envelope = match exchange.read(&parts, body, account).await {
        Ok(envelope) => envelope,
        Err(fault) => return exchange.refuse(&fault),
    };
    match envelope {
        Envelope::Single(entry) => match exchange.read_call(entry) {
            (Some(id), call) => exchange.respond_single(exchange.answer(id, call).await, account),
            (None, call) => {
                exchange.notify(call.into_iter().collect());
                exchange.respond(Vec::new(), None, None, None)
            }
        },
        Envelope::Batch(entries) => {
            exchange.respond_batch(exchange.answer_all(entries).await, account)
        }
        Envelope::TooLong(ids, fault) => {
            let answers = ids.into_iter().map(|id| {
                exchange.count(&fault);
                Answer { id, dispatched: refused(fault.clone()) }
            });
            exchange.respond_batch(answers.collect(), account)
        }
    }
}

/// One HTTP request while it is being answered.
struct Exchange<'a> {
    http: &'a Arc<Http>,
    service: Option<String>,
    /// Whether the client said that it is one of Gemstone's.
    gemstone: bool,
    context: Arc<Context>,
    timeout: Option<Duration>,
    /// When all of it had come.
    started: Instant,
}

/// An answer that is owed: to whom, and what.
struct Answer {
    id: Payload,
    dispatched: Dispatched,
}

fn refused(fault: Fault) -> Dispatched {
    Dispatched { result: Err(fault), service_time: None, dialect: None }
}

impl<'a> Exchange<'a> {
    fn new(
        http: &'a Arc<Http>,
        service: Option<String>,
        request_headers: &http::HeaderMap,
        started: Instant,
    ) -> Self {
        let forward = http.config.forward_authorization;
        Self {
            http,
            service,
            gemstone: headers::is_gemstone(request_headers),
            context: Arc::new(headers::read_context(request_headers, forward)),
            timeout: None,
            started,
        }
    }

    async fn read<B>(
        &mut self,
        parts: &http::request::Parts,
        body: B,
        account: &Account,
    ) -> Result<Envelope, Fault>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let checked = headers::check_content_type(&parts.headers)
            .and_then(|()| headers::check_content_encoding(&parts.headers));
        // Who asked first need not send the body. Else it is read whatever it is: over HTTP/2 some
        // clients lose the answer to what was refused unread.
        if parts.headers.contains_key(header::EXPECT)
            && let Err(fault) = checked
        {
            return Err(fault);
        }
        let Http { config, .. } = &**self.http;
        let body = body::read(parts, body, config, account, self.http.draining()).await;
        // What the client took to send it is no part of its calls.
        self.started = Instant::now();
        checked?;
        let mut envelope = envelope::parse(&body?, self.http.config.max_batch)?;
        match headers::read_timeout(&parts.headers) {
            Ok(timeout) => self.timeout = timeout,
            // Each is told by its own id.
            Err(fault) => envelope.refuse(&fault),
        }
        Ok(envelope)
    }

    /// Carries the requests of a batch out side by side, though not all at once.
    async fn answer_all(&self, entries: Vec<Entry>) -> Vec<Answer> {
        let mut notifications = Vec::new();
        let mut owed = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.read_call(entry) {
                (Some(id), call) => owed.push((id, call)),
                (None, call) => notifications.extend(call),
            }
        }
        self.notify(notifications);
        let answering = owed
            .into_iter()
            .enumerate()
            .map(|(place, (id, call))| async move { (place, self.answer(id, call).await) });
        let answers = stream::iter(answering).buffer_unordered(BATCH_AT_ONCE);
        let mut answers: Vec<_> = answers.collect().await;
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// What an entry of the envelope calls, and to whom the answer is owed: to nobody where it is
    /// a notification.
    fn read_call(&self, entry: Entry) -> (Option<Payload>, Result<Call, Fault>) {
        let Entry { id, request } = entry;
        let kind = if id.is_some() { CallKind::Call } else { CallKind::Notification };
        let call = request.and_then(|request| {
            Ok(Call {
                name: name::read(self.service.as_deref(), request.method)?,
                params: request.params,
                kind,
                context: Arc::clone(&self.context),
                received: self.started,
                timeout: self.timeout,
            })
        });
        if let Err(fault) = &call {
            self.count(fault);
        }
        (id, call)
    }

    async fn answer(&self, id: Payload, call: Result<Call, Fault>) -> Answer {
        let dispatched = match call {
            Ok(call) => self.http.router.dispatch(self.http.ingress, call).await,
            Err(fault) => refused(fault),
        };
        Answer { id, dispatched }
    }

    /// Carries notifications out. The caller does not wait, and may hang up: they run on without
    /// it. The upstream's limit on calls in flight bounds them.
    fn notify(&self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let http = Arc::clone(self.http);
        self.http.notifications.spawn_session(async move {
            let notify = |call| async { drop(http.router.dispatch(http.ingress, call).await) };
            stream::iter(calls).for_each_concurrent(BATCH_AT_ONCE, notify).await;
        });
    }

    fn count(&self, fault: &Fault) {
        self.http.router.refuse(self.http.ingress, &self.context.trace, self.started, fault);
    }

    /// The form of an answer: at a service's own address, the one of the row that decided.
    fn dialect(&self, of_row: Option<Dialect>) -> Dialect {
        match &self.service {
            _ if self.gemstone => Dialect::Gemstone,
            Some(service) => of_row.unwrap_or_else(|| self.http.router.dialect(service)),
            None => Dialect::Strict,
        }
    }

    fn respond_single(&self, mut answer: Answer, account: &Account) -> Response {
        let size = |answer: &Answer| answer::size_hint(&answer.id, &answer.dispatched.result);
        let place = body::place(account, size(&answer)).unwrap_or_else(|fault| {
            answer.dispatched.result = Err(fault);
            None
        });
        let result = &answer.dispatched.result;
        let mut out = Vec::with_capacity(size(&answer));
        answer::write(&mut out, self.dialect(answer.dispatched.dialect), &answer.id, result);
        let trace = result.as_ref().ok().and_then(|reply: &Reply| reply.trace);
        self.respond(out, place, trace, answer.dispatched.service_time)
    }

    fn respond_batch(&self, mut answers: Vec<Answer>, account: &Account) -> Response {
        let service_time = answers.iter().filter_map(|answer| answer.dispatched.service_time).max();
        if answers.is_empty() {
            let gemstone = self.dialect(None) == Dialect::Gemstone;
            let nothing = if gemstone { b"[]".to_vec() } else { Vec::new() };
            return self.respond(nothing, None, None, service_time);
        }
        let size = |answers: &[Answer]| {
            let one =
                |answer: &Answer| answer::size_hint(&answer.id, &answer.dispatched.result) + 1;
            answers.iter().map(one).sum::<usize>() + 1
        };
        let place = body::place(account, size(&answers)).unwrap_or_else(|fault| {
            for answer in answers.iter_mut().filter(|answer| answer.dispatched.result.is_ok()) {
                answer.dispatched.result = Err(fault.clone());
            }
            None
        });
        let mut out = Vec::with_capacity(size(&answers));
        for (index, answer) in answers.iter().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            let Answer { id, dispatched } = answer;
            answer::write(&mut out, self.dialect(dispatched.dialect), id, &dispatched.result);
        }
        out.push(b']');
        self.respond(out, place, None, service_time)
    }

    fn refuse(&self, fault: &Fault) -> Response {
        self.count(fault);
        let result = Err(fault.clone());
        let mut out = Vec::with_capacity(answer::size_hint(&Payload::NULL, &result));
        answer::write(&mut out, self.dialect(None), &Payload::NULL, &result);
        self.respond(out, None, None, None)
    }

    fn respond(
        &self,
        body: Vec<u8>,
        place: Option<Share>,
        trace: Option<crate::call::TraceParent>,
        service_time: Option<Duration>,
    ) -> Response {
        let (name, value) = if body.is_empty() {
            (header::CONTENT_LENGTH, "0")
        } else {
            (header::CONTENT_TYPE, "application/json")
        };
        let body = Bytes::from(body);
        let body = match place {
            Some(share) => share.keep_with(body),
            None => body,
        };
        let mut response = Response::new(Full::from(body));
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        let total = self.started.elapsed();
        headers::write(response.headers_mut(), &self.context, trace, total, service_time);
        response
    }
}
