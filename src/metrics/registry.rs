//! Of the registry.

use metrics::{counter, gauge};

use super::{REGISTRY_ANNOUNCED, REGISTRY_GONE, REGISTRY_REQUESTS, REGISTRY_SERVICES};
use crate::fault::Fault;

/// The metrics of the registry. Their series are looked up when they are counted, which is seldom.
#[derive(Default)]
pub struct RegistryMetrics(());

impl RegistryMetrics {
    /// Shows how many services are in service, unproven and refuted.
    pub fn set_services(&self, counts: [usize; 3]) {
        for (state, count) in ["in_service", "unproven", "refuted"].into_iter().zip(counts) {
            // The limit on services keeps the numbers far below 2^53.
            gauge!(REGISTRY_SERVICES, "state" => state).set(count as f64);
        }
    }

    /// Counts a request, and how it ended.
    pub fn asked(&self, method: &'static str, outcome: Result<(), &Fault>) {
        let outcome = outcome.map_or_else(|fault| fault.kind().as_str(), |()| "ok");
        counter!(REGISTRY_REQUESTS, "method" => method, "outcome" => outcome).increment(1);
    }

    /// Counts services that are forgotten.
    pub fn gone(&self, count: usize, reason: &'static str) {
        if count > 0 {
            counter!(REGISTRY_GONE, "reason" => reason).increment(count as u64);
        }
    }

    /// Counts an announcement to another registry.
    pub fn told(&self, taken: bool) {
        let outcome = if taken { "ok" } else { "failed" };
        counter!(REGISTRY_ANNOUNCED, "outcome" => outcome).increment(1);
    }
}
