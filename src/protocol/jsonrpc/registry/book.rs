//! Who has announced himself: a pure state machine. It does no I/O and has no clock: whoever asks
//! brings the time.
//!
//! An entry is a name at a URL. It is unproven until somebody has asked the service there, and gone
//! when nothing was heard of it for the `ttl`. One that was found there and is busy the next time is
//! there: it announces itself. Where there is no room the oldest goes: of those that
//! are unproven, as long as there are any, so that a flood of invented names drives out itself.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How long after its announcement a service is asked again that did not answer, at first and at
/// most. Gemstone's announce themselves before they take their first call.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A name at a URL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) url: String,
}

/// How an announcement said where the service is (WIRE, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By its URL: Gemstone 0.4 and later.
    Url,
    /// By host and port: up to 0.3.
    HostAndPort(String, u16),
}

/// What is thought of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has been found there yet; why, where it was tried.
    Unproven(Option<String>),
    /// A service answers there.
    Believed,
    /// What answers there is not what was announced.
    Refuted(String),
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The service.
    Service,
    /// Somebody, who does not answer in time; why.
    Busy(String),
    /// Nobody; why.
    Nobody(String),
    /// Something else.
    SomethingElse(String),
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Arc<Key>,
    pub(super) form: Form,
    pub(super) standing: Standing,
    /// When it was heard of last.
    pub(super) heard: Instant,
    /// Why it has not answered when it was asked last, of one that is believed.
    busy: Option<String>,
    id: u64,
    /// Its turn to go: the lower, the older.
    turn: u64,
    /// When it is probed next; `None` while it is, or where it is not to be until it is heard of.
    due: Option<Instant>,
    failed: u32,
}

impl Entry {
    /// Why it is not believed, or has not answered when it was asked last.
    pub(super) fn why(&self) -> Option<&str> {
        match &self.standing {
            Standing::Believed => self.busy.as_deref(),
            Standing::Unproven(why) => why.as_deref(),
            Standing::Refuted(why) => Some(why),
        }
    }
}

/// What came of an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is in the book.
    Noted,
    /// What answers there was found not to be what is announced, and is asked once more.
    Refuted(String),
}

/// The book.
#[derive(Debug)]
pub(super) struct Book {
    entries: HashMap<Arc<Key>, Entry>,
    /// By whether they are believed and their turn: the first goes where room is needed.
    order: BTreeMap<(bool, u64), Arc<Key>>,
    /// By the time at which they are probed.
    due: BTreeMap<(Instant, u64), Arc<Key>>,
    last_id: u64,
    last_turn: u64,
    ttl: Duration,
    most: usize,
    /// Whether those that are believed are others than they were when that was asked last.
    changed: bool,
    /// Counts who came and who went.
    edition: u64,
}

impl Book {
    /// An empty one, whose entries live for `ttl`, and of which there may be `most`.
    pub(super) fn new(ttl: Duration, most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            due: BTreeMap::new(),
            last_id: 0,
            last_turn: 0,
            ttl,
            most,
            changed: false,
            edition: 0,
        }
    }

    /// Sets how long entries live and how many there may be. The oldest go where there are more;
    /// how many did.
    pub(super) fn set_limits(&mut self, ttl: Duration, most: usize) -> usize {
        (self.ttl, self.most) = (ttl, most);
        self.make_room(0)
    }

    /// A service is heard of. How many entries had to go for it is the second.
    pub(super) fn hear(&mut self, now: Instant, key: Key, form: Form) -> (Heard, usize) {
        self.last_turn += 1;
        let turn = self.last_turn;
        if let Some(entry) = self.entries.get_mut(&key) {
            let believed = entry.standing == Standing::Believed;
            self.order.remove(&(believed, entry.turn));
            self.order.insert((believed, turn), Arc::clone(&entry.key));
            self.changed |= believed && entry.form != form;
            (entry.turn, entry.heard, entry.form) = (turn, now, form);
            let heard = match &entry.standing {
                Standing::Refuted(why) => Heard::Refuted(why.clone()),
                _ => Heard::Noted,
            };
            if !believed {
                let key = Arc::clone(&entry.key);
                self.bring_forward(&key, now);
            }
            return (heard, 0);
        }
        let gone = self.make_room(1);
        self.last_id += 1;
        let (key, id) = (Arc::new(key), self.last_id);
        self.order.insert((false, turn), Arc::clone(&key));
        self.due.insert((now, id), Arc::clone(&key));
        let entry = Entry {
            key: Arc::clone(&key),
            form,
            standing: Standing::Unproven(None),
            heard: now,
            busy: None,
            id,
            turn,
            due: Some(now),
            failed: 0,
        };
        self.entries.insert(key, entry);
        self.edition += 1;
        (Heard::Noted, gone)
    }

    /// The next entry that is to be probed by now. It is not told again before [`Book::probed`].
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Arc<Key>> {
        let (&(due, id), _) = self.due.first_key_value()?;
        if due > now {
            return None;
        }
        let key = self.due.remove(&(due, id))?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.due = None;
        }
        Some(key)
    }

    /// An entry was probed.
    pub(super) fn probed(&mut self, now: Instant, key: &Key, finding: Finding) {
        let again = self.ttl / 3;
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = entry.standing == Standing::Believed;
        entry.busy = None;
        let next = match finding {
            Finding::Service => {
                (entry.standing, entry.failed) = (Standing::Believed, 0);
                Some(now + again)
            }
            Finding::Busy(why) if before => {
                entry.busy = Some(why);
                Some(now + again)
            }
            Finding::Busy(why) | Finding::Nobody(why) => {
                entry.standing = Standing::Unproven(Some(why));
                entry.failed = entry.failed.saturating_add(1);
                Some(now + pause(entry.failed).min(again))
            }
            Finding::SomethingElse(why) => {
                entry.standing = Standing::Refuted(why);
                None
            }
        };
        let believed = entry.standing == Standing::Believed;
        let (id, turn, key) = (entry.id, entry.turn, Arc::clone(&entry.key));
        if let Some(due) = entry.due.take() {
            self.due.remove(&(due, id));
        }
        entry.due = next;
        if let Some(due) = next {
            self.due.insert((due, id), Arc::clone(&key));
        }
        if before != believed {
            self.order.remove(&(before, turn));
            self.order.insert((believed, turn), key);
            self.changed = true;
        }
    }

    /// Lets those go of which nothing was heard for the `ttl`; how many did.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut gone = 0;
        for believed in [false, true] {
            while let Some(key) = self.oldest(believed)
                && self.entries.get(&key).is_none_or(|entry| entry.heard + self.ttl <= now)
            {
                self.remove(&key);
                gone += 1;
            }
        }
        gone
    }

    /// Lets those go that `keep` does not keep; how many did.
    pub(super) fn retain(&mut self, keep: impl Fn(&Key) -> bool) -> usize {
        let keys = self.entries.keys().filter(|key| !keep(key)).cloned();
        let gone: Vec<Arc<Key>> = keys.collect();
        gone.iter().for_each(|key| self.remove(key));
        gone.len()
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.due.first_key_value().map(|((due, _), _)| *due);
        let ends = [false, true].into_iter().filter_map(|believed| {
            let key = self.oldest(believed)?;
            Some(self.entries.get(&key)?.heard + self.ttl)
        });
        ends.chain(due).min()
    }

    /// What is thought of an entry; `None` where there is none.
    pub(super) fn standing(&self, key: &Key) -> Option<&Standing> {
        self.entries.get(key).map(|entry| &entry.standing)
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// A number that differs whenever other entries are there.
    pub(super) fn edition(&self) -> u64 {
        self.edition
    }

    /// Whether those that are believed have changed since that was asked last.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn bring_forward(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        // While it is being probed there is nothing to bring forward.
        let waits = match (entry.due, &entry.standing) {
            (Some(due), _) => due > now && entry.failed > 0,
            (None, Standing::Refuted(_)) => true,
            (None, _) => false,
        };
        if !waits {
            return;
        }
        if let Some(due) = entry.due.replace(now) {
            self.due.remove(&(due, entry.id));
        }
        self.due.insert((now, entry.id), Arc::clone(&entry.key));
    }

    fn oldest(&self, believed: bool) -> Option<Arc<Key>> {
        let mut class = self.order.range((believed, 0)..=(believed, u64::MAX));
        class.next().map(|(_, key)| Arc::clone(key))
    }

    fn make_room(&mut self, for_new: usize) -> usize {
        let mut gone = 0;
        while self.entries.len() + for_new > self.most {
            let Some(key) = self.oldest(false).or_else(|| self.oldest(true)) else { break };
            self.remove(&key);
            gone += 1;
        }
        gone
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        let believed = entry.standing == Standing::Believed;
        self.order.remove(&(believed, entry.turn));
        if let Some(due) = entry.due {
            self.due.remove(&(due, entry.id));
        }
        self.changed |= believed;
        self.edition += 1;
    }
}

fn pause(failed: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}
