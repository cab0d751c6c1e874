//! What the operator tells the process.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The signals that the gateway listens for.
pub(super) struct Signals {
    /// Read the configuration again.
    pub(super) hangup: Signal,
    /// Drain and end.
    pub(super) terminate: Signal,
    /// The same, from a terminal.
    pub(super) interrupt: Signal,
    /// What other daemons take as a word to open their logs anew, or to go on without the old process: nothing here,
    /// where the system would end the process at once.
    pub(super) others: Others,
}

/// SIGUSR1 and SIGUSR2.
pub(super) struct Others([Signal; 2]);

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            others: Others([
                listen(SignalKind::user_defined1())?,
                listen(SignalKind::user_defined2())?,
            ]),
        })
    }

    /// Waits for one that ends the process.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Others {
    /// Waits for one, and tells that it means nothing.
    pub(super) async fn pass(&mut self) {
        let [first, second] = &mut self.0;
        let signal = tokio::select! {
            _ = first.recv() => "SIGUSR1",
            _ = second.recv() => "SIGUSR2",
        };
        info!(
            signal,
            mend = "SIGHUP reads the configuration again, SIGTERM drains and ends; the log goes to standard error, \
                    and is not to be opened anew",
            "a signal that means nothing here"
        );
    }
}
