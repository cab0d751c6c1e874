//! Calls from one module to another that had to wait for their turn.

use std::time::Duration;

use tokio::time::Instant;

use super::super::wire::{CallId, Frame};
use super::{Hub, World};

/// The way to a module of this hub, perhaps under another name.
pub(in crate::protocol::juno) struct Here<T> {
    pub(in crate::protocol::juno) service: Option<String>,
    pub(in crate::protocol::juno) method: Option<String>,
    /// The hub ends the call after that long; `None` where somebody else does.
    pub(in crate::protocol::juno) timeout: Option<Duration>,
    pub(in crate::protocol::juno) ticket: T,
}

impl<P, T> Hub<P, T> {
    /// Makes a call whose turn has come, as if it came now, in the place of the one that waited. Whoever
    /// waited watches its deadline. `None` where it is over by then, or was at once.
    pub(in crate::protocol::juno) fn take_up<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        frame: &Frame<'_>,
        here: Here<T>,
        now: Instant,
        world: &mut W,
    ) -> Option<CallId> {
        let waited = self.take(id)?;
        let caller = waited.waiting.caller?;
        let request_id = frame.request_id()?;
        let (_, texts) = waited.into_parts();
        let made = self.call_module(caller, (frame, request_id, texts.name()), here, now, world);
        self.calls.recycle(id, texts);
        made
    }

    /// Ends a call whose deadline has passed, if it still waits.
    pub(in crate::protocol::juno) fn end_in_time<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        timeout: Duration,
        world: &mut W,
    ) {
        if self.calls.get(id).is_some() {
            self.time_out(id, timeout, world);
        }
    }
}
