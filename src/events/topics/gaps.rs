//! The gaps that a listener is still to be told of: each topic's once, in the order in which they came. There may be one
//! in each topic that is known, and another one while they wait, so each is found by its topic.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What was missed of topics.
#[derive(Default)]
pub(super) struct Gaps {
    /// How many events of each, where that is known, by their places.
    waiting: BTreeMap<u64, (Arc<str>, Option<u64>)>,
    /// Which place is whose.
    places: HashMap<Arc<str>, u64>,
    next: u64,
}

impl Gaps {
    /// Some more were missed: so many, where that is known. Where it is not once, nobody knows how many all are.
    pub(super) fn enter(&mut self, topic: &Arc<str>, missed: Option<u64>) {
        let place = self.places.get(topic).and_then(|place| self.waiting.get_mut(place));
        if let Some((_, before)) = place {
            *before = before.zip(missed).map(|(one, other)| one.saturating_add(other));
            return;
        }
        self.waiting.insert(self.next, (Arc::clone(topic), missed));
        self.places.insert(Arc::clone(topic), self.next);
        self.next += 1;
    }

    /// Takes out the one that came first.
    pub(super) fn pop(&mut self) -> Option<(Arc<str>, Option<u64>)> {
        let (_, (topic, missed)) = self.waiting.pop_first()?;
        self.places.remove(&topic);
        Some((topic, missed))
    }

    /// A topic's is not told.
    pub(super) fn remove(&mut self, topic: &str) {
        if let Some(place) = self.places.remove(topic) {
            self.waiting.remove(&place);
        }
    }

    /// Those of other topics are not told.
    pub(super) fn retain(&mut self, mut is_told: impl FnMut(&Arc<str>) -> bool) {
        let Self { waiting, places, .. } = self;
        waiting.retain(|_, (topic, _)| {
            let is_told = is_told(topic);
            if !is_told {
                places.remove(topic);
            }
            is_told
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topics_gap_is_told_once_in_its_place_with_all_that_was_missed() {
        let mut gaps = Gaps::default();
        let [a, b, c, d]: [Arc<str>; 4] = ["a", "b", "c", "d"].map(Arc::from);
        for (topic, missed) in [
            (&b, Some(2)),
            (&a, Some(3)),
            (&c, None),
            (&d, Some(1)),
            (&a, None),
            (&b, Some(1)),
            (&c, Some(1)),
        ] {
            gaps.enter(topic, missed);
        }
        gaps.remove("d");
        gaps.enter(&d, Some(9));
        gaps.retain(|topic| **topic != *c);
        gaps.remove("never");
        let told: Vec<_> = std::iter::from_fn(|| gaps.pop()).collect();
        assert_eq!(told, [(b, Some(3)), (a, None), (d, Some(9))]);
        assert!(gaps.places.is_empty());
    }
}
