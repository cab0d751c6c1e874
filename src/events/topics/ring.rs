//! The last events of a topic.

use std::collections::VecDeque;
use std::sync::Arc;

use super::subscription::Point;
use super::told::Told;

/// What a topic keeps, and how it counts.
pub(super) struct Ring {
    kept: VecDeque<Arc<Told>>,
    /// What those take in memory.
    bytes: usize,
    /// The id that the topic began behind.
    begin: u64,
    last_id: u64,
    last_number: u64,
    /// The number of the last one that was let go, or may have been.
    gone: u64,
}

/// What there is behind a point.
pub(super) enum Since {
    /// Nothing was asked for, or nothing has been since.
    Nothing,
    /// Those from the one by that id on, if any are kept, and what was let go before them: how many, where that can
    /// be told.
    Events { gap: Option<Option<u64>>, first: Option<u64> },
}

/// What has become of the events from one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// They are all kept.
    All,
    /// So many are not.
    Not(u64),
    /// The topic was forgotten since: nobody knows how many are not.
    Unknown,
}

impl Ring {
    /// A topic whose events are numbered from behind `begin` on. Up to the number `gone` it may have had
    /// some before, which nobody remembers.
    pub(super) fn new(begin: u64, gone: u64) -> Self {
        let kept = VecDeque::new();
        Self { kept, bytes: 0, begin, last_id: begin, last_number: 0, gone }
    }

    /// The number of the event with this id, if there was one; the least that it can have had where it is kept no more.
    pub(super) fn number_of(&self, id: u64) -> Option<u64> {
        if self.begin < id && id < self.oldest_id() {
            // An event's number is never below its id.
            return Some(id);
        }
        let at = self.kept.binary_search_by_key(&id, |told| told.id()).ok()?;
        self.kept.get(at).map(|told| told.number())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    /// The id of the oldest event that is kept; of the next one where none is.
    pub(super) fn oldest_id(&self) -> u64 {
        self.last_id + 1 - self.kept.len() as u64
    }

    /// What has become of the events from that one on.
    pub(super) fn left(&self, first: u64) -> Left {
        match self.oldest_id().saturating_sub(first) {
            0 => Left::All,
            _ if first <= self.begin => Left::Unknown,
            missing => Left::Not(missing),
        }
    }

    /// The events that are kept, from that one on.
    pub(super) fn kept_from(&self, first: u64) -> impl Iterator<Item = &Arc<Told>> {
        let skipped = usize::try_from(first.saturating_sub(self.oldest_id())).unwrap_or(usize::MAX);
        self.kept.range(skipped.min(self.kept.len())..)
    }

    /// The number of the last event, zero where there was none.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    pub(super) fn push(&mut self, told: Arc<Told>, keep: usize, keep_bytes: usize) {
        self.last_id = told.id();
        self.last_number = told.number();
        self.bytes += told.cost();
        self.kept.push_back(told);
        self.fit(keep, keep_bytes);
    }

    /// Lets go of what does not fit: how many bytes that were.
    pub(super) fn fit(&mut self, keep: usize, keep_bytes: usize) -> usize {
        let before = self.bytes;
        while self.kept.len() > keep || self.bytes > keep_bytes {
            self.let_go();
        }
        before - self.bytes
    }

    /// Lets go of the oldest: how many bytes that was.
    pub(super) fn let_go(&mut self) -> usize {
        let Some(told) = self.kept.pop_front() else { return 0 };
        self.gone = told.number();
        self.bytes -= told.cost();
        told.cost()
    }

    /// What there is behind a point. The numbers of this process go from `base` on, and so far to `last`: others
    /// are another's, before this one or beside it, and nothing is known of what that has told.
    pub(super) fn since(&self, point: Point, (base, last): (u64, u64)) -> Since {
        let (gap, skip) = match point {
            Point::Now => return Since::Nothing,
            // There was nothing to miss. An id is never above its event's number.
            Point::Id(id)
                if self.last_number == 0 && (self.gone.max(base)..=last).contains(&id) =>
            {
                return Since::Nothing;
            }
            Point::Id(id) if id == self.last_id => return Since::Nothing,
            Point::Id(id) if id > self.last_id => (Some(None), 0),
            Point::Id(id) => {
                let oldest = self.oldest_id();
                // Before the topic's beginning nobody knows how many there were.
                let known = id >= self.begin && id >= base;
                let missing = oldest.saturating_sub(id + 1);
                let gap = if known { (missing > 0).then_some(Some(missing)) } else { Some(None) };
                (gap, self.kept.partition_point(|told| told.id() <= id))
            }
            Point::Number(number) if number > last => (Some(None), 0),
            Point::Number(number) => {
                let known = number >= base && number >= self.gone;
                let gap = if known { None } else { Some(None) };
                (gap, self.kept.partition_point(|told| told.number() <= number))
            }
        };
        let first = self.kept.get(skip).map(|told| told.id());
        if gap.is_none() && first.is_none() {
            return Since::Nothing;
        }
        Since::Events { gap, first }
    }
}
