//! What somebody has shown who is let in for long: it is judged again where other rules are in force, and
//! where who could tell was away.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Denial, Identity};

/// How often, at most, what is refused is judged again.
const PAUSE: Duration = Duration::from_secs(1);

/// Whoever knows as whom something makes known.
pub trait Judge: Send + Sync {
    /// As whom it does now. Waits for nobody.
    fn judge(&self, shown: &str) -> Result<Arc<Identity>, Denial>;
}

/// What somebody has shown, and who judges it.
#[derive(Clone)]
pub struct Evidence(Arc<Inner>);

struct Inner {
    shown: Box<str>,
    judge: Arc<dyn Judge>,
    /// When it was refused last.
    refused: Mutex<Option<Instant>>,
}

impl Evidence {
    /// What was shown.
    pub fn new(shown: &str, judge: Arc<dyn Judge>) -> Self {
        Self(Arc::new(Inner { shown: shown.into(), judge, refused: Mutex::default() }))
    }

    /// As whom it makes known now; none where that was asked a moment ago, and nobody was.
    pub(super) fn judge(&self) -> Option<Result<Arc<Identity>, Denial>> {
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        let judged = self.0.judge.judge(&self.0.shown);
        *refused = judged.is_err().then(Instant::now);
        Some(judged)
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
