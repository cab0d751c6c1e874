//! Of who calls: what is shown and not taken, and the keys of whoever issues tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, counter, gauge};

use super::{CREDENTIALS_REFUSED, ISSUER_FETCHED, ISSUER_FETCHES, ISSUER_KEYS};

/// Counts a key or token that somebody showed and that is not taken.
pub fn credential_refused(reason: &'static str) {
    counter!(CREDENTIALS_REFUSED, "reason" => reason).increment(1);
}

/// The metrics of the issuer in force.
pub struct IssuerMetrics {
    keys: Gauge,
    fetched: Gauge,
    brought: Counter,
    failed: Counter,
}

impl IssuerMetrics {
    /// Shows that nothing has been fetched. An alert looks whether fetches fail, from the first on.
    pub fn new() -> Self {
        let fetches = |outcome| counter!(ISSUER_FETCHES, "outcome" => outcome);
        Self {
            keys: gauge!(ISSUER_KEYS),
            fetched: gauge!(ISSUER_FETCHED),
            brought: fetches("ok"),
            failed: fetches("failed"),
        }
    }

    /// Counts a fetch, which brought keys or failed.
    pub fn fetched(&self, brought: bool) {
        if brought { &self.brought } else { &self.failed }.increment(1);
    }

    /// Shows how many keys are known, and when they were fetched.
    pub fn show(&self, keys: usize, fetched: Option<SystemTime>) {
        // An issuer has far fewer than 2^53.
        self.keys.set(keys as f64);
        let since = fetched.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        if let Some(since) = since {
            self.fetched.set(since.as_secs_f64());
        }
    }
}

impl Default for IssuerMetrics {
    fn default() -> Self {
        Self::new()
    }
}
