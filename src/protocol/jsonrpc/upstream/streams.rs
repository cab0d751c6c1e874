//! How many calls a peer lets be open at once over a connection of HTTP/2 (SETTINGS_MAX_CONCURRENT_STREAMS), and the
//! others' wait.
//!
//! hyper takes any number of calls, and keeps to itself those that the peer does not let it open: nobody could say of
//! such a call that it was not sent, and its headers would tell of time that has passed by the time they leave. So no
//! more are handed to it than it can open at once. What the peer has said is read of hyper whenever the connection's
//! driver has run; while calls wait, the driver is woken by all that happens on the connection.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body_util::Full;
use hyper::client::conn::http2::Connection;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use super::line::{Missed, stand};
use super::socket;
use crate::call::Request;
use crate::tasks::Tasks;

/// The streams of one connection. There are none before the peer's first settings have come.
pub(super) struct Streams {
    room: Semaphore,
    granted: Mutex<Granted>,
    waiting: AtomicUsize,
    driver: AtomicWaker,
}

/// How many streams may be open, and how many are or could be: more for a while where the peer has lowered the first.
#[derive(Default)]
struct Granted {
    most: usize,
    now: usize,
}

/// A call's stream, until it is dropped.
pub(super) struct Stream(Arc<Streams>);

impl Drop for Stream {
    fn drop(&mut self) {
        let mut granted = self.0.granted.lock().unwrap_or_else(PoisonError::into_inner);
        if granted.now > granted.most {
            granted.now -= 1;
        } else {
            self.0.room.add_permits(1);
        }
    }
}

/// A call that waits. The driver looks when it begins to, and at all that happens from then on.
struct Waits<'a>(&'a Streams);

impl<'a> Waits<'a> {
    fn begin(streams: &'a Streams) -> Self {
        streams.waiting.fetch_add(1, Ordering::SeqCst);
        streams.driver.wake();
        Self(streams)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whoever waits is told when the connection ends, in whatever way.
struct Ends(Arc<Streams>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.room.close();
    }
}

impl Streams {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            room: Semaphore::new(0),
            granted: Mutex::default(),
            waiting: AtomicUsize::new(0),
            driver: AtomicWaker::new(),
        })
    }

    /// Waits for a stream.
    pub(super) async fn next(self: &Arc<Self>, request: &Request<'_>) -> Result<Stream, Missed> {
        let permit = match self.room.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let _waits = Waits::begin(self);
                stand(&self.room, request).await?
            }
        };
        permit.forget();
        Ok(Stream(Arc::clone(self)))
    }

    /// Waits until the peer's settings have come, or the connection has ended.
    pub(super) async fn settled(&self) {
        let _waits = Waits::begin(self);
        drop(self.room.acquire().await);
    }

    /// How many the peer lets be open.
    pub(super) fn most(&self) -> usize {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).most
    }

    /// The peer lets so many be open from now on.
    fn allow(&self, most: usize) {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.most = most.min(Semaphore::MAX_PERMITS);
        if granted.now < granted.most {
            self.room.add_permits(granted.most - granted.now);
            granted.now = granted.most;
        } else if granted.now > granted.most {
            granted.now -= self.room.forget_permits(granted.now - granted.most);
        }
    }

    /// Runs a connection's driver to its end.
    pub(super) async fn drive(
        self: Arc<Self>,
        driver: Connection<TokioIo<socket::Stream>, Full<Bytes>, Executor>,
    ) {
        let ends = Ends(self);
        let mut driver = pin!(driver);
        std::future::poll_fn(|cx| {
            ends.0.driver.register(cx.waker());
            let ended = driver.as_mut().poll(cx);
            ends.0.allow(driver.current_max_send_streams());
            // Whoever waits for an answer is told of the end, each for himself.
            ended.map(drop)
        })
        .await;
    }
}

/// Lets hyper's tasks run in a group of ours.
#[derive(Clone)]
pub(super) struct Executor(pub(super) Tasks, pub(super) Arc<Streams>);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let streams = Arc::clone(&self.1);
        self.0.spawn_session(async move {
            let mut future = pin!(future);
            std::future::poll_fn(|cx| {
                let polled = future.as_mut().poll(cx);
                if streams.waiting.load(Ordering::SeqCst) > 0 {
                    streams.driver.wake();
                }
                polled
            })
            .await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::call::{Context, Deadline, Params};
    use crate::trace::TraceParent;

    const SECOND: Duration = Duration::from_secs(1);

    /// The stream that a call gets whose service takes a second of the two that it has.
    async fn next(streams: &Arc<Streams>) -> Result<Stream, Missed> {
        let context = Context::new(TraceParent::generate());
        let until = Deadline::after(Instant::now(), 2 * SECOND);
        let request = Request::new(("a", "b"), &Params::None, &context, until);
        streams.next(&Request { usual: SECOND, ..request }).await
    }

    async fn has_room(streams: &Arc<Streams>) -> bool {
        timeout(Duration::ZERO, next(streams)).await.is_ok_and(|stream| stream.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_open_as_the_peer_says_and_no_more() {
        let streams = Streams::new();
        assert!(!has_room(&streams).await, "nothing was said yet");
        streams.allow(2);
        let open = [next(&streams).await, next(&streams).await];
        assert!(matches!(next(&streams).await, Err(Missed::TooLate)));
        // It may take back what it has said, and what is open stays so.
        streams.allow(1);
        let [first, second] = open;
        drop(first);
        assert!(!has_room(&streams).await);
        drop(second);
        assert!(has_room(&streams).await);
        streams.allow(usize::MAX);
        let open = [next(&streams).await, next(&streams).await, next(&streams).await];
        assert!(open.iter().all(Result::is_ok) && has_room(&streams).await);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_that_there_is_more_room_or_none_any_more() {
        let streams = Streams::new();
        let (got, ()) = tokio::join!(next(&streams), async { streams.allow(1) });
        assert!(got.is_ok());
        let ends = Ends(Arc::clone(&streams));
        let (missed, ()) = tokio::join!(next(&streams), async { drop(ends) });
        assert_eq!(missed.err(), Some(Missed::Closed));
    }
}
