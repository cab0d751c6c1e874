//! The calls that run here, so that a request which RabbitMQ delivers again is known for one of them.
//!
//! It does so when a channel or a connection closes over which a request came and was not acked. The call goes
//! on. Its copy waits for it here, or its answer for the copy: that is acked in its place, and takes the answer out
//! where it cannot leave any more by the way that it came. No lock is held over an await.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many calls are remembered that have ended and could not be acked, and for how long: RabbitMQ delivers
/// them again as soon as somebody consumes their queue.
const MOST_ENDED: usize = 1_024;
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many bytes of answers that could not leave are kept with them.
const MOST_UNSENT: usize = 8 << 20;

/// The calls of an upstream that run, over all of its connections.
#[derive(Default)]
pub(super) struct Running {
    keys: RandomState,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    runs: HashMap<u64, Entry>,
    /// Those that have ended and could not be acked, the oldest first.
    ended: VecDeque<Ended>,
    /// How many bytes of answers they have.
    unsent: usize,
}

/// A call that has ended, and was not acked.
struct Ended {
    key: u64,
    at: Instant,
    fate: Fate,
}

impl Table {
    /// Takes one out that runs: its copy, if it is known for one.
    fn leave(&mut self, key: u64) -> Option<oneshot::Sender<Fate>> {
        let entry = self.runs.get_mut(&key)?;
        entry.runs -= 1;
        let copy = entry.copy.take();
        if entry.runs == 0 {
            self.runs.remove(&key);
        }
        copy
    }

    /// Keeps it for its copy. False where there is no room.
    fn keep(&mut self, key: u64, fate: Fate) -> bool {
        while self.ended.front().is_some_and(|oldest| oldest.at.elapsed() >= REMEMBERED)
            || self.ended.len() >= MOST_ENDED
        {
            self.take(0);
        }
        if self.unsent + fate.size() > MOST_UNSENT {
            return false;
        }
        self.unsent += fate.size();
        self.ended.push_back(Ended { key, at: Instant::now(), fate });
        true
    }

    fn take(&mut self, place: usize) -> Option<Fate> {
        let Ended { at, fate, .. } = self.ended.remove(place)?;
        self.unsent -= fate.size();
        (at.elapsed() < REMEMBERED).then_some(fate)
    }
}

#[derive(Default)]
struct Entry {
    /// How many have the same key.
    runs: usize,
    /// More than one had: nobody can tell which of them a copy is of.
    is_ambiguous: bool,
    copy: Option<oneshot::Sender<Fate>>,
}

/// What becomes of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The call was answered.
    Answered,
    /// The call has run, and its answer is still to be sent.
    Unsent(Unsent),
    /// It was delivered again.
    Replaced,
}

impl Fate {
    fn size(&self) -> usize {
        match self {
            Self::Unsent(unsent) => unsent.body.len(),
            Self::Answered | Self::Replaced => 0,
        }
    }
}

/// An answer that could not leave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsent {
    pub(super) body: Bytes,
    /// Whether it is another call's under the same idempotency key.
    pub(super) replayed: bool,
}

/// A call that runs, until this is dropped: then its copy is not of a call that is known.
pub(super) struct Run<'a> {
    running: &'a Running,
    key: Option<u64>,
}

impl Running {
    /// By what a request is known again; `None` for one that nothing tells apart from others.
    pub(super) fn key(&self, to: &str, properties: &BasicProperties, size: usize) -> Option<u64> {
        let id = properties.correlation_id().as_ref().filter(|id| !id.as_str().is_empty())?;
        let reply_to = properties.reply_to().as_ref().map(|key| key.as_str());
        Some(self.keys.hash_one((to, id.as_str(), reply_to, size)))
    }

    /// Enters a call that is about to run.
    pub(super) fn enter(&self, key: Option<u64>) -> Run<'_> {
        if let Some(key) = key {
            let mut table = self.table();
            let entry = table.runs.entry(key).or_default();
            entry.runs += 1;
            if entry.runs > 1 {
                entry.is_ambiguous = true;
                entry.copy = None;
            }
        }
        Run { running: self, key }
    }

    /// Tells what becomes of a request that was delivered again; `None` where no call is known that it is a copy
    /// of. Where nothing is told, that one has ended without an answer.
    pub(super) fn copy(&self, key: u64) -> Option<oneshot::Receiver<Fate>> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        if let Some(entry) = table.runs.get_mut(&key) {
            if entry.is_ambiguous {
                return None;
            }
            if let Some(before) = entry.copy.replace(sender) {
                tell(before, Fate::Replaced);
            }
            return Some(receiver);
        }
        let place = table.ended.iter().position(|ended| ended.key == key)?;
        tell(sender, table.take(place)?);
        Some(receiver)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every use leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run<'_> {
    /// It was answered. Where it was not acked, its copy is.
    pub(super) fn answered(mut self, is_acked: bool) {
        let Some(key) = self.key.take() else { return };
        // In one go: a copy that comes finds it in the one place or in the other.
        let mut table = self.running.table();
        match table.leave(key) {
            Some(copy) => tell(copy, Fate::Answered),
            None if is_acked => {}
            None => {
                table.keep(key, Fate::Answered);
            }
        }
    }

    /// Its answer cannot leave any more by the way that it came: its copy takes it, when it comes. False where none can.
    pub(super) fn unsent(mut self, unsent: Unsent) -> bool {
        let Some(key) = self.key.take() else { return false };
        let fate = Fate::Unsent(unsent);
        let mut table = self.running.table();
        match table.leave(key) {
            Some(copy) => copy.send(fate).is_ok(),
            None => table.keep(key, fate),
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            drop(self.running.table().leave(key));
        }
    }
}

/// A copy that nobody holds any more need not be told.
fn tell(copy: oneshot::Sender<Fate>, fate: Fate) {
    drop(copy.send(fate));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(id: &str) -> BasicProperties {
        BasicProperties::default().with_correlation_id(id.into()).with_reply_to("own".into())
    }

    fn unsent() -> Unsent {
        Unsent { body: Bytes::from_static(b"1"), replayed: false }
    }

    #[test]
    fn a_request_is_known_again_by_all_that_it_says() {
        let running = Running::default();
        let key = running.key("a.b", &properties("1"), 9);
        assert!(key.is_some() && key == running.key("a.b", &properties("1"), 9));
        assert_ne!(key, running.key("a.c", &properties("1"), 9));
        assert_ne!(key, running.key("a.b", &properties("2"), 9));
        assert_ne!(key, running.key("a.b", &properties("1"), 8));
        assert_eq!(running.key("a.b", &properties(""), 9), None);
        assert_eq!(running.key("a.b", &BasicProperties::default(), 9), None);
    }

    #[test]
    fn a_copy_ends_with_its_call() {
        let running = Running::default();
        assert!(running.copy(7).is_none(), "nothing runs");
        let run = running.enter(Some(7));
        let mut first = running.copy(7).expect("it runs");
        let mut second = running.copy(7).expect("it runs");
        assert_eq!(first.try_recv(), Ok(Fate::Replaced));
        run.answered(false);
        assert_eq!(second.try_recv(), Ok(Fate::Answered));
        assert!(running.copy(7).is_none(), "it is over");
    }

    #[test]
    fn an_answer_that_cannot_leave_goes_with_the_copy() {
        let running = Running::default();
        assert!(!running.enter(None).unsent(unsent()), "nothing tells which its copy is");
        let run = running.enter(Some(7));
        let mut copy = running.copy(7).expect("it runs");
        assert!(run.unsent(unsent()));
        assert_eq!(copy.try_recv(), Ok(Fate::Unsent(unsent())));
        let run = running.enter(Some(7));
        let mut copy = running.copy(7).expect("it runs");
        drop(run);
        assert!(copy.try_recv().is_err(), "nothing is known");
        assert!(running.table().runs.is_empty());
    }

    #[test]
    fn an_answer_that_cannot_leave_waits_for_the_copy() {
        let running = Running::default();
        assert!(running.enter(Some(7)).unsent(unsent()));
        let told = running.copy(7).expect("it is known").try_recv();
        assert_eq!((told, running.table().unsent), (Ok(Fate::Unsent(unsent())), 0));
        let large = || Unsent { body: vec![0; MOST_UNSENT / 2].into(), replayed: false };
        assert!(running.enter(Some(1)).unsent(large()) && running.enter(Some(2)).unsent(large()));
        assert!(!running.enter(Some(3)).unsent(unsent()), "there is no room");
        assert!(running.copy(1).is_some() && running.copy(3).is_none());
        assert!(running.enter(Some(3)).unsent(unsent()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_answered_and_not_acked_is_remembered_once() {
        let running = Running::default();
        running.enter(Some(7)).answered(true);
        assert!(running.copy(7).is_none(), "it was acked");
        running.enter(Some(7)).answered(false);
        assert_eq!(running.copy(7).expect("it is known").try_recv(), Ok(Fate::Answered));
        assert!(running.copy(7).is_none());
        running.enter(Some(7)).answered(false);
        tokio::time::advance(REMEMBERED).await;
        assert!(running.copy(7).is_none(), "another one may have come by its key");
        for key in 0..2 * MOST_ENDED as u64 {
            running.enter(Some(key)).answered(false);
        }
        assert_eq!(running.table().ended.len(), MOST_ENDED);
    }

    #[test]
    fn of_two_alike_nobody_knows_which_it_is() {
        let running = Running::default();
        let (one, other) = (running.enter(Some(7)), running.enter(Some(7)));
        assert!(running.copy(7).is_none());
        one.answered(true);
        assert!(running.copy(7).is_none());
        drop(other);
        let run = running.enter(Some(7));
        let mut copy = running.copy(7).expect("it runs alone");
        let alike = running.enter(Some(7));
        assert!(copy.try_recv().is_err());
        drop((run, alike));
        assert!(running.table().runs.is_empty());
    }
}
