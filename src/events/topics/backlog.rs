//! What a listener has not been given yet because it takes events slowly, or was away: by topics, the first one of
//! each. It is taken out of their rings when there is room for it, so that nothing is missed as long as it stands
//! there, and a listener holds no more than that.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::Lag;
use super::ring::Left;
use super::state::State;
use super::told::Told;

/// How many bytes of events are taken out at once, while nothing can be published.
pub(super) const MOST_TAKEN: usize = 256 << 10;

/// By topics, the id of the first event that was not given.
pub(super) type Backlog = HashMap<Arc<str>, u64>;

/// What becomes of a backlog.
#[derive(Default)]
pub(super) struct Caught {
    /// The next events, in their order.
    pub(super) events: Vec<Arc<Told>>,
    /// What is still to come.
    pub(super) backlog: Backlog,
    /// How many events of which topics are kept no more.
    pub(super) lagged: Vec<(Arc<str>, u64)>,
    /// The topics of which nobody knows how many those are.
    pub(super) gaps: Vec<Arc<str>>,
    /// Whether a row of those says that it is to hear no more.
    pub(super) is_too_slow: bool,
}

impl State {
    /// Takes the next events of a backlog out of the rings, until they have `most` bytes.
    pub(super) fn catch_up(&self, backlog: Backlog, most: usize) -> Caught {
        let mut caught = Caught::default();
        let mut tails = Vec::with_capacity(backlog.len());
        let mut next = BinaryHeap::with_capacity(backlog.len());
        for (name, first) in backlog {
            let Some(topic) = self.topics.get(&name) else {
                caught.gaps.push(name);
                continue;
            };
            match topic.ring.left(first) {
                Left::All => {}
                Left::Not(_) if topic.rule.lag == Lag::Disconnect => caught.is_too_slow = true,
                Left::Not(missed) => caught.lagged.push((Arc::clone(&name), missed)),
                Left::Unknown => caught.gaps.push(Arc::clone(&name)),
            }
            let mut tail = topic.ring.kept_from(first).peekable();
            if let Some(told) = tail.peek() {
                next.push(Reverse((told.number(), tails.len())));
                tails.push((name, tail));
            }
        }
        let mut bytes = 0;
        while bytes < most
            && let Some(Reverse((_, place))) = next.pop()
        {
            let (_, tail) = &mut tails[place];
            if let Some(told) = tail.next() {
                bytes += told.size();
                caught.events.push(Arc::clone(told));
            }
            if let Some(told) = tail.peek() {
                next.push(Reverse((told.number(), place)));
            }
        }
        let rest = tails.into_iter().filter_map(|(name, mut tail)| Some((name, tail.peek()?.id())));
        caught.backlog = rest.collect();
        caught
    }
}
