//! What registered modules ask for: to declare, to listen, to trigger, to call.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio::time::Instant;

use super::super::wire::{CallId, Frame, Key, OutgoingFrame, Rest, number};
use super::callee::{Callee, is_word};
use super::calls::NewCall;
use super::sessions::Module;
use super::{End, Here, Hub, MAX_NAME, Note, NumberedFault, RAW_OUTSIDE, SessionId, Way, World};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};
use crate::idempotency_key::of_meta;
use crate::units::format_size;

/// What stands for arguments that are missing or no object (WIRE 3.3).
const EMPTY: &str = "{}";

/// The longest `module.function`, in bytes.
const LONGEST_CALLED: usize = 2 * MAX_NAME + 1;

/// A call that has found its way to this hub.
pub(super) struct Placed<'a> {
    pub(super) method: &'a str,
    /// The caller as the callee is told, a raw JSON string.
    pub(super) caller: &'a str,
    pub(super) arguments: &'a str,
    pub(super) rest: Rest<'a>,
}

impl<P, T> Hub<P, T> {
    /// The module of a session that may ask for things.
    pub(super) fn active_module(&self, session: SessionId) -> Option<&Module> {
        self.sessions.module(session).filter(|module| module.active)
    }

    fn require_active(&self, from: SessionId) -> Result<&Module, NumberedFault> {
        self.active_module(from).ok_or_else(|| {
            let message = match (self.sessions.module(from), self.waits_for(from)) {
                (Some(module), Some(dependency)) => {
                    format!("the module `{}` waits for {dependency}", module.id)
                }
                _ => "this connection has not registered a module".to_owned(),
            };
            NumberedFault::new(number::UNREGISTERED, FaultKind::AccessDenied, message)
        })
    }

    pub(super) fn declare<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        world: &mut W,
    ) -> Result<(), NumberedFault> {
        self.require_active(from)?;
        let function = name(frame, Key::Function, "function")?;
        let limit = self.settings.limits.functions;
        let Some(session) = self.sessions.get_mut(from) else { return Ok(()) };
        let Some(module) = session.module.as_deref_mut() else { return Ok(()) };
        let is_new = !module.functions.contains_key(&*function);
        remember(&mut module.functions, &function, limit, "functions")?;
        let raw = frame.raw(Key::Function).unwrap_or_default();
        world.send(&session.peer, &OutgoingFrame::Declared { request_id, function: raw });
        if is_new {
            world.note(Note::Declared { id: &module.id, function: &function });
        }
        Ok(())
    }

    pub(super) fn listen<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        world: &mut W,
    ) -> Result<(), NumberedFault> {
        self.require_active(from)?;
        let hook = name(frame, Key::Hook, "hook")?;
        let limit = self.settings.limits.hooks;
        let Some(session) = self.sessions.get_mut(from) else { return Ok(()) };
        let Some(module) = session.module.as_deref_mut() else { return Ok(()) };
        if remember(&mut module.hooks, &hook, limit, "hooks")? {
            self.listeners.entry(hook.as_ref().into()).or_default().push(from);
        }
        world.send(&session.peer, &OutgoingFrame::Listening { request_id });
        Ok(())
    }

    pub(super) fn trigger<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        world: &mut W,
    ) -> Result<(), NumberedFault> {
        let module = self.require_active(from)?;
        let hook = name(frame, Key::Hook, "hook")?;
        let whole = format!("{}.{hook}", module.id);
        self.emit(&whole, frame.object(Key::Data).unwrap_or(EMPTY), world);
        if let Some(session) = self.sessions.get(from) {
            world.send(&session.peer, &OutgoingFrame::Triggered { request_id });
        }
        Ok(())
    }

    /// Errors are those found before the routing table was asked.
    pub(super) fn call<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        now: Instant,
        world: &mut W,
    ) -> Result<(), NumberedFault> {
        let caller = self.require_active(from)?;
        let Some(name) = frame.text(Key::Function) else {
            let message = "`function` must be a string: \"module.function\"";
            return Err(no_text(frame, Key::Function, message));
        };
        check_length(&name, "function", LONGEST_CALLED)?;
        split(&name)?;
        let made = self.sessions.get(from).map_or(0, |session| session.calls.made_count);
        let limit = self.settings.limits.calls;
        if made >= limit {
            let message = format!(
                "`{}` waits for the answers of {limit} calls, its limit ([hub] max_calls)",
                caller.id
            );
            return Err(Fault::not_sent(FaultKind::Overloaded, message).into());
        }
        if self.draining && !self.owes_an_answer(from) {
            let message = "the hub is shutting down: it takes no new calls but those that answers \
                           need";
            return Err(Fault::not_sent(FaultKind::Unavailable, message).into());
        }
        let known = self.sessions.get(from).map_or(&Caller::NOBODY, |session| &session.caller);
        let key = match frame.meta().map_or(Ok(None), of_meta) {
            Ok(key) => key.map(|key| key.claimed_by(Some(&caller.id))),
            Err(fault) => return Err(NumberedFault::malformed(fault.message().to_owned())),
        };
        match world.way(&name, known, key.as_ref()) {
            Way::Refused(fault) => {
                self.refuse_call(from, request_id, &fault.into(), world);
                Ok(())
            }
            Way::Away(ticket) => {
                let (caller, name) = (Some(from), &*name);
                let new = NewCall { caller, callee: None, ticket, request_id, name, timeout: None };
                let id = self.calls.add(new, now, &mut self.sessions);
                if let Some(session) = self.sessions.get(from) {
                    world.away(&session.peer, id, (name, key), frame);
                }
                Ok(())
            }
            Way::Here(here) => {
                self.call_module(from, (frame, request_id, &name), here, now, world);
                Ok(())
            }
        }
    }

    /// Makes a call that a row sends to a module of this hub. `None` where it is over at once.
    pub(super) fn call_module<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        (frame, request_id, name): (&Frame<'_>, &str, &str),
        here: Here<T>,
        now: Instant,
        world: &mut W,
    ) -> Option<CallId> {
        let Here { service: renamed, method: renamed_method, timeout, ticket } = here;
        let (service, method) = name.rsplit_once('.').unwrap_or(("", name));
        let service = renamed.as_deref().unwrap_or(service);
        let method = renamed_method.as_deref().unwrap_or(method);
        let placed = self.choose(service, method, Some(from)).and_then(|callee| {
            Ok((callee, arguments(frame, |array| world.named(&ticket, name, array))?))
        });
        let (callee, arguments) = match placed {
            Ok((callee, arguments)) => (callee, arguments),
            Err(fault) => {
                world.ended(ticket, name, End::Fault(Cow::Borrowed(&fault)));
                self.refuse_call(from, request_id, &unknown(service, fault), world);
                return None;
            }
        };
        let callee = match callee {
            Callee::Builtin(function) => {
                let data = self.builtin(function, &arguments);
                world.ended(ticket, name, End::Answer(Some(&data)));
                self.send_answer(from, request_id, (&data, Rest::NONE), world);
                return None;
            }
            Callee::Module(module) => Some(module),
        };
        let new = NewCall { caller: Some(from), callee, ticket, request_id, name, timeout };
        let id = self.calls.add(new, now, &mut self.sessions);
        let caller = self.sessions.module(from).map_or("\"\"", |module| &*module.raw_id);
        let rest = Rest::of(frame, &OWN_KEYS_OF_A_CALL);
        let placed = Placed { method, caller, arguments: &arguments, rest };
        if let Err(fault) = self.send_call(id, &placed, world) {
            self.end_with_fault(id, fault, world);
            return None;
        }
        if let Some(timeout) = timeout {
            self.arm(now + timeout, world);
        }
        Some(id)
    }

    fn owes_an_answer(&self, module: SessionId) -> bool {
        self.sessions.get(module).is_some_and(|session| session.calls.taken_count > 0)
    }

    /// A call that comes from outside of the hub. The ticket comes back through
    /// [`World::ended`], at once where the call goes nowhere: then there is no id. Whoever made
    /// it watches its deadline, unless `timeout` is given.
    pub(in crate::protocol::juno) fn call_from_outside<W: World<Peer = P, Ticket = T>>(
        &mut self,
        call: &OutsideCall<'_>,
        ticket: T,
        now: Instant,
        world: &mut W,
    ) -> Option<CallId> {
        let module = match self.choose(call.service, call.method, None) {
            Ok(Callee::Module(module)) => module,
            Ok(Callee::Builtin(function)) => {
                let data = self.builtin(function, call.arguments);
                world.ended(ticket, call.name, End::Answer(Some(&data)));
                return None;
            }
            Err(fault) => {
                world.ended(ticket, call.name, End::Fault(Cow::Owned(fault)));
                return None;
            }
        };
        let new = NewCall {
            caller: None,
            callee: Some(module),
            ticket,
            request_id: "",
            name: call.name,
            timeout: call.timeout,
        };
        let id = self.calls.add(new, now, &mut self.sessions);
        let placed = Placed {
            method: call.method,
            caller: RAW_OUTSIDE,
            arguments: call.arguments,
            rest: call.rest,
        };
        if let Err(fault) = self.send_call(id, &placed, world) {
            self.end_with_fault(id, fault, world);
            return None;
        }
        if let Some(timeout) = call.timeout {
            self.arm(now + timeout, world);
        }
        Some(id)
    }

    /// Sends a call to its module; else why not.
    fn send_call<W: World<Peer = P, Ticket = T>>(
        &self,
        id: CallId,
        placed: &Placed<'_>,
        world: &mut W,
    ) -> Result<(), Fault> {
        let callee = self.calls.get(id).and_then(|waiting| waiting.callee);
        let Some(session) = callee.and_then(|callee| self.sessions.get(callee)) else {
            return Ok(());
        };
        let module = session.module.as_ref().map_or("", |module| &module.id);
        let Placed { method: function, caller, arguments, rest } = *placed;
        let frame = OutgoingFrame::Call { id, function, caller, arguments, rest };
        if !self.fits(&frame) {
            let message = format!(
                "the call is longer than the lines of {} that modules are sent ([hub] \
                 max_argument): it was not sent to `{module}`",
                format_size(self.settings.limits.argument)
            );
            return Err(Fault::not_sent(FaultKind::TooLarge, message));
        }
        if world.call(&session.peer, &frame) {
            return Ok(());
        }
        let message = format!(
            "the module `{module}` does not read: a quarter of what may wait for it does ([hub] \
             max_queue)"
        );
        Err(Fault::not_sent(FaultKind::Overloaded, message))
    }

    fn arm<W: World<Peer = P, Ticket = T>>(&mut self, deadline: Instant, world: &mut W) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            world.arm(deadline);
        }
    }
}

/// A call from outside of the hub.
pub(in crate::protocol::juno) struct OutsideCall<'a> {
    /// The module.
    pub(in crate::protocol::juno) service: &'a str,
    /// The function.
    pub(in crate::protocol::juno) method: &'a str,
    /// Both, for messages.
    pub(in crate::protocol::juno) name: &'a str,
    /// A raw object.
    pub(in crate::protocol::juno) arguments: &'a str,
    /// The hub ends the call after that long.
    pub(in crate::protocol::juno) timeout: Option<std::time::Duration>,
    /// What else the module is told.
    pub(in crate::protocol::juno) rest: Rest<'a>,
}

/// The keys of a call that are written anew; all others pass.
const OWN_KEYS_OF_A_CALL: [Key; 5] =
    [Key::Type, Key::RequestId, Key::Function, Key::Caller, Key::Arguments];

/// The arguments as a callee takes them: always an object.
fn arguments<'a>(
    frame: &Frame<'a>,
    named: impl FnOnce(&str) -> Result<Option<String>, Fault>,
) -> Result<Cow<'a, str>, Fault> {
    match frame.raw(Key::Arguments) {
        Some(object) if object.starts_with('{') => Ok(Cow::Borrowed(object)),
        Some(array) if array.starts_with('[') => {
            Ok(named(array)?.map_or(Cow::Borrowed(EMPTY), Cow::Owned))
        }
        _ => Ok(Cow::Borrowed(EMPTY)),
    }
}

/// A name such as `a.b.c` can be no module's function: Juno calls that an unknown function.
fn unknown(service: &str, fault: Fault) -> NumberedFault {
    let plain = service.chars().all(|char| is_word(char) || char == '-');
    if fault.kind() == FaultKind::UnknownService && !plain {
        return NumberedFault { number: number::UNKNOWN_FUNCTION, fault };
    }
    fault.into()
}

/// What a call calls, where that can be told.
pub(super) fn called<'a>(frame: &Frame<'a>) -> Option<Cow<'a, str>> {
    let name = frame.text(Key::Function).filter(|name| name.len() <= LONGEST_CALLED)?;
    split(&name).is_ok().then_some(name)
}

/// Splits at the last dot, as everywhere in Genkan.
fn split(name: &str) -> Result<(&str, &str), NumberedFault> {
    let malformed = || {
        let message = format!("`{name}` is no `module.function`");
        NumberedFault::from(Fault::not_sent(FaultKind::UnknownMethod, message))
    };
    let (service, method) = name.rsplit_once('.').ok_or_else(malformed)?;
    if method.is_empty() {
        return Err(malformed());
    }
    if service.is_empty() {
        let message = format!("`{name}` names no module");
        return Err(Fault::not_sent(FaultKind::UnknownService, message).into());
    }
    Ok((service, method))
}

pub(super) fn name<'a>(
    frame: &Frame<'a>,
    key: Key,
    word: &str,
) -> Result<Cow<'a, str>, NumberedFault> {
    let name = frame.text(key).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        no_text(frame, key, &format!("`{word}` must be a string that is not empty"))
    })?;
    check_length(&name, word, MAX_NAME)?;
    Ok(name)
}

/// Why the value of a key is no name: it may be a string that stands for no text.
fn no_text(frame: &Frame<'_>, key: Key, message: &str) -> NumberedFault {
    let is_string = frame.raw(key).is_some_and(|raw| raw.len() > 2 && raw.starts_with('"'));
    let reason =
        if is_string { ", and no half of a surrogate pair (\\ud800) may be in it" } else { "" };
    NumberedFault::malformed(format!("{message}{reason}"))
}

/// What a module calls things is remembered, sent back in messages, and logged.
pub(super) fn check_length(text: &str, word: &str, limit: usize) -> Result<(), NumberedFault> {
    if text.len() > limit {
        let message = format!("`{word}` is longer than the limit of {limit} bytes");
        return Err(Fault::not_sent(FaultKind::TooLarge, message).into());
    }
    Ok(())
}

/// Whether the name is new; an error where it would be one too many.
fn remember(
    names: &mut HashMap<Box<str>, usize>,
    name: &str,
    limit: usize,
    what: &str,
) -> Result<bool, NumberedFault> {
    if names.contains_key(name) {
        return Ok(false);
    }
    if names.len() >= limit {
        let message = format!("a module has at most {limit} {what} ([hub] max_{what})");
        return Err(Fault::not_sent(FaultKind::TooLarge, message).into());
    }
    names.insert(name.into(), names.len());
    Ok(true)
}
