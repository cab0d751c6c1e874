//! The calls of modules that leave the hub for another upstream.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::peer::Peer;
use super::shared::Shared;
use super::wire::{CallId, Frame, Key};
use crate::call::{Call, CallKind, CallName, Context, Params, Payload};
use crate::caller::Caller;
use crate::idempotency_key::IdempotencyKey;
use crate::route::access::Access;
use crate::router::Ticket;

/// One of them.
pub(super) struct Leaving {
    id: CallId,
    from: Arc<Peer>,
    call: Call,
    ticket: Ticket,
    caller_gone: oneshot::Receiver<()>,
}

impl Leaving {
    /// The call that a frame makes; none where its name is no call's.
    pub(super) fn new(
        id: CallId,
        (name, key): (&str, Option<IdempotencyKey>),
        frame: &Frame<'_>,
        (from, (caller, received)): (Arc<Peer>, (Caller, Instant)),
        mut ticket: Ticket,
        caller_gone: oneshot::Receiver<()>,
    ) -> Option<Self> {
        let mut context = Context::new(ticket.trace());
        if ticket.row().rule.access != Access::Open {
            context.user_id = caller.user_id().map(str::to_owned);
        }
        context.idempotency_key = key;
        let call = Call {
            name: CallName::parse(name.to_owned()).ok()?,
            params: params(frame),
            kind: CallKind::Call,
            caller,
            context: Arc::new(context),
            received,
            timeout: None,
            may_have_run: false,
        };
        Some(Self { id, from, call, ticket, caller_gone })
    }

    /// Carries it out, for as long as the module is there. Its answer waits until the module has read most of
    /// those before: it may have made many calls, and be slower than all who answer.
    pub(super) async fn carry_out(self, shared: Arc<Shared>) {
        let Self { id, from, call, ticket, caller_gone } = self;
        let answered = async {
            let dispatched = ticket.carry_out(&call).await;
            let turn = from.turn().await;
            (dispatched, turn)
        };
        let (dispatched, _turn) = tokio::select! {
            answered = answered => answered,
            _ = caller_gone => return,
        };
        let result = dispatched.result.as_ref().map(|reply| &reply.payload);
        let ended = (result, dispatched.replayed);
        shared.with(Instant::now(), |hub, io| hub.returned(id, ended, io));
    }
}

/// The arguments of a call. No arguments and an empty object are told apart.
fn params(frame: &Frame<'_>) -> Params {
    match frame.raw(Key::Arguments) {
        Some(raw) if raw.starts_with('{') => Params::Object(payload(raw)),
        Some(raw) if raw.starts_with('[') => Params::Array(payload(raw)),
        _ => Params::None,
    }
}

/// A copy of a part of a frame.
pub(super) fn payload(raw: &str) -> Payload {
    Payload::from_validated(Bytes::copy_from_slice(raw.as_bytes()))
}
