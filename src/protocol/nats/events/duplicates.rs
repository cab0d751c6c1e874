//! What the log is told of events that a stream had already: after an outage there may be thousands of them.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::info;

use crate::flood::Flood;

/// How many streams are told apart.
const MOST: usize = 64;
/// What stands for the others.
const OTHERS: &str = "others";

/// The events that streams had lately.
pub(super) struct Duplicates {
    upstream: String,
    seen: Mutex<Flood<String>>,
}

impl Duplicates {
    pub(super) fn new(upstream: &str) -> Self {
        Self { upstream: upstream.to_owned(), seen: Mutex::new(Flood::new(MOST)) }
    }

    /// A stream had an event by that way, and has dropped what came again.
    pub(super) fn tell(&self, stream: &str, id: &str) {
        let upstream = &self.upstream;
        // Every use leaves the counts whole.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (stream, more) in seen.sums(Some(now)) {
            info!(upstream, stream, more, "it was so of more events");
        }
        if seen.admits(stream.to_owned(), |_| OTHERS.to_owned(), now) {
            let note = "the same bridge has brought one by that id there within the stream's `duplicate_window`";
            info!(upstream, stream, id, note, "a stream had an event already, and keeps it once");
        }
    }
}
