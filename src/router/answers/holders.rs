//! Who holds how many of the keys that are known, and so who loses one where there is no room for a new one:
//! whoever holds most, of his own, that whose time ends first. A step costs a search in ordered sets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Place;

/// All who hold keys, by their numbers.
#[derive(Default)]
pub(super) struct Holders {
    of: HashMap<u64, Holder>,
    /// Those of them who can lose one; the last is who loses it.
    ranks: BTreeMap<Rank, u64>,
}

/// How many one holds; of several who hold as many, the one whose key ends first is behind.
type Rank = (usize, Reverse<Place>);

#[derive(Default)]
struct Holder {
    /// Calls under way too, whose keys nobody loses.
    held: usize,
    /// When those are forgotten that have ended.
    ends: BTreeSet<Place>,
}

impl Holder {
    fn rank(&self) -> Option<Rank> {
        Some((self.held, Reverse(*self.ends.first()?)))
    }
}

impl Holders {
    /// Somebody has one more.
    pub(super) fn add(&mut self, who: u64) {
        self.change(who, |holder| holder.held += 1);
    }

    /// The call of one of his has ended: its key is known until then.
    pub(super) fn end(&mut self, who: u64, place: Place) {
        self.change(who, |holder| holder.ends.extend([place]));
    }

    /// One of his is forgotten: one that has ended so, or one whose call did not run.
    pub(super) fn remove(&mut self, who: u64, place: Option<Place>) {
        self.change(who, |holder| {
            holder.held = holder.held.saturating_sub(1);
            if let Some(place) = place {
                holder.ends.remove(&place);
            }
        });
    }

    /// Which key is to go for one more of somebody's: nobody loses one to who holds more.
    pub(super) fn first_to_go(&self, more_of: Option<u64>) -> Option<Place> {
        let ((most, Reverse(place)), _) = self.ranks.last_key_value()?;
        let has = more_of.and_then(|who| self.of.get(&who)).map_or(0, |holder| holder.held);
        (*most >= has).then_some(*place)
    }

    fn change(&mut self, who: u64, change: impl FnOnce(&mut Holder)) {
        let holder = self.of.entry(who).or_default();
        if let Some(rank) = holder.rank() {
            self.ranks.remove(&rank);
        }
        change(holder);
        if let Some(rank) = holder.rank() {
            self.ranks.insert(rank, who);
        } else if holder.held == 0 {
            self.of.remove(&who);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.ranks.is_empty()
    }
}
