//! Reads what services tell: apart from the workers, who have calls to carry, and one answer at a time, so that many
//! who are asked at once cannot fill the memory.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::tasks;

/// Whose turn it is.
#[derive(Debug)]
pub struct Reading {
    turn: Arc<Semaphore>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Reading {
    /// Does the work when its turn has come; `None` where it panicked.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // It is never closed. The work keeps the turn, also where nobody waits for it any more.
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        tasks::apart(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }
}
