//! The hub itself: modules, functions, hooks and calls, as a state machine.
//!
//! Frames and connections go in; what is to be done about them comes out through [`World`]. No
//! I/O, no clock, no task: time is handed in, and every test can play any sequence of frames.
//!
//! What it promises, and `property` tries to break: every call ends exactly once; a module is
//! active if and only if its dependencies are met by active modules; a hook reaches whoever
//! listens to it and nobody else; no module makes it remember more than the limits allow.

mod answer;
mod builtin;
mod callee;
mod calls;
mod dependencies;
mod hooks;
mod late;
mod lifecycle;
#[cfg(test)]
mod property;
mod refuse;
mod register;
mod requests;
mod sessions;
#[cfg(test)]
mod tests;
mod view;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::wire::outgoing::quoted;
use super::wire::{CallId, Frame, FrameType, Line, MAX_REQUEST_ID, OutgoingFrame, number};
use crate::auth::guesses::{Guesses, Refused};
use crate::caller::Caller;
use crate::config::secret::Secret;
use crate::fault::{Fault, FaultKind};
use crate::idempotency_key::IdempotencyKey;
use crate::json::{REPLY_DEPTH, REQUEST_DEPTH};
pub(super) use callee::is_callable;
use calls::{Calls, Ended};
pub(super) use late::Here;
use refuse::NumberedFault;
use sessions::{Module, Sessions};

pub(super) use requests::OutsideCall;
pub(super) use sessions::SessionId;
pub(super) use view::{DependencyView, ModuleView};

/// The hub's own name among the modules, and the version that it shows: the real daemon's, so
/// that modules which depend on `juno` find it.
pub(super) const JUNO: &str = "juno";
pub(super) const JUNO_VERSION: &str = "0.1.3";
/// What callees are told of a caller that is no module. No module may be called so.
const OUTSIDE: &str = "genkan";
/// The same as a raw JSON string.
const RAW_OUTSIDE: &str = "\"genkan\"";
/// What stands for a request id that cannot be read (WIRE 3.3).
pub(super) const UNDEFINED: &str = "\"undefined\"";
/// The longest name of a module, function or hook, in bytes.
const MAX_NAME: usize = 1_024;
/// The most dependencies of a module.
const MAX_DEPENDENCIES: usize = 1_000;

/// How much a module may make the hub remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Modules in all.
    pub(super) modules: usize,
    /// Functions that a module declares.
    pub(super) functions: usize,
    /// Hooks that a module listens to.
    pub(super) hooks: usize,
    /// Unanswered calls that a module made, and as many that it was sent.
    pub(super) calls: usize,
    /// The longest line that a module is sent, in bytes.
    pub(super) argument: usize,
}

/// What the hub is told once.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The limits.
    pub(super) limits: Limits,
    /// Whether a second module of an id joins the first, instead of being refused.
    pub(super) share: bool,
    /// Whether a failed call is answered with a result `{"error": …}`.
    pub(super) errors_as_data: bool,
    /// What a module must show to register under an id.
    pub(super) tokens: HashMap<String, Secret>,
}

/// The way of a call, as the routing table decides it.
pub(super) enum Way<T> {
    /// To a module of this hub.
    Here(Here<T>),
    /// To another upstream, or it has to wait for its turn, or its key decides: [`World::away`] follows.
    Away(T),
    /// Nowhere; the world has counted it.
    Refused(Fault),
}

/// How a call ended, for whoever counts it or waits outside of the hub.
pub(super) enum End<'a> {
    /// With a result, raw; `None` where the callee sent none.
    Answer(Option<&'a str>),
    /// With a fault.
    Fault(Cow<'a, Fault>),
    /// The module that made it went away.
    CallerGone,
}

/// What the operator may want to know.
pub(super) enum Note<'a> {
    /// A module registered.
    Registered { id: &'a str, version: &'a str, waits_for: Option<String> },
    /// A module was not let in.
    NotLetIn { id: &'a str, why: &'a Fault },
    /// Nor did it show the token for its id.
    TokenRefused { how: Refused },
    /// A module had not shown the token for its id, and another one has.
    GaveWay { id: &'a str },
    /// A module declared a function for the first time.
    Declared { id: &'a str, function: &'a str },
    /// Its dependencies are met.
    Activated { id: &'a str },
    /// A dependency went away.
    Deactivated { id: &'a str },
    /// A module's connection ended.
    Left { id: &'a str, calls: usize },
    /// A call was refused before it was routed: what it called, where that is known, and who made it.
    CallRefused { called: Option<&'a str>, caller: &'a Caller, fault: &'a Fault },
    /// Anything but a call was refused.
    RequestRefused { fault: &'a Fault },
    /// A line was no JSON, and does not tell what it was meant to be.
    Ignored { id: &'a str },
    /// An answer came when its call was over.
    Late,
    /// An answer could not be taken.
    NotTaken { id: &'a str, why: &'a Fault },
    /// A hook was not delivered to a listener.
    HookNotDelivered { id: &'a str, hook: &'a str, why: &'a Fault },
}

/// Whether the other side of a connection is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// As far as anybody knows.
    There,
    /// It has hung up, and what it said before is being served; or word of that may be on its way.
    Doubtful,
    /// It has hung up, and shall be waited for no longer.
    Gone,
}

/// Whether a line has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Dealt {
    /// It has.
    Done,
    /// Nothing has been done about it: it is to be handed in again in a moment, before others of
    /// its session.
    Later,
    /// It is no JSON object, and its session no module's: that is to end, and nothing more to be read.
    Unfit,
}

/// What the hub does to the world.
pub(super) trait World {
    /// The way to a session.
    type Peer;
    /// What the world knows a call by.
    type Ticket;

    /// Sends a frame to a session.
    fn send(&mut self, to: &Self::Peer, frame: &OutgoingFrame<'_>);
    /// Sends a call to a session; false where so much waits for it already that it is not to be
    /// asked for more.
    fn call(&mut self, to: &Self::Peer, frame: &OutgoingFrame<'_>) -> bool;
    /// Takes a call back that was sent to a session; false where some of it may have left.
    fn recall(&mut self, from: &Self::Peer, id: CallId) -> bool;
    /// Makes a hook's line one that its listeners can share, where there is memory for it.
    fn hold(&mut self, line: Vec<u8>) -> Result<Bytes, Fault>;
    /// Sends a hook's line, which all of its listeners share.
    fn deliver(&mut self, to: &Self::Peer, line: &Bytes);
    /// A hook was triggered, whoever listens. `data` is a raw object.
    fn happened(&mut self, hook: &str, data: &str);
    /// Asks the routing table about a call that a module makes, which it may know again by a key.
    fn way(
        &mut self,
        name: &str,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
    ) -> Way<Self::Ticket>;
    /// Positional arguments of a call as an object, by the names that its row gives them; none
    /// where it gives no names.
    fn named(
        &self,
        ticket: &Self::Ticket,
        name: &str,
        array: &str,
    ) -> Result<Option<String>, Fault>;
    /// Carries a call out that leaves the hub, by its name and key; [`Hub::returned`] ends it.
    fn away(
        &mut self,
        from: &Self::Peer,
        id: CallId,
        call: (&str, Option<IdempotencyKey>),
        frame: &Frame<'_>,
    );
    /// A call is over. Every ticket comes back exactly once.
    fn ended(&mut self, ticket: Self::Ticket, name: &str, end: End<'_>);
    /// Whether the other side of a session is still there.
    fn presence(&self, peer: &Self::Peer) -> Presence;
    /// Finds out within seconds whether the other side of a session that seems to be there is. Who
    /// is there notices nothing.
    fn ask_after(&mut self, peer: &Self::Peer);
    /// The hub has forgotten a session whose other side is gone: its connection is to end.
    fn forgotten(&mut self, peer: &Self::Peer);
    /// [`Hub::expire`] wants to be called at that time.
    fn arm(&mut self, at: Instant);
    /// Something worth a log line or a count.
    fn note(&mut self, note: Note<'_>);
}

/// How many modules there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Connections that have not registered.
    pub(super) unregistered: usize,
    /// Modules whose dependencies are met.
    pub(super) active: usize,
    /// Modules that wait for a dependency.
    pub(super) waiting: usize,
}

/// The hub.
pub(super) struct Hub<P, T> {
    settings: Settings,
    /// Who has shown wrong tokens, and for which module.
    guesses: Guesses,
    sessions: Sessions<P>,
    /// The instances of each module, in the order in which they registered.
    modules: HashMap<Arc<str>, Vec<SessionId>>,
    /// Who listens to a hook, by its whole name.
    listeners: HashMap<Box<str>, Vec<SessionId>>,
    /// Who depends on a module.
    dependants: HashMap<Box<str>, Vec<SessionId>>,
    /// How many dependencies all modules have.
    dependencies: usize,
    calls: Calls<T>,
    /// When [`Hub::expire`] will be called.
    armed: Option<Instant>,
    /// Numbers the hooks that go out.
    serial: u64,
    registered: usize,
    active: usize,
    draining: bool,
}

impl<P, T> Hub<P, T> {
    /// A hub without modules.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            guesses: Guesses::new(),
            sessions: Sessions::new(),
            modules: HashMap::new(),
            listeners: HashMap::new(),
            dependants: HashMap::new(),
            dependencies: 0,
            calls: Calls::new(),
            armed: None,
            serial: 0,
            registered: 0,
            active: 0,
            draining: false,
        }
    }

    /// A line came from a session, without its end.
    pub(super) fn line<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        line: Line<'_>,
        now: Instant,
        world: &mut W,
    ) -> Dealt {
        match line {
            Line::Object(members) => return self.frame(from, &Frame::new(members), now, world),
            Line::Blank | Line::Broken(_) | Line::Other if self.sessions.module(from).is_none() => {
                return Dealt::Unfit;
            }
            Line::Blank => {}
            Line::Broken(head) => self.refuse_broken(from, &head, world),
            Line::Other => {
                let message = "a frame must be a JSON object";
                let refusal =
                    NumberedFault::new(number::UNKNOWN_REQUEST, FaultKind::InvalidRequest, message);
                self.refuse(from, UNDEFINED, &refusal, world);
            }
            Line::TooDeep(head) => {
                let limit = if head.is_answer() { REPLY_DEPTH } else { REQUEST_DEPTH };
                let message = format!("the line nests deeper than the limit of {limit} levels");
                let fault = Fault::not_sent(FaultKind::TooLarge, message);
                self.refuse_line(from, &head, fault, world);
            }
        }
        Dealt::Done
    }

    fn frame<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        now: Instant,
        world: &mut W,
    ) -> Dealt {
        let Ok(frame_type) = frame.frame_type() else {
            let message = "`type` is missing or no integer";
            let refusal =
                NumberedFault::new(number::UNKNOWN_REQUEST, FaultKind::InvalidRequest, message);
            self.refuse(from, UNDEFINED, &refusal, world);
            return Dealt::Done;
        };
        let request_id = match frame.request_id() {
            Some(id) if id.len() <= MAX_REQUEST_ID => id,
            unfit => {
                let message = match unfit {
                    Some(_) => format!("`requestId` is longer than {MAX_REQUEST_ID} bytes"),
                    None => "`requestId` is missing or no string".to_owned(),
                };
                let refusal = NumberedFault::new(
                    number::INVALID_REQUEST_ID,
                    FaultKind::InvalidRequest,
                    message,
                );
                self.refuse(from, UNDEFINED, &refusal, world);
                return Dealt::Done;
            }
        };
        let done = match frame_type {
            Some(FrameType::Call) => {
                if let Err(refusal) = self.call(from, frame, request_id, now, world) {
                    let called = requests::called(frame);
                    self.call_refused(from, called.as_deref(), &refusal.fault, world);
                    self.refuse_call(from, request_id, &refusal, world);
                }
                return Dealt::Done;
            }
            Some(FrameType::Answer) => self.answer(from, frame, request_id, world),
            Some(FrameType::Error) => self.callee_error(from, frame, request_id, world),
            Some(FrameType::Register) if self.holder_may_leave(from, frame, world) => {
                return Dealt::Later;
            }
            Some(FrameType::Register) => self.register(from, frame, request_id, world),
            Some(FrameType::Declare) => self.declare(from, frame, request_id, world),
            Some(FrameType::Listen) => self.listen(from, frame, request_id, world),
            Some(FrameType::Trigger) => self.trigger(from, frame, request_id, world),
            None => Err(NumberedFault::new(
                number::UNKNOWN_REQUEST,
                FaultKind::InvalidRequest,
                "no request of this `type` is known: a module may send 0, 1, 3, 4, 5, 7 and 9",
            )),
        };
        if let Err(refusal) = done {
            world.note(Note::RequestRefused { fault: &refusal.fault });
            self.refuse(from, request_id, &refusal, world);
        }
        Dealt::Done
    }

    /// How many modules there are.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            unregistered: self.sessions.len() - self.registered,
            active: self.active,
            waiting: self.registered - self.active,
        }
    }

    /// How many calls wait for their end.
    pub(super) fn waiting_calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether a session's module waits for answers to its own calls, and does nothing else: it serves
    /// nobody, and hears no hook.
    pub(super) fn is_owed(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| {
            let only_calls =
                |module: &Module| module.functions.is_empty() && module.hooks.is_empty();
            session.calls.made_count > 0 && session.module.as_deref().is_some_and(only_calls)
        })
    }

    /// From now on modules cannot register, and only those that owe an answer can make calls; calls
    /// under way get their answers.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// The ways to all connections.
    pub(super) fn peers(&self) -> impl Iterator<Item = &P> {
        self.sessions.in_order().into_iter().map(|(_, session)| &session.peer)
    }

    /// Takes a call out of the table.
    fn take(&mut self, id: CallId) -> Option<Ended<T>> {
        self.calls.remove(id, &mut self.sessions)
    }
}
