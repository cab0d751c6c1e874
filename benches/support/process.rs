//! What a process has used, as the kernel tells it.
//!
//! CPU comes from `/proc/PID/task/*/schedstat`: nanoseconds on a CPU, user and system together,
//! per thread, where `/proc/PID/stat` counts in ticks of 10 ms. A thread that ended between two
//! readings is missing from the second one and not counted; the measured programs keep theirs.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A reading of one or more processes' CPU time, thread by thread.
pub(crate) struct Cpu {
    at: Instant,
    threads: HashMap<String, u64>,
}

impl Cpu {
    /// Reads it now.
    pub(crate) fn read(pids: &[u32]) -> Result<Self> {
        let mut threads = HashMap::new();
        for pid in pids {
            let tasks = format!("/proc/{pid}/task");
            let listing = fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))?;
            for entry in listing {
                let thread = entry?.file_name().to_string_lossy().into_owned();
                let Ok(text) = fs::read_to_string(format!("{tasks}/{thread}/schedstat")) else {
                    continue;
                };
                let nanoseconds = text.split(' ').next().unwrap_or_default().parse()?;
                threads.insert(thread, nanoseconds);
            }
        }
        Ok(Self { at: Instant::now(), threads })
    }

    /// The CPU time and the wall time from an earlier reading to this one.
    pub(crate) fn since(&self, earlier: &Self) -> (Duration, Duration) {
        let used = self.threads.iter().map(|(thread, now)| {
            now.saturating_sub(earlier.threads.get(thread).copied().unwrap_or_default())
        });
        (Duration::from_nanos(used.sum()), self.at - earlier.at)
    }
}

/// The processes that this one has started and that still run.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.split_whitespace().map(|pid| Ok(pid.parse()?)).collect()
}

/// A process's memory in MiB.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Memory {
    /// `VmRSS`: everything resident, pages of the program's file too.
    pub(crate) resident: f64,
    /// `RssAnon`: heap and stacks.
    pub(crate) anonymous: f64,
    /// `VmHWM`: the most that was ever resident.
    pub(crate) peak: f64,
}

impl Memory {
    /// Reads it now.
    pub(crate) fn read(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = |key: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let words = line.with_context(|| format!("{path} has no {key}"))?;
            let kibibytes: f64 = words.trim().trim_end_matches(" kB").parse()?;
            Ok(kibibytes / 1024.0)
        };
        Ok(Self { resident: line("VmRSS:")?, anonymous: line("RssAnon:")?, peak: line("VmHWM:")? })
    }
}
