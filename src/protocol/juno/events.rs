//! Hooks as events: what modules trigger is carried elsewhere, and what happened elsewhere is
//! triggered here, for the modules that listen (WIRE 3.3).
//!
//! A hook has no way to say who has it: it comes at most once.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::shared::Shared;
use super::world::Io;
use crate::call::{Context, Payload};
use crate::event::{DedupKey, Delivery, Event, Undelivered, captures, fill, reached};
use crate::event_port::{EventAddresses, EventPort, Promise, Source};
use crate::trace::TraceParent;

/// The hub's own hooks, which nobody else triggers.
const OWN: &str = "juno.";

/// What hooks are called here: `module.hook`.
pub(super) const ADDRESSES: EventAddresses =
    EventAddresses { source, target, reached, also_at: |_| None };

fn source(address: &str) -> Result<Promise, String> {
    let named = address.split('.').all(|word| !word.is_empty());
    if !named || !address.contains('.') {
        return Err(format!("`{address}` is no hook: write `MODULE.HOOK`"));
    }
    Ok(Promise::AtMostOnce)
}

fn target(address: &str) -> Result<Promise, String> {
    source(address)?;
    if address.split('.').any(|word| matches!(word, "*" | ">" | "#")) {
        return Err(format!("`{address}` names no one hook: write `$1` for what `from` matched"));
    }
    if address.starts_with(OWN) {
        return Err(format!("`{address}` is the hub's own hook: choose another module's name"));
    }
    Ok(Promise::AtMostOnce)
}

/// Who wants hooks.
#[derive(Default)]
pub(super) struct Sources(ArcSwap<Vec<Source>>);

/// What travels with a hook that a bridge has brought.
pub(super) struct Carried {
    id: Arc<str>,
    time: SystemTime,
    context: Arc<Context>,
}

impl Sources {
    /// Hands a hook to whoever wants it. Does not wait: it is called under the hub's lock.
    pub(super) fn hand_on(&self, hook: &str, data: &str, carried: Option<Carried>) {
        let sources = self.0.load();
        let mut event: Option<Event> = None;
        for source in sources.iter() {
            let Some(captures) = captures(&source.address, hook) else { continue };
            let event = event.get_or_insert_with(|| make(hook, data, carried.as_ref())).clone();
            // Where there is no room, the taker counts it and tells of the gap.
            drop(source.taker.take(Delivery {
                event: Ok(event),
                captures,
                message: 0,
                receipt: None,
            }));
        }
    }
}

fn make(hook: &str, data: &str, carried: Option<&Carried>) -> Event {
    let data = Payload::from_validated(Bytes::copy_from_slice(data.as_bytes()));
    let topic = Arc::from(hook);
    match carried {
        Some(Carried { id, time, context }) => {
            let (id, context) = (Arc::clone(id), Arc::clone(context));
            Event { topic, id, data, time: *time, context }
        }
        None => {
            let trace = TraceParent::generate();
            let (id, context) = (trace.trace_id().into(), Arc::new(Context::new(trace)));
            Event { topic, id, data, time: SystemTime::now(), context }
        }
    }
}

/// The hub's events.
pub(super) struct HubEvents(pub(super) Arc<Shared>);

impl HubEvents {
    fn trigger(&self, hook: &str, event: &Event) -> Result<(), Undelivered> {
        target(hook).map_err(Undelivered::Refused)?;
        if !event.data.as_bytes().starts_with(b"{") {
            let reason = "a hook's data is an object, and this event's is none".to_owned();
            return Err(Undelivered::Refused(reason));
        }
        let context = Arc::new(event.context.forwarded());
        let carried = Carried { id: Arc::clone(&event.id), time: event.time, context };
        let mut io = Io::carrying(&self.0, Instant::now(), carried);
        io.act(|hub, io| hub.bring(hook, event.data.as_str(), io));
        io.finish();
        Ok(())
    }
}

impl EventPort for HubEvents {
    fn listen(&self, sources: &[Source]) {
        self.0.events.0.store(Arc::new(sources.to_vec()));
    }

    fn publish(
        &self,
        address: &str,
        captures: &[String],
        event: &Event,
        _key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        std::future::ready(self.trigger(&fill(address, captures), event)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_have_names_of_two_words_and_more() {
        for good in ["orders.created", "a.b.c", "orders.*", "*.created", "a.>"] {
            assert!(source(good).is_ok(), "{good}");
        }
        for bad in ["", "orders", "orders.", ".created", "a..b"] {
            assert!(source(bad).is_err(), "{bad}");
        }
        for bad in ["orders.*", "juno.activated", "a.>"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
