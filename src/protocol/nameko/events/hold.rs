//! A hold on an event that its queue has handed over.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Wanted;
use super::outstanding::Fate;
use crate::event;

/// A hold on an event: whoever has it says what becomes of it, if not otherwise then by dropping it.
pub(super) struct Hold {
    pub(super) tag: u64,
    pub(super) fate: Fate,
    /// As long as the queue's prefetch at the most.
    pub(super) told: mpsc::UnboundedSender<(u64, Fate)>,
    pub(super) wanted: Arc<Wanted>,
}

impl event::Hold for Hold {
    fn settle(mut self: Box<Self>) {
        self.fate = Fate::Settled;
    }

    fn comes_again(&self) -> bool {
        // Nobody acks it any more: it went back to the queue with its channel.
        self.told.is_closed()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Where the channel is gone nobody listens, and the event comes again.
        self.told.send((self.tag, self.fate)).unwrap_or_default();
        self.wanted.done.notify_one();
    }
}
