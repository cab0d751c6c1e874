//! The line in which calls wait for a connection of HTTP/1.1, or for a stream of HTTP/2: first come, first served, and
//! nobody longer than that is worth it.

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::call::Request;

/// Why a call's turn has not come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Too little of its time is left.
    TooLate,
    /// What it waited for has ended.
    Closed,
}

/// Waits until there is room for one more.
pub(super) async fn stand<'a>(
    room: &'a Semaphore,
    request: &Request<'_>,
) -> Result<SemaphorePermit<'a>, Missed> {
    if let Ok(room) = room.try_acquire() {
        return Ok(room);
    }
    let _waits = request.departure.wait();
    let waiting = room.acquire();
    let room = match request.latest() {
        None => waiting.await,
        Some(latest) => match timeout_at(latest, waiting).await {
            Ok(room) if Instant::now() <= latest => room,
            // No service works on a call whose caller will have gone.
            Ok(_) | Err(_) => return Err(Missed::TooLate),
        },
    };
    room.map_err(|_| Missed::Closed)
}
