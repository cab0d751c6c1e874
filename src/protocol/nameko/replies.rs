//! The task that hands replies to the calls that wait for them. Decoding is the callers' work.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::Consumer;

use super::generation::End;
use super::pending::{Answer, Pending};
use super::wire::reply::Delivered;
use crate::metrics::UpstreamMetrics;

/// Hands replies over until the generation ends. Without a consumer there are no replies, so a
/// stream that ends, however it does (WIRE 7.1), ends the generation.
pub(super) async fn run(
    mut consumer: Consumer,
    pending: Arc<Pending>,
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
                let reply = Box::new(Delivered { properties, body: data.into() });
                if !id.is_some_and(|id| pending.end(id, Answer::Replied(reply))) {
                    metrics.late_reply();
                }
            }
            Some(Err(error)) => end.because_of("no replies can be received", &error),
            None => end.because("rabbitmq has cancelled the consumer of the reply queue"),
        }
    }
}
