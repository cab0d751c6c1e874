//! The calls that wait for their end.
//!
//! Each has a place in one table. Three chains run through the places, so that a caller's calls,
//! a callee's calls and the calls whose deadline comes next are found without looking at the
//! others: by caller, by callee, and by length of timeout (calls of one length end in the order
//! in which they began).

use std::time::Duration;

use tokio::time::Instant;

use super::super::wire::CallId;
use super::SessionId;

const NIL: u32 = u32::MAX;
/// A place that held longer texts gives their room back.
const KEPT_TEXT: usize = 256;

/// Which chain.
#[derive(Clone, Copy)]
enum By {
    Caller,
    Callee,
    Timeout,
}

const CHAINS: usize = 3;

/// The first and last call of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    last: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self { first: NIL, last: NIL }
    }
}

/// The calls of one session, kept with the session.
#[derive(Debug, Default)]
pub(super) struct SessionCalls {
    made: Chain,
    taken: Chain,
    /// How many it made and waits for.
    pub(super) made_count: usize,
    /// How many it was sent and has not answered.
    pub(super) taken_count: usize,
    /// The number of the last call that it was sent: the larger, the more recent.
    pub(super) last_taken: u64,
}

/// What is known of a waiting call.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    /// The module that made it; `None` for a caller outside of the hub.
    pub(super) caller: Option<SessionId>,
    /// The module it was sent to; `None` for one outside of the hub.
    pub(super) callee: Option<SessionId>,
    /// What the world outside knows it by.
    pub(super) ticket: T,
    timeout: Option<usize>,
    deadline: Instant,
}

struct Place<T> {
    generation: u32,
    waiting: Option<Waiting<T>>,
    links: [Chain; CHAINS],
    /// The caller's request id, raw, and behind it the name that was called.
    text: String,
    id_length: usize,
}

/// Calls with one length of timeout.
struct Timeouts {
    length: Duration,
    chain: Chain,
}

/// A new call.
pub(super) struct NewCall<'a, T> {
    pub(super) caller: Option<SessionId>,
    pub(super) callee: Option<SessionId>,
    pub(super) ticket: T,
    pub(super) request_id: &'a str,
    pub(super) name: &'a str,
    /// The hub ends the call after that long; `None` where somebody else does.
    pub(super) timeout: Option<Duration>,
}

/// A call that is over, with the texts that it was kept with.
pub(super) struct Ended<T> {
    pub(super) waiting: Waiting<T>,
    texts: Texts,
}

/// The caller's request id, raw, and behind it the name that was called.
pub(super) struct Texts {
    text: String,
    id_length: usize,
}

impl<T> Ended<T> {
    /// The caller's request id, raw.
    pub(super) fn request_id(&self) -> &str {
        &self.texts.text[..self.texts.id_length]
    }

    /// What was called, in the caller's words.
    pub(super) fn name(&self) -> &str {
        self.texts.name()
    }

    /// What was known of it, and its texts, for [`Calls::recycle`].
    pub(super) fn into_parts(self) -> (Waiting<T>, Texts) {
        (self.waiting, self.texts)
    }
}

impl Texts {
    /// What was called, in the caller's words.
    pub(super) fn name(&self) -> &str {
        &self.text[self.id_length..]
    }
}

/// All waiting calls.
pub(super) struct Calls<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    timeouts: Vec<Timeouts>,
    /// Numbers the calls that sessions are sent.
    taken: u64,
}

/// Gives access to the sessions' own chains.
pub(super) trait Owners {
    fn calls_of(&mut self, session: SessionId) -> Option<&mut SessionCalls>;
}

impl<T> Calls<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), timeouts: Vec::new(), taken: 0 }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Adds a call that began `now`. Sessions that are not there have no chain.
    pub(super) fn add(
        &mut self,
        call: NewCall<'_, T>,
        now: Instant,
        owners: &mut impl Owners,
    ) -> CallId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                generation: 0,
                waiting: None,
                links: [Chain::default(); CHAINS],
                text: String::new(),
                id_length: 0,
            });
            // The limits on calls keep the table far below that.
            u32::try_from(self.places.len() - 1).unwrap_or(NIL)
        });
        let timeout = call.timeout.map(|length| self.timeouts_of(length));
        let place = &mut self.places[index as usize];
        place.text.push_str(call.request_id);
        place.text.push_str(call.name);
        place.id_length = call.request_id.len();
        let deadline = now + call.timeout.unwrap_or_default();
        let (caller, callee, ticket) = (call.caller, call.callee, call.ticket);
        place.waiting = Some(Waiting { caller, callee, ticket, timeout, deadline });
        let id = CallId { index, generation: place.generation };
        if let Some(calls) = caller.and_then(|caller| owners.calls_of(caller)) {
            calls.made_count += 1;
            self.append(&mut calls.made, By::Caller, index);
        }
        if let Some(calls) = callee.and_then(|callee| owners.calls_of(callee)) {
            calls.taken_count += 1;
            self.taken += 1;
            calls.last_taken = self.taken;
            self.append(&mut calls.taken, By::Callee, index);
        }
        if let Some(timeout) = timeout {
            let mut chain = self.timeouts[timeout].chain;
            self.append(&mut chain, By::Timeout, index);
            self.timeouts[timeout].chain = chain;
        }
        id
    }

    /// The call, while it waits.
    pub(super) fn get(&self, id: CallId) -> Option<&Waiting<T>> {
        let place = self.places.get(id.index as usize)?;
        place.waiting.as_ref().filter(|_| place.generation == id.generation)
    }

    /// Whether the id was given out once and its call is over.
    pub(super) fn is_over(&self, id: CallId) -> bool {
        self.places.get(id.index as usize).is_some_and(|place| id.generation < place.generation)
    }

    /// Takes a call out.
    pub(super) fn remove(&mut self, id: CallId, owners: &mut impl Owners) -> Option<Ended<T>> {
        self.get(id)?;
        let index = id.index;
        let place = &mut self.places[index as usize];
        let waiting = place.waiting.take()?;
        place.generation = place.generation.wrapping_add(1);
        let text = std::mem::take(&mut place.text);
        let id_length = place.id_length;
        if let Some(calls) = waiting.caller.and_then(|caller| owners.calls_of(caller)) {
            calls.made_count -= 1;
            self.unlink(&mut calls.made, By::Caller, index);
        }
        if let Some(calls) = waiting.callee.and_then(|callee| owners.calls_of(callee)) {
            calls.taken_count -= 1;
            self.unlink(&mut calls.taken, By::Callee, index);
        }
        if let Some(timeout) = waiting.timeout {
            let mut chain = self.timeouts[timeout].chain;
            self.unlink(&mut chain, By::Timeout, index);
            self.timeouts[timeout].chain = chain;
        }
        self.free.push(index);
        Some(Ended { waiting, texts: Texts { text, id_length } })
    }

    /// Gives the room of a call's texts to the next call in its place.
    pub(super) fn recycle(&mut self, id: CallId, texts: Texts) {
        let Texts { mut text, .. } = texts;
        if let Some(place) = self.places.get_mut(id.index as usize)
            && place.waiting.is_none()
            && text.capacity() <= KEPT_TEXT
        {
            text.clear();
            place.text = text;
        }
    }

    /// The first call that a session made and waits for.
    pub(super) fn first_made(&self, calls: &SessionCalls) -> Option<CallId> {
        self.id_at(calls.made.first)
    }

    /// The first call that a session was sent and has not answered.
    pub(super) fn first_taken(&self, calls: &SessionCalls) -> Option<CallId> {
        self.id_at(calls.taken.first)
    }

    /// A call whose deadline has passed.
    pub(super) fn first_due(&self, now: Instant) -> Option<CallId> {
        let firsts = self.timeouts.iter().map(|timeouts| timeouts.chain.first);
        let due = |index: &u32| self.deadline_at(*index).is_some_and(|deadline| deadline <= now);
        firsts.filter(|index| *index != NIL).find(due).and_then(|index| self.id_at(index))
    }

    /// When the next deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timeouts.iter().filter_map(|timeouts| self.deadline_at(timeouts.chain.first)).min()
    }

    /// How long the call's timeout is.
    pub(super) fn timeout(&self, waiting: &Waiting<T>) -> Duration {
        waiting.timeout.map(|index| self.timeouts[index].length).unwrap_or_default()
    }

    /// The waiting calls in the order of their places.
    pub(super) fn ids(&self) -> Vec<CallId> {
        (0..self.places.len()).filter_map(|index| self.id_at(u32::try_from(index).ok()?)).collect()
    }

    fn id_at(&self, index: u32) -> Option<CallId> {
        let place = self.places.get(index as usize)?;
        place.waiting.as_ref().map(|_| CallId { index, generation: place.generation })
    }

    fn deadline_at(&self, index: u32) -> Option<Instant> {
        let place = self.places.get(index as usize)?;
        place.waiting.as_ref().map(|waiting| waiting.deadline)
    }

    /// There are as many lengths as routes have timeouts: few, and a reload adds few.
    fn timeouts_of(&mut self, length: Duration) -> usize {
        let known = self.timeouts.iter().position(|timeouts| timeouts.length == length);
        known.unwrap_or_else(|| {
            let unused = self.timeouts.iter().position(|timeouts| timeouts.chain.first == NIL);
            let new = Timeouts { length, chain: Chain::default() };
            match unused {
                Some(index) => {
                    self.timeouts[index] = new;
                    index
                }
                None => {
                    self.timeouts.push(new);
                    self.timeouts.len() - 1
                }
            }
        })
    }

    /// In a link, `first` is the neighbour before and `last` the one behind.
    fn append(&mut self, chain: &mut Chain, by: By, index: u32) {
        self.places[index as usize].links[by as usize] = Chain { first: chain.last, last: NIL };
        match self.places.get_mut(chain.last as usize) {
            Some(before) => before.links[by as usize].last = index,
            None => chain.first = index,
        }
        chain.last = index;
    }

    fn unlink(&mut self, chain: &mut Chain, by: By, index: u32) {
        let Chain { first: before, last: behind } = self.places[index as usize].links[by as usize];
        match self.places.get_mut(before as usize) {
            Some(place) => place.links[by as usize].last = behind,
            None => chain.first = behind,
        }
        match self.places.get_mut(behind as usize) {
            Some(place) => place.links[by as usize].first = before,
            None => chain.last = before,
        }
    }
}
