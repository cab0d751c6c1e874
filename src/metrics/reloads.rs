//! Of the configuration, and of the files that it names: whether what they hold now is in force.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Gauge, gauge};

use super::{FILES_REFUSED, RELOAD_SUCCEEDED, RELOAD_SUCCESSFUL};

/// Shows that the configuration that was read last is in force, from now on.
pub fn config_in_force() {
    gauge!(RELOAD_SUCCESSFUL).set(1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(RELOAD_SUCCEEDED).set(now.as_secs_f64());
}

/// Shows that it was refused.
pub fn config_refused() {
    gauge!(RELOAD_SUCCESSFUL).set(0.0);
}

/// A file of secrets or certificates that cannot be used, so that what it held before stays in force, until this is
/// dropped.
pub struct RefusedFile(Gauge);

impl fmt::Debug for RefusedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefusedFile")
    }
}

impl RefusedFile {
    /// One that is named by that key.
    pub fn new(key: &'static str) -> Self {
        let gauge = gauge!(FILES_REFUSED, "key" => key);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for RefusedFile {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
