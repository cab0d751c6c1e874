//! The messages that the broker has not confirmed yet, and what an ack will mean to each. Must
//! not: do I/O.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tokio::sync::Notify;

/// What an ack means for whoever waits.
#[derive(Clone)]
pub(super) enum OnAck {
    /// Nothing: a call waits for its reply.
    Wait,
    /// The same, and who waits is told: the service was missing before.
    Tell(Arc<Notify>),
    /// A notification has been taken over.
    Confirmed,
}

/// A message that has been published.
pub(super) struct Sent {
    pub(super) id: u64,
    /// The length of its body.
    pub(super) size: usize,
    /// Its routing key's [`fingerprint`]: lapin keeps the key.
    pub(super) key: u64,
    pub(super) on_ack: OnAck,
}

/// What stands for a routing key.
pub(super) fn fingerprint(routing_key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    routing_key.hash(&mut hasher);
    hasher.finish()
}

/// Messages, each in a place that it keeps until it is confirmed.
#[derive(Default)]
pub(super) struct Unconfirmed {
    places: Vec<Option<(u64, Sent)>>,
    free: Vec<usize>,
    published: u64,
}

impl Unconfirmed {
    /// Gives a message its place.
    pub(super) fn put(&mut self, sent: Sent) -> usize {
        self.published += 1;
        let entry = Some((self.published, sent));
        match self.free.pop() {
            Some(place) => {
                self.places[place] = entry;
                place
            }
            None => {
                self.places.push(entry);
                self.places.len() - 1
            }
        }
    }

    /// Takes a message out.
    pub(super) fn take(&mut self, place: usize) -> Option<Sent> {
        let (_, sent) = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(sent)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Sent> {
        self.places.iter().flatten().map(|(_, sent)| sent)
    }

    /// Takes all of them out, in the order in which they were published.
    pub(super) fn drain(&mut self) -> Vec<Sent> {
        self.free.clear();
        let mut entries: Vec<_> = self.places.drain(..).flatten().collect();
        entries.sort_unstable_by_key(|(number, _)| *number);
        entries.into_iter().map(|(_, sent)| sent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: u64) -> Sent {
        Sent { id, size: 0, key: 0, on_ack: OnAck::Wait }
    }

    #[test]
    fn places_are_used_again_and_the_order_is_kept() {
        let mut unconfirmed = Unconfirmed::default();
        let places: Vec<_> = (0..4).map(|id| unconfirmed.put(sent(id))).collect();
        assert_eq!(unconfirmed.take(places[1]).map(|sent| sent.id), Some(1));
        assert!(unconfirmed.take(places[1]).is_none(), "twice");
        assert_eq!(unconfirmed.put(sent(4)), places[1]);
        assert_eq!((unconfirmed.iter().count(), unconfirmed.is_empty()), (4, false));
        let ids: Vec<_> = unconfirmed.drain().into_iter().map(|sent| sent.id).collect();
        assert_eq!(ids, [0, 2, 3, 4]);
        assert!(unconfirmed.take(0).is_none() && unconfirmed.is_empty());
        assert_eq!(unconfirmed.put(sent(5)), 0);
        assert!(!unconfirmed.is_empty());
        assert!(unconfirmed.take(0).is_some() && unconfirmed.is_empty());
    }
}
