//! Which topic makes room for another: of those that nobody listens to the one that has been silent for longest,
//! and only where there are none, of the others. Pure: what a topic is like, whoever asks looks up.
//!
//! An entry may be of another time than its topic. It is put right when its turn comes, so that an event costs
//! nothing here, and a topic little.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A topic, behind the number of its last event.
type Entry = Reverse<(u64, Arc<str>)>;

/// What a topic is like now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// The number of its last event.
    pub(super) last_number: u64,
    /// Whether anybody listens.
    pub(super) is_heard: bool,
}

/// All topics, each once.
#[derive(Default)]
pub(super) struct Silence {
    /// Those that nobody may listen to.
    unheard: BinaryHeap<Entry>,
    /// Those that somebody listened to when that was looked at last.
    heard: BinaryHeap<Entry>,
    departures: Departures,
    /// How many listeners had gone when all of `heard` were looked at.
    looked_at: u64,
}

/// Counts listeners that hear less than they did.
#[derive(Clone, Default)]
pub(super) struct Departures(Arc<AtomicU64>);

impl Departures {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Silence {
    pub(super) fn departures(&self) -> &Departures {
        &self.departures
    }

    /// A topic is known from now on.
    pub(super) fn enter(&mut self, name: &Arc<str>) {
        self.unheard.push(Reverse((0, Arc::clone(name))));
    }

    /// Keeps those that are still known.
    pub(super) fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        let known = |Reverse((_, name)): &Entry| is_known(name);
        self.unheard.retain(known);
        self.heard.retain(known);
        self.departures.count();
    }

    /// Takes out the one that makes room.
    pub(super) fn take(&mut self, look: impl Fn(&str) -> Option<Look>) -> Option<Arc<str>> {
        loop {
            while let Some(Reverse((number, name))) = self.unheard.pop() {
                let Some(Look { last_number, is_heard }) = look(&name) else { continue };
                let entry = Reverse((last_number, Arc::clone(&name)));
                match (is_heard, last_number == number) {
                    (true, _) => self.heard.push(entry),
                    (false, false) => self.unheard.push(entry),
                    (false, true) => return Some(name),
                }
            }
            // Whom the last ones have left, nobody tells.
            let gone = self.departures.0.load(Ordering::Relaxed);
            if gone == std::mem::replace(&mut self.looked_at, gone) {
                break;
            }
            let (heard, left) = std::mem::take(&mut self.heard)
                .into_iter()
                .partition(|Reverse((_, name))| look(name).is_some_and(|look| look.is_heard));
            (self.heard, self.unheard) = (heard, left);
        }
        while let Some(Reverse((number, name))) = self.heard.pop() {
            let Some(Look { last_number, .. }) = look(&name) else { continue };
            if last_number == number {
                return Some(name);
            }
            self.heard.push(Reverse((last_number, name)));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use super::*;

    struct World {
        silence: Silence,
        topics: HashMap<Arc<str>, Look>,
        looks: Cell<usize>,
    }

    impl World {
        fn new() -> Self {
            Self { silence: Silence::default(), topics: HashMap::new(), looks: Cell::new(0) }
        }

        fn enter(&mut self, name: &str, last_number: u64, is_heard: bool) {
            let name = Arc::from(name);
            self.silence.enter(&name);
            self.topics.insert(name, Look { last_number, is_heard });
        }

        fn take(&mut self) -> Option<String> {
            let look = |name: &str| {
                self.looks.set(self.looks.get() + 1);
                self.topics.get(name).copied()
            };
            let name = self.silence.take(look)?;
            self.topics.remove(&name);
            Some(name.to_string())
        }
    }

    #[test]
    fn the_most_silent_goes_and_who_is_heard_goes_last() {
        let mut world = World::new();
        for (name, last_number, is_heard) in
            [("a", 1, true), ("b", 4, false), ("c", 3, false), ("d", 0, true)]
        {
            world.enter(name, last_number, is_heard);
        }
        assert_eq!(world.take().as_deref(), Some("c"));
        world.topics.insert("d".into(), Look { last_number: 9, is_heard: true });
        let left = [world.take(), world.take(), world.take(), world.take()];
        assert_eq!(left.map(Option::unwrap_or_default), ["b", "a", "d", ""]);
    }

    #[test]
    fn whom_the_last_listener_has_left_goes_before_those_who_are_heard() {
        let mut world = World::new();
        for (name, last_number) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            world.enter(name, last_number, true);
        }
        assert_eq!(world.take().as_deref(), Some("a"));
        world.topics.insert("d".into(), Look { last_number: 4, is_heard: false });
        world.silence.departures().count();
        assert_eq!(world.take().as_deref(), Some("d"));
        world.silence.retain(|name| name != "b");
        assert_eq!((world.take().as_deref(), world.take()), (Some("c"), None));
    }

    #[test]
    fn a_flood_of_names_looks_at_each_a_few_times() {
        let mut world = World::new();
        for number in 0..1_000 {
            world.enter(&format!("old.{number}"), number, true);
        }
        for number in 0..20_000 {
            assert!(world.take().is_some());
            // One of each thousand is dropped again.
            let is_heard = number % 1_000 != 0;
            world.enter(&format!("new.{number}"), 0, is_heard);
            if !is_heard {
                world.silence.departures().count();
            }
        }
        let looks = world.looks.get();
        assert!(looks < 20_000 * 5, "{looks}");
    }
}
