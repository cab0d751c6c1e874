//! What the numbers were measured on.

use std::fs;

use serde::Serialize;

/// The machine and the brokers.
#[derive(Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) nats_server: String,
    pub(crate) rabbitmq: String,
}

impl Setup {
    /// Looks around.
    pub(crate) fn look(nats_server: &str, rabbitmq: &str) -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, m)| m);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model.trim().to_owned(),
            kernel: kernel.trim().to_owned(),
            nats_server: nats_server.to_owned(),
            rabbitmq: rabbitmq.to_owned(),
        }
    }
}
