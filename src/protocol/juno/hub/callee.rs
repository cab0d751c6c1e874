//! Who a call goes to: a function of the hub's own, or one of a module's instances.

use super::super::version::Range;
use super::sessions::Module;
use super::{Hub, JUNO, SessionId, builtin};
use crate::fault::{Fault, FaultKind};

/// Where a call of this hub goes.
pub(super) enum Callee {
    Builtin(builtin::Function),
    Module(SessionId),
}

impl<P, T> Hub<P, T> {
    /// Whether a call from outside would find somebody; else the fault that it would end with.
    pub(in crate::protocol::juno) fn serves(
        &self,
        service: &str,
        method: &str,
    ) -> Result<(), Fault> {
        self.choose(service, method, None).map(|_| ())
    }

    /// The instance that a call goes to: of those that have the function and a version that the
    /// caller can use, the least busy, and of several the one that was called least recently.
    pub(super) fn choose(
        &self,
        service: &str,
        method: &str,
        caller: Option<SessionId>,
    ) -> Result<Callee, Fault> {
        if service == JUNO {
            return builtin::Function::named(method)
                .map(Callee::Builtin)
                .ok_or_else(|| self.unknown_function(service, method));
        }
        let Some(instances) = self.modules.get(service) else {
            return Err(self.unknown_module(service, method));
        };
        let mut active = instances
            .iter()
            .filter_map(|id| Some((*id, self.sessions.get(*id)?)))
            .filter(|(_, session)| session.is_active())
            .peekable();
        if active.peek().is_none() {
            let waits_for = instances.first().and_then(|id| self.waits_for(*id));
            let waits_for = waits_for.unwrap_or_else(|| "a dependency".to_owned());
            let message = format!("the module `{service}` is connected and waits for {waits_for}");
            return Err(Fault::not_sent(FaultKind::Unavailable, message));
        }
        // One instance alone fits, or its caller would not be active.
        let several = instances.len() > 1;
        let range = caller.filter(|_| several).and_then(|caller| self.range_of(caller, service));
        let serves = |module: &Module| {
            module.functions.contains_key(method)
                && range.is_none_or(|range| range.fits(&module.version))
        };
        let (id, session) = active
            .filter(|(_, session)| {
                is_callable(method) && session.module.as_deref().is_some_and(serves)
            })
            .min_by_key(|(_, session)| (session.calls.taken_count, session.calls.last_taken))
            .ok_or_else(|| self.unknown_function(service, method))?;
        let limit = self.settings.limits.calls;
        if session.calls.taken_count >= limit {
            let message = format!(
                "the module `{service}` has {limit} calls to answer, its limit ([hub] max_calls)"
            );
            return Err(Fault::not_sent(FaultKind::Overloaded, message));
        }
        Ok(Callee::Module(id))
    }

    /// The versions of a module that another one said it can use.
    fn range_of(&self, caller: SessionId, service: &str) -> Option<&Range> {
        let dependencies = &self.sessions.module(caller)?.dependencies;
        let dependency = dependencies.iter().find(|dependency| &*dependency.id == service);
        dependency.map(|dependency| &dependency.range)
    }

    fn unknown_module(&self, service: &str, method: &str) -> Fault {
        // Where the dots are the function's, the module is what stands before the first of them.
        if let Some((module, rest)) = service.split_once('.') {
            let function = format!("{rest}.{method}");
            if self.declares(module, &function) {
                return uncallable(module, &function);
            }
        }
        let message = format!(
            "nobody serves `{service}`: no [[routes]] row sends `{service}.{method}` to another \
             upstream, and no module `{service}` is connected to the hub"
        );
        Fault::not_sent(FaultKind::UnknownService, message)
    }

    fn unknown_function(&self, service: &str, method: &str) -> Fault {
        if !is_callable(method) && self.declares(service, method) {
            return uncallable(service, method);
        }
        let message = format!("the module `{service}` has declared no function `{method}`");
        Fault::not_sent(FaultKind::UnknownMethod, message)
    }

    fn declares(&self, module: &str, function: &str) -> bool {
        let mut instances = self.modules.get(module).into_iter().flatten();
        instances.any(|id| {
            let module = self.sessions.module(*id);
            module.is_some_and(|module| module.functions.contains_key(function))
        })
    }
}

fn uncallable(module: &str, function: &str) -> Fault {
    let message = format!(
        "the module `{module}` has declared `{function}`, which no call can name: declare it by a name \
         of letters, digits and `_` alone"
    );
    Fault::not_sent(FaultKind::UnknownMethod, message)
}

/// Functions of any name can be declared; these can be called (WIRE 3.3).
pub(in crate::protocol::juno) fn is_callable(function: &str) -> bool {
    !function.is_empty() && function.chars().all(is_word)
}

pub(super) fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}
