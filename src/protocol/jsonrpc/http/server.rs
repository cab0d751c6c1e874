//! Serves the requests of a connection, HTTP/1.1 or HTTP/2, until told to stop; where one of them
//! asks for a WebSocket, the connection goes on as that, in the same task.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router as Routes;
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{Builder, upgrade};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::debug;

use super::super::config::HttpConfig;
use super::client_certs::{Authorities, Shown};
use super::client_stream::ClientStream;
use super::exchange_body::{AnswerBody, RequestBody};
use super::progress::{Limits, Progress, Verdict};
use super::tls::Tls;
use super::websocket::{self, Opening, Slot};
use super::{Connected, Http, Inside, NAME, WEBSOCKET, bare, door, forwarded, routes, rpc};
use crate::caller::Caller;
use crate::tasks::Tasks;
use crate::web::WebPolicy;

const MAX_HTTP2_STREAMS: u32 = 128;
/// What a connection over HTTP/2 may send before anybody has looked at it.
const HTTP2_WINDOW: u32 = 1 << 20;
/// What hyper keeps of a connection, each way: the longest head, and the next piece of an answer.
const BUFFER: usize = 64 * 1024;
/// How long a client that nothing is under way for has to take the goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

/// An answer, of which most are at hand.
type Answer = hyper::Response<Either<Full<Bytes>, Body>>;

/// What serves requests: all that one configuration asks for.
pub(super) struct Server {
    http: Arc<Http>,
    routes: Routes,
    /// Whether requests pass layers on their way to the routes.
    layered: bool,
    config: HttpConfig,
    policy: WebPolicy,
    tls: Option<Tls>,
    tasks: Tasks,
}

impl Server {
    /// A server that owns its sessions, and the notifications that outlive them, by `tasks`.
    pub(super) fn new(config: HttpConfig, tls: Option<Tls>, inside: Inside, tasks: Tasks) -> Self {
        let Inside { router, registry, discovery, topics, auth } = inside;
        let (ingress, websocket) = (router.ingress(NAME), router.ingress(WEBSOCKET));
        let (calls, notifications) = (config.clone(), tasks.clone());
        let http = Arc::new(Http {
            router,
            registry,
            discovery,
            topics,
            auth,
            ingress,
            websocket,
            config: calls,
            notifications,
        });
        let policy = config.web_policy();
        let layered = config.compression || config.cors.is_some();
        Self { routes: routes(Arc::clone(&http)), http, layered, config, policy, tls, tasks }
    }

    /// The same with other certificates.
    pub(super) fn with_tls(&self, tls: Tls) -> Self {
        Self {
            http: Arc::clone(&self.http),
            routes: self.routes.clone(),
            layered: self.layered,
            config: self.config.clone(),
            policy: self.policy.clone(),
            tls: Some(tls),
            tasks: self.tasks.clone(),
        }
    }

    /// What its requests are served with.
    pub(super) fn http(&self) -> &Arc<Http> {
        &self.http
    }

    /// Which pages may ask.
    pub(super) fn policy(&self) -> &WebPolicy {
        &self.policy
    }

    /// What it was made of.
    pub(super) fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Whether it is the one request that nearly all are, and no layer has a say in it: then
    /// looking the route up and boxing the body would be a tenth of the gateway's work.
    fn is_plain_call<B>(&self, request: &hyper::Request<B>) -> bool {
        !self.layered && request.method() == http::Method::POST && request.uri().path() == "/api"
    }

    /// What a request has in common with others of its connection, and from where it comes.
    fn connected(&self, connected: &Connected, headers: &HeaderMap) -> Connected {
        self.look(connected);
        let mut connected = connected.clone();
        let (trusted, peer) = (&self.config.trusted_proxies, connected.caller.address());
        if let Some(client) = peer.and_then(|peer| forwarded::client(trusted, peer, headers)) {
            connected.caller = connected.caller.calling_from(client);
        }
        connected
    }

    /// Looks whether the certificate of a connection, where it has one, still makes it known.
    pub(super) fn look(&self, connected: &Connected) {
        if let Some(certificate) = &connected.certificate {
            certificate.look(self.tls.as_ref().and_then(|tls| tls.authorities.as_deref()));
        }
    }

    /// Answers a request. One that asks for a WebSocket comes with the slot where it is left.
    async fn answer(
        &self,
        connected: Connected,
        slot: Option<Slot>,
        is_late: bool,
        mut request: hyper::Request<RequestBody>,
    ) -> Result<Answer, Infallible> {
        if let Err(turned_away) = door::check(&self.policy, &request) {
            Ok(turned_away.answer(&self.http, request).await.map(Either::Right))
        } else if let Some(slot) = slot {
            let caller = self.http.identify_socket(&connected.caller, request.headers()).await;
            let opened = websocket::open(&self.http, &slot, caller, request, is_late);
            Ok(opened.map(Either::Left))
        } else if self.is_plain_call(&request) {
            Ok(rpc::serve(&self.http, &connected, None, request).await.map(Either::Left))
        } else {
            request.extensions_mut().insert(connected);
            let answer = self.routes.clone().call(request).await;
            answer.map(|answer| answer.map(Either::Right))
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            read: self.config.read_timeout,
            write: self.config.write_timeout,
            idle: self.config.idle_timeout,
        }
    }

    fn builder(&self) -> Builder<Owned> {
        let mut builder = Builder::new(Owned(self.tasks.clone()));
        if !self.config.http2 {
            builder = builder.http1_only();
        }
        // `Progress` watches the head: hyper's own timer is made anew for every request.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(BUFFER);
        let http2 = &mut builder.http2();
        http2.timer(TokioTimer::new()).max_concurrent_streams(MAX_HTTP2_STREAMS);
        http2.max_send_buf_size(BUFFER).initial_connection_window_size(HTTP2_WINDOW);
        http2.initial_stream_window_size(HTTP2_WINDOW / 4);
        builder
    }
}

/// What a connection is served by.
pub(super) struct Session {
    /// A reload puts another one here.
    pub(super) in_force: Arc<ArcSwap<Server>>,
    /// Fires when the connection is to end, as soon as nothing is under way.
    pub(super) closed: CancellationToken,
}

impl Session {
    /// Serves a connection to its end.
    pub(super) async fn run(self, stream: TcpStream) {
        let server = self.in_force.load_full();
        // One that has no address has ended.
        let caller = stream.peer_addr().map_or(Caller::NOBODY, |peer| Caller::at(peer.ip()));
        let connected = Connected::new(server.http.router.budget().connection(), caller);
        match &server.tls {
            None => self.serve(&server, stream, connected).await,
            // Apart: what TLS takes would be a plain connection's too.
            Some(tls) => Box::pin(self.shake_hands(&server, tls, stream, connected)).await,
        }
    }

    async fn shake_hands(
        &self,
        server: &Server,
        tls: &Tls,
        stream: TcpStream,
        mut connected: Connected,
    ) {
        let shaken_hands = tokio::select! {
            biased;
            shaken = timeout(server.config.read_timeout, tls.acceptor.accept(stream)) => shaken,
            () = self.has_to_end() => return debug!("ended before the TLS handshake"),
        };
        match shaken_hands {
            Ok(Ok(stream)) => {
                let shown = |known: &Arc<Authorities>| Shown::by(stream.get_ref().1, known);
                if let Some(shown) = tls.authorities.as_ref().and_then(shown) {
                    connected.caller = shown.introduce(connected.caller);
                    connected.certificate = Some(shown);
                }
                self.serve(server, stream, connected).await;
            }
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_) => debug!("TLS handshake took too long"),
        }
    }

    /// Waits until whoever has just been let in must have begun.
    async fn has_to_end(&self) {
        self.closed.cancelled().await;
        sleep(GOODBYE).await;
    }

    /// Apart from each other on the heap: what HTTP holds would stay with a WebSocket.
    async fn serve<S>(&self, server: &Server, stream: S, connected: Connected)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let changed = Box::pin(self.serve_http(server, stream, &connected)).await;
        if let Some(Changed { stream, read, opening }) = changed {
            let (in_force, closed) = (Arc::clone(&self.in_force), self.closed.clone());
            Box::pin(websocket::run(stream, read, opening, in_force, closed, connected)).await;
        }
    }

    /// `server` is the one in force when the connection came; every request is served by the one
    /// in force when it comes.
    async fn serve_http<S>(
        &self,
        server: &Server,
        stream: S,
        connected: &Connected,
    ) -> Option<Changed<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let progress = Arc::new(Progress::new());
        let slot = Slot::default();
        let io = TokioIo::new(ClientStream::new(stream, Arc::clone(&progress), &connected.account));
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (progress, server) = (Arc::clone(&progress), self.in_force.load_full());
            let connected = server.connected(connected, request.headers());
            let slot = websocket::is_asked(&request).then(|| Arc::clone(&slot));
            let is_late = self.closed.is_cancelled();
            let underway = progress.begin(request.version() == http::Version::HTTP_2);
            let request = request.map(|body| RequestBody::new(body, progress));
            async move {
                let answer = server.answer(connected, slot, is_late, request).await;
                answer.map(|answer| answer.map(|body| AnswerBody::new(body, underway)))
            }
        });
        let builder = server.builder();
        let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
        let mut look = pin!(sleep(tick(server.limits())));
        let mut told = pin!(async {
            self.closed.cancelled().await;
            if progress.is_fresh() {
                // Whoever has just been let in is about to ask.
                sleep(GOODBYE).await;
            }
        });
        let mut closing = false;
        loop {
            tokio::select! {
                biased;
                // Before the answers that it is the reason of, so that they say so.
                () = told.as_mut(), if !closing => {
                    closing = true;
                    // What has not wholly come is not begun.
                    if progress.is_busy() || !progress.is_in_head() {
                        connection.as_mut().graceful_shutdown();
                    } else {
                        progress.cut(bare::head_too_late(&self.in_force.load().http));
                    }
                    look.as_mut().reset(tokio::time::Instant::now() + GOODBYE);
                }
                ended = connection.as_mut() => {
                    ended.unwrap_or_else(|error| debug!(%error, "connection ended"));
                    let opening = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                    return changed(opening).await;
                }
                () = look.as_mut() => {
                    let draining = closing && self.closed.is_cancelled();
                    let server = self.in_force.load();
                    let (limits, tick) = (server.limits(), tick(server.limits()));
                    // Who hears events may send no request for long.
                    server.look(connected);
                    // Half of a request's head is no call that somebody is owed an answer to.
                    if draining && !progress.is_busy() {
                        return None;
                    }
                    let next = if draining { tick.min(GOODBYE) } else { tick };
                    look.as_mut().reset(tokio::time::Instant::now() + next);
                    match progress.verdict(limits) {
                        Verdict::Keep => {}
                        Verdict::Deaf => {
                            debug!("a client has taken none of its answer for too long");
                            return None;
                        }
                        // A peer that does not take the goodbye either is cut off.
                        Verdict::Idle if closing => return None,
                        Verdict::Idle => {
                            closing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        // The answer goes out when the connection is polled next; a peer that
                        // has not taken it by the next look is cut off.
                        Verdict::SlowHead => {
                            if closing || !progress.cut(bare::head_too_slow(&server.http)) {
                                return None;
                            }
                            closing = true;
                        }
                    }
                }
            }
        }
    }
}

/// A connection that goes on as a WebSocket.
struct Changed<S> {
    stream: S,
    /// What has come already.
    read: Bytes,
    opening: Opening,
}

/// Takes a connection back from HTTP.
async fn changed<S>(mut opening: Opening) -> Option<Changed<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let upgraded = (&mut opening.upgrade).await;
    let upgraded = upgraded.inspect_err(|error| debug!(%error, "not opened")).ok()?;
    let parts = upgrade::downcast::<TokioIo<ClientStream<S>>>(upgraded).ok()?;
    let stream = parts.io.into_inner().into_inner();
    Some(Changed { stream, read: parts.read_buf, opening })
}

/// How often a connection is looked at.
fn tick(limits: Limits) -> Duration {
    limits.read.min(limits.write).min(limits.idle) / 2
}

/// Runs HTTP/2's streams as tasks of the ingress.
#[derive(Clone)]
struct Owned(Tasks);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn_session(stream);
    }
}
