//! Where a bridge's events come in: what its source hands over waits here for the pump.
//!
//! A source that keeps nothing waits for nobody, so a burst of it has to have room here: as much as a client of
//! NATS's has, and bounded by bytes, since a small event costs little. A source that keeps what is not settled has
//! few of them out.
//!
//! Of a gap all listeners are told. Whoever takes what has come in does that, and tells once of all that was lost
//! meanwhile: a source has its connection to read, and where events come faster than they are carried,
//! telling of each that is lost would cost more than carrying it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use tracing::warn;

use super::board::{Board, Seat};
use crate::event::Delivery;
use crate::event_port::Taker;
use crate::metrics::{EventMetrics, EventOutcome};

/// How many events of a source that keeps them are with a bridge at once.
const ROOM: usize = 512;
/// How many bytes of events wait for a bridge at most: 65,536 small ones.
const MOST_BYTES: usize = 32 << 20;
/// What an event takes beside its data, about.
const ENVELOPE: usize = 512;

/// Where a source hands its events in.
pub(super) struct Inlet {
    queue: mpsc::UnboundedSender<Entry>,
    state: Arc<State>,
    metrics: EventMetrics,
    seat: Seat,
}

/// What has come in.
pub(super) struct Deliveries {
    queue: mpsc::UnboundedReceiver<Entry>,
    state: Arc<State>,
    on_gap: Box<dyn Fn() + Send + Sync>,
    /// A gap is behind what was taken last.
    owes_gap: bool,
}

#[derive(Default)]
struct State {
    /// How many bytes are in the queue.
    waiting: AtomicUsize,
    /// Whether a gap is in the queue.
    has_gap: AtomicBool,
}

enum Entry {
    Event(Delivery),
    /// Some were missed.
    Gap,
}

/// A way in, and what comes in by it. Where all handles to the way in are gone, the queue ends.
pub(super) fn inlet(
    metrics: EventMetrics,
    board: &Arc<Board>,
    on_gap: impl Fn() + Send + Sync + 'static,
) -> (Inlet, Deliveries) {
    // Bounded by what waits.
    let (sender, queue) = mpsc::unbounded_channel();
    let (state, on_gap) = (Arc::<State>::default(), Box::new(on_gap));
    let deliveries = Deliveries { queue, state: Arc::clone(&state), on_gap, owes_gap: false };
    let seat = board.seat(&metrics);
    (Inlet { queue: sender, state, metrics, seat }, deliveries)
}

impl Inlet {
    fn enter(&self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        let size = size(&delivery);
        let waiting = &self.state.waiting;
        if waiting.fetch_add(size, Ordering::Relaxed) >= MOST_BYTES {
            waiting.fetch_sub(size, Ordering::Relaxed);
            return Err(Box::new(delivery));
        }
        match self.queue.send(Entry::Event(delivery)) {
            Err(SendError(Entry::Event(delivery))) => Err(Box::new(delivery)),
            Ok(()) | Err(SendError(Entry::Gap)) => Ok(()),
        }
    }

    /// Lets a gap be told, unless one is to be told already.
    fn owe_gap(&self) {
        if !self.state.has_gap.swap(true, Ordering::AcqRel) {
            // Where the bridge has gone, nobody listens by it.
            drop(self.queue.send(Entry::Gap));
        }
    }
}

impl Taker for Inlet {
    fn take(&self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        self.enter(delivery).inspect_err(|delivery| {
            if delivery.receipt.is_none() {
                self.metrics.count(EventOutcome::Lost);
                self.owe_gap();
            }
        })
    }

    fn room(&self) -> usize {
        ROOM
    }

    fn gap(&self, reason: &str) {
        self.metrics.count(EventOutcome::Gap);
        warn!(bridge = self.metrics.bridge(), reason, "events may have been missed");
        self.owe_gap();
    }

    fn unheard(&self, why: Option<&str>) {
        self.seat.show(why);
    }
}

impl Deliveries {
    /// Takes what waits, `most` of it at once, and waits where nothing does. Of a gap it tells when what came before it
    /// was carried. False at the end.
    pub(super) async fn take(&mut self, batch: &mut Vec<Delivery>, most: usize) -> bool {
        if std::mem::take(&mut self.owes_gap) {
            self.tell_gap();
        }
        loop {
            match self.queue.recv().await {
                Some(Entry::Event(delivery)) => {
                    self.enter(batch, delivery);
                    break;
                }
                Some(Entry::Gap) => self.tell_gap(),
                None => return false,
            }
        }
        for _ in 1..most {
            match self.queue.try_recv() {
                Ok(Entry::Event(delivery)) => self.enter(batch, delivery),
                Ok(Entry::Gap) => {
                    self.owes_gap = true;
                    break;
                }
                Err(_) => break,
            }
        }
        true
    }

    fn enter(&self, batch: &mut Vec<Delivery>, delivery: Delivery) {
        self.state.waiting.fetch_sub(size(&delivery), Ordering::Relaxed);
        batch.push(delivery);
    }

    /// What is lost from now on is another gap.
    fn tell_gap(&self) {
        self.state.has_gap.store(false, Ordering::Release);
        (self.on_gap)();
    }
}

fn size(delivery: &Delivery) -> usize {
    let size = match &delivery.event {
        Ok(event) => event.data.as_bytes().len(),
        Err(unusable) => unusable.body.as_ref().map_or(0, |body| body.len()),
    };
    ENVELOPE + size
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::FutureExt;

    use super::*;
    use crate::call::{Context, Payload};
    use crate::event::Event;
    use crate::trace::TraceParent;

    fn delivery(data: &Payload) -> Delivery {
        let event = Event {
            topic: "a".into(),
            id: "1".into(),
            data: data.clone(),
            time: SystemTime::now(),
            context: Arc::new(Context::new(TraceParent::generate())),
        };
        Delivery { event: Ok(event), captures: Vec::new(), message: 0, receipt: None }
    }

    #[tokio::test]
    async fn a_burst_waits_as_far_as_its_bytes_have_room() {
        let gaps = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&gaps);
        let on_gap = move || {
            told.fetch_add(1, Ordering::Relaxed);
        };
        let (inlet, mut deliveries) = inlet(EventMetrics::new("test", ""), &Arc::default(), on_gap);
        let large = Payload::from_text(&"x".repeat((1 << 20) - ENVELOPE - 2));
        let mut batch = Vec::new();
        for (data, count) in [(&Payload::NULL, 60_000), (&large, 32)] {
            for _ in 0..count {
                assert!(inlet.take(delivery(data)).is_ok());
            }
            assert_eq!(gaps.load(Ordering::Relaxed), 0);
            while batch.len() < count {
                assert!(deliveries.take(&mut batch, 256).await);
            }
            batch.clear();
        }
        for _ in 0..34 {
            drop(inlet.take(delivery(&large)));
        }
        assert_eq!(gaps.load(Ordering::Relaxed), 0, "who hands in has not to tell");
        assert!(deliveries.take(&mut batch, 1).await && inlet.take(delivery(&large)).is_ok());
        while batch.len() < 33 {
            assert!(deliveries.take(&mut batch, 256).await);
        }
        assert_eq!(gaps.load(Ordering::Relaxed), 1, "all that had no room, once");
        inlet.gap("one");
        inlet.gap("two");
        assert!(deliveries.take(&mut batch, 1).now_or_never().is_none());
        assert_eq!(gaps.load(Ordering::Relaxed), 2, "also where no event comes");
        inlet.gap("three");
        assert!(deliveries.take(&mut batch, 1).now_or_never().is_none());
        assert_eq!(gaps.load(Ordering::Relaxed), 3);
    }
}
