//! Child processes that cannot outlive the tests, and what they stand on: folders and ports.
//!
//! Every process runs below a small shell that reads from a pipe. The pipe's other end is here:
//! when this process drops it, or dies by whatever means, the shell kills the group and removes
//! the folder. Nothing here waits longer than a deadline.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file below the project that `scripts/setup` installs.
pub fn installed(path: &str) -> PathBuf {
    let path = project().join(".genkan").join(path);
    assert!(path.exists(), "{} is not there: run `make setup`", path.display());
    path
}

/// A program of the system, also where only root's PATH has it.
pub fn program(name: &str, folders: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path);
    let found = folders.iter().map(PathBuf::from).chain(on_path).map(|folder| folder.join(name));
    let mut found = found.filter(|file| file.is_file());
    found.next().unwrap_or_else(|| panic!("`{name}` is not installed: run `make setup`"))
}

/// A folder of its own, removed when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a folder below target/tmp");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file in the folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A port that nothing listens on. Below the range that the system gives to outgoing
/// connections: a broker that is down for a while must find its port free again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(61);
    for _ in 0..20_000 {
        let step = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(step % 20_000).expect("below 20,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from 12000 to 31999");
}

/// What the wrapping shell runs: $1 is the folder to remove, $2 the log (or `-`), then the command.
const WRAPPER: &str = r#"
folder=$1 log=$2; shift 2
{
    if [ "$log" = - ]; then "$@" >/dev/null & else "$@" >"$log" 2>&1 & fi
    echo "pid $!"; wait $!; echo "exit $?"
} &
read -r _
exec setsid sh -c 'kill -KILL "-$1"; sleep 0.2; [ -z "$2" ] || rm -rf "$2"' sh $$ "$folder"
"#;

#[derive(Default)]
struct Status {
    pid: Option<u32>,
    exit: Option<i32>,
}

/// A process below the shell.
pub struct Process {
    name: String,
    shell: Child,
    stdin: Option<ChildStdin>,
    status: Arc<(Mutex<Status>, Condvar)>,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts a command. Its output goes to `log`; without one, standard error is handed out by
    /// [`Process::stderr`].
    pub fn start(command: &Command, log: Option<&Path>) -> Self {
        Self::start_in(command, log, None)
    }

    /// The same; `folder` is removed when this process is gone.
    pub fn start_in(command: &Command, log: Option<&Path>, folder: Option<&Path>) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut shell = Command::new("sh");
        shell.args(["-c", WRAPPER, "sh"]);
        shell.arg(folder.unwrap_or(Path::new("")));
        shell.arg(log.unwrap_or(Path::new("-"))).arg(command.get_program());
        shell.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(place) = command.get_current_dir() {
            shell.current_dir(place);
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        shell.stderr(if log.is_some() { Stdio::null() } else { Stdio::piped() });
        let mut shell = shell.process_group(0).spawn().expect("sh starts");
        let stdin = shell.stdin.take();
        let status = Arc::new((Mutex::new(Status::default()), Condvar::new()));
        let lines = BufReader::new(shell.stdout.take().expect("piped")).lines();
        let seen = Arc::clone(&status);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let (word, number) = line.split_once(' ').expect("a word and a number");
                let mut status = seen.0.lock().unwrap();
                match word {
                    "pid" => status.pid = number.parse().ok(),
                    _ => status.exit = number.parse().ok(),
                }
                seen.1.notify_all();
            }
        });
        Self { name, shell, stdin, status, log: log.map(Path::to_path_buf) }
    }

    /// Standard error, where there is no log.
    pub fn stderr(&mut self) -> ChildStderr {
        self.shell.stderr.take().expect("asked for once, and started without a log")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.wait_for("a process id", PATIENCE, |status| status.pid)
    }

    /// The exit status, if it has ended: 128 + N where signal N ended it.
    pub fn exited(&self) -> Option<i32> {
        self.status.0.lock().unwrap().exit
    }

    /// Waits for the end.
    pub fn wait(&self, patience: Duration) -> i32 {
        self.wait_for("its end", patience, |status| status.exit)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.pid());
        let status = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
        drop(status);
    }

    /// The log so far.
    pub fn log(&self) -> String {
        let read = self.log.as_ref().map(std::fs::read);
        String::from_utf8_lossy(&read.and_then(Result::ok).unwrap_or_default()).into_owned()
    }

    /// Waits until the log holds `text`.
    pub fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            let ended = self.exited();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "{} did not say `{text}` (exit: {ended:?}). Its log:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for<T>(&self, what: &str, patience: Duration, get: impl Fn(&Status) -> Option<T>) -> T {
        let status = self.status.0.lock().unwrap();
        let waiting = |status: &mut Status| get(status).is_none();
        let (status, _) = self.status.1.wait_timeout_while(status, patience, waiting).unwrap();
        get(&status).unwrap_or_else(|| panic!("{}: no {what} within {patience:?}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.shell.wait());
    }
}

/// Runs a command to its end: exit status, standard output, standard error.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Makes an empty file, for logs that are looked at before the process has opened them.
pub fn touch(path: &Path) {
    drop(File::create(path).expect("a file"));
}

/// Builds a package that has a target folder and a lock file of its own: what it is made of must not
/// meet Genkan's dependencies.
pub fn build(package: &str, binary: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(binary);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--manifest-path"]);
    cargo.arg(project().join(package).join("Cargo.toml")).arg("--target-dir").arg(&target);
    let (status, _, said) = run(&mut cargo);
    assert_eq!(status, 0, "cargo could not build {package}:\n{said}");
    target.join("debug").join(binary)
}
