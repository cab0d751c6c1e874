//! A client's connection: serves its requests, HTTP/1.1 or HTTP/2, until told to stop; where one of
//! them asks for a WebSocket, the connection goes on as that, in the same task.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONNECTION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::client_certs::{Authorities, Shown};
use super::client_stream::ClientStream;
use super::connection::Connection;
use super::exchange_body::{AnswerBody, RequestBody};
use super::handover::{After, Handover, after, poll_until_handed_over};
use super::progress::{Limits, Progress, Verdict};
use super::server::Server;
use super::tls::Tls;
use super::websocket;
use super::{Connected, Denied, bare, events, linger};
use crate::caller::Caller;

/// How long a client that nothing is under way for has to take the goodbye.
pub(super) const GOODBYE: Duration = Duration::from_millis(200);
/// How long the end waits for a client over HTTP/2 that is far away, and has to say that there is room for the rest of its
/// answer.
const TAIL: Duration = Duration::from_secs(2);
/// After so long without a request a connection gives its buffers back, some 16 KiB of them.
const REST: Duration = Duration::from_secs(2);
/// What HTTP/2 begins with where nothing else has said that it is spoken (RFC 9113, section 3.4): so
/// much of it that nothing else is.
const PREFACE: &[u8; 4] = b"PRI ";

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

    /// Waits until whoever is about to say something must have begun.
    async fn has_to_end(&self) {
        self.closed.cancelled().await;
        sleep(GOODBYE).await;
    }

    /// Apart from each other on the heap: what HTTP holds would stay with a connection that rests,
    /// and with a WebSocket.
    async fn serve<S>(&self, server: &Server, mut stream: S, connected: Connected)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let patience = server.config().idle_timeout;
        let mut begun = self.first_words(server, &mut stream, patience).await;
        while let Some(said) = begun {
            let mut after = Box::pin(self.serve_http(server, (stream, said), &connected)).await;
            if let After::Events { stream: begun, read, listener } = after {
                let is_last = listener.is_last();
                let told = events::run(begun, read, listener, &self.in_force, &connected);
                after = match Box::pin(told).await {
                    Some((told, _)) if is_last => {
                        stream = told;
                        break;
                    }
                    Some((stream, read)) => After::Rest { stream, read },
                    None => After::End,
                };
            }
            match after {
                After::Events { .. } | After::End => return,
                After::Unread { stream } => {
                    return Box::pin(linger::close(stream, &self.closed)).await;
                }
                After::WebSocket { stream, read, opening } => {
                    let (in_force, closed) = (Arc::clone(&self.in_force), self.closed.clone());
                    let served = websocket::run(stream, read, opening, in_force, closed, connected);
                    return Box::pin(served).await;
                }
                After::Rest { stream: rested, read } if !read.is_empty() => {
                    (stream, begun) = (rested, Some(read));
                }
                After::Rest { stream: rested, .. } => {
                    stream = rested;
                    let patience = patience.saturating_sub(REST);
                    begun = self.first_words(server, &mut stream, patience).await;
                }
            }
        }
        // Over TLS this says that nothing has been cut off.
        drop(timeout(GOODBYE, stream.shutdown()).await);
    }

    /// Waits until a client begins, and gives what tells the version that it speaks; `None` where it
    /// says nothing for that long, or has to end before.
    async fn first_words<S>(
        &self,
        server: &Server,
        stream: &mut S,
        patience: Duration,
    ) -> Option<Bytes>
    where
        S: AsyncRead + Unpin,
    {
        let mut bytes = [0; PREFACE.len()];
        let mut said = tokio::select! {
            biased;
            read = timeout(patience, stream.read(&mut bytes)) => read.ok()?.ok()?,
            () = self.has_to_end() => return None,
        };
        if said == 0 {
            return None;
        }
        while said < bytes.len() && PREFACE.starts_with(&bytes[..said]) {
            let rest = timeout(server.config().read_timeout, stream.read(&mut bytes[said..]));
            let rest = tokio::select! {
                biased;
                rest = rest => rest,
                // It is told so over HTTP.
                () = self.closed.cancelled() => break,
            };
            match rest {
                Ok(Ok(more)) if more > 0 => said += more,
                _ => break,
            }
        }
        Some(Bytes::copy_from_slice(&bytes[..said]))
    }

    /// `server` is the one in force when the connection came; every request is served by the one
    /// in force when it comes. `said` has been read already.
    async fn serve_http<S>(
        &self,
        server: &Server,
        (stream, said): (S, Bytes),
        connected: &Connected,
    ) -> After<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let progress = Arc::new(Progress::new());
        let handover = Handover::default();
        let is_http2 = server.config().http2 && said.starts_with(PREFACE);
        let io = ClientStream::new(stream, Arc::clone(&progress), &connected.account).after(said);
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (progress, server) = (Arc::clone(&progress), self.in_force.load_full());
            let certificate = connected.certificate.clone();
            let connected = server.connected(connected, request.headers());
            let handover = (request.method() == Method::GET).then(|| handover.clone());
            let is_late = self.closed.is_cancelled();
            let underway = progress.begin(request.version() == http::Version::HTTP_2);
            let request = request.map(|body| RequestBody::new(body, Arc::clone(&progress)));
            // Apart: hyper keeps room for it as long as the connection lives.
            Box::pin(async move {
                let answer = server.answer(connected, handover, is_late, request).await;
                answer.map(|mut answer| {
                    let is_last = is_last(certificate.as_deref(), &answer) && !is_http2;
                    say_farewell(&mut answer, is_last, &progress);
                    answer.map(|body| AnswerBody::new(body, underway))
                })
            })
        });
        let mut connection = if is_http2 {
            Connection::http2(io, service, server.tasks().clone())
        } else {
            Connection::http1(io, service)
        };
        let mut look = pin!(sleep(tick(server.limits()).min(REST)));
        let mut told = pin!(async {
            self.closed.cancelled().await;
            // Whoever has just been let in is about to ask, and what others have asked may not have
            // been read: the answer to it is the last.
            let mut goodbye = pin!(sleep(GOODBYE));
            poll_fn(|cx| match progress.is_busy() || progress.is_in_head() {
                true => Poll::Ready(()),
                false => goodbye.as_mut().poll(cx),
            })
            .await;
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
                        connection.end_gracefully();
                    } else {
                        progress.cut(bare::head_too_late(self.in_force.load().http(), &connected.caller));
                    }
                    look.as_mut().reset(tokio::time::Instant::now() + GOODBYE);
                }
                // Over HTTP/1 the answer says it itself.
                () = is_refused(connected), if is_http2 && !closing => {
                    closing = true;
                    connection.end_gracefully();
                }
                ended = poll_fn(|cx| poll_until_handed_over(&mut connection, &handover, &progress, cx)) => {
                    return after(ended, handover.take(), connection).await;
                }
                () = look.as_mut() => {
                    let rests = !closing && connection.can_rest();
                    let (next, found) = self.look(&progress, connected, (closing, rests));
                    look.as_mut().reset(tokio::time::Instant::now() + next);
                    match found {
                        Found::InOrder => {}
                        Found::AtRest => {
                            let taken = connection.into_stream();
                            return taken.map_or(After::End, |(stream, read)| {
                                After::Rest { stream, read }
                            });
                        }
                        Found::Unused => {
                            closing = true;
                            connection.end_gracefully();
                        }
                        Found::Cut => closing = true,
                        Found::Lost => return After::End,
                    }
                }
            }
        }
    }

    /// Looks how a connection gets on, and when to look again. Whether it is being closed is given,
    /// and whether it can be taken back from hyper.
    fn look(
        &self,
        progress: &Progress,
        connected: &Connected,
        (closing, can_rest): (bool, bool),
    ) -> (Duration, Found) {
        let draining = closing && self.closed.is_cancelled();
        let server = self.in_force.load();
        let (limits, mut next) = (server.limits(), tick(server.limits()));
        // Who hears events may send no request for long.
        server.look(connected);
        if draining {
            next = next.min(GOODBYE);
        } else if can_rest && !progress.is_busy() {
            next = next.min(REST);
        }
        let found = match progress.verdict(limits) {
            // Half of a request's head is no call that somebody is owed an answer to.
            _ if draining && !progress.is_busy() && !progress.is_taken(TAIL) => Found::Lost,
            Verdict::Keep if can_rest && progress.rests(REST) => Found::AtRest,
            Verdict::Keep => Found::InOrder,
            Verdict::Deaf => {
                debug!("a client has taken none of its answer for too long");
                Found::Lost
            }
            // A peer that does not take the goodbye either is cut off.
            Verdict::Idle if closing => Found::Lost,
            Verdict::Idle => Found::Unused,
            // The answer goes out when the connection is polled next; a peer that has not taken it
            // by the next look is cut off.
            Verdict::SlowHead
                if closing
                    || !progress.cut(bare::head_too_slow(server.http(), &connected.caller)) =>
            {
                Found::Lost
            }
            Verdict::SlowHead => Found::Cut,
        };
        (next, found)
    }
}

/// Tells a client of HTTP/1 that no further request is read.
fn say_farewell<B>(answer: &mut hyper::Response<B>, is_last: bool, progress: &Progress) {
    let is_unread = progress.is_unread() && answer.status() != StatusCode::SWITCHING_PROTOCOLS;
    if is_last || is_unread {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Whether an answer refuses somebody whose certificate is not accepted any more: over this connection nothing that its
/// client mends makes it known again.
fn is_last<B>(certificate: Option<&Shown>, answer: &hyper::Response<B>) -> bool {
    let is_denied = || {
        let asks = answer.headers().contains_key(WWW_AUTHENTICATE);
        asks || answer.extensions().get::<Denied>().is_some()
    };
    certificate.is_some_and(|shown| is_denied() && shown.is_refused())
}

/// Waits until a client is refused whose certificate is not accepted any more; for ever where it has shown none.
async fn is_refused(connected: &Connected) {
    let Some(certificate) = &connected.certificate else { return std::future::pending().await };
    certificate.refused().await;
}

/// What a look at a connection finds.
enum Found {
    InOrder,
    /// Nothing has been asked for a while, and its buffers can go.
    AtRest,
    /// Nothing has been asked for so long that it is closed.
    Unused,
    /// It has been told why it ends.
    Cut,
    /// Nobody is owed an answer, or takes it.
    Lost,
}

/// How often a connection is looked at.
fn tick(limits: Limits) -> Duration {
    limits.read.min(limits.write).min(limits.idle) / 2
}
