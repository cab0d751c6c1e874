//! Serves the requests of a connection, HTTP/1.1 or HTTP/2, until told to stop.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router as Routes;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::debug;

use super::super::config::HttpConfig;
use super::client_stream::ClientStream;
use super::exchange_body::{AnswerBody, RequestBody};
use super::progress::{Limits, Progress, Verdict};
use super::{Http, NAME, bare, door, routes, rpc};
use crate::router::Router;
use crate::tasks::Tasks;
use crate::web::WebPolicy;

const MAX_HTTP2_STREAMS: u32 = 128;
/// What a connection over HTTP/2 may send before anybody has looked at it.
const HTTP2_WINDOW: u32 = 1 << 20;
/// What hyper keeps of a connection, each way: the longest head, and the next piece of an answer.
const BUFFER: usize = 64 * 1024;
/// How long a client that nothing is under way for has to take the goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

/// What serves requests: all that one configuration asks for.
pub(super) struct Server {
    http: Arc<Http>,
    routes: Routes,
    /// Whether requests pass layers on their way to the routes.
    layered: bool,
    config: HttpConfig,
    policy: WebPolicy,
    tls: Option<TlsAcceptor>,
    tasks: Tasks,
}

impl Server {
    /// A server that owns its sessions, and the notifications that outlive them, by `tasks`.
    pub(super) fn new(
        config: HttpConfig,
        tls: Option<TlsAcceptor>,
        router: Arc<Router>,
        tasks: Tasks,
    ) -> Self {
        let ingress = router.ingress(NAME);
        let notifications = tasks.clone();
        let http = Arc::new(Http { router, ingress, config: config.clone(), notifications });
        let policy = config.web_policy();
        let layered = config.compression || config.cors.is_some();
        Self { routes: routes(Arc::clone(&http)), http, layered, config, policy, tls, tasks }
    }

    /// The same with another certificate.
    pub(super) fn with_tls(&self, tls: TlsAcceptor) -> Self {
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

    /// What it was made of.
    pub(super) fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Whether it is the one request that nearly all are, and no layer has a say in it: then
    /// looking the route up and boxing the body would be a tenth of the gateway's work.
    fn is_plain_call<B>(&self, request: &hyper::Request<B>) -> bool {
        !self.layered && request.method() == http::Method::POST && request.uri().path() == "/api"
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
        match &server.tls {
            None => self.serve(&server, stream).await,
            Some(tls) => match timeout(server.config.read_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(&server, stream).await,
                Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
                Err(_) => debug!("TLS handshake took too long"),
            },
        }
    }

    /// `server` is the one in force when the connection came; every request is served by the one
    /// in force when it comes.
    async fn serve<S>(&self, server: &Server, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let progress = Arc::new(Progress::new());
        let account = server.http.router.budget().connection();
        let io = TokioIo::new(ClientStream::new(stream, Arc::clone(&progress), &account));
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (progress, server) = (Arc::clone(&progress), self.in_force.load_full());
            let account = account.clone();
            let underway = progress.begin(request.version() == http::Version::HTTP_2);
            let mut request = request.map(|body| RequestBody::new(body, progress));
            async move {
                let answer = if let Err(turned_away) = door::check(&server.policy, &request) {
                    Ok(turned_away.answer(&server.http, &request).map(Either::Right))
                } else if server.is_plain_call(&request) {
                    Ok(rpc::serve(&server.http, &account, None, request).await.map(Either::Left))
                } else {
                    request.extensions_mut().insert(account);
                    let answer = server.routes.clone().call(request).await;
                    answer.map(|answer| answer.map(Either::Right))
                };
                answer.map(|answer| answer.map(|body| AnswerBody::new(body, underway)))
            }
        });
        let builder = server.builder();
        let mut connection = pin!(builder.serve_connection(io, service));
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
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%error, "connection ended");
                    }
                    return;
                }
                () = told.as_mut(), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                    look.as_mut().reset(tokio::time::Instant::now() + GOODBYE);
                }
                () = look.as_mut() => {
                    let draining = closing && self.closed.is_cancelled();
                    let server = self.in_force.load();
                    let (limits, tick) = (server.limits(), tick(server.limits()));
                    // Half of a request's head is no call that somebody is owed an answer to.
                    if draining && !progress.is_busy() {
                        return;
                    }
                    let next = if draining { tick.min(GOODBYE) } else { tick };
                    look.as_mut().reset(tokio::time::Instant::now() + next);
                    match progress.verdict(limits) {
                        Verdict::Keep => {}
                        Verdict::Deaf => {
                            debug!("a client has taken none of its answer for too long");
                            return;
                        }
                        // A peer that does not take the goodbye either is cut off.
                        Verdict::Idle if closing => return,
                        Verdict::Idle => {
                            closing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        // The answer goes out when the connection is polled next; a peer that
                        // has not taken it by the next look is cut off.
                        Verdict::SlowHead => {
                            if closing || !progress.cut(bare::head_too_slow(&server.http)) {
                                return;
                            }
                            closing = true;
                        }
                    }
                }
            }
        }
    }
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
