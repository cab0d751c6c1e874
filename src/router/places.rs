//! So many places for calls (`max_in_flight`), and a bounded line in front of them (`queue`): who comes
//! when all are taken waits for its turn, first come, first served, where its deadline leaves the time.
//!
//! Where nobody waits a place costs an atomic addition, and its return another one. The line has a lock,
//! which is held for as long as it takes to enter it, to leave it, or to call those whose turn it is.
//!
//! ```text
//! enter ─ a place is free, and nobody waits → Place
//!       ─ the line has room, and time enough → Turn ─ a place comes free → Place
//!       ─ else → Full
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a place that was held this time counts for in the average of such times: one part in so many.
const WEIGHT: u64 = 8;

/// Places, and the line in front of them.
///
/// Whoever gives a place back looks at `waiting` behind `taken`, and whoever enters the line at `taken`
/// behind `waiting`: so that one of them sees the other (`SeqCst`).
#[derive(Default)]
pub(super) struct Places {
    taken: AtomicUsize,
    most: AtomicUsize,
    /// How many may wait.
    room: AtomicUsize,
    /// How many do.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    /// How long a place was held lately, in microseconds; 0 where nobody knows.
    held: AtomicU64,
}

#[derive(Default)]
struct Line {
    closed: bool,
    next: u64,
    /// By rising numbers. The other end of each is there for as long as it stands here.
    turns: VecDeque<(u64, oneshot::Sender<Instant>)>,
}

/// What who enters has got.
pub(super) enum Entered {
    Place(Place),
    Turn(Turn),
}

/// Why somebody could not enter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All places are taken, and there is no line.
    Taken { most: usize },
    /// The line is as long as it may be.
    Queue { most: usize, room: usize },
    /// Its turn would come too late, after about this time.
    TooLate { most: usize, ahead: usize, wait: Duration },
    /// Nobody is called any more.
    Closed,
}

impl Places {
    /// Sets how many there are, and how many may wait for them: as many of those who do are called.
    pub(super) fn set(self: &Arc<Self>, most: usize, room: usize) {
        self.most.store(most, Ordering::SeqCst);
        self.room.store(room, Ordering::Relaxed);
        self.call(&mut self.lock());
    }

    /// Calls nobody any more: who waits is told so.
    pub(super) fn close(&self) {
        let mut line = self.lock();
        line.closed = true;
        line.turns.clear();
        self.waiting.store(0, Ordering::SeqCst);
    }

    /// A place, or a turn. It came at `now`, and has until `until`.
    pub(super) fn enter(self: &Arc<Self>, now: Instant, until: Instant) -> Result<Entered, Full> {
        let nobody_waits = self.waiting.load(Ordering::SeqCst) == 0;
        if nobody_waits && self.take() {
            return Ok(Entered::Place(self.place(now)));
        }
        let room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return Err(Full::Taken { most: self.most() });
        }
        self.line_up(room, now, until)
    }

    fn line_up(
        self: &Arc<Self>,
        room: usize,
        now: Instant,
        until: Instant,
    ) -> Result<Entered, Full> {
        let mut line = self.lock();
        let (most, ahead) = (self.most(), line.turns.len());
        if line.closed {
            return Err(Full::Closed);
        }
        if ahead >= room {
            return Err(Full::Queue { most, room });
        }
        let left = until.saturating_duration_since(now);
        if let Some(wait) = self.wait_behind(ahead).filter(|wait| *wait > left) {
            return Err(Full::TooLate { most, ahead, wait });
        }
        let (sender, called) = oneshot::channel();
        let number = line.next;
        line.next += 1;
        line.turns.push_back((number, sender));
        self.waiting.store(line.turns.len(), Ordering::SeqCst);
        // One may have come free before it was known that somebody waits.
        self.call(&mut line);
        Ok(Entered::Turn(Turn { places: Arc::clone(self), number, called, is_over: false }))
    }

    /// About how long whoever has so many ahead waits: all of them, and the one who holds the place, for as
    /// long as places were held lately. `None` where nobody knows.
    fn wait_behind(&self, ahead: usize) -> Option<Duration> {
        let held = self.held.load(Ordering::Relaxed);
        let turns = ahead as u64 + 1;
        let wait = held.saturating_mul(turns) / (self.most().max(1) as u64);
        (held > 0).then(|| Duration::from_micros(wait))
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Never more than there are, not for a moment: who looks meanwhile would miss one that is free.
    fn take(&self) -> bool {
        let most = self.most();
        let one_more = |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    /// A place that was taken. Times are looked at only where somebody may have to wait.
    fn place(self: &Arc<Self>, since: Instant) -> Place {
        let is_timed = self.room.load(Ordering::Relaxed) > 0;
        Place { places: Arc::clone(self), since: is_timed.then_some(since) }
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.call(&mut self.lock());
        }
    }

    /// Calls those for whom there is a place.
    fn call(&self, line: &mut Line) {
        if line.turns.is_empty() {
            return;
        }
        let now = Instant::now();
        while !line.turns.is_empty() && self.take() {
            let Some((_, turn)) = line.turns.pop_front() else { break };
            if turn.send(now).is_err() {
                self.taken.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.waiting.store(line.turns.len(), Ordering::SeqCst);
    }

    fn was_held(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX / WEIGHT).max(1);
        let before = self.held.load(Ordering::Relaxed);
        let rest = before - before / WEIGHT;
        let now = if before == 0 { time } else { rest.saturating_add(time / WEIGHT) };
        // Where two tell at once, one of them is not heard: it is an average.
        self.held.store(now.max(1), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Since when it is held; `None` where nobody asks.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Gives it back as one that was not used: it says nothing of how long others hold theirs.
    pub(super) fn leave_unused(mut self) {
        self.since = None;
    }
}

/// A place that is taken, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    /// Since when; `None` where nobody asks how long.
    since: Option<Instant>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            self.places.was_held(since.elapsed());
        }
        self.places.give_back();
    }
}

/// A turn that is waited for. Whoever drops it has left the line.
pub(super) struct Turn {
    places: Arc<Places>,
    number: u64,
    called: oneshot::Receiver<Instant>,
    is_over: bool,
}

impl Turn {
    /// How many places there are.
    pub(super) fn most(&self) -> usize {
        self.places.most()
    }

    /// The place, when it is its turn; `None` where nobody is called any more. Can be asked again after it
    /// was left.
    pub(super) async fn comes(&mut self) -> Option<Place> {
        let called = (&mut self.called).await;
        self.is_over = true;
        called.ok().map(|since| self.places.place(since))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut line = self.places.lock();
        if let Ok(at) = line.turns.binary_search_by_key(&self.number, |(number, _)| *number) {
            drop(line.turns.remove(at));
            self.places.waiting.store(line.turns.len(), Ordering::SeqCst);
        } else if self.called.try_recv().is_ok() {
            // Called, and gone: the next one's turn.
            self.places.taken.fetch_sub(1, Ordering::SeqCst);
            self.places.call(&mut line);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::runtime;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn places(most: usize, room: usize) -> Arc<Places> {
        let places = Arc::<Places>::default();
        places.set(most, room);
        places
    }

    fn enter(places: &Arc<Places>) -> Result<Entered, Full> {
        let now = Instant::now();
        places.enter(now, now + LONG)
    }

    fn place(places: &Arc<Places>) -> Place {
        match enter(places) {
            Ok(Entered::Place(place)) => place,
            _ => panic!("a place is free"),
        }
    }

    fn turn(places: &Arc<Places>) -> Turn {
        match enter(places) {
            Ok(Entered::Turn(turn)) => turn,
            _ => panic!("none is free, and the line has room"),
        }
    }

    fn called(turn: &mut Turn) -> Option<Place> {
        turn.comes().now_or_never().flatten()
    }

    fn waiting(places: &Places) -> usize {
        places.waiting.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_called_in_order_and_nobody_overtakes() {
        let places = places(1, 3);
        let held = place(&places);
        let (mut first, mut second, mut third) = (turn(&places), turn(&places), turn(&places));
        assert_eq!(enter(&places).err(), Some(Full::Queue { most: 1, room: 3 }));
        drop(held);
        assert!(called(&mut second).is_none() && called(&mut third).is_none());
        let held = called(&mut first).expect("its turn");
        let fourth = turn(&places);
        drop(second);
        drop(held);
        let held = called(&mut third).expect("who has gone is passed over");
        drop((held, fourth));
        drop((place(&places), third, first));
        assert_eq!((waiting(&places), places.taken.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_when_it_is_called_leaves_its_place_to_the_next() {
        let places = places(1, 3);
        let held = place(&places);
        let (first, mut second) = (turn(&places), turn(&places));
        drop(held);
        drop(first);
        assert!(called(&mut second).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_line_nobody_waits() {
        let places = places(2, 0);
        let held = (place(&places), place(&places));
        assert_eq!(enter(&places).err(), Some(Full::Taken { most: 2 }));
        drop(held);
        drop(place(&places));
        assert_eq!(places.held.load(Ordering::Relaxed), 0, "nor looks at a clock");
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_past_its_deadline_does_not_wait() {
        let places = places(2, 10);
        let until = |seconds| Instant::now() + Duration::from_secs(seconds);
        let held = (place(&places), place(&places));
        let unknown = places.enter(Instant::now(), until(0));
        assert!(matches!(unknown, Ok(Entered::Turn(_))), "nobody knows how long it takes");
        drop(unknown);
        tokio::time::advance(Duration::from_secs(4)).await;
        drop(held);
        let _held = (place(&places), place(&places));
        let late = |ahead, seconds| {
            let wait = Duration::from_secs(seconds);
            Some(Full::TooLate { most: 2, ahead, wait })
        };
        assert_eq!(places.enter(Instant::now(), until(1)).err(), late(0, 2));
        let _first = turn(&places);
        assert_eq!(places.enter(Instant::now(), until(3)).err(), late(1, 4));
        assert!(places.enter(Instant::now(), until(5)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_called_as_there_are_more_places() {
        let places = places(1, 9);
        let _held = place(&places);
        let mut turns: Vec<Turn> = (0..5).map(|_| turn(&places)).collect();
        let mut seated = Vec::new();
        for (most, expected) in [(3, 2), (2, 2), (4, 3), (usize::MAX, 5)] {
            places.set(most, 9);
            for turn in turns.iter_mut().filter(|turn| !turn.is_over) {
                seated.extend(called(turn));
            }
            assert_eq!((seated.len(), waiting(&places)), (expected, 5 - expected), "{most}");
        }
        places.set(2, 9);
        let mut late = turn(&places);
        drop(seated.drain(..4));
        assert!(called(&mut late).is_none(), "two are taken yet");
        drop(seated);
        assert!(called(&mut late).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_closed_calls_nobody() {
        let places = places(1, 9);
        let held = place(&places);
        let mut first = turn(&places);
        places.close();
        assert!(first.comes().await.is_none());
        assert_eq!(enter(&places).err(), Some(Full::Closed));
        drop(held);
        drop(place(&places));
    }

    #[test]
    fn no_turn_is_missed() {
        let places = places(2, 10_000);
        let call = || {
            let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
            for number in 0..2_000 {
                match enter(&places) {
                    Ok(Entered::Place(place)) => drop(place),
                    Ok(Entered::Turn(turn)) if number % 3 == 0 => drop(turn),
                    Ok(Entered::Turn(mut turn)) => {
                        assert!(runtime.block_on(turn.comes()).is_some())
                    }
                    Err(full) => panic!("{full:?}"),
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(call))));
        assert_eq!((waiting(&places), places.taken.load(Ordering::SeqCst)), (0, 0));
    }
}
