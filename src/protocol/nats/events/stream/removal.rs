//! Deletes the consumer of a source that is wanted no more. One that somebody else reads stays: gateways that
//! have the same bridge share it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::super::super::ask::ask;
use super::super::super::generation::Generation;
use super::super::super::wire::{self, ApiFailure, ConsumerInfo};
use super::super::Events;
use super::StreamSource;

/// How long it is tried: pulls of an earlier connection are in the server's count for half a minute.
const PATIENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(500);

/// Deletes it when what was taken is settled.
pub(in super::super) async fn remove(
    events: &Arc<Events>,
    generation: &Generation,
    stream: Arc<StreamSource>,
) {
    let mut deadline = Instant::now() + PATIENCE;
    let (upstream, consumer) = (events.upstream(), &stream.consumer);
    // Nobody takes messages for it any more.
    let turn = timeout_at(deadline, stream.state.turn.acquire()).await;
    let mut is_left = false;
    while turn.is_ok() && Instant::now() < deadline && !is_left {
        if stream.ledger().held() > 0 {
            // A target may be down for long, and what was taken is to get there.
            deadline = Instant::now() + PATIENCE;
        }
        match attempt(generation, &stream).await {
            Attempt::Done => {
                info!(
                    upstream,
                    stream = stream.stream,
                    consumer,
                    "deleted the consumer of a bridge"
                );
                return events.removed(&stream);
            }
            Attempt::Gone => return events.removed(&stream),
            Attempt::InUse => sleep(PAUSE).await,
            Attempt::Refused => is_left = true,
        }
    }
    if !events.is_to_remove(&stream) {
        // Another connection has taken that over.
        return;
    }
    warn!(
        upstream,
        stream = stream.stream,
        consumer,
        mend = "delete it with `nats consumer rm` when no other gateway has that bridge",
        "a bridge that has gone leaves its consumer: it is still read, or cannot be deleted"
    );
    events.removed(&stream);
}

enum Attempt {
    Done,
    Gone,
    InUse,
    Refused,
}

async fn attempt(generation: &Generation, stream: &StreamSource) -> Attempt {
    if stream.ledger().held() > 0 {
        return Attempt::InUse;
    }
    let name = stream.name();
    let Ok(found) = ask(generation, &wire::consumer_info(&name), Bytes::new()).await else {
        return Attempt::Refused;
    };
    match wire::api_answer::<ConsumerInfo>(&found) {
        Ok(info) if info.num_waiting > 0 || info.num_ack_pending > 0 => return Attempt::InUse,
        Ok(_) => {}
        Err(ApiFailure::NoConsumer | ApiFailure::NoStream | ApiFailure::NoJetStream) => {
            return Attempt::Gone;
        }
        Err(_) => return Attempt::Refused,
    }
    let Ok(answer) = ask(generation, &wire::delete_consumer(&name), Bytes::new()).await else {
        return Attempt::Refused;
    };
    match wire::api_answer::<serde_json::Value>(&answer) {
        Ok(_) => Attempt::Done,
        Err(_) => Attempt::Refused,
    }
}
