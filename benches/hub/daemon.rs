//! A Juno daemon of the user's, measured beside the hub where its program is named.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::support::child::Guarded;
use crate::support::place::{await_port, folder, free_port};

/// A running daemon.
pub(super) struct Daemon {
    process: Guarded,
    /// Where modules reach it.
    pub(super) address: SocketAddr,
}

impl Daemon {
    /// Starts it on a free port.
    pub(super) fn start(program: &Path) -> Result<Self> {
        ensure!(program.is_file(), "--juno: there is no program {}", program.display());
        let (folder, port) = (folder("juno")?, free_port()?);
        let start = r#""$PROGRAM" --port "$PORT" >"$FOLDER/log" 2>&1 & main=$!"#;
        let process = Guarded::start(start, "KILL", &folder, |command| {
            command.env("PROGRAM", program).env("PORT", port.to_string())
        })?;
        await_port(port, &process, &folder)?;
        Ok(Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    /// The daemon's process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }
}
