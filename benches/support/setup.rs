//! What the numbers were measured on.

use std::fs;

use serde::Serialize;

/// The machine.
#[derive(Debug, Serialize)]
pub(crate) struct Setup {
    cores: usize,
    processor: String,
    kernel: String,
}

impl Setup {
    /// Looks around.
    pub(crate) fn look() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, m)| m);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model.trim().to_owned(),
            kernel: kernel.trim().to_owned(),
        }
    }

    /// The same as a line for people.
    pub(crate) fn line(&self, rounds: u32) -> String {
        let Self { cores, processor, kernel } = self;
        format!("set-up: {cores} cores, {processor}, Linux {kernel}; median of {rounds} rounds\n")
    }
}
