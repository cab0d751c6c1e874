//! The composition root: configuration → upstreams → router → ingresses → run → drain.
//!
//! Everything that runs is started here and ended here. It knows lists, and names no protocol.

mod ingresses;
mod reload;
mod signals;
#[cfg(test)]
mod tests;
mod upstreams;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::admin::{BoundAdmin, Overview};
use crate::budget::Budget;
use crate::config::{Config, Origin};
use crate::ingress::IngressKind;
use crate::metrics::Exporter;
use crate::router::Router;
use crate::router::ledger::Ledger;
use crate::tasks::Tasks;
use reload::{ApplyLog, House, Reload};
use signals::Signals;
use upstreams::Upstreams;

/// How often histograms are folded and floods of faults summed up.
const UPKEEP: Duration = Duration::from_secs(1);
/// What connections get to end once nothing is left for them to wait for.
const GRACE: Duration = Duration::from_secs(2);

/// The reason to end that is nobody's wish.
const PANIC: &str = "a task panicked";

/// Runs the gateway until SIGTERM or SIGINT, then drains it.
///
/// A long-lived task that panics is an end too: what is in flight gets its answers as far as it
/// can, and the error says that the process failed.
pub async fn run(
    config: Config,
    origin: Origin,
    kinds: &[IngressKind],
    log: &ApplyLog<'_>,
) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let exporter = Exporter::install().context("metrics are set up already")?;
    let mut signals = Signals::listen()?;
    let bound = ingresses::bind(kinds, &config, &tasks)?;
    let ledger = Ledger::new(bound.names());
    let admin = BoundAdmin::bind(config.admin.clone())?;
    let resident = bound.resident(&config);
    let budget = Budget::new(config.max_memory);
    let mut upstreams =
        Upstreams::new(resident, Arc::clone(&ledger), budget.clone(), tasks.clone());
    let first = upstreams.prepare(&config, Vec::new());
    let table = upstreams.turn_over(&config, first);
    let router = Arc::new(Router::new(table, ledger, budget));
    info!(config = origin.name(), version = env!("CARGO_PKG_VERSION"), "starting");
    let ingresses = bound.run(&router);
    let overview = Arc::new(Overview {
        router: Arc::clone(&router),
        pages: ingresses.pages(),
        exporter: exporter.clone(),
        draining: AtomicBool::new(false),
    });
    let admin = admin.run(Arc::clone(&overview), tasks.subgroup());
    let (ingress, address) = admin.address();
    info!(ingress, %address, "listening");

    let mut reload = Reload::new(config, origin);
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reason = loop {
        tokio::select! {
            _ = upkeep.tick() => {
                exporter.upkeep();
                router.budget().upkeep();
                router.sum_up_faults(false);
                ingresses.sum_up_logs(false);
                ingresses.look();
                upstreams.end_retired();
            }
            _ = signals.hangup.recv() => reload.ask(),
            () = reload.is_time_to_look() => reload.look(&mut upstreams),
            () = reload.is_due() => {
                let house = House { router: &router, ingresses: &ingresses, admin: &admin, log };
                reload.complete(&house, &mut upstreams);
            }
            () = tasks.broken() => break PANIC,
            _ = signals.terminate.recv() => break "SIGTERM",
            _ = signals.interrupt.recv() => break "SIGINT",
        }
    };

    let patience = reload.running().drain_timeout;
    info!(reason, in_flight = upstreams.in_flight(), "draining: no new calls");
    overview.draining.store(true, Ordering::Relaxed);
    let drained = tokio::select! {
        drained = ingresses.drain(patience) => drained,
        _ = signals.terminate.recv() => false,
        _ = signals.interrupt.recv() => false,
    };
    if !drained {
        let in_flight = upstreams.in_flight();
        warn!(in_flight, "drain_timeout has passed, or a second signal came: ending what is left");
    }
    reload.give_up(&mut upstreams);
    // The end of an upstream ends the calls that wait for it, each with a fault.
    upstreams.end().await;
    ingresses.end(GRACE).await;
    router.sum_up_faults(true);
    ingresses.sum_up_logs(true);
    admin.end(GRACE).await;
    info!("stopped");
    ensure!(
        reason != PANIC,
        "stopped because of a fault in Genkan: the log says where it panicked"
    );
    Ok(())
}
