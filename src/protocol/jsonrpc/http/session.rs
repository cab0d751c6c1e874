//! A client's connection: serves its requests, HTTP/1.1 or HTTP/2, until told to stop; where one of
//! them asks for a WebSocket, the connection goes on as that, in the same task.

use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::client_certs::{Authorities, Shown};
use super::client_stream::ClientStream;
use super::exchange_body::{AnswerBody, RequestBody};
use super::progress::{Limits, Progress, Verdict};
use super::server::Server;
use super::tls::Tls;
use super::websocket::{self, Opening, Slot};
use super::{Connected, bare};
use crate::caller::Caller;

/// How long a client that nothing is under way for has to take the goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

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
        let connected = Connected::new(server.http().router.budget().connection(), caller);
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
            shaken = timeout(server.config().read_timeout, tls.acceptor.accept(stream)) => shaken,
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
                        progress.cut(bare::head_too_late(&self.in_force.load().http()));
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
                            if closing || !progress.cut(bare::head_too_slow(server.http())) {
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
