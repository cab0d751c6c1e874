//! What the hub shows of its modules: to modules through `juno.listModules`, to operators on the
//! admin page and in `genkan modules`.

use std::collections::HashMap;

use super::sessions::{Module, Session};
use super::{Hub, JUNO, JUNO_VERSION};

/// A module as it can be seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::juno) struct ModuleView {
    /// Its id.
    pub(in crate::protocol::juno) id: String,
    /// Its version.
    pub(in crate::protocol::juno) version: String,
    /// The number of its connection; the hub itself is 0.
    pub(in crate::protocol::juno) connection: u64,
    /// Whether its dependencies are met.
    pub(in crate::protocol::juno) active: bool,
    /// Its functions, in the order in which it declared them.
    pub(in crate::protocol::juno) functions: Vec<String>,
    /// The hooks that it listens to, likewise.
    pub(in crate::protocol::juno) hooks: Vec<String>,
    /// What it needs.
    pub(in crate::protocol::juno) dependencies: Vec<DependencyView>,
    /// How many calls it has to answer.
    pub(in crate::protocol::juno) calls_taken: usize,
    /// How many answers it waits for.
    pub(in crate::protocol::juno) calls_made: usize,
}

/// A module's dependency as it can be seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::juno) struct DependencyView {
    /// The module that it needs.
    pub(in crate::protocol::juno) id: String,
    /// The versions that will do.
    pub(in crate::protocol::juno) range: String,
    /// Whether an active module meets it.
    pub(in crate::protocol::juno) met: bool,
}

impl<P, T> Hub<P, T> {
    /// The modules in the order of their connections, the hub itself left out.
    pub(in crate::protocol::juno) fn modules(&self) -> Vec<ModuleView> {
        let sessions = self.sessions.in_order();
        let views = sessions.into_iter().filter_map(|(_, session)| {
            session.module.as_deref().map(|module| self.view(session, module))
        });
        views.collect()
    }

    /// The id of the module on a connection.
    pub(in crate::protocol::juno) fn module_id(&self, session: super::SessionId) -> Option<String> {
        self.sessions.module(session).map(|module| module.id.to_string())
    }

    /// The first instance of a module.
    pub(super) fn module_view(&self, id: &str) -> Option<ModuleView> {
        if id == JUNO {
            return Some(hub_itself());
        }
        let session = self.sessions.get(*self.modules.get(id)?.first()?)?;
        session.module.as_deref().map(|module| self.view(session, module))
    }

    fn view(&self, session: &Session<P>, module: &Module) -> ModuleView {
        let dependencies = module.dependencies.iter().map(|dependency| DependencyView {
            id: dependency.id.to_string(),
            range: dependency.text.to_string(),
            met: dependency.active > 0,
        });
        ModuleView {
            id: module.id.to_string(),
            version: module.version.to_string(),
            connection: session.number,
            active: module.active,
            functions: in_order(&module.functions),
            hooks: in_order(&module.hooks),
            dependencies: dependencies.collect(),
            calls_taken: session.calls.taken_count,
            calls_made: session.calls.made_count,
        }
    }
}

/// The hub, as `juno.listModules` shows it.
pub(super) fn hub_itself() -> ModuleView {
    ModuleView {
        id: JUNO.to_owned(),
        version: JUNO_VERSION.to_owned(),
        connection: 0,
        active: true,
        functions: super::builtin::Function::NAMES.map(str::to_owned).to_vec(),
        hooks: Vec::new(),
        dependencies: Vec::new(),
        calls_taken: 0,
        calls_made: 0,
    }
}

fn in_order(names: &HashMap<Box<str>, usize>) -> Vec<String> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort_by_key(|(_, order)| **order);
    names.into_iter().map(|(name, _)| name.to_string()).collect()
}
