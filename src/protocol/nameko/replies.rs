//! The task that hands replies to the calls that wait for them. Decoding is the callers' work.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::{BasicProperties, Consumer};

use super::generation::End;
use super::intake::Intake;
use super::pending::{Answer, Pending};
use super::transport::is_goodbye;
use super::wire::reply::{Delivered, lacked_room};
use crate::metrics::UpstreamMetrics;

/// Hands replies over until the generation ends. Without a consumer there are no replies, so a
/// stream that ends, however it does (WIRE 7.1), ends the generation.
pub(super) async fn run(
    mut consumer: Consumer,
    pending: Arc<Pending>,
    intake: Arc<Intake>,
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
                let answer = received(&intake, properties, data);
                if !id.is_some_and(|id| pending.end(id, answer)) {
                    metrics.late_reply();
                }
            }
            Some(Err(error)) if is_goodbye(&error) => {
                end.because("an operator has closed the connection that replies come over");
            }
            Some(Err(error)) => end.because_of("no replies can be received", &error),
            None => end.because("rabbitmq has cancelled the consumer of the reply queue"),
        }
    }
    intake.close();
}

/// A reply, with its share of the memory.
fn received(intake: &Intake, properties: BasicProperties, mut data: Vec<u8>) -> Answer {
    if let Some(size) = lacked_room(&properties)
        && let Some(exceeded) = intake.refusal_of(size)
    {
        return Answer::Overfull(exceeded);
    }
    let share = intake.claim(data.len());
    if share.is_some() {
        // lapin doubles the room that a body has, as it comes.
        data.shrink_to_fit();
    }
    let body = match share {
        Some(share) => share.keep_with(data.into()),
        None => data.into(),
    };
    Answer::Replied(Box::new(Delivered { properties, body }))
}
