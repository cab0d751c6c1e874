//! The modules as the admin page and `genkan modules` show them.

use serde::Serialize;

use super::hub::{DependencyView, ModuleView, is_callable};
use super::shadow::{self, Shadow};
use super::shared::Shared;

#[derive(Serialize)]
struct Page<'a> {
    listen: &'a [String],
    active: usize,
    waiting: usize,
    unregistered: usize,
    modules: Vec<Module>,
}

#[derive(Serialize)]
struct Module {
    id: String,
    version: String,
    connection: u64,
    state: &'static str,
    functions: Vec<String>,
    /// What it has declared besides, by names that no call can have.
    uncallable: Vec<String>,
    hooks: Vec<String>,
    dependencies: Vec<Dependency>,
    /// What it waits for, as `module range`.
    unmet: Vec<String>,
    /// The names under which nobody will call it.
    shadowed: Vec<Shadow>,
    calls: Calls,
}

#[derive(Serialize)]
struct Dependency {
    id: String,
    range: String,
    met: bool,
}

#[derive(Serialize)]
struct Calls {
    /// Calls that it has to answer.
    to_answer: usize,
    /// Calls whose answer it waits for.
    awaited: usize,
}

/// The page.
pub(super) fn json(shared: &Shared, listen: &[String]) -> String {
    let (views, counts) = {
        let hub = shared.lock();
        (hub.modules(), hub.counts())
    };
    let table = shared.router().map(|router| router.table());
    let modules = views.into_iter().map(|view| {
        let callable = view.functions.iter().map(String::as_str).filter(|name| is_callable(name));
        let shadowed = table.as_ref().map(|table| shadow::of(table, &view.id, callable));
        module(view, shadowed.unwrap_or_default())
    });
    let (active, waiting, unregistered) = (counts.active, counts.waiting, counts.unregistered);
    let page = Page { listen, active, waiting, unregistered, modules: modules.collect() };
    let json = serde_json::to_string(&page);
    debug_assert!(json.is_ok(), "text and numbers can always be written");
    json.unwrap_or_default()
}

fn module(view: ModuleView, shadowed: Vec<Shadow>) -> Module {
    let unmet = view.dependencies.iter().filter(|dependency| !dependency.met);
    let (functions, uncallable) = view.functions.into_iter().partition(|name| is_callable(name));
    Module {
        unmet: unmet.map(|unmet| format!("{} {}", unmet.id, unmet.range)).collect(),
        id: view.id,
        version: view.version,
        connection: view.connection,
        state: if view.active { "active" } else { "waiting" },
        functions,
        uncallable,
        hooks: view.hooks,
        dependencies: view.dependencies.into_iter().map(Dependency::from).collect(),
        shadowed,
        calls: Calls { to_answer: view.calls_taken, awaited: view.calls_made },
    }
}

impl From<DependencyView> for Dependency {
    fn from(view: DependencyView) -> Self {
        Self { id: view.id, range: view.range, met: view.met }
    }
}
