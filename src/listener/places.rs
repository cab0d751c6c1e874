//! How many connections may be open at once. The limit may change while they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::files;

/// The places for connections, taken and given back.
pub(crate) struct Places {
    taken: AtomicUsize,
    limit: AtomicUsize,
    /// A place may be free.
    freed: Notify,
}

impl Places {
    /// So many places, or as many as there can be files for.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let limit = files::connections(limit);
        let (taken, limit) = (AtomicUsize::new(0), AtomicUsize::new(limit));
        Arc::new(Self { taken, limit, freed: Notify::new() })
    }

    /// Changes how many there are. Whoever has one keeps it.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(files::connections(limit), Ordering::SeqCst);
        self.freed.notify_waiters();
    }

    /// Waits for a place.
    pub(crate) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.try_take() {
                return place;
            }
            freed.await;
        }
    }

    /// A place, if one is free.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Place> {
        let free = |taken: usize| (taken < self.limit.load(Ordering::SeqCst)).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free).ok()?;
        Some(Place(Arc::clone(self)))
    }
}

/// A connection's place, given back when dropped.
pub(crate) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_limit_holds_and_can_be_changed() {
        let places = Places::new(2);
        let (first, second) = (places.take().await, places.take().await);
        assert!(places.take().now_or_never().is_none());
        drop(first);
        let first = places.take().await;
        places.set_limit(1);
        drop(first);
        assert!(places.try_take().is_none(), "who has a place keeps it");
        drop(second);
        let mut held = vec![places.take().await];
        let mut waiting = Box::pin(places.take());
        assert!(waiting.as_mut().now_or_never().is_none());
        places.set_limit(3);
        held.push(waiting.await);
        held.push(places.take().await);
        assert!(places.try_take().is_none());
    }
}
