//! Events that a JetStream stream keeps: a consumer of Genkan's own hands them over, and is told when every
//! target has them.
//!
//! ```text
//!  pull ──► stream ──► session (a connection's) ──► ledger ──► Taker ─ … ─ the bridge
//!             ▲ acks, over whichever connection there is          │
//!             └────────────────────────────── Receipt ◄───────────┘
//! ```
//!
//! A bridge's consumer is durable, by the bridge's name: what is stored while Genkan is away waits for it, and
//! gateways that have the same bridge share it. A topic's is this gateway's alone, and goes with it.

mod complaint;
mod holes;
mod ledger;
mod removal;
mod session;
mod source;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use super::super::wire::{Ack, ConsumerName};
use super::Events;
use super::address;
use crate::event::Receipt;
use crate::event_port::Source;
use crate::token::random_uuid;
use holes::Gap;
use ledger::{Ledger, Place};
pub(super) use removal::remove;
pub(super) use session::Session;
pub(super) use source::run;

/// A stream that is a source, over all connections.
pub(super) struct StreamSource {
    pub(super) source: Source,
    stream: String,
    /// The subjects in it that are wanted; empty for all.
    filter: String,
    consumer: String,
    state: Arc<State>,
    /// What another bridge has of the same consumer goes before what this one is handed.
    is_heir: AtomicBool,
}

/// What is known of a consumer, over all connections and whichever bridge has it.
#[derive(Debug)]
struct State {
    ledger: Mutex<Ledger>,
    /// One connection at a time is handed messages.
    turn: Semaphore,
    /// Something was settled, or has come.
    changed: Notify,
}

impl State {
    fn new(ledger: Ledger) -> Arc<Self> {
        let (turn, changed) = (Semaphore::new(1), Notify::new());
        Arc::new(Self { ledger: Mutex::new(ledger), turn, changed })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every use leaves it whole.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamSource {
    /// One that comes while others go: it takes over their consumer where it is the same, and where it has
    /// another it begins where a bridge from the same place was.
    pub(super) fn new(
        source: &Source,
        place: &address::Stream<'_>,
        gone: &[&Arc<StreamSource>],
    ) -> Arc<Self> {
        let consumer = match source.shared {
            true => address::group(&source.name),
            false => format!("genkan_topic_{}", random_uuid()),
        };
        let is_here = |it: &&&Arc<Self>| it.stream == place.name && it.source.shared;
        let same = gone.iter().filter(is_here).find(|it| it.consumer == consumer);
        let alike = gone.iter().filter(is_here).find(|it| it.filter == place.subject);
        let state = match (same, alike) {
            (Some(same), _) => Arc::clone(&same.state),
            (None, Some(alike)) if source.shared => State::new(alike.ledger().successor()),
            (None, _) => State::new(Ledger::default()),
        };
        Arc::new(Self {
            is_heir: AtomicBool::new(same.is_some()),
            source: source.clone(),
            stream: place.name.to_owned(),
            filter: place.subject.to_owned(),
            consumer,
            state,
        })
    }

    /// The consumer's name.
    fn name(&self) -> ConsumerName<'_> {
        ConsumerName { stream: &self.stream, name: &self.consumer }
    }

    /// Whether another one is about the same consumer.
    pub(super) fn is_same_consumer(&self, other: &Self) -> bool {
        self.stream == other.stream && self.consumer == other.consumer
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.state.ledger()
    }

    /// Tells of what its stream has discarded.
    fn tell_gap(&self, gap: Gap) {
        let what = match gap {
            Gap::Lost(1) => "has discarded one of its events".to_owned(),
            Gap::Lost(count) => format!("has discarded {count} of its events"),
            Gap::Perhaps => "may have discarded some of its events".to_owned(),
        };
        self.source.taker.gap(&format!(
            "the stream `{}` {what} before they were taken, by its limits or a purge: raise its `max_msgs`, \
             `max_bytes` or `max_age`, or mend what its events wait for",
            self.stream
        ));
    }
}

/// A hold on a message: whoever has it says what becomes of it, if not otherwise then by dropping it.
struct Hold {
    place: Place,
    size: usize,
    is_settled: bool,
    stream: Arc<StreamSource>,
    events: Arc<Events>,
}

impl Hold {
    fn receipt(self) -> Receipt {
        Receipt::new(move || self.settle())
    }

    fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.is_settled {
            let reply = self.stream.ledger().settle(self.place, self.size);
            // Without a connection it is acked when there is one.
            if let Some(reply) = reply {
                self.events.tell(&reply, Ack::Done);
            }
        } else {
            self.stream.ledger().abandon(self.place, self.size);
        }
        self.stream.state.changed.notify_one();
    }
}
