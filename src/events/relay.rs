//! The way to an upstream's place for events: over whichever port the configuration in force gives it. Who carries
//! events so goes on with what it has where the upstream gets other settings.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;

use crate::event::{DedupKey, Event, Undelivered};
use crate::event_port::{EventPort, Source};

pub(super) struct Relay(ArcSwap<Arc<dyn EventPort>>);

impl Relay {
    pub(super) fn new(port: &Arc<dyn EventPort>) -> Self {
        Self(ArcSwap::from_pointee(Arc::clone(port)))
    }

    /// What is handed over from now on goes that way.
    pub(super) fn lead_to(&self, port: &Arc<dyn EventPort>) {
        self.0.store(Arc::new(Arc::clone(port)));
    }
}

impl EventPort for Relay {
    fn listen(&self, _sources: &[Source]) {}

    fn wants(&self, topic: &str) -> bool {
        self.0.load().wants(topic)
    }

    fn publish(
        &self,
        address: &str,
        captures: &[String],
        event: &Event,
        key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        self.0.load().publish(address, captures, event, key)
    }
}
