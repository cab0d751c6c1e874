//! A hold on an event that its queue has handed over.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Wanted;
use super::outstanding::Fate;

/// A hold on an event: whoever has it says what becomes of it, if not otherwise then by dropping it.
pub(super) struct Hold {
    pub(super) tag: u64,
    pub(super) fate: Fate,
    /// As long as the queue's prefetch at the most.
    pub(super) told: mpsc::UnboundedSender<(u64, Fate)>,
    pub(super) wanted: Arc<Wanted>,
}

impl Hold {
    pub(super) fn settle(mut self) {
        self.fate = Fate::Settled;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Where the channel is gone nobody listens, and the event comes again.
        self.told.send((self.tag, self.fate)).unwrap_or_default();
        self.wanted.done.notify_one();
    }
}
