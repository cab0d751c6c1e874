//! Whether a stream that nobody answers for is not there, or has nobody to speak for it now: the server says the
//! same of both (503). A place that is not there is somebody's to make; a cluster without a leader, or a server
//! that has just started, is an outage.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::ask::{Unanswered, ask};
use super::super::generation::Generation;
use super::super::wire::{self, ApiFailure, StreamInfo};
use crate::event::Undelivered;

/// How long what was found out is believed: all events of a batch ask at once.
const FRESH: Duration = Duration::from_millis(500);
/// How many streams it is remembered of.
const MOST: usize = 64;

/// What is known of streams that nobody answers for.
#[derive(Default)]
pub(super) struct Absences {
    /// When it was asked, and whether it is an outage. Whoever asks holds it, and the others have the answer.
    known: Mutex<HashMap<String, (Instant, bool)>>,
}

impl Absences {
    /// Why an event does not get to a stream whose subject nobody takes.
    pub(super) async fn explain(
        &self,
        generation: &Generation,
        stream: &str,
        reason: String,
    ) -> Undelivered {
        if !self.is_outage(generation, stream).await {
            return Undelivered::Unavailable(reason);
        }
        Undelivered::Unreachable(format!(
            "JetStream does not answer for the stream `{stream}`: it has no leader now, or the server no JetStream"
        ))
    }

    async fn is_outage(&self, generation: &Generation, stream: &str) -> bool {
        let mut known = self.known.lock().await;
        if let Some((_, is_outage)) = known.get(stream).filter(|(at, _)| at.elapsed() < FRESH) {
            return *is_outage;
        }
        // Bounded by the question's own limit.
        let answer = ask(generation, &wire::stream_info(stream), Bytes::new()).await;
        let is_outage = match answer {
            // Who may not ask has to believe what was said first.
            Err(Unanswered::Denied) => false,
            Err(Unanswered::Silent) => true,
            Ok(answer) => match wire::api_answer::<StreamInfo>(&answer) {
                Ok(_) | Err(ApiFailure::NoStream) => false,
                Err(_) => true,
            },
        };
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(stream.to_owned(), (Instant::now(), is_outage));
        is_outage
    }
}
