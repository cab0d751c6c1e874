//! The outside of what a run starts: copies of this program with a role, and foreign programs
//! (brokers, the gateway) under a shell that ends them when its standard input closes. Either
//! way they go when this program goes, by Ctrl-C, a panic or a kill.
//!
//! Each has a process group of its own: Ctrl-C reaches this program only, and the rest follows.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result, bail};

use super::role::{Answer, Command, PATIENCE, Run};

/// A started program with a line to it and back. Dropping it ends it.
struct Line {
    process: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Line {
    fn start(program: &mut Program) -> Result<Self> {
        let name = program.get_program().to_string_lossy().into_owned();
        let mut process = program
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = process.stdin.take();
        let stdout = process.stdout.take().context("a piped output is there")?;
        Ok(Self { process, input, output: lines(stdout) })
    }

    fn read(&self) -> Result<String> {
        self.output.recv_timeout(PATIENCE).context("it said nothing, or ended")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.process.wait() {
            eprintln!("a process may be left behind: {error}");
        }
    }
}

fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A copy of this program in a role.
pub(crate) struct Copy {
    name: String,
    line: Line,
    port: Option<u16>,
}

impl Copy {
    /// Starts the role and waits until it is ready.
    pub(crate) fn start(role: &[&str]) -> Result<Self> {
        let mut program = Program::new(std::env::current_exe()?);
        let name = role.first().copied().unwrap_or_default().to_owned();
        let line = Line::start(program.args(role))?;
        let mut copy = Self { name, line, port: None };
        match copy.answer()? {
            Answer::Ready(port) => copy.port = port,
            other => bail!("{} did not start: {other:?}", copy.name),
        }
        Ok(copy)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.line.process.id()
    }

    /// The port it serves on.
    pub(crate) fn port(&self) -> Result<u16> {
        self.port.with_context(|| format!("{} serves on no port", self.name))
    }

    /// Makes the sessions.
    pub(crate) fn open(&mut self, sessions: usize) -> Result<()> {
        self.tell(&Command::Open(sessions))?;
        self.done()
    }

    /// Makes calls and tells how they went.
    pub(crate) fn run(&mut self, calls: u64) -> Result<Run> {
        self.tell(&Command::Run(calls))?;
        match self.answer()? {
            Answer::Ran(run) => Ok(run),
            other => bail!("{}: {other:?}", self.name),
        }
    }

    /// Drops the sessions.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.tell(&Command::Close)?;
        self.done()
    }

    fn done(&self) -> Result<()> {
        match self.answer()? {
            Answer::Done => Ok(()),
            other => bail!("{}: {other:?}", self.name),
        }
    }

    fn tell(&mut self, command: &Command) -> Result<()> {
        let input = self.line.input.as_mut().context("its input is open until it is dropped")?;
        let mut text = serde_json::to_string(command)?;
        text.push('\n');
        input.write_all(text.as_bytes()).with_context(|| format!("{} has ended", self.name))
    }

    fn answer(&self) -> Result<Answer> {
        let text = self.line.read().with_context(|| self.name.clone())?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Runs `$START`, which sets `$main` (and `$more`) to process ids, until its input closes.
const GUARD: &str = r#"
eval "$START"
echo "$main"
cat >/dev/null
kill -s "${SIGNAL}" $main $more
tries=0
while kill -0 $main 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL $main 2>/dev/null
rm -rf "$FOLDER"
"#;

/// A foreign program. Its files live in a folder of its own that goes with it.
pub(crate) struct Guarded {
    line: Line,
    pid: u32,
}

impl Guarded {
    /// Starts what the shell text `start` says; it leaves the process id in `$main`. `signal` is
    /// how the program is ended.
    pub(crate) fn start(
        start: &str,
        signal: &str,
        folder: &Path,
        set: impl FnOnce(&mut Program) -> &mut Program,
    ) -> Result<Self> {
        let mut program = Program::new("sh");
        set(program.arg("-c").arg(GUARD))
            .env("START", start)
            .env("SIGNAL", signal)
            .env("FOLDER", folder);
        let line = Line::start(&mut program)?;
        let pid = line.read()?.trim().parse()?;
        Ok(Self { line, pid })
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the program still runs.
    pub(crate) fn lives(&self) -> bool {
        // A dead program stays listed until its shell ends, with a state that says so.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        self.line.input.is_some() && stat.is_ok_and(|stat| !stat.contains(") Z "))
    }
}
