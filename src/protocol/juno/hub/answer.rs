//! How calls end: with an answer, an error, a deadline, or because somebody went away.

use std::borrow::Cow;
use std::time::Duration;

use tokio::time::Instant;

use super::super::wire::fault::{data_of, from_callee, number_of};
use super::super::wire::{CallId, Frame, Key, OutgoingFrame, Rest, number};
use super::{End, Ended, Hub, Note, NumberedFault, SessionId, World};
use crate::call::Payload;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::units::format_duration;

/// The keys of a callee's error that are written anew; all others pass.
const OWN_KEYS_OF_AN_ERROR: [Key; 5] =
    [Key::Type, Key::RequestId, Key::Error, Key::Message, Key::Data];

impl<P, T> Hub<P, T> {
    /// A callee answered. Only the module that a call was sent to can answer it.
    pub(super) fn answer<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        world: &mut W,
    ) -> Result<(), NumberedFault> {
        let Some((id, ended)) = self.answered(from, request_id, number::MALFORMED, world)? else {
            return Ok(());
        };
        let data = frame.raw(Key::Data);
        if let Some(session) = ended.waiting.caller.and_then(|caller| self.sessions.get(caller)) {
            let rest = Rest::of(frame, &[Key::Type, Key::RequestId, Key::Data]);
            let answer = OutgoingFrame::Answer { request_id: ended.request_id(), data, rest };
            if !self.fits(&answer) {
                self.end_too_long(id, ended, world);
                return Ok(());
            }
            world.send(&session.peer, &answer);
        }
        self.finish(id, ended, End::Answer(data), world);
        Ok(())
    }

    /// A callee answered with an error: that ends the call like any answer.
    pub(super) fn callee_error<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        world: &mut W,
    ) -> Result<(), NumberedFault> {
        let number = number::UNKNOWN_REQUEST;
        let Some((id, ended)) = self.answered(from, request_id, number, world)? else {
            return Ok(());
        };
        let fault = from_callee(frame, ended.name());
        if let Some(caller) = ended.waiting.caller {
            self.pass_error_on(caller, frame, ended.request_id(), &fault, world);
        }
        self.finish(id, ended, End::Fault(Cow::Owned(fault)), world);
        Ok(())
    }

    /// Passes a callee's error on, with whatever else it sent.
    fn pass_error_on<W: World<Peer = P, Ticket = T>>(
        &self,
        caller: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        fault: &Fault,
        world: &mut W,
    ) {
        let Some(session) = self.sessions.get(caller) else { return };
        let code = fault.remote().and_then(|remote| remote.code.as_ref()?.number());
        let number = code.unwrap_or(number_of(fault.kind()));
        if !self.settings.errors_as_data {
            let rest = Rest::of(frame, &OWN_KEYS_OF_AN_ERROR);
            let (message, data) = (fault.message(), &data_of(fault));
            let foreign = OutgoingFrame::ForeignError { request_id, number, message, data, rest };
            if self.fits(&foreign) {
                return world.send(&session.peer, &foreign);
            }
        }
        self.refuse_call(
            caller,
            request_id,
            &NumberedFault { number, fault: fault.clone() },
            world,
        );
    }

    /// Ends a call whose answer is longer than its caller can read.
    fn end_too_long<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        ended: Ended<T>,
        world: &mut W,
    ) {
        let refusal = NumberedFault::from(self.answer_too_long());
        if let Some(caller) = ended.waiting.caller {
            self.refuse_call(caller, ended.request_id(), &refusal, world);
        }
        self.finish(id, ended, End::Fault(Cow::Owned(refusal.fault)), world);
    }

    /// Takes the call out that a module answers; none where the call is over already.
    fn answered<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        request_id: &str,
        refused_with: i64,
        world: &mut W,
    ) -> Result<Option<(CallId, Ended<T>)>, NumberedFault> {
        if let Some(id) = self.waiting_call(from, request_id) {
            return Ok(self.take(id).map(|ended| (id, ended)));
        }
        if self.knows_call(from, request_id) {
            world.note(Note::Late);
            return Ok(None);
        }
        let message = "no call with this requestId was sent to this module";
        Err(NumberedFault::new(refused_with, FaultKind::InvalidRequest, message))
    }

    /// Whether the id is that of a call which was sent to that module, or of one that is over.
    pub(super) fn knows_call(&self, callee: SessionId, request_id: &str) -> bool {
        self.waiting_call(callee, request_id).is_some()
            || CallId::parse(request_id).is_some_and(|id| self.calls.is_over(id))
    }

    /// The call of that id, if it was sent to that module and waits for its answer.
    pub(super) fn waiting_call(&self, callee: SessionId, request_id: &str) -> Option<CallId> {
        let id = CallId::parse(request_id)?;
        let waiting = self.calls.get(id)?;
        (waiting.callee == Some(callee)).then_some(id)
    }

    /// Answers a module's call with a result; with its fault where that is too long.
    pub(super) fn send_answer<W: World<Peer = P, Ticket = T>>(
        &self,
        to: SessionId,
        request_id: &str,
        (data, rest): (&str, Rest<'_>),
        world: &mut W,
    ) {
        let Some(session) = self.sessions.get(to) else { return };
        let frame = OutgoingFrame::Answer { request_id, data: Some(data), rest };
        if self.fits(&frame) {
            world.send(&session.peer, &frame);
        } else {
            self.refuse_call(to, request_id, &self.answer_too_long().into(), world);
        }
    }

    /// A call that a module made to another upstream has come back; `replayed` where its answer is another
    /// call's.
    pub(in crate::protocol::juno) fn returned<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        (result, replayed): (Result<&Payload, &Fault>, bool),
        world: &mut W,
    ) {
        let Some(ended) = self.take(id) else { return };
        if let Some(caller) = ended.waiting.caller {
            match result {
                Ok(data) => {
                    let rest = if replayed { Rest::REPLAYED } else { Rest::NONE };
                    self.send_answer(caller, ended.request_id(), (data.as_str(), rest), world);
                }
                Err(fault) => {
                    let refusal = NumberedFault::from(fault.clone());
                    self.refuse_call(caller, ended.request_id(), &refusal, world);
                }
            }
        }
        let end = match result {
            Ok(data) => End::Answer(Some(data.as_str())),
            Err(fault) => End::Fault(Cow::Borrowed(fault)),
        };
        self.finish(id, ended, end, world);
    }

    /// Whoever waited outside of the hub does not wait any more. The ticket is dropped. True where the
    /// call has not left, and will not.
    pub(in crate::protocol::juno) fn forget<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        world: &mut W,
    ) -> bool {
        let unsent = self.recall(id, world);
        if let Some(ended) = self.take(id) {
            let (_, texts) = ended.into_parts();
            self.calls.recycle(id, texts);
        }
        unsent
    }

    /// Takes a waiting call back from its callee; false where some of it may have left.
    pub(super) fn recall<W: World<Peer = P, Ticket = T>>(&self, id: CallId, world: &mut W) -> bool {
        let callee = self.calls.get(id).and_then(|waiting| waiting.callee);
        let session = callee.and_then(|callee| self.sessions.get(callee));
        session.is_some_and(|session| world.recall(&session.peer, id))
    }

    /// Ends the calls whose deadline has passed.
    pub(in crate::protocol::juno) fn expire<W: World<Peer = P, Ticket = T>>(
        &mut self,
        now: Instant,
        world: &mut W,
    ) {
        while let Some(id) = self.calls.first_due(now) {
            let Some(waiting) = self.calls.get(id) else { return };
            let timeout = self.calls.timeout(waiting);
            self.time_out(id, timeout, world);
        }
        self.armed = self.calls.next_deadline();
    }

    /// Ends a call whose deadline has passed.
    pub(super) fn time_out<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        timeout: Duration,
        world: &mut W,
    ) {
        let timeout = format_duration(timeout);
        let fault = if self.recall(id, world) {
            let message = format!("the module has read nothing for {timeout}: the call never left");
            Fault::not_sent(FaultKind::Timeout, message)
        } else {
            let message = format!("no answer within {timeout}: the call may still have run");
            Fault::new(FaultKind::Timeout, Outcome::Unknown, message)
        };
        self.end_with_fault(id, fault, world);
    }

    /// When [`Hub::expire`] has something to do. An earlier time is told by [`World::arm`].
    pub(in crate::protocol::juno) fn next_deadline(&self) -> Option<Instant> {
        self.armed
    }

    /// Ends every call that still waits: the hub is closing.
    pub(in crate::protocol::juno) fn end_all_calls<W: World<Peer = P, Ticket = T>>(
        &mut self,
        world: &mut W,
    ) {
        for id in self.calls.ids() {
            let fault = if self.recall(id, world) {
                Fault::not_sent(FaultKind::Unavailable, "the hub is closing: the call never left")
            } else {
                let message = "the hub is closing: the call may have run";
                Fault::new(FaultKind::Unavailable, Outcome::Unknown, message)
            };
            self.end_with_fault(id, fault, world);
        }
    }

    pub(super) fn end_with_fault<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        fault: Fault,
        world: &mut W,
    ) {
        let Some(ended) = self.take(id) else { return };
        let refusal = NumberedFault::from(fault);
        if let Some(caller) = ended.waiting.caller {
            self.refuse_call(caller, ended.request_id(), &refusal, world);
        }
        self.finish(id, ended, End::Fault(Cow::Owned(refusal.fault)), world);
    }

    pub(super) fn end_without_caller<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        world: &mut W,
    ) {
        self.recall(id, world);
        if let Some(ended) = self.take(id) {
            self.finish(id, ended, End::CallerGone, world);
        }
    }

    fn finish<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: CallId,
        ended: Ended<T>,
        end: End<'_>,
        world: &mut W,
    ) {
        let (waiting, texts) = ended.into_parts();
        world.ended(waiting.ticket, texts.name(), end);
        self.calls.recycle(id, texts);
    }
}
