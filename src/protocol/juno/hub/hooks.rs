//! Hooks on their way to those who listen to them.

use super::super::wire::OutgoingFrame;
use super::super::wire::outgoing::quoted;
use super::{Hub, Note, SessionId, World};
use crate::fault::{Fault, FaultKind};
use crate::units::format_size;

impl<P, T> Hub<P, T> {
    /// Sends a hook to its listeners that was triggered elsewhere. `hook` is its whole name, `data` a
    /// raw object.
    pub(in crate::protocol::juno) fn bring<W: World<Peer = P, Ticket = T>>(
        &mut self,
        hook: &str,
        data: &str,
        world: &mut W,
    ) {
        self.emit(hook, data, world);
    }

    /// Sends a hook to its listeners. `hook` is its whole name, `data` a raw object.
    pub(super) fn emit<W: World<Peer = P, Ticket = T>>(
        &mut self,
        hook: &str,
        data: &str,
        world: &mut W,
    ) {
        world.happened(hook, data);
        let Some(listeners) = self.listeners.get(hook) else { return };
        self.serial += 1;
        let mut line = Vec::with_capacity(hook.len() + data.len() + 64);
        OutgoingFrame::Hook { serial: self.serial, hook: &quoted(hook), data }.write(&mut line);
        let limit = self.settings.limits.argument;
        let line = if line.len() <= limit {
            world.hold(line)
        } else {
            let message = format!(
                "its line is longer than those of {} that modules are sent ([hub] max_argument)",
                format_size(limit)
            );
            Err(Fault::not_sent(FaultKind::TooLarge, message))
        };
        for listener in listeners {
            let Some(session) = self.sessions.get(*listener) else { continue };
            let Some(module) = session.module.as_deref().filter(|module| module.active) else {
                continue;
            };
            match &line {
                Ok(line) => world.deliver(&session.peer, line),
                Err(why) => world.note(Note::HookNotDelivered { id: &module.id, hook, why }),
            }
        }
    }

    /// Sends one of the hooks that a module gets whether it listens or not.
    pub(super) fn force<W: World<Peer = P, Ticket = T>>(
        &mut self,
        to: SessionId,
        hook: &str,
        world: &mut W,
    ) {
        self.serial += 1;
        if let Some(session) = self.sessions.get(to) {
            let frame = OutgoingFrame::Hook { serial: self.serial, hook, data: "{}" };
            world.send(&session.peer, &frame);
        }
    }
}
