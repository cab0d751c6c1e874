//! The functions of the module `juno`, which the hub is itself (WIRE 3.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::view::{ModuleView, hub_itself};
use super::{Hub, JUNO};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    ListModules,
    GetModuleInfo,
}

impl Function {
    /// Their names, in the order in which the real daemon shows them.
    pub(super) const NAMES: [&'static str; 2] = ["listModules", "getModuleInfo"];

    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "listModules" => Some(Function::ListModules),
            "getModuleInfo" => Some(Function::GetModuleInfo),
            _ => None,
        }
    }
}

/// A module, in the real daemon's keys and their order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    connection_id: String,
    declared_functions: &'a [String],
    dependencies: BTreeMap<&'a str, &'a str>,
    module_id: &'a str,
    registered: bool,
    registered_hooks: &'a [String],
    version: &'a str,
}

impl<'a> Shown<'a> {
    fn new(view: &'a ModuleView) -> Self {
        let dependencies = view.dependencies.iter();
        Self {
            connection_id: view.connection.to_string(),
            declared_functions: &view.functions,
            dependencies: dependencies.map(|d| (d.id.as_str(), d.range.as_str())).collect(),
            module_id: &view.id,
            registered: view.active,
            registered_hooks: &view.hooks,
            version: &view.version,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    module_id: String,
}

impl<P, T> Hub<P, T> {
    /// The result of one of the hub's own functions.
    pub(super) fn builtin(&self, function: Function, arguments: &str) -> String {
        let json = match function {
            Function::ListModules => {
                let mut views = vec![hub_itself()];
                views.extend(self.modules());
                serde_json::to_string(&views.iter().map(Shown::new).collect::<Vec<_>>())
            }
            Function::GetModuleInfo => {
                let asked: Option<Asked> = serde_json::from_str(arguments).ok();
                let view = asked.and_then(|asked| self.module_view(&asked.module_id));
                serde_json::to_string(&view.as_ref().map(Shown::new))
            }
        };
        // Strings, lists and maps of strings can always be written.
        debug_assert!(json.is_ok(), "{JUNO}.{function:?}");
        json.unwrap_or_else(|_| "null".to_owned())
    }
}
