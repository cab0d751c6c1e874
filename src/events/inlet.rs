//! Where a bridge's events come in: what its source hands over waits here for the pump.
//!
//! A source that keeps nothing waits for nobody, so a burst of it has to have room here: as much as a client of
//! NATS's has, and bounded by bytes, since a small event costs little. A source that keeps what is not settled has
//! few of them out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
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
    queue: mpsc::UnboundedSender<Delivery>,
    /// How many bytes are in the queue.
    waiting: Arc<AtomicUsize>,
    metrics: EventMetrics,
    seat: Seat,
    on_gap: Box<dyn Fn() + Send + Sync>,
}

/// What has come in.
pub(super) struct Deliveries {
    queue: mpsc::UnboundedReceiver<Delivery>,
    waiting: Arc<AtomicUsize>,
}

/// A way in, and what comes in by it. Where all handles to the way in are gone, the queue ends.
pub(super) fn inlet(
    metrics: EventMetrics,
    board: &Arc<Board>,
    on_gap: impl Fn() + Send + Sync + 'static,
) -> (Inlet, Deliveries) {
    // Bounded by what waits.
    let (sender, queue) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let deliveries = Deliveries { queue, waiting: Arc::clone(&waiting) };
    let seat = board.seat(&metrics);
    (Inlet { queue: sender, waiting, metrics, seat, on_gap: Box::new(on_gap) }, deliveries)
}

impl Inlet {
    fn enter(&self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        let size = size(&delivery);
        if self.waiting.fetch_add(size, Ordering::Relaxed) >= MOST_BYTES {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            return Err(Box::new(delivery));
        }
        self.queue.send(delivery).map_err(|refused| Box::new(refused.0))
    }
}

impl Taker for Inlet {
    fn take(&self, delivery: Delivery) -> Result<(), Box<Delivery>> {
        self.enter(delivery).inspect_err(|delivery| {
            if delivery.receipt.is_none() {
                self.metrics.count(EventOutcome::Lost);
                (self.on_gap)();
            }
        })
    }

    fn room(&self) -> usize {
        ROOM
    }

    fn gap(&self, reason: &str) {
        self.metrics.count(EventOutcome::Gap);
        warn!(bridge = self.metrics.bridge(), reason, "events may have been missed");
        (self.on_gap)();
    }

    fn unheard(&self, why: Option<&str>) {
        self.seat.show(why);
    }
}

impl Deliveries {
    /// Takes what waits, `most` of it at once, and waits where nothing does. False at the end.
    pub(super) async fn take(&mut self, batch: &mut Vec<Delivery>, most: usize) -> bool {
        let count = self.queue.recv_many(batch, most).await;
        let bytes = batch[batch.len() - count..].iter().map(size).sum();
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        count > 0
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
        assert_eq!(gaps.load(Ordering::Relaxed), 2, "each that has no room is told");
        assert!(deliveries.take(&mut batch, 1).await && inlet.take(delivery(&large)).is_ok());
    }
}
