//! How one number is taken: a process, and a load on it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::child::Copy;
use super::process::Cpu;
use super::role::Run;

const IDLE: Duration = Duration::from_secs(3);

/// One measured load.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// The process's CPU per call, in microseconds.
    pub(crate) cpu: f64,
    /// The broker's CPU per call beyond its idling, in microseconds.
    pub(crate) broker: Option<f64>,
    #[serde(flatten)]
    pub(crate) run: Run,
}

/// A process under a load that `driver` makes.
pub(crate) struct Subject {
    driver: Copy,
    pids: Vec<u32>,
    broker: Option<IdleBroker>,
}

impl Subject {
    /// A process under load, `pid`, or else the driver itself.
    pub(crate) fn new(driver: Copy, pid: Option<u32>) -> Self {
        let pid = pid.unwrap_or_else(|| driver.pid());
        Self::of(driver, vec![pid])
    }

    /// Several processes under load, which count as one.
    pub(crate) fn of(driver: Copy, pids: Vec<u32>) -> Self {
        Self { driver, pids, broker: None }
    }

    /// The same with an eye on the broker behind it.
    pub(crate) fn before(self, broker: IdleBroker) -> Self {
        Self { broker: Some(broker), ..self }
    }

    /// Makes the calls, after a fifth as many to warm up.
    pub(crate) fn measure(&mut self, sessions: usize, calls: u64) -> Result<Sample> {
        self.driver.open(sessions)?;
        self.driver.run(calls / 5)?;
        let before = Cpu::read(&self.pids)?;
        let broker_before = self.broker.map(|broker| Cpu::read(&[broker.pid])).transpose()?;
        let run = self.driver.run(calls)?;
        let (cpu, _) = Cpu::read(&self.pids)?.since(&before);
        let per_call = |seconds: f64| seconds * 1e6 / calls as f64;
        let broker = match (self.broker, broker_before) {
            (Some(broker), Some(before)) => {
                let (cpu, wall) = Cpu::read(&[broker.pid])?.since(&before);
                Some(per_call(cpu.as_secs_f64() - broker.idle * wall.as_secs_f64()))
            }
            _ => None,
        };
        self.driver.close()?;
        Ok(Sample { cpu: per_call(cpu.as_secs_f64()), broker, run })
    }
}

/// A broker, and the share of a core that it uses for nothing.
#[derive(Clone, Copy)]
pub(crate) struct IdleBroker {
    pid: u32,
    idle: f64,
}

impl IdleBroker {
    /// Watches it for a while.
    pub(crate) fn watch(pid: u32) -> Result<Self> {
        let before = Cpu::read(&[pid])?;
        sleep(IDLE);
        let (cpu, wall) = Cpu::read(&[pid])?.since(&before);
        Ok(Self { pid, idle: cpu.as_secs_f64() / wall.as_secs_f64() })
    }
}
