//! Whether anybody consumes a service's queue.
//!
//! A stopped Nameko service leaves its queue behind, so a call to it is routed, waits, and runs
//! when nobody wants it any more (WIRE 1.3). A passive declare of `rpc-SERVICE` tells: consumers
//! and depth, or 404. Called services are looked at every second in the background; a service
//! that is new or was deserted is looked at once more before a call goes out, by one probe
//! however many calls wait.
//!
//! `services` is what calls look up, `prober` the task that renews it.
//!
//! The probes have a connection of their own. A 404 closes the channel, and lapin never uses
//! that channel's number again: after two thousand missing queues a connection has no channels
//! left, so this one is replaced before. It also keeps probes going while the publish connection
//! is blocked. Probes only ever refine what calls do: where they fail, calls go out unchecked,
//! and the broker's return of an unroutable message stays the authority on missing services.

mod prober;
mod services;

pub(super) use prober::Prober;
pub(super) use services::{Finding, Look, Service, Services};
