//! The only spawner.
//!
//! Every task belongs to a group. A group carries the token by which its tasks are told to end,
//! and whoever owns the group waits until the last one has. Nobody else looks whether a task still
//! lives: one that panics ends its owner. A long-lived task ends its group, and is reported to
//! whoever made the group; a session's panic ends the session, whose connection closes when it is
//! dropped.

use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error};

/// A group of tasks with one owner. Clones are handles to the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Fires when a long-lived task has panicked, of this group or of one of its subgroups.
    broken: CancellationToken,
}

impl Tasks {
    /// An empty group, which answers for itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty group with an owner of its own, whose panics are reported to this one too.
    pub fn subgroup(&self) -> Self {
        Self { broken: self.broken.clone(), ..Self::default() }
    }

    /// Starts a long-lived task that belongs to the group. It must end soon after
    /// [`Tasks::shutdown`] fires, which a panic of it lets happen.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (shutdown, broken) = (self.shutdown.clone(), self.broken.clone());
        let span = tracing::debug_span!("task", task = name);
        let watched = async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                error!(task = name, "a task panicked: what it was a part of ends");
                shutdown.cancel();
                broken.cancel();
            }
        };
        drop(tokio::spawn(self.tracker.track_future(watched.instrument(span))));
    }

    /// Starts a short task, one for a session or a call, that belongs to the group. A panic ends
    /// it alone.
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

    /// Waits until a long-lived task has panicked, of this group or of a subgroup.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Whether one has.
    pub fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
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

/// Does heavy work on a thread of its own, so that no worker is kept from its calls. `None` where it
/// panicked. Whoever calls bounds how much of it there is; dropping the future does not stop it.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Lets every panic of the process be a line of the log, with its place.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let formatted = payload.downcast_ref::<String>().map(String::as_str);
        let said = formatted.or_else(|| payload.downcast_ref::<&str>().copied());
        error!(place, said, "panicked: this is a fault of Genkan, please report it");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_long_lived_task_that_panics_ends_its_group_and_is_reported() {
        let root = Tasks::new();
        let (group, other) = (root.subgroup(), root.subgroup());
        let shutdown = group.shutdown().clone();
        group.spawn("neighbour", async move { shutdown.cancelled().await });
        group.spawn("broken", async { panic!("as the test wants it") });
        tokio::time::timeout(SOON, root.broken()).await.expect("reported");
        assert!(root.is_broken());
        assert!(group.end(SOON).await, "its neighbours are told to end, and it is waited for");
        assert!(!other.shutdown().is_cancelled(), "others are their owner's to end");
    }

    #[tokio::test]
    async fn a_session_that_panics_ends_alone() {
        let group = Tasks::new();
        group.spawn_session(async { panic!("as the test wants it") });
        group.tracker.close();
        tokio::time::timeout(SOON, group.tracker.wait()).await.expect("it is not waited for");
        assert!(!group.shutdown().is_cancelled() && !group.broken.is_cancelled());
    }
}
