//! What of running streams keeps events from coming out of them or going into them, for
//! `genkan check --live`. Must not: make anything.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::ask::{Unanswered, ask};
use super::super::generation::Generation;
use super::super::wire::{self, ApiFailure, Flaw, ShownStream};
use super::address::{Place, Stream};
use crate::event::Delivery;
use crate::event_port::{Source, Taker, Way};
use crate::upstream::{Amiss, EventsLook};

/// What is subscribed to, to see whether that is permitted: what comes meanwhile is a copy, which nobody gets.
pub(in super::super) fn probes<'a>(subjects: impl Iterator<Item = &'a str>) -> Vec<Source> {
    let source = |subject: &str| Source {
        address: subject.to_owned(),
        name: "check".into(),
        shared: false,
        resumes: false,
        taker: Arc::new(Nobody),
    };
    subjects.map(source).collect()
}

/// Whoever takes what is only looked at.
struct Nobody;

impl Taker for Nobody {
    fn take(&self, _delivery: Delivery) -> Result<(), Box<Delivery>> {
        Ok(())
    }

    fn room(&self) -> usize {
        1
    }

    fn gap(&self, _reason: &str) {}

    fn unheard(&self, _why: Option<&str>) {}
}

/// The subjects that events come from.
pub(in super::super) fn subjects<'a>(ways: &'a [Way<'_>]) -> impl Iterator<Item = &'a str> {
    ways.iter().filter_map(|way| match way {
        Way::From(address) => match Place::read(address) {
            Place::Subject(subject) => Some(subject),
            Place::Stream(_) => None,
        },
        Way::To(_) => None,
    })
}

/// Looks at the streams that addresses name. Who publishes or subscribes to a subject, the server tells nobody.
pub(in super::super) async fn look(generation: &Generation, ways: &[Way<'_>]) -> EventsLook {
    let EventsLook { mut amiss, mut also_at } = EventsLook::default();
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
                return EventsLook { amiss, also_at };
            }
            // Events may come and go all the same.
            Err(Unanswered::Denied) => continue,
        };
        let flaw = match shown {
            Ok(shown) if matches!(way, Way::From(_)) => {
                let kept = shown.subjects_under(subject).into_iter();
                also_at.extend(kept.map(|subject| (row, subject)));
                shown.flaw_of_source(subject)
            }
            Ok(shown) => shown.flaw_of_target(subject),
            Err(failure) => Some(failed(name, failure)),
        };
        amiss.extend(flaw.map(|Flaw { what, lasts }| Amiss { row: Some(row), lasts, what }));
    }
    EventsLook { amiss, also_at }
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
