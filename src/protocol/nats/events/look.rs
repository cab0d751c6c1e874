//! What of running streams keeps events from coming out of them or going into them, for
//! `genkan check --live`. Must not: make anything.

use std::collections::HashMap;

use bytes::Bytes;

use super::super::ask::{Unanswered, ask};
use super::super::generation::Generation;
use super::super::wire::{self, ApiFailure, Flaw, ShownStream};
use super::address::{Place, Stream};
use crate::event_port::Way;
use crate::upstream::Amiss;

/// Looks at the streams that addresses name. Who publishes or subscribes to a subject, the server tells nobody.
pub(in super::super) async fn look(generation: &Generation, ways: &[Way<'_>]) -> Vec<Amiss> {
    let mut amiss = Vec::new();
    let mut known = HashMap::new();
    for (row, way) in ways.iter().enumerate() {
        let (Way::From(address) | Way::To(address)) = way;
        let Place::Stream(Stream { name, subject }) = Place::read(address) else { continue };
        if !known.contains_key(name) {
            let answer = ask(generation, &wire::stream_info(name), Bytes::new()).await;
            known.insert(name, answer);
        }
        let shown: Result<ShownStream, ApiFailure> = match &known[name] {
            Ok(message) => wire::api_answer(message),
            Err(Unanswered::Silent) => {
                amiss.push(Amiss::of_row(row, "JetStream does not answer: is it still starting?"));
                // Nor would it answer the next question.
                return amiss;
            }
            // Events may come and go all the same.
            Err(Unanswered::Denied) => continue,
        };
        let flaw = match shown {
            Ok(shown) if matches!(way, Way::From(_)) => shown.flaw_of_source(subject),
            Ok(shown) => shown.flaw_of_target(subject),
            Err(failure) => Some(failed(name, failure)),
        };
        amiss.extend(flaw.map(|Flaw { what, lasts }| Amiss { row: Some(row), lasts, what }));
    }
    amiss
}

/// Why a stream cannot be seen.
fn failed(name: &str, failure: ApiFailure) -> Flaw {
    match failure {
        ApiFailure::NoStream => Flaw::lasting(format!(
            "there is no stream `{name}`: make it with `nats stream add`, or correct the address"
        )),
        ApiFailure::NoJetStream => Flaw::lasting(
            "this NATS has no JetStream, or not for this account: start nats-server with JetStream (-js), or \
             give the account some",
        ),
        ApiFailure::Other(said) | ApiFailure::WorkQueue(said) => {
            Flaw::passing(format!("JetStream does not show the stream `{name}`: {said}"))
        }
        ApiFailure::NoConsumer | ApiFailure::TooManyConsumers => {
            Flaw::passing(format!("JetStream does not show the stream `{name}`"))
        }
    }
}
