//! Folders and ports for the programs that a run starts.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::child::Guarded;

const START: Duration = Duration::from_secs(60);

/// A new folder for one program's files.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("genkan-bench-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until the program listens. A program that ends instead is an error that shows its log.
pub(crate) fn await_port(port: u16, process: &Guarded, folder: &Path) -> Result<()> {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if !process.lives() || begin.elapsed() > START {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            bail!("nothing came to listen on port {port}. What it said:\n{log}");
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
