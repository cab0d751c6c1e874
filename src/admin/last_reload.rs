//! How the last reload ended, as the pages and the metrics tell it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics;

/// Whether the configuration that was read last is in force.
#[derive(Default)]
pub struct LastReload {
    refused: AtomicBool,
}

impl LastReload {
    /// What was read last is in force.
    pub fn is_in_force(&self) {
        self.refused.store(false, Ordering::Relaxed);
        metrics::config_in_force();
    }

    /// It was refused, and what was in force before stays.
    pub fn is_refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
        metrics::config_refused();
    }

    /// The same as a line of `/readyz`, where it was refused.
    pub(super) fn line(&self) -> Option<&'static str> {
        let line = "configuration: the last reload was refused, and the old one stays in force: the log says why";
        self.refused.load(Ordering::Relaxed).then_some(line)
    }
}
