//! What is known of calls that have a key: which are under way, and how others have ended. One table for the
//! whole gateway, which lives over reloads.
//!
//! A key that is there is not run again, whatever else is forgotten of it: where answers take too many
//! bytes, those go first whose time ends first, and their keys stay. Where there are too many keys, those go
//! of whoever holds most whose time ends first; calls under way never do. No I/O, and no clock: time is handed in.

mod holders;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::fingerprint::Fingerprint;
use super::who::Numbers;
use crate::call::{CallKind, Reply};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::IdempotencyMetrics;
use crate::route::idempotency::Room;
use crate::tasks::Tasks;
use holders::Holders;

/// One of so many parts of `max_bytes` is the most that one answer can take.
const ANSWER_PART: usize = 4;

/// How often it is looked whether calls have ended, where all are to end.
const LOOK: Duration = Duration::from_millis(10);

/// How a call has ended, as everybody is told who waits for it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) result: Result<Reply, Fault>,
    /// The service's part of the time.
    pub(super) service_time: Option<Duration>,
}

impl Told {
    /// An end that took no time of the service's.
    pub(super) fn of(result: Result<Reply, Fault>) -> Self {
        Self { result, service_time: None }
    }
}

/// All that is known.
pub struct Answers {
    known: Mutex<Known>,
    numbers: Numbers,
    metrics: IdempotencyMetrics,
    /// The calls under way, which go on without their callers.
    pub(super) tasks: Tasks,
}

struct Known {
    room: Room,
    keys: HashMap<Fingerprint, Entry>,
    /// Those that have ended, by when they are forgotten.
    ends: BTreeMap<Place, Fingerprint>,
    holders: Holders,
    /// Those of them whose answers are there.
    answers: BTreeMap<Place, Fingerprint>,
    /// What their answers take.
    bytes: usize,
    serial: u64,
    overflow: Overflow,
}

/// What was forgotten of late before its time.
#[derive(Clone, Copy, Default)]
struct Overflow {
    keys: u64,
    answers: u64,
}

/// When an answer's time ends; of several at once, the number of the answer.
type Place = (Instant, u64);

/// What is asked under a key.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) params: Fingerprint,
    pub(super) kind: CallKind,
}

struct Entry {
    /// Whose it is.
    holder: u64,
    /// What was asked under the key first.
    asked: Asked,
    state: State,
}

enum State {
    UnderWay { told: watch::Receiver<Option<Told>>, until: Instant },
    Ended { kept: Kept },
}

enum Kept {
    Answer {
        result: Box<Result<Reply, Fault>>,
        bytes: usize,
    },
    /// There was no room for it: what the service's side has come to.
    Outcome(Outcome),
}

/// What becomes of a call under a key.
pub(super) enum Claim {
    /// It is the first, and to be run.
    First(Run, Waiting),
    /// It is under way.
    Joined(Waiting),
    /// It has ended so.
    Ended(Result<Reply, Fault>),
    /// It has ended, and there was no room for the answer.
    Forgotten(Outcome),
    /// Something else was asked under the key.
    Other,
    /// The same was asked by a notification, so that nobody knows a result.
    Unanswered,
    /// So many calls are under way under keys that there is no room for one more.
    Full(usize),
}

impl Claim {
    /// What became of the call, as the metric says it.
    pub(super) fn became(&self) -> &'static str {
        match self {
            Claim::First(..) => "first",
            Claim::Joined(_) => "joined",
            Claim::Ended(_) | Claim::Forgotten(_) => "replayed",
            Claim::Other | Claim::Unanswered | Claim::Full(_) => "refused",
        }
    }
}

/// The right to run the call of a key, and the duty to end it: dropped unended, nobody knows what the
/// service has done.
pub(super) struct Run {
    answers: Arc<Answers>,
    key: Fingerprint,
    told: watch::Sender<Option<Told>>,
    ttl: Duration,
    is_over: bool,
}

/// The end of a call that is under way.
pub(super) struct Waiting {
    told: watch::Receiver<Option<Told>>,
    /// When it ends at the latest.
    pub(super) until: Instant,
}

impl Answers {
    /// Nothing is known yet. The calls are run in `tasks`.
    pub fn new(room: Room, tasks: Tasks) -> Arc<Self> {
        let known = Known {
            room,
            keys: HashMap::new(),
            ends: BTreeMap::new(),
            holders: Holders::default(),
            answers: BTreeMap::new(),
            bytes: 0,
            serial: 0,
            overflow: Overflow::default(),
        };
        let metrics = IdempotencyMetrics::new();
        Arc::new(Self { known: Mutex::new(known), numbers: Numbers::default(), metrics, tasks })
    }

    /// Changes how much there is room for.
    pub fn set_room(&self, room: Room) {
        let mut known = self.lock();
        known.room = room;
        known.make_room(None);
    }

    /// Forgets what is to be forgotten by now, and shows in the metrics what is left. To be called every
    /// second or so.
    pub fn upkeep(&self, now: Instant) {
        let mut known = self.lock();
        known.forget_until(now);
        let (keys, bytes) = (known.keys.len(), known.bytes);
        let (overflow, room) = (std::mem::take(&mut known.overflow), known.room);
        drop(known);
        self.metrics.set_held(keys, bytes);
        let Overflow { keys, answers } = overflow;
        if keys > 0 {
            self.metrics.forgotten_keys.increment(keys);
            warn!(
                keys,
                max_keys = room.max_keys,
                "idempotency keys were forgotten before their time: whoever repeats such a call runs it \
                 again: raise `max_keys` in [idempotency]"
            );
        }
        if answers > 0 {
            self.metrics.forgotten_answers.increment(answers);
            warn!(
                answers,
                max_bytes = room.max_bytes,
                "answers of calls with idempotency keys were not kept: whoever repeats such a call gets a \
                 fault: raise `max_bytes` in [idempotency]"
            );
        }
    }

    /// Waits until no calls are under way, with or without somebody who waits for them, until `until` at
    /// most. True if none are.
    pub async fn settle(&self, until: Instant) -> bool {
        while self.tasks.running() > 0 && Instant::now() < until {
            sleep(LOOK).await;
        }
        self.tasks.running() == 0
    }

    /// Waits for the calls that are under way, at most `grace`. True if all have ended.
    pub async fn end(&self, grace: Duration) -> bool {
        self.tasks.end(grace).await
    }

    /// Looks a call up by its key, which is its caller's from then on if it is new: it ends at `until` at the
    /// latest, and its answer is kept for `ttl`.
    pub(super) fn claim(
        self: &Arc<Self>,
        caller: &Caller,
        (key, asked): (Fingerprint, Asked),
        (now, until): (Instant, Instant),
        ttl: Duration,
    ) -> Claim {
        let mut known = self.lock();
        known.forget_until(now);
        if let Some(entry) = known.keys.get(&key) {
            return entry.claim(asked);
        }
        let holder = self.numbers.of(caller);
        known.make_room(Some(holder));
        if known.keys.len() >= known.room.max_keys {
            return Claim::Full(known.room.max_keys);
        }
        let (sender, told) = watch::channel(None);
        let state = State::UnderWay { told: told.clone(), until };
        known.keys.insert(key, Entry { holder, asked, state });
        known.holders.add(holder);
        let run = Run { answers: Arc::clone(self), key, told: sender, ttl, is_over: false };
        Claim::First(run, Waiting { told, until })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn claim(&self, asked: Asked) -> Claim {
        if self.asked.params != asked.params {
            return Claim::Other;
        }
        // A notification has nothing to be told: where the call has been made, it has been.
        if self.asked.kind == CallKind::Notification && asked.kind == CallKind::Call {
            return Claim::Unanswered;
        }
        match &self.state {
            State::UnderWay { told, until } => {
                Claim::Joined(Waiting { told: told.clone(), until: *until })
            }
            State::Ended { kept: Kept::Answer { result, .. } } => Claim::Ended((**result).clone()),
            State::Ended { kept: Kept::Outcome(outcome) } => Claim::Forgotten(*outcome),
        }
    }
}

impl Known {
    fn forget_until(&mut self, now: Instant) {
        while let Some((&place, _)) = self.ends.first_key_value()
            && place.0 <= now
        {
            self.forget(place);
        }
    }

    /// Forgets the key of a call that has ended so.
    fn forget(&mut self, place: Place) {
        let Some(key) = self.ends.remove(&place) else { return };
        self.answers.remove(&place);
        let Some(Entry { holder, state, .. }) = self.keys.remove(&key) else { return };
        self.holders.remove(holder, Some(place));
        if let State::Ended { kept: Kept::Answer { bytes, .. } } = state {
            self.bytes -= bytes;
        }
    }

    /// Forgets the answer whose time ends first, and not its key; false where there is none.
    fn forget_first_answer(&mut self) -> bool {
        let Some((_, key)) = self.answers.pop_first() else { return false };
        if let Some(Entry { state: State::Ended { kept }, .. }) = self.keys.get_mut(&key)
            && let Kept::Answer { result, bytes } = kept
        {
            self.bytes -= *bytes;
            *kept = Kept::Outcome(outcome_of(result));
        }
        true
    }

    /// Forgets what there is no room for; where one more key is to come of somebody's, for that too.
    fn make_room(&mut self, more_of: Option<u64>) {
        let more = usize::from(more_of.is_some());
        while self.keys.len() + more > self.room.max_keys
            && let Some(place) = self.holders.first_to_go(more_of)
        {
            self.forget(place);
            self.overflow.keys += 1;
        }
        while self.bytes > self.room.max_bytes && self.forget_first_answer() {
            self.overflow.answers += 1;
        }
    }

    /// Keeps the answer of a key until `end`, if it is not too large.
    fn keep(&mut self, key: Fingerprint, result: &mut Result<Reply, Fault>, end: Instant) {
        let Some(entry) = self.keys.get_mut(&key) else { return };
        self.serial += 1;
        let place = (end, self.serial);
        self.ends.insert(place, key);
        self.holders.end(entry.holder, place);
        let bytes = size_of(result);
        let kept = if bytes <= self.room.max_bytes / ANSWER_PART {
            // The message that it came in need not be kept for it.
            if let Ok(reply) = result {
                reply.payload = reply.payload.detached();
            }
            self.answers.insert(place, key);
            self.bytes += bytes;
            Kept::Answer { result: Box::new(result.clone()), bytes }
        } else {
            self.overflow.answers += 1;
            Kept::Outcome(outcome_of(result))
        };
        entry.state = State::Ended { kept };
        self.make_room(None);
    }
}

impl Run {
    /// The call has ended. Where it may have run it is not run again, and its answer kept; else, or with
    /// `may_run_again`, the next one under the key is the first. All that wait are told.
    pub(super) fn end(mut self, told: Told, may_run_again: bool, now: Instant) {
        self.tell(told, may_run_again, now);
    }

    fn tell(&mut self, mut told: Told, may_run_again: bool, now: Instant) {
        self.is_over = true;
        let mut known = self.answers.lock();
        if may_run_again || !outcome_of(&told.result).may_have_run() {
            if let Some(entry) = known.keys.remove(&self.key) {
                known.holders.remove(entry.holder, None);
            }
        } else {
            known.keep(self.key, &mut told.result, now + self.ttl);
        }
        drop(known);
        self.told.send_replace(Some(told));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.is_over {
            self.tell(Told::of(Err(lost())), false, Instant::now());
        }
    }
}

impl Waiting {
    /// Waits for the end.
    pub(super) async fn end(mut self) -> Told {
        let told = self.told.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        told.unwrap_or_else(|| Told::of(Err(lost())))
    }
}

fn lost() -> Fault {
    let message = "the gateway gave the call up while it was under way: it may have run";
    Fault::new(FaultKind::Internal, Outcome::Unknown, message)
}

/// What the service's side has come to.
fn outcome_of(result: &Result<Reply, Fault>) -> Outcome {
    result.as_ref().err().map_or(Outcome::Executed, Fault::outcome)
}

fn size_of(result: &Result<Reply, Fault>) -> usize {
    match result {
        Ok(reply) => reply.payload.as_bytes().len(),
        Err(fault) => fault.size(),
    }
}
