//! Lines on their way to standard error.
//!
//! Whoever logs must not wait for whoever reads: a pipe that nobody reads would stop every call,
//! the pages for operators and the end of the process. So a thread of its own writes, out of a
//! buffer with a limit. What does not fit is lost, and counted; the thread says so when it can
//! write again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::metrics;

/// The most bytes that wait, beside as many that are being written.
const MOST: usize = 1 << 20;
/// A buffer that has grown beyond this is not kept.
const KEPT: usize = 64 << 10;
/// How soon to try again where standard error was made not to block, by whoever shares it.
const PAUSE: Duration = Duration::from_millis(10);

/// A handle to the queue.
#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines that did not fit, and of which nobody knows yet.
    lost: u64,
    /// The thread waits for lines.
    idle: bool,
    thread: Option<ThreadId>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }

    /// Puts a line in. The thread's own always fit: they say how many were lost.
    fn put(&mut self, line: &[u8]) -> bool {
        let fits = self.lines.len() + line.len() <= MOST;
        if fits || self.thread == Some(thread::current().id()) {
            self.lines.extend_from_slice(line);
            return true;
        }
        self.lost += 1;
        false
    }
}

impl Queue {
    /// Starts the thread that writes to standard error.
    pub(super) fn start() -> io::Result<Self> {
        // Not `io::stderr()`, whose lock would make others wait for it.
        let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let queue = Self(Arc::default());
        let shared = Arc::clone(&queue.0);
        thread::Builder::new().name("genkan-log".to_owned()).spawn(move || shared.write_to(out))?;
        Ok(queue)
    }

    /// Waits until everything is written, at most `patience`. False where it is not: nobody reads.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let unwritten = |state: &mut State| !state.idle || !state.is_empty();
        let waited = self.0.written.wait_timeout_while(self.0.lock(), patience, unwritten);
        let (_state, ended) = waited.unwrap_or_else(PoisonError::into_inner);
        !ended.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write) {
        self.lock().thread = Some(thread::current().id());
        let mut lines = Vec::new();
        loop {
            let lost = {
                let mut state = self.lock();
                state.idle = true;
                self.written.notify_all();
                let filled = self.filled.wait_while(state, |state| state.is_empty());
                let mut state = filled.unwrap_or_else(PoisonError::into_inner);
                state.idle = false;
                std::mem::swap(&mut lines, &mut state.lines);
                std::mem::take(&mut state.lost)
            };
            write_all(&mut out, &lines);
            lines.clear();
            lines.shrink_to(KEPT);
            if lost > 0 {
                warn!(lost, "lines of the log are lost: nobody read those before them in time");
            }
        }
    }
}

/// Where there is nobody to read any more, what is written is lost: there is nowhere to say it.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// Takes one line.
pub(super) struct Line<'a>(&'a Shared);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (kept, idle) = {
            let mut state = self.0.lock();
            (state.put(line), state.idle)
        };
        if idle {
            self.0.filled.notify_one();
        }
        if !kept {
            metrics::log_line_lost();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
