//! What was taken over a channel and is still to be acked. Must not: do I/O.

use std::collections::VecDeque;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Every target has it.
    Settled,
    /// Nobody vouches for it: it is to come again.
    Abandoned,
}

/// Delivery tags, from the oldest one that is not done with.
#[derive(Default)]
pub(super) struct Outstanding {
    entries: VecDeque<(u64, Option<Fate>)>,
    /// Whether all up to an event may be acked together.
    one_by_one: bool,
}

/// What the broker is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acks {
    pub(super) tags: Vec<u64>,
    /// Each stands for all before it.
    pub(super) multiple: bool,
}

impl Outstanding {
    pub(super) fn took(&mut self, tag: u64) {
        self.entries.push_back((tag, None));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn done(&mut self, tag: u64, fate: Fate) {
        let place = self.entries.binary_search_by_key(&tag, |(tag, _)| *tag);
        if let Some(entry) = place.ok().and_then(|place| self.entries.get_mut(place)) {
            entry.1 = Some(fate);
        }
    }

    /// Takes out what is done with, from the oldest on.
    pub(super) fn acks(&mut self) -> Acks {
        let mut settled = Vec::new();
        let mut multiple = !self.one_by_one;
        while let Some((tag, Some(fate))) = self.entries.front().copied() {
            self.entries.pop_front();
            match fate {
                Fate::Settled => settled.push(tag),
                Fate::Abandoned => (self.one_by_one, multiple) = (true, false),
            }
        }
        if multiple {
            settled.drain(..settled.len().saturating_sub(1));
        }
        Acks { tags: settled, multiple }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_up_to_the_last_are_acked_together_and_none_that_was_abandoned() {
        let mut out = Outstanding::default();
        (1..=6).for_each(|tag| out.took(tag));
        out.done(2, Fate::Settled);
        assert_eq!(out.acks(), Acks { tags: vec![], multiple: true });
        out.done(1, Fate::Settled);
        assert_eq!(out.acks(), Acks { tags: vec![2], multiple: true });
        out.done(3, Fate::Settled);
        out.done(4, Fate::Abandoned);
        out.done(5, Fate::Settled);
        assert_eq!(out.acks(), Acks { tags: vec![3, 5], multiple: false });
        out.done(6, Fate::Settled);
        out.done(99, Fate::Settled);
        assert_eq!(out.acks(), Acks { tags: vec![6], multiple: false });
        assert!(out.is_empty());
    }
}
