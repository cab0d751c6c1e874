//! Of the budget of bytes in flight.

use metrics::{Gauge, counter, gauge};

use super::{LazyCounter, MEMORY_HELD, MEMORY_REFUSED};

/// The metrics of the budget of bytes in flight.
pub struct MemoryMetrics {
    held: Gauge,
    /// Messages for which a connection's part was too small.
    pub refused_connection: LazyCounter,
    /// Messages for which there was no room in the whole.
    pub refused_process: LazyCounter,
}

impl MemoryMetrics {
    /// Shows that nothing is held.
    pub fn new() -> Self {
        Self {
            held: gauge!(MEMORY_HELD),
            refused_connection: LazyCounter::new(
                || counter!(MEMORY_REFUSED, "limit" => "connection"),
            ),
            refused_process: LazyCounter::new(|| counter!(MEMORY_REFUSED, "limit" => "process")),
        }
    }

    /// Shows how many bytes are held.
    pub fn set_held(&self, bytes: usize) {
        // Memory is far below 2^53.
        self.held.set(bytes as f64);
    }
}

impl Default for MemoryMetrics {
    fn default() -> Self {
        Self::new()
    }
}
