//! When a service that does not answer is left alone for a while, as an operator means it.

use std::time::Duration;

/// The settings of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerRule {
    /// It opens where at least this part of the calls have failed,
    pub failures: f64,
    /// of at least so many calls,
    pub least: usize,
    /// within this time.
    pub window: Duration,
    /// How long calls are refused then, until one of them is tried.
    pub open_for: Duration,
    /// A time-out counts where the call had this long at least. `None`: all the time that its row
    /// gives. Else whoever calls with a deadline that is too short could open it for the others.
    pub slow: Option<Duration>,
}
