//! The gateway that is measured: the release binary that cargo built beside this bench, with a
//! configuration as short as an operator would write it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::child::Guarded;
use super::place::{await_port, folder, free_port};

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_genkan");
const READY: Duration = Duration::from_secs(60);
/// How long the whole of a page may take to come.
const PAGE: Duration = Duration::from_secs(30);

/// A running gateway.
pub(crate) struct Gateway {
    process: Guarded,
    /// Where calls go.
    pub(crate) address: SocketAddr,
    /// How long it took from its start until it was ready for calls.
    pub(crate) took: Duration,
    admin: u16,
}

impl Gateway {
    /// Starts it and waits until it says that it is ready. `rest` is its configuration beside the
    /// addresses that it serves HTTP on.
    pub(crate) fn start(name: &str, rest: &str) -> Result<Self> {
        let folder = folder(name)?;
        let (http, admin) = (free_port()?, free_port()?);
        let config = folder.join("genkan.toml");
        let listen = |section, port| format!("[{section}]\nlisten = \"127.0.0.1:{port}\"\n");
        fs::write(&config, listen("http", http) + &listen("admin", admin) + rest)?;
        let start = r#""$PROGRAM" serve --config "$CONFIG" >"$FOLDER/log" 2>&1 & main=$!"#;
        let begin = Instant::now();
        let process = Guarded::start(start, "TERM", &folder, |command| {
            command.env("PROGRAM", PROGRAM).env("CONFIG", &config)
        })?;
        await_port(admin, &process, &folder)?;
        await_ready(admin, &process, &folder)?;
        await_port(http, &process, &folder)?;
        let took = begin.elapsed();
        Ok(Self { process, address: SocketAddr::from(([127, 0, 0, 1], http)), took, admin })
    }

    /// A page of its administration: the body.
    pub(crate) fn admin_page(&self, path: &str) -> Result<String> {
        let answer = get(self.admin, path)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        Ok(body.to_owned())
    }

    /// The gateway's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn await_ready(admin: u16, process: &Guarded, folder: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        let answer = get(admin, "/readyz").unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        if !process.lives() || begin.elapsed() > READY {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            bail!("the gateway did not get ready: {answer}\nWhat it said:\n{log}");
        }
        sleep(Duration::from_millis(5));
    }
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PAGE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
