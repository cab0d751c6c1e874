//! The connections to one instance: those that wait for a call, the latest used first, and how many
//! there may be.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::http1::Http1;
use super::http2::Http2;
use crate::call::Departure;

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

    /// Waits until there is room for one connection more in use.
    pub(super) async fn room(&self, departure: &Departure) -> Option<SemaphorePermit<'_>> {
        if let Ok(room) = self.room.try_acquire() {
            return Some(room);
        }
        let _waits = departure.wait();
        self.room.acquire().await.ok()
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

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_known_to_have_waited() {
        let (pool, departure) = (Pool::new(1), Departure::default());
        let room = pool.room(&departure).await;
        assert!(room.is_some());
        assert_eq!(departure.waited(), Duration::ZERO);
        let given_up = Duration::from_millis(300);
        assert!(tokio::time::timeout(given_up, pool.room(&departure)).await.is_err());
        assert!(departure.waited() >= given_up, "{:?}", departure.waited());
    }
}
