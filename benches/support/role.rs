//! The inside of a started copy: it takes commands as JSON lines on standard input, answers each
//! with one line on standard output, and ends when its input does. So a copy never outlives the
//! program that started it, however that one ends.

use std::future::Future;
use std::io::{BufRead, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// How long one command may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a client is told to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Make that many sessions: connections, or callers that share one.
    Open(usize),
    /// Make that many calls, each session one at a time.
    Run(u64),
    /// Drop the sessions.
    Close,
}

/// What a copy says back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is up; a server listens on that port.
    Ready(Option<u16>),
    /// The command is done.
    Done,
    /// The calls are made.
    Ran(Run),
    /// The command, or the start, failed.
    Failed(String),
}

/// How a number of calls went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// How many.
    pub(crate) calls: u64,
    /// How long all of them took together.
    pub(crate) seconds: f64,
    /// Half of them took at most that many microseconds.
    pub(crate) p50: u32,
    /// All but one in a hundred took at most that many microseconds.
    pub(crate) p99: u32,
}

impl Run {
    /// Calls that were made since `start`, and how long each took.
    pub(crate) fn new(start: Instant, mut latencies: Vec<Duration>) -> Self {
        let seconds = start.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |share: usize| {
            let latency = latencies.get(latencies.len() * share / 100);
            latency.map_or(0, |latency| u32::try_from(latency.as_micros()).unwrap_or(u32::MAX))
        };
        Self { calls: latencies.len() as u64, seconds, p50: at(50), p99: at(99) }
    }
}

/// Who makes calls, one after the other.
pub(crate) trait Session: Send + Sized + 'static {
    /// Makes the call with this number and checks its answer.
    fn call(&mut self, number: u64) -> impl Future<Output = Result<()>> + Send;
}

/// Runs a server until standard input ends. `start` returns once it serves.
pub(crate) fn serve(start: impl Future<Output = Result<Option<u16>>>) -> Result<()> {
    let runtime = Runtime::new()?;
    match runtime.block_on(start) {
        Ok(port) => say(&Answer::Ready(port))?,
        Err(error) => return say(&Answer::Failed(format!("{error:#}"))),
    }
    for line in stdin().lock().lines() {
        line?;
    }
    Ok(())
}

/// What a client's tasks run on.
pub(crate) enum Threads {
    /// A thread a core, as the gateway's do.
    Default,
    /// One thread.
    One,
}

/// Runs a client until standard input ends. `connect` makes what sessions share, `open` one
/// session of it.
pub(crate) fn client<Shared, S: Session>(
    threads: Threads,
    connect: impl Future<Output = Result<Shared>>,
    open: impl AsyncFn(&Shared) -> Result<S>,
) -> Result<()> {
    let runtime = match threads {
        Threads::Default => Runtime::new()?,
        Threads::One => Builder::new_current_thread().enable_all().build()?,
    };
    let shared = match runtime.block_on(connect) {
        Ok(shared) => shared,
        Err(error) => return say(&Answer::Failed(format!("{error:#}"))),
    };
    let (mut sessions, mut made) = (Vec::new(), 0);
    take_orders(|command| runtime.block_on(obey(command, &shared, &open, &mut sessions, &mut made)))
}

/// Does what each line of standard input says, until there are no more.
pub(crate) fn take_orders(mut obey: impl FnMut(Command) -> Result<Answer>) -> Result<()> {
    say(&Answer::Ready(None))?;
    for line in stdin().lock().lines() {
        let answer = obey(serde_json::from_str(&line?)?);
        say(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
    Ok(())
}

async fn obey<Shared, S: Session>(
    command: Command,
    shared: &Shared,
    open: &impl AsyncFn(&Shared) -> Result<S>,
    sessions: &mut Vec<S>,
    made: &mut u64,
) -> Result<Answer> {
    match command {
        Command::Open(count) => {
            sessions.clear();
            for _ in 0..count {
                sessions.push(open(shared).await?);
            }
            Ok(Answer::Done)
        }
        Command::Run(calls) => {
            let driven = drive(std::mem::take(sessions), *made, calls);
            let (back, run) = tokio::time::timeout(PATIENCE / 2, driven)
                .await
                .with_context(|| format!("{calls} calls took longer than {:?}", PATIENCE / 2))??;
            *sessions = back;
            *made += calls;
            Ok(Answer::Ran(run))
        }
        Command::Close => {
            sessions.clear();
            Ok(Answer::Done)
        }
    }
}

/// Lets all sessions call, each as soon as its last answer is there, until `calls` are made.
async fn drive<S: Session>(sessions: Vec<S>, first: u64, calls: u64) -> Result<(Vec<S>, Run)> {
    let next = Arc::new(AtomicU64::new(first));
    let end = first + calls;
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for mut session in sessions {
        let next = Arc::clone(&next);
        callers.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return anyhow::Ok((session, latencies));
                }
                let begin = Instant::now();
                session.call(number).await?;
                latencies.push(begin.elapsed());
            }
        });
    }
    let mut sessions = Vec::new();
    let mut latencies = Vec::new();
    while let Some(caller) = callers.join_next().await {
        let (session, taken) = caller??;
        sessions.push(session);
        latencies.extend(taken);
    }
    Ok((sessions, Run::new(start, latencies)))
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
