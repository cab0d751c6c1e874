//! One question to what a server has of its own, and the first answer to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::generation::Generation;
use super::outbox::Publication;
use super::pending::Answer;
use super::wire::{self, Message};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Genkan's user may not ask.
    Denied,
    /// Nobody said anything in time, or the connection has ended.
    Silent,
}

/// Asks, and takes the first answer.
pub(super) async fn ask(
    generation: &Generation,
    subject: &str,
    payload: impl Into<Bytes>,
) -> Result<Message, Unanswered> {
    let subject: Arc<str> = subject.into();
    let gathered = generation.pending().gather(Arc::clone(&subject));
    let mut answers = gathered.map_err(|_| Unanswered::Silent)?;
    let headers = wire::NO_HEADERS.to_owned();
    let publication = Publication { subject, headers, payload: payload.into() };
    if !generation.send(answers.key(), publication, true).await {
        return Err(Unanswered::Silent);
    }
    match timeout_at(Instant::now() + PATIENCE, answers.next()).await {
        Ok(Some(Answer::Reply(message))) => Ok(message),
        Ok(Some(Answer::Denied)) => Err(Unanswered::Denied),
        _ => Err(Unanswered::Silent),
    }
}
