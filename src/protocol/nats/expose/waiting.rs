//! Notifications of an exposed service that wait for their turn: bounded, because NATS holds nothing back and their
//! senders cannot be told to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::wire::Message;

/// How many bytes of them wait at the most, as long as they take to be kept.
pub(super) const MOST_WAITING: usize = 32 << 20;
/// What one takes besides itself.
const AROUND: usize = 1024;

/// How much waits.
#[derive(Default)]
pub(super) struct Waiting(AtomicUsize);

/// What one takes of it, until it is dropped.
pub(super) struct Place {
    waiting: Arc<Waiting>,
    size: usize,
}

impl Waiting {
    /// A place for a message; `None` where there is none.
    pub(super) fn place(self: &Arc<Self>, message: &Message) -> Option<Place> {
        let size = message.size() + AROUND;
        let fits = |held: usize| held.checked_add(size).filter(|held| *held <= MOST_WAITING);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.ok().map(|_| Place { waiting: Arc::clone(self), size })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_gives_its_place_back() {
        let message = Message { payload: vec![b'x'; 1 << 20].into(), ..Message::default() };
        let waiting = Arc::default();
        let places: Vec<_> = std::iter::from_fn(|| Waiting::place(&waiting, &message)).collect();
        assert_eq!(places.len(), 31, "with what is around them");
        drop(places);
        assert!(waiting.place(&message).is_some());
    }
}
