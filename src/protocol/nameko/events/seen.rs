//! The ids of events that came without one. Must not: do I/O.
//!
//! Nameko's dispatchers give their events none. So each gets one when it comes, and what is delivered
//! again gets the same: it is known by its content. Of events that are alike each has its own id, and
//! they come again in the order in which they came; so what was not acked is matched one by one. What
//! was acked comes again where the broker has lost the ack: that is believed only of content which
//! came once, since a new event that got an old one's id would be taken for its repetition, and be lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::token::random_uuid;

/// How many are remembered of a channel.
const MOST: usize = 4_096;

/// What has come from one source.
#[derive(Default)]
pub(super) struct Seen {
    /// Over the channel that there is, in the order of their tags.
    current: VecDeque<Known>,
    /// Over those before, by the content.
    earlier: HashMap<u64, VecDeque<Known>>,
    remembered: usize,
    acked: u64,
}

struct Known {
    content: u64,
    tag: u64,
    id: Arc<str>,
    acked: bool,
}

impl Seen {
    /// The id of an event, by its content.
    pub(super) fn id(&mut self, content: u64, tag: u64, redelivered: bool) -> Arc<str> {
        let known = if redelivered { self.recall(content) } else { None };
        let id = known.unwrap_or_else(|| random_uuid().into());
        if self.current.len() == MOST {
            self.current.pop_front();
        }
        self.current.push_back(Known { content, tag, id: Arc::clone(&id), acked: false });
        id
    }

    fn recall(&mut self, content: u64) -> Option<Arc<str>> {
        let alike = self.earlier.get_mut(&content)?;
        let unacked = alike.iter().position(|known| !known.acked);
        let place = match unacked {
            Some(place) => place,
            None if alike.len() == 1 && !self.current.iter().any(|it| it.content == content) => 0,
            None => return None,
        };
        let known = alike.remove(place)?;
        if alike.is_empty() {
            self.earlier.remove(&content);
        }
        self.remembered -= 1;
        Some(known.id)
    }

    /// The broker is told that all up to this one are not needed any more.
    pub(super) fn acked(&mut self, tag: u64) {
        self.acked = self.acked.max(tag);
    }

    /// The channel is gone: what was not acked comes again.
    pub(super) fn over(&mut self) {
        if self.remembered + self.current.len() > 2 * MOST {
            self.earlier.clear();
            self.remembered = 0;
        }
        self.remembered += self.current.len();
        let acked = std::mem::take(&mut self.acked);
        for known in self.current.drain(..) {
            let known = Known { acked: known.tag <= acked, ..known };
            self.earlier.entry(known.content).or_default().push_back(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_has_the_id_that_it_had() {
        let mut seen = Seen::default();
        let first: Vec<_> = (1..=4).map(|tag| seen.id(tag, tag, false)).collect();
        seen.acked(2);
        seen.over();
        let again: Vec<_> = (1..=4).map(|tag| seen.id(tag, tag, true)).collect();
        assert_eq!(first, again, "an ack may be lost");
        assert_ne!(seen.id(9, 5, true), first[0]);
        seen.over();
        assert_eq!(seen.id(3, 1, true), first[2], "and again");
        assert_ne!(seen.id(4, 2, false), first[3], "a new one with the same content");
    }

    #[test]
    fn events_that_are_alike_stay_apart() {
        let mut seen = Seen::default();
        let ids: Vec<_> = (1..=4).map(|tag| seen.id(7, tag, false)).collect();
        assert!((1..4).all(|n| ids[n] != ids[0]));
        seen.acked(2);
        seen.over();
        // Three come again, of which nobody knows which were acked.
        assert_eq!([seen.id(7, 1, true), seen.id(7, 2, true)], [ids[2].clone(), ids[3].clone()]);
        let third = seen.id(7, 3, true);
        assert!(!ids.contains(&third), "it may be another event");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        for _ in 0..5 {
            (1..=2 * MOST as u64).for_each(|tag| drop(seen.id(fastrand::u64(..), tag, false)));
            assert_eq!(seen.current.len(), MOST);
            seen.over();
            let kept: usize = seen.earlier.values().map(VecDeque::len).sum();
            assert_eq!(kept, seen.remembered);
            assert!(kept <= 2 * MOST);
        }
    }
}
