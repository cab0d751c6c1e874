//! A client's connection as hyper speaks HTTP over it, in the version that its first bytes chose.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::bell::Bell;
use super::client_stream::ClientStream;
use super::exchange_body::AnswerBody;
use crate::tasks::Tasks;

const MAX_HTTP2_STREAMS: u32 = 128;
/// What a connection over HTTP/2 may send before anybody has looked at it.
const HTTP2_WINDOW: u32 = 1 << 20;
/// What hyper keeps of a connection, each way: the longest head, and the next piece of an answer.
const BUFFER: usize = 64 * 1024;

/// What hyper reads and writes.
pub(super) type Io<S> = TokioIo<ClientStream<S>>;

/// What is answered.
type Response = http::Response<AnswerBody<Either<Full<Bytes>, axum::body::Body>>>;

/// What answers a connection's requests.
pub(super) trait Answers:
    Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
{
}

impl<V> Answers for V where
    V: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
{
}

/// A connection, with what answers its requests.
#[expect(clippy::large_enum_variant, reason = "nearly every one is the large one")]
pub(super) enum Connection<S, V>
where
    V: Answers,
{
    Http1(http1::UpgradeableConnection<Io<S>, V>, Bell),
    Http2(http2::Connection<Io<S>, V, Owned>),
}

impl<S, V> Connection<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Answers,
{
    /// HTTP/1.1, and 1.0.
    pub(super) fn http1(io: ClientStream<S>, service: V) -> Self {
        let mut builder = http1::Builder::new();
        // `Progress` watches the head: hyper's own timer is made anew for every request.
        builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(BUFFER);
        // `ClientStream` looks whether who waits for an answer is still there.
        builder.half_close(true);
        let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
        Self::Http1(connection, Bell::default())
    }

    /// HTTP/2, whose streams are sessions of `tasks`.
    pub(super) fn http2(io: ClientStream<S>, service: V, tasks: Tasks) -> Self {
        let mut builder = http2::Builder::new(Owned(tasks));
        builder.timer(TokioTimer::new()).max_concurrent_streams(MAX_HTTP2_STREAMS);
        builder.max_send_buf_size(BUFFER).initial_connection_window_size(HTTP2_WINDOW);
        builder.initial_stream_window_size(HTTP2_WINDOW / 4);
        Self::Http2(builder.serve_connection(TokioIo::new(io), service))
    }

    /// Answers what is under way, and ends.
    pub(super) fn end_gracefully(&mut self) {
        match self {
            Self::Http1(connection, _) => Pin::new(connection).graceful_shutdown(),
            Self::Http2(connection) => Pin::new(connection).graceful_shutdown(),
        }
    }

    /// Whether it can be taken back from hyper while nothing is under way. HTTP/2 cannot: it knows
    /// what both sides have agreed on.
    pub(super) fn can_rest(&self) -> bool {
        matches!(self, Self::Http1(..))
    }

    /// Takes back one that can rest, and what of the next request has been read; `None` where it
    /// has ended.
    pub(super) fn into_stream(self) -> Option<(S, Bytes)> {
        let Self::Http1(connection, _) = self else { return None };
        let parts = connection.into_parts()?;
        Some(parts.io.into_inner().into_parts(parts.read_buf))
    }

    /// Does its work, until it has ended or goes on as something else.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Self::Http1(connection, bell) => {
                Pin::new(connection).poll(&mut Context::from_waker(bell.of(cx)))
            }
            Self::Http2(connection) => Pin::new(connection).poll(cx),
        }
    }
}

/// Runs HTTP/2's streams as tasks of the ingress.
#[derive(Clone)]
pub(super) struct Owned(Tasks);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn_session(stream);
    }
}
