//! The calls of modules to other modules that wait for their turn, where a row to the hub has a `queue`.
//!
//! Nobody waits under the hub's lock: the call lies in the hub's table as one that has left, and its line
//! with a task. When its turn has come, the hub takes the line up again. Chains of deadlines have no place
//! for a call that began out of order, so that the task watches that one too.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::shared::{Owed, Shared};
use super::wire::{CallId, Frame, Line, scan};
use crate::route::service_of;
use crate::router::Ticket;

/// One of them.
pub(super) struct Late {
    pub(super) id: CallId,
    pub(super) name: String,
    /// The frame that made it.
    pub(super) line: String,
    pub(super) ticket: Ticket,
    pub(super) caller_gone: oneshot::Receiver<()>,
}

impl Late {
    /// Waits for its turn, and sees that it ends in time, for as long as its caller is there.
    pub(super) async fn carry_out(self, shared: Arc<Shared>) {
        let Self { id, name, line, mut ticket, caller_gone } = self;
        let turn = tokio::select! {
            turn = ticket.turn(&name, service_of(&name)) => turn,
            _ = caller_gone => return,
        };
        let now = Instant::now();
        if let Err(fault) = turn {
            ticket.end(&name, Err(&fault));
            return shared.with(now, |hub, io| hub.returned(id, (Err(&fault), false), io));
        }
        // What was a frame once is one.
        let Line::Object(members) = scan(line.as_bytes()) else { return };
        let (frame, deadline) = (Frame::new(members), ticket.deadline());
        let (owed, is_over) = Owed::late(ticket);
        let made = shared.with(now, |hub, io| hub.take_up(id, &frame, io.here(owed), now, io));
        let Some(id) = made else { return };
        tokio::select! {
            _ = is_over => {}
            () = sleep_until(deadline.at()) => {
                let now = Instant::now();
                shared.with(now, |hub, io| hub.end_in_time(id, deadline.timeout(), io));
            }
        }
    }
}
