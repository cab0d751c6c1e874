//! A connection of HTTP/2: all calls to an instance share it. A call that is given up resets its
//! stream, and no other's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::SendRequest;
use tokio::time::timeout;

use super::connect::{Unreachable, refusal};
use super::exchange::{Answer, Failure, InUse, Limits, Outgoing, gather};
use super::knock::CLOSES;
use super::line::Missed;
use super::socket::Handle;
use super::streams::{Stream, Streams};
use crate::call::Request;

/// A connection; clones are handles to the same.
#[derive(Clone)]
pub(super) struct Http2(SendRequest<Full<Bytes>>, Handle, Arc<Streams>);

impl Http2 {
    pub(super) fn new(
        sender: SendRequest<Full<Bytes>>,
        handle: Handle,
        streams: Arc<Streams>,
    ) -> Self {
        Self(sender, handle, streams)
    }

    /// Whether it can take calls.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Waits until the peer lets one call more be open, as long as that is worth it.
    pub(super) async fn stream(&self, request: &Request<'_>) -> Result<Stream, Failure> {
        self.2.next(request).await.map_err(|missed| match missed {
            Missed::TooLate => Failure::TooLate(InUse::Streams(self.2.most())),
            Missed::Closed => match refusal(&self.1) {
                Some(refusal) => Failure::Refused(Box::new(refusal)),
                None => Failure::Stale,
            },
        })
    }

    /// Listens for a moment, or until its settings have come: why the peer does not want us, if that is so.
    pub(super) async fn listen(&self, moment: Duration) -> Option<Unreachable> {
        // Either way, it is the handle that knows, or the connection has ended.
        drop(timeout(moment, self.2.settled()).await);
        refusal(&self.1).or_else(|| {
            let ended = "it has ended a connection of HTTP/2 over which nothing was asked";
            (!self.is_open()).then(|| Unreachable::passing(CLOSES, ended))
        })
    }

    /// Makes one exchange.
    pub(super) async fn exchange(
        mut self,
        request: Outgoing,
        limits: &Limits,
    ) -> Result<Answer, Failure> {
        match self.0.try_send_request(request).await {
            Ok(response) => gather(response, limits).await,
            Err(error) => Err(failure(error, &self.1)),
        }
    }
}

fn failure(mut error: TrySendError<Outgoing>, handle: &Handle) -> Failure {
    if let Some(refusal) = refusal(handle) {
        return Failure::Refused(Box::new(refusal));
    }
    if error.take_message().is_some() || was_refused(error.error()) {
        return Failure::Stale;
    }
    Failure::Lost
}

/// Whether the peer says that it has not looked at the call (RFC 9113, sections 6.8 and 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (refused || error.is_go_away());
        }
        source = error.source();
    }
    false
}
