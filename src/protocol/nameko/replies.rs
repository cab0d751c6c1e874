//! The task that hands replies to the calls that wait for them. Decoding is the callers' work.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::Consumer;

use super::generation::End;
use super::pending::{Answer, Pending};
use super::wire::reply::Delivered;
use crate::budget::{Account, Exceeded};
use crate::metrics::UpstreamMetrics;

/// A smaller reply is not counted: those are bounded by the calls in flight.
const SMALL: usize = 1_024;

/// Hands replies over until the generation ends. Without a consumer there are no replies, so a
/// stream that ends, however it does (WIRE 7.1), ends the generation.
pub(super) async fn run(
    mut consumer: Consumer,
    pending: Arc<Pending>,
    account: Account,
    metrics: UpstreamMetrics,
    end: End,
) {
    loop {
        let delivery = tokio::select! {
            biased;
            () = end.wait() => break,
            delivery = consumer.next() => delivery,
        };
        match delivery {
            Some(Ok(delivery)) => {
                let lapin::message::Delivery { properties, data, .. } = delivery;
                let id = properties.correlation_id().as_ref();
                let id = id.and_then(|id| pending.id_of(id.as_str()));
                let answer = match held(&account, data.into()) {
                    Ok(body) => Answer::Replied(Box::new(Delivered { properties, body })),
                    Err(exceeded) => Answer::Overfull(exceeded),
                };
                if !id.is_some_and(|id| pending.end(id, answer)) {
                    metrics.late_reply();
                }
            }
            Some(Err(error)) => end.because_of("no replies can be received", &error),
            None => end.because("rabbitmq has cancelled the consumer of the reply queue"),
        }
    }
}

/// A reply's body, with its share of the memory.
fn held(account: &Account, body: Bytes) -> Result<Bytes, Exceeded> {
    if body.len() < SMALL {
        return Ok(body);
    }
    let mut share = account.share();
    share.grow(body.len())?;
    Ok(share.keep_with(body))
}
