//! A service in a process of its own, which tells in its log what it sees.

use std::process::Command;

use serde_json::Value;
use serde_json::value::RawValue;

use super::cases::{Context, Sight};
use super::services::{Sights, nats_context};
use crate::harness::Nats;
use crate::harness::process::{Folder, Process, installed, project, touch};

/// The service.
pub struct Program {
    process: Process,
    _folder: Folder,
    ready: &'static str,
}

impl Program {
    pub fn nameko(url: &str) -> Self {
        let mut command = Command::new(installed("nameko2/bin/nameko"));
        command.args(["run", "mesh_nameko", "--broker", url]);
        command.current_dir(project().join("tests/services"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
        Self::start(&command, "Connected to amqp")
    }

    pub fn node(kind: &str, nats: &Nats) -> Self {
        let mut command = Command::new("node");
        let packages = if kind == "nest" { "nest/node_modules" } else { "node/node_modules" };
        command.env("NODE_PATH", installed(packages)).env("NATS_URL", nats.url());
        command.arg(project().join("tests/services/mesh_service.js")).arg(kind);
        Self::start(&command, "ready")
    }

    fn start(command: &Command, ready: &'static str) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("service.log");
        touch(&log);
        let process = Process::start(command, Some(&log));
        Self { process, _folder: folder, ready }
    }

    /// Waits until it is there.
    pub fn wait(&self) {
        self.process.wait_for_log(self.ready);
    }

    /// How many calls it has seen.
    pub fn count(&self) -> usize {
        self.process.log().matches("\nseen {").count()
    }

    /// What it has seen, each with the cell's id.
    pub fn seen(&self) -> Vec<(String, Sight)> {
        #[derive(serde::Deserialize)]
        struct Entry {
            method: String,
            params: Box<RawValue>,
            context: Value,
        }
        let (log, all) = (self.process.log(), Sights::default());
        // The last line may still be on its way.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        for line in whole.lines().filter_map(|line| line.strip_prefix("seen ")) {
            let entry: Entry = serde_json::from_str(line).expect("JSON");
            all.add(&entry.method, entry.params.get(), context(&entry.context));
        }
        all.take()
    }
}

/// What a service of Nameko's, or one of JavaScript's, tells of a call's context.
fn context(said: &Value) -> Context {
    // What is not there is an empty text to JavaScript's.
    let text =
        |name: &str| said[name].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let Some(left) = said.get("left") else { return nats_context(text) };
    Context {
        request_id: text("request_id"),
        language: text("language"),
        trace: text("traceparent"),
        millis: left.as_u64(),
    }
}
