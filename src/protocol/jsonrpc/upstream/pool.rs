//! The connections to one instance: those that wait for a call, the latest used first, and how many
//! there may be.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::exchange::{Failure, InUse};
use super::http1::Http1;
use super::http2::Http2;
use super::line::{Missed, stand};
use crate::call::Request;

/// The connections to one instance.
pub(super) struct Pool {
    /// Idle ones of HTTP/1, the latest used last. No more than there is room for.
    #[expect(clippy::vec_box, reason = "they are handed around as boxes")]
    idle: Mutex<Vec<Box<Http1>>>,
    /// The one of HTTP/2.
    shared: Mutex<Option<Http2>>,
    /// How many of HTTP/1 may be in use.
    room: Semaphore,
    /// Whose turn it is to open the one of HTTP/2.
    turn: Semaphore,
}

impl Pool {
    pub(super) fn new(largest: usize) -> Self {
        Self {
            idle: Mutex::default(),
            shared: Mutex::default(),
            room: Semaphore::new(largest),
            turn: Semaphore::new(1),
        }
    }

    /// Waits until there is room for one connection more in use, as long as that is worth it.
    pub(super) async fn room(&self, request: &Request<'_>) -> Result<SemaphorePermit<'_>, Failure> {
        stand(&self.room, request).await.map_err(|missed| match missed {
            Missed::TooLate => Failure::TooLate(InUse::Connections),
            Missed::Closed => Failure::Unsent("it is left".into()),
        })
    }

    /// Waits until nobody else opens the shared connection.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turn.acquire().await.ok()
    }

    /// The latest used of the idle connections that can be used still.
    pub(super) fn take(&self) -> Option<Box<Http1>> {
        loop {
            let now = Instant::now();
            let connection = self.idle().pop()?;
            if connection.is_fresh(now) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next call.
    pub(super) fn keep(&self, connection: Box<Http1>) {
        self.idle().push(connection);
    }

    /// Closes what may not be used any more.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let old: Vec<_> =
            self.idle().extract_if(.., |connection| connection.has_expired(now)).collect();
        drop(old);
    }

    /// The shared connection, if it lives.
    pub(super) fn shared(&self) -> Option<Http2> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.as_ref().filter(|connection| connection.is_open()).cloned()
    }

    /// Shares a connection from now on.
    pub(super) fn share(&self, connection: Http2) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// Closes what nobody uses.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(shared);
    }

    #[expect(clippy::vec_box, reason = "they are handed around as boxes")]
    fn idle(&self) -> MutexGuard<'_, Vec<Box<Http1>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::{Context, Deadline, Params};
    use crate::trace::TraceParent;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits for room, of a call that has two seconds, and runs so long as a rule: whether it got it, and how long
    /// it has waited.
    async fn wait(pool: &Pool, usual: Duration) -> (bool, Duration) {
        let context = Context::new(TraceParent::generate());
        let until = Deadline::after(Instant::now(), 2 * SECOND);
        let request = Request::new(("a", "b"), &Params::None, &context, until);
        let request = Request { usual, ..request };
        let got = tokio::time::timeout_at(until.at(), pool.room(&request)).await;
        (got.is_ok_and(|room| room.is_ok()), request.departure.waited())
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_waits_as_long_as_that_is_worth_it() {
        let pool = Pool::new(1);
        assert_eq!(wait(&pool, SECOND).await, (true, Duration::ZERO));
        let room = pool.room.try_acquire().expect("it was given back");
        // Where nobody knows how long a call runs, until its deadline.
        for (usual, waits) in [(Duration::ZERO, 2), (SECOND, 1), (3 * SECOND, 0)] {
            let (got, waited) = wait(&pool, usual).await;
            let off = waited.abs_diff(SECOND * waits);
            assert!(!got && off < SECOND / 10, "{usual:?}: {waited:?}");
        }
        let (waited, ()) = tokio::join!(wait(&pool, SECOND), async {
            tokio::time::sleep(SECOND / 2).await;
            drop(room);
        });
        assert!(waited.0 && waited.1 >= SECOND / 2, "{waited:?}");
    }
}
