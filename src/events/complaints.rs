//! What a bridge complains of in the log, and not a thousand times.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::warn;

use crate::event::Event;
use crate::flood::Flood;

/// How many kinds of complaints are told apart.
const MOST: usize = 64;
/// What stands for the others.
const OTHERS: &str = "others";

/// The complaints of a bridge.
pub(super) struct Complaints {
    bridge: String,
    /// Where its events go: a topics row may have the same source.
    to: String,
    seen: Mutex<Flood<String>>,
}

impl Complaints {
    pub(super) fn new(bridge: &str, to: &str) -> Self {
        Self { bridge: bridge.to_owned(), to: to.to_owned(), seen: Mutex::new(Flood::new(MOST)) }
    }

    /// A target does not take events now.
    pub(super) fn unavailable(&self, target: &str, reason: &str) {
        if self.admits(target) {
            warn!(bridge = self.bridge, target, reason, "a target takes no events: trying again");
        }
    }

    /// Nobody has an event.
    pub(super) fn lost(&self, event: &Event, reason: &str) {
        if self.admits(reason) {
            let (to, topic, id) = (&self.to, &*event.topic, &*event.id);
            warn!(bridge = self.bridge, to, topic, id, reason, "an event was lost");
        }
    }

    fn admits(&self, key: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (reason, more) in seen.sums(Some(now)) {
            warn!(bridge = self.bridge, reason, more, "the same was so for more events");
        }
        seen.admits(key.to_owned(), |_| OTHERS.to_owned(), now)
    }
}
