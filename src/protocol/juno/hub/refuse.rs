//! Why a request is refused, and how a module is told.

use std::borrow::Cow;

use super::super::wire::fault::{as_result, data_of, number_of};
use super::super::wire::{FrameType, Head, OutgoingFrame, Rest, number};
use super::{Hub, Note, SessionId, UNDEFINED, World};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::units::format_size;

/// Juno's number for why a request is refused, and the fault that says it to people.
pub(super) struct NumberedFault {
    pub(super) number: i64,
    pub(super) fault: Fault,
}

impl From<Fault> for NumberedFault {
    fn from(fault: Fault) -> Self {
        Self { number: number_of(fault.kind()), fault }
    }
}

impl NumberedFault {
    pub(super) fn new(number: i64, kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { number, fault: Fault::not_sent(kind, message) }
    }

    pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(number::MALFORMED, FaultKind::InvalidRequest, message)
    }
}

impl<P, T> Hub<P, T> {
    /// A line is refused as a whole, before it was read. Its session is told, and kept. Where it
    /// was an answer, the call ends with it: nothing else would end it before its deadline.
    pub(in crate::protocol::juno) fn refuse_line<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        head: &Head,
        fault: Fault,
        world: &mut W,
    ) {
        let id = head.request_id.as_deref();
        let refusal = NumberedFault::from(fault);
        match (head.frame_type, id) {
            (Some(FrameType::Call), Some(id)) => {
                self.call_refused(from, None, &refusal.fault, world);
                self.refuse_call(from, id, &refusal, world);
            }
            (Some(FrameType::Answer | FrameType::Error), Some(id)) if self.knows_call(from, id) => {
                if let Some(call) = self.waiting_call(from, id) {
                    let message = format!("the answer was refused: {}", refusal.fault.message());
                    let fault = Fault::new(refusal.fault.kind(), Outcome::Executed, message);
                    self.end_with_fault(call, fault, world);
                }
                self.not_taken(from, &refusal.fault, world);
            }
            _ => self.refuse(from, id.unwrap_or(UNDEFINED), &refusal, world),
        }
    }

    /// A module's line is no JSON. Where it tells what it was meant to be, whoever waits hears of it
    /// at once; else it is ignored (WIRE 3.3).
    pub(super) fn refuse_broken<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        head: &Head,
        world: &mut W,
    ) {
        let fault = match (head.frame_type, head.request_id.as_deref()) {
            (Some(_), Some(_)) if !head.is_answer() => {
                Fault::not_sent(FaultKind::ParseError, "the frame is no JSON")
            }
            (Some(_), Some(id)) if self.knows_call(from, id) => {
                Fault::new(FaultKind::Internal, Outcome::Executed, "it is no JSON")
            }
            _ => {
                let id = self.sessions.module(from).map_or("", |module| &module.id);
                return world.note(Note::Ignored { id });
            }
        };
        self.refuse_line(from, head, fault, world);
    }

    /// A call was refused before it was routed.
    pub(super) fn call_refused<W: World<Peer = P, Ticket = T>>(
        &self,
        from: SessionId,
        called: Option<&str>,
        fault: &Fault,
        world: &mut W,
    ) {
        let caller = self.sessions.get(from).map_or(&Caller::NOBODY, |session| &session.caller);
        world.note(Note::CallRefused { called, caller, fault });
    }

    /// A module's answer cannot be taken. It is told nothing: real modules die of an error frame
    /// with the id of a call that they have answered (WIRE, section 8).
    pub(super) fn not_taken<W: World<Peer = P, Ticket = T>>(
        &self,
        from: SessionId,
        why: &Fault,
        world: &mut W,
    ) {
        let id = self.sessions.module(from).map_or("", |module| &module.id);
        world.note(Note::NotTaken { id, why });
    }

    /// Whether a frame's line is as short as modules are sent them.
    pub(super) fn fits(&self, frame: &OutgoingFrame<'_>) -> bool {
        let limit = self.settings.limits.argument;
        limit == usize::MAX || frame.length() <= limit
    }

    /// What becomes of a call whose answer is longer than its caller can read.
    pub(super) fn answer_too_long(&self) -> Fault {
        let limit = format_size(self.settings.limits.argument);
        let message = format!(
            "the answer is longer than the lines of {limit} that modules are sent ([hub] \
             max_argument): the call has run"
        );
        Fault::new(FaultKind::TooLarge, Outcome::Executed, message)
    }

    /// Answers a request with an error frame.
    pub(super) fn refuse<W: World<Peer = P, Ticket = T>>(
        &self,
        to: SessionId,
        request_id: &str,
        refusal: &NumberedFault,
        world: &mut W,
    ) {
        let Some(session) = self.sessions.get(to) else { return };
        let data = data_of(&refusal.fault);
        let (number, message) = (refusal.number, refusal.fault.message());
        let frame = OutgoingFrame::Error { request_id, number, message, data: Some(&data) };
        if self.fits(&frame) {
            return world.send(&session.peer, &frame);
        }
        let short = shortened(&refusal.fault);
        let (message, data) = (short.message(), data_of(&short));
        let frame = OutgoingFrame::Error { request_id, number, message, data: Some(&data) };
        world.send(&session.peer, &frame);
    }

    /// Answers a call with its fault, in the way that callers are answered here.
    pub(super) fn refuse_call<W: World<Peer = P, Ticket = T>>(
        &self,
        to: SessionId,
        request_id: &str,
        refusal: &NumberedFault,
        world: &mut W,
    ) {
        if !self.settings.errors_as_data {
            return self.refuse(to, request_id, refusal, world);
        }
        let Some(session) = self.sessions.get(to) else { return };
        let data = data_of(&refusal.fault);
        let result = as_result(refusal.number, refusal.fault.message(), &data);
        let frame = OutgoingFrame::Answer { request_id, data: Some(&result), rest: Rest::NONE };
        if self.fits(&frame) {
            return world.send(&session.peer, &frame);
        }
        let short = shortened(&refusal.fault);
        let result = as_result(refusal.number, short.message(), &data_of(&short));
        let frame = OutgoingFrame::Answer { request_id, data: Some(&result), rest: Rest::NONE };
        world.send(&session.peer, &frame);
    }
}

/// How much is kept of a message that is too long for a module.
const KEPT: usize = 512;

/// A fault without what makes it long: what the callee said beside its message.
fn shortened(fault: &Fault) -> Fault {
    let message = fault.message();
    let end = message.char_indices().nth(KEPT).map_or(message.len(), |(at, _)| at);
    let cut = if end < message.len() { "…" } else { "" };
    let message = format!("{}{cut} (cut: [hub] max_argument)", &message[..end]);
    Fault::new(fault.kind(), fault.outcome(), message)
}
