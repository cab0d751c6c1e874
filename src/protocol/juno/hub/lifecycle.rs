//! Connections come and go, and with them what modules depend on.
//!
//! The active modules are always the largest set in which each one's dependencies are met from
//! within the set. So a circle of modules becomes active when its last member registers, and a
//! chain falls as far as it hung on the one that left.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use super::sessions::{Module, Need};
use super::{Hub, JUNO, Note, SessionId, World};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind, Outcome};

impl<P, T> Hub<P, T> {
    /// A connection was made.
    pub(in crate::protocol::juno) fn connect<W: World<Peer = P, Ticket = T>>(
        &mut self,
        peer: P,
        caller: Caller,
        world: &mut W,
    ) -> SessionId {
        let id = self.sessions.add(peer, caller);
        let number = self.sessions.get(id).map_or(0, |session| session.number);
        let data = format!("{{\"connectionId\":\"{number}\"}}");
        self.emit("juno.moduleConnected", &data, world);
        id
    }

    /// A connection ended: its calls end, and whoever depended on its module is told.
    pub(in crate::protocol::juno) fn disconnect<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: SessionId,
        world: &mut W,
    ) {
        let calls = self.end_calls_of(id, world);
        let Some(session) = self.sessions.remove(id) else { return };
        if let Some(module) = &session.module {
            self.registered -= 1;
            self.active -= usize::from(module.active);
            self.forget_names(id, module);
            self.count((&module.id, &module.version), Need::Registered, false);
            if module.active {
                self.count((&module.id, &module.version), Need::Active, false);
            }
            world.note(Note::Left { id: &module.id, calls });
            if module.active {
                self.fall(Arc::clone(&module.id), world);
            }
        }
        let data = format!("{{\"connectionId\":\"{}\"}}", session.number);
        self.emit("juno.moduleDisconnected", &data, world);
    }

    /// How many calls to the module this ended.
    fn end_calls_of<W: World<Peer = P, Ticket = T>>(
        &mut self,
        id: SessionId,
        world: &mut W,
    ) -> usize {
        let mut ended = 0;
        while let Some(call) =
            self.sessions.get(id).and_then(|session| self.calls.first_made(&session.calls))
        {
            self.end_without_caller(call, world);
        }
        while let Some(call) =
            self.sessions.get(id).and_then(|session| self.calls.first_taken(&session.calls))
        {
            ended += 1;
            let module = self.sessions.module(id).map_or(JUNO, |module| &module.id);
            let fault = if self.recall(call, world) {
                let message =
                    format!("the module `{module}` disconnected: the call was not sent to it");
                Fault::not_sent(FaultKind::Unavailable, message)
            } else {
                let message = format!(
                    "the module `{module}` disconnected before it answered: the call may have run"
                );
                Fault::new(FaultKind::Unavailable, Outcome::Unknown, message)
            };
            self.end_with_fault(call, fault, world);
        }
        ended
    }

    fn forget_names(&mut self, id: SessionId, module: &Module) {
        remove_from(&mut self.modules, &module.id, id);
        for hook in module.hooks.keys() {
            remove_from(&mut self.listeners, hook, id);
        }
        self.dependencies -= module.dependencies.len();
        for dependency in &module.dependencies {
            remove_from(&mut self.dependants, &dependency.id, id);
        }
    }

    /// Makes modules active.
    pub(super) fn raise<W: World<Peer = P, Ticket = T>>(
        &mut self,
        risen: Vec<SessionId>,
        world: &mut W,
    ) {
        let mut appeared = Vec::new();
        for session in &risen {
            let Some(id) = self.sessions.module(*session).map(|module| Arc::clone(&module.id))
            else {
                continue;
            };
            if !self.has_active(&id) {
                appeared.push(Arc::clone(&id));
            }
            self.set_active(*session, true);
            world.note(Note::Activated { id: &id });
        }
        for session in risen {
            self.force(session, "\"juno.activated\"", world);
        }
        for id in appeared {
            self.emit_module("juno.moduleActivated", &id, world);
        }
    }

    /// A module went away: those that cannot do without it become inactive, and so on. Who
    /// listens is told of them alone, as the real daemon does: the one that went away is told of
    /// as a connection.
    fn fall<W: World<Peer = P, Ticket = T>>(&mut self, gone: Arc<str>, world: &mut W) {
        let mut fallen = Vec::new();
        let (mut disappeared, mut seen) = (Vec::new(), HashSet::new());
        let mut ids = VecDeque::from([gone]);
        let mut is_dependant = false;
        while let Some(id) = ids.pop_front() {
            if std::mem::replace(&mut is_dependant, true)
                && !self.has_active(&id)
                && seen.insert(Arc::clone(&id))
            {
                disappeared.push(Arc::clone(&id));
            }
            let dependants = self.dependants.get(&*id).cloned().unwrap_or_default();
            for dependant in dependants {
                let Some(module) = self.sessions.module(dependant) else { continue };
                if module.active && module.unmet > 0 {
                    ids.push_back(Arc::clone(&module.id));
                    world.note(Note::Deactivated { id: &module.id });
                    self.set_active(dependant, false);
                    fallen.push(dependant);
                }
            }
        }
        for session in fallen {
            self.force(session, "\"juno.deactivated\"", world);
        }
        for id in disappeared {
            self.emit_module("juno.moduleDeactivated", &id, world);
        }
    }

    pub(in crate::protocol::juno) fn has_active(&self, id: &str) -> bool {
        let mut instances = self.modules.get(id).into_iter().flatten();
        instances.any(|id| self.sessions.module(*id).is_some_and(|module| module.active))
    }

    fn set_active(&mut self, session: SessionId, active: bool) {
        if let Some(module) = self.sessions.module_mut(session)
            && module.active != active
        {
            module.active = active;
            let (id, version) = (Arc::clone(&module.id), module.version.clone());
            if active {
                self.active += 1;
            } else {
                self.active -= 1;
            }
            self.count((&id, &version), Need::Active, active);
        }
    }

    fn emit_module<W: World<Peer = P, Ticket = T>>(&mut self, hook: &str, id: &str, world: &mut W) {
        if self.listeners.contains_key(hook) {
            let data = format!("{{\"moduleId\":{}}}", super::quoted(id));
            self.emit(hook, &data, world);
        }
    }
}

fn remove_from<K>(map: &mut HashMap<K, Vec<SessionId>>, key: &str, session: SessionId)
where
    K: Borrow<str> + Hash + Eq,
{
    if let Some(sessions) = map.get_mut(key) {
        sessions.retain(|other| *other != session);
        if sessions.is_empty() {
            map.remove(key);
        }
    }
}
