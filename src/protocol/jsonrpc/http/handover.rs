//! What a connection goes on as, when HTTP has ended on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::connection::{Answers, Connection, Io};
use super::events::Listener;
use super::progress::Progress;
use super::websocket::Opening;

/// Where an answer leaves what its connection goes on as.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Inside>);

#[derive(Default)]
struct Inside {
    next: Mutex<Option<Next>>,
    /// It is to be taken from hyper, which would go on for ever.
    is_under_way: AtomicBool,
}

/// What a connection goes on as.
pub(super) enum Next {
    /// When hyper has written the answer and ended.
    WebSocket(Opening),
    /// When hyper has written all that it was given of the answer.
    Events(Box<Listener>),
}

impl Handover {
    pub(super) fn leave(&self, next: Next) {
        let is_under_way = matches!(next, Next::Events(_));
        *self.0.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        self.0.is_under_way.store(is_under_way, Ordering::Release);
    }

    /// Whether the answer goes on without hyper.
    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_under_way.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Option<Next> {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What comes of a connection when HTTP is not spoken over it any more.
pub(super) enum After<S> {
    End,
    /// Its client may still be sending.
    Unread {
        stream: S,
    },
    /// Nothing has been asked for a while. What has been read since is `read`.
    Rest {
        stream: S,
        read: Bytes,
    },
    WebSocket {
        stream: S,
        /// What has come already.
        read: Bytes,
        opening: Opening,
    },
    /// The answer goes on as events.
    Events {
        stream: S,
        read: Bytes,
        listener: Box<Listener>,
    },
}

/// How hyper comes to its end with a connection.
pub(super) enum Ended {
    Itself,
    /// The same, before it has read all that comes.
    Early,
    /// It has written what it was given of an answer that goes on without it.
    HandedOver,
}

/// Serves a connection until it has ended, or is to go on without hyper.
pub(super) fn poll_until_handed_over<S, V>(
    connection: &mut Connection<S, V>,
    handover: &Handover,
    progress: &Progress,
    cx: &mut Context<'_>,
) -> Poll<Ended>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Answers,
{
    match connection.poll(cx) {
        Poll::Ready(ended) => {
            let ended = ended.inspect_err(|error| debug!(%error, "connection ended"));
            let is_early = ended.is_err() || progress.is_unread();
            // Who was too slow is not waited for again.
            let is_cut = progress.last_words().is_some();
            Poll::Ready(if is_early && !is_cut { Ended::Early } else { Ended::Itself })
        }
        // hyper writes all that it has before it waits.
        Poll::Pending if handover.is_under_way() && !progress.is_unflushed() => {
            Poll::Ready(Ended::HandedOver)
        }
        Poll::Pending => Poll::Pending,
    }
}

/// What comes of a connection that hyper has done with.
pub(super) async fn after<S, V>(
    ended: Ended,
    next: Option<Next>,
    connection: Connection<S, V>,
) -> After<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Answers,
{
    match (ended, next) {
        (Ended::Itself | Ended::Early, Some(Next::WebSocket(opening))) => {
            // With it goes what would tell of the change: where hyper could not write its answer, nothing will.
            drop(connection);
            changed(opening).await.unwrap_or(After::End)
        }
        (Ended::Early, _) => {
            let taken = connection.into_stream();
            taken.map_or(After::End, |(stream, _)| After::Unread { stream })
        }
        (Ended::HandedOver, Some(Next::Events(listener))) => {
            let taken = connection.into_stream();
            taken.map_or(After::End, |(stream, read)| After::Events { stream, read, listener })
        }
        _ => After::End,
    }
}

/// Takes a connection back from HTTP.
async fn changed<S>(mut opening: Opening) -> Option<After<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgraded = (&mut opening.upgrade).await;
    let upgraded = upgraded.inspect_err(|error| debug!(%error, "not opened")).ok()?;
    let parts = upgraded.downcast::<Io<S>>().ok()?;
    let (stream, read) = parts.io.into_inner().into_parts(parts.read_buf);
    Some(After::WebSocket { stream, read, opening })
}
