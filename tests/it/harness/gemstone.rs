//! Gemstone in three generations, unmodified: services that announce themselves, clients, and the
//! command line.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::process::{Folder, Process, free_port, installed, project, run};

/// A generation of Gemstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gemstone {
    /// 0.3.1: services announce themselves by host and port.
    Three,
    /// 0.9.0: clients ask for the specs first; services announce themselves by notifications.
    Nine,
    /// 0.12.0, the last.
    Twelve,
}

impl Gemstone {
    fn folder(self) -> PathBuf {
        installed(match self {
            Self::Three => "gemstone3/bin",
            Self::Nine => "gemstone9/bin",
            Self::Twelve => "gemstone12/bin",
        })
    }

    fn command(self, program: &str) -> Command {
        let mut command = Command::new(self.folder().join(program));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("PYTHONPATH", project().join("tests/services/tornado4"));
        command
    }

    /// A service of that name, which announces itself to a registry every second.
    pub fn service(self, name: &str, registry: &str) -> Announced {
        self.service_at(name, registry, free_port())
    }

    /// The same at a port.
    pub fn service_at(self, name: &str, registry: &str, port: u16) -> Announced {
        let folder = Folder::new();
        let log = folder.path().join("gemstone.log");
        std::fs::write(&log, "").expect("a file");
        let mut command = self.command("python");
        command.arg(project().join("tests/services/gemstone_announced.py"));
        command.args([name, &port.to_string(), registry]);
        let process = Process::start(&command, Some(&log));
        process.wait_for_log("ready");
        Announced { _process: process, _folder: folder, port }
    }

    /// Runs a script of a client's; the JSON that it prints.
    pub async fn client(self, script: &str, arguments: &[&str]) -> Value {
        let mut command = self.command("python");
        command.arg(project().join("tests/clients").join(script)).args(arguments);
        let script = script.to_owned();
        let ran = tokio::task::spawn_blocking(move || run(&mut command)).await;
        let (status, out, err) = ran.expect("no panic");
        assert_eq!(status, 0, "{script}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{script}: {error}: {out}{err}"))
    }

    /// Runs its command line: the status, and what it printed to both.
    pub async fn line(self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command("gemstone");
        command.args(arguments);
        tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic")
    }
}

/// A service that announces itself.
pub struct Announced {
    _process: Process,
    _folder: Folder,
    port: u16,
}

impl Announced {
    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port)
    }
}
