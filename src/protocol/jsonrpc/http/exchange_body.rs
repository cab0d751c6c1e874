//! The bodies of a request and of its answer, as a connection's progress sees them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::bell;
use super::progress::{Progress, Underway};

/// How much of an answer is handed over at once. hyper takes a piece when there is room for it, so
/// what has not been handed over tells that its reader is slow; over HTTP/2 it takes one ahead.
const PIECE: usize = 64 * 1024;
const PIECE_HTTP2: usize = 16 * 1024;

/// The body of a request.
pub(super) struct RequestBody {
    body: Incoming,
    progress: Arc<Progress>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, progress: Arc<Progress>) -> Self {
        progress.receives(!body.is_end_stream());
        Self { body, progress }
    }

    /// How its connection gets on.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.progress.lets_body_go();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (frame, rang) = bell::held(|| Pin::new(&mut self.body).poll_frame(cx));
        // Behind the last piece nobody waits for more.
        let is_last = self.body.is_end_stream() && matches!(frame, Poll::Ready(Some(Ok(_))));
        if rang && !is_last {
            cx.waker().wake_by_ref();
        }
        if is_last || matches!(frame, Poll::Ready(None)) {
            self.progress.receives(false);
        }
        match frame {
            // The end of the connection is kept from hyper while a request is under way.
            Poll::Pending if self.progress.is_exhausted() => {
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            frame => frame.map(|frame| Some(frame?.map_err(io::Error::other))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
pub(super) struct AnswerBody<B> {
    body: B,
    /// What is left of the last of its frames.
    rest: Bytes,
    underway: Underway,
}

impl<B> AnswerBody<B> {
    pub(super) fn new(body: B, underway: Underway) -> Self {
        Self { body, rest: Bytes::new(), underway }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending => {
                    self.underway.pauses();
                    return Poll::Pending;
                }
            }
        }
        let http2 = self.underway.is_http2();
        let piece = self.rest.len().min(if http2 { PIECE_HTTP2 } else { PIECE });
        let piece = self.rest.split_to(piece);
        // What is handed over whole over HTTP/1 is the connection's own matter.
        if http2 || !self.is_end_stream() {
            self.underway.sends();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        let upper = hint.upper().map(|upper| upper + rest);
        hint.set_lower(hint.lower() + rest);
        if let Some(upper) = upper {
            hint.set_upper(upper);
        }
        hint
    }
}
