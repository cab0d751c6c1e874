//! A connection of HTTP/1.1: one call at a time.
//!
//! It has no task. Whoever has a call drives it, so that nobody has to be woken, and a call that is
//! given up takes its connection with it: an answer that comes too late can be nobody else's.

use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::connect::{Unreachable, only_http2, refusal, speaks_tls};
use super::exchange::{Answer, Failure, Limits, Outgoing, gather, kept_alive, usable};
use super::knock::no_http;
use super::socket::{Greeting, Handle, Stream};

type Driver = Connection<TokioIo<Stream>, Full<Bytes>>;

/// Servers that close what was idle for shorter do so for another reason, and say so before.
const SURELY_OPEN: Duration = Duration::from_millis(5);

/// A call so large is in the service's buffers before it can have answered.
const SURELY_READ: u64 = 16 << 10;

/// A connection.
pub(super) struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    /// `None` when it has ended.
    driver: Option<Driver>,
    handle: Handle,
    /// Since when nothing was asked of it.
    idle_since: Instant,
    /// How long it may be used after that.
    usable: Duration,
    /// Whether it has answered a call.
    is_used: bool,
}

impl Http1 {
    pub(super) fn new(sender: SendRequest<Full<Bytes>>, driver: Driver, handle: Handle) -> Self {
        let idle_since = Instant::now();
        let driver = Some(driver);
        Self { sender, driver, handle, idle_since, usable: Duration::ZERO, is_used: false }
    }

    /// Whether it can take a call after it was idle.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.idle_since);
        idle < self.usable
            && !self.sender.is_closed()
            && (idle < SURELY_OPEN || self.handle.is_silent())
    }

    /// Whether it may not be used any more, by the time alone.
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.idle_since) >= self.usable
    }

    /// Makes one exchange. The connection is given back where it can be used again, which it may
    /// for at most `limit`.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Outgoing,
        limits: &Limits,
        limit: Duration,
    ) -> (Result<Answer, Failure>, Option<Box<Self>>) {
        let before = self.handle.written();
        let size = request.body().size_hint().lower();
        let sent = self.sender.try_send_request(request);
        let answered = drive(&mut self.driver, sent).await;
        let response = match answered {
            Ok(response) => response,
            Err(error) => return (Err(self.failure(error, before)), None),
        };
        let kept = kept_alive(response.headers());
        // Whoever refuses a large call may not have read it, and hangs up soon.
        let may_be_unread = !response.status().is_success() && size > SURELY_READ;
        let answer = drive(&mut self.driver, gather(response, limits)).await;
        let can_go_on = answer.is_ok() && !may_be_unread && self.settle().await;
        self.idle_since = Instant::now();
        self.usable = usable(kept, limit);
        self.is_used = true;
        let kept = can_go_on && !self.usable.is_zero();
        (answer, kept.then_some(self))
    }

    /// Why the peer refuses us, where it has said so.
    fn refusal(&self) -> Option<Unreachable> {
        refusal(&self.handle).or_else(|| match self.handle.greeted() {
            Some(Greeting::Http2) if !self.is_used => Some(only_http2()),
            Some(Greeting::Tls) if !self.is_used => Some(speaks_tls()),
            _ => None,
        })
    }

    /// What a call came to that has no answer.
    fn failure(&self, mut error: TrySendError<Outgoing>, before: u64) -> Failure {
        if let Some(refusal) = self.refusal() {
            return Failure::Refused(Box::new(refusal));
        }
        let unsent = error.take_message().is_some() || self.handle.written() == before;
        // hyper has no name for who speaks before it is spoken to, as a broker may; and where the connection has
        // ended with it, no word for it.
        let spoke_first = error.error().to_string().starts_with("received unexpected message")
            || unsent && self.handle.greeted() == Some(Greeting::Other);
        match error.error() {
            _ if spoke_first && !self.is_used => Failure::Refused(Box::new(no_http())),
            _ if unsent && self.is_used => Failure::Stale,
            _ if unsent => Failure::Unsent("it closes connections at once".into()),
            error if error.is_parse_too_large() => Failure::HeadTooLarge,
            error if error.is_parse() => Failure::NoHttp,
            _ => Failure::Lost,
        }
    }

    /// Lets hyper see that the answer is over: whether another call can be made.
    async fn settle(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            if let Some(driver) = &mut self.driver
                && Pin::new(driver).poll(cx).is_ready()
            {
                self.driver = None;
            }
            Poll::Ready(())
        })
        .await;
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Waits for `future`, and does the connection's work meanwhile. A connection that has ended is
/// dropped, which tells whoever waits for it.
async fn drive<T>(driver: &mut Option<Driver>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        let Some(connection) = driver else { return Poll::Pending };
        if Pin::new(connection).poll(cx).is_ready() {
            *driver = None;
        }
        future.as_mut().poll(cx)
    })
    .await
}
