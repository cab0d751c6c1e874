//! The only spawner.
//!
//! Every task belongs to a group. A group carries the token by which its tasks are told to end,
//! and whoever owns the group waits until the last one has.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// A group of tasks with one owner. Clones are handles to the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a long-lived task that belongs to the group. It must end soon after
    /// [`Tasks::shutdown`] fires.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::debug_span!("task", task = name);
        drop(tokio::spawn(self.tracker.track_future(future.instrument(span))));
    }

    /// Starts a short task, one for a session or a call, that belongs to the group.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn_session<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(tokio::spawn(self.tracker.track_future(future)));
    }

    /// Fires when the group is told to end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Tells the group to end and waits for its tasks, at most `grace`. True if all ended.
    pub async fn end(&self, grace: Duration) -> bool {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}
