//! The composition root: configuration → upstreams → router → ingresses → run → drain.
//!
//! Everything that runs is started here and ended here. It knows lists, and names no protocol.

mod certificates;
mod drain;
mod exposes;
mod ingresses;
mod limits;
mod reload;
mod signals;
mod supervisor;
#[cfg(test)]
mod tests;
mod upstreams;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::join3;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::admin::{Admin, BoundAdmin, Overview};
use crate::auth::Auth;
use crate::budget::Budget;
use crate::config::{Config, Origin};
use crate::events::bridges::Bridges;
use crate::metrics::Exporter;
use crate::protocol::Protocols;
use crate::router::Router;
use crate::router::ledger::Ledger;
use crate::tasks::Tasks;
use ingresses::Ingresses;
use reload::{ApplyLog, House, Reload};
use signals::Signals;
use supervisor::Supervisor;
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
    protocols: &Protocols,
    log: &ApplyLog<'_>,
) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let exporter = Exporter::install().context("metrics are set up already")?;
    let mut signals = Signals::listen()?;
    let bound = ingresses::bind(&protocols.ingresses, &config, &tasks)?;
    let brokers = protocols.egresses.iter().map(|(word, _)| *word);
    let labels = protocols.ingresses.iter().flat_map(|kind| kind.labels.iter().copied());
    let ledger = Ledger::new(labels.chain(brokers));
    let admin = BoundAdmin::bind(config.admin.clone())?;
    let resident = bound.resident(&config);
    let budget = Budget::new(config.max_memory);
    let mut upstreams = Upstreams::new(resident, Arc::clone(&ledger), &budget, tasks.clone());
    let first = upstreams.prepare(&config, Vec::new());
    let table = upstreams.turn_over(&config, first);
    let router = Arc::new(Router::new(table, ledger, budget).wanting(wanted_headers(&config)));
    info!(config = origin.name(), version = env!("CARGO_PKG_VERSION"), "starting");
    let mut bridges = Bridges::new(tasks.subgroup());
    let auth = Auth::new(&config.auth, tasks.subgroup());
    let ingresses = bound.run(&router, bridges.topics(), &auth);
    upstreams.expose(&config, &router);
    bridges.apply(&config.bridges, &config.topics, &upstreams.ports());
    let overview = overview(&router, (&ingresses, &auth), (&upstreams, &bridges), &exporter);
    let admin = admin.run(Arc::clone(&overview), tasks.subgroup());
    tell_where(&admin, &ingresses);

    let mut supervisor = Supervisor::default();
    supervisor.ready(config.routes.len());
    let last = Arc::clone(&overview.last_reload);
    let mut reload = Reload::new(config, origin, protocols.readers(), last);
    let mut upkeep = upkeep();
    let reason = loop {
        tokio::select! {
            _ = upkeep.tick() => {
                look_after(&exporter, &router, &ingresses, &mut upstreams);
                look_at_files((&auth, &admin), &mut reload);
            }
            () = upstreams.is_time_to_look() => upstreams.look_at_exposes(&router),
            _ = signals.hangup.recv() => supervisor.reloads(&mut reload),
            () = signals.others.pass() => {}
            () = reload.is_time_to_look() => reload.look(),
            () = reload.has_read() => reload.take_up(&mut upstreams, &auth),
            () = reload.is_due() => {
                let house = House { router: &router, ingresses: &ingresses, admin: &admin, auth: &auth, log };
                reload.complete(&house, &mut upstreams, &mut bridges);
            }
            () = tasks.broken() => break PANIC,
            _ = signals.terminate.recv() => break "SIGTERM",
            _ = signals.interrupt.recv() => break "SIGINT",
        }
        supervisor.look(&reload);
    };
    supervisor.stopping();

    let patience = reload.running().drain_timeout;
    let leaving = upstreams.leaving();
    let in_flight = leaving.in_flight();
    info!(reason, in_flight, "draining: no new calls but those that answers need");
    overview.draining.store(true, Ordering::Relaxed);
    let look = || {
        look_after(&exporter, &router, &ingresses, &mut upstreams);
        look_at_files((&auth, &admin), &mut reload);
    };
    let drain = drain::drain((&ingresses, protocols), &leaving, &mut bridges, &router, patience);
    let drained = tokio::select! {
        drained = drain::beside(drain, &mut upkeep, look) => drained,
        () = signals.end() => false,
    };
    if !drained {
        let in_flight = leaving.in_flight();
        warn!(in_flight, "drain_timeout has passed, or a second signal came: ending what is left");
    }
    reload.give_up(&mut upstreams);
    end(&router, &mut upstreams, &ingresses, &admin).await;
    info!("stopped");
    ensure!(
        !tasks.is_broken(),
        "stopped because of a fault in Genkan: the log says where it panicked"
    );
    Ok(())
}

/// Ends all that is left. The end of an upstream ends the calls that wait for it, each with a fault, which ingresses
/// bring to callers.
async fn end(
    router: &Arc<Router>,
    upstreams: &mut Upstreams,
    ingresses: &Ingresses,
    admin: &Admin,
) {
    upstreams.end(router).await;
    join3(ingresses.end(GRACE), upstreams.end_keyed(), admin.end(GRACE)).await;
    router.sum_up_faults(true);
    ingresses.sum_up_logs(true);
}

/// Tells the log, and those who must not go there, where the admin pages are.
fn tell_where(admin: &Admin, ingresses: &Ingresses) {
    let (ingress, address) = admin.address();
    ingresses.tell_where(&address);
    info!(ingress, %address, "listening");
}

/// The headers of callers that upstreams are to have, each once.
fn wanted_headers(config: &Config) -> Vec<Arc<str>> {
    let all = config.upstreams.iter().flat_map(|it| it.connector.wanted_headers());
    let mut names: Vec<Arc<str>> = all.map(Arc::clone).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What the pages for operators show.
fn overview(
    router: &Arc<Router>,
    (ingresses, auth): (&Ingresses, &Arc<Auth>),
    (upstreams, bridges): (&Upstreams, &Bridges),
    exporter: &Exporter,
) -> Arc<Overview> {
    Arc::new(Overview {
        router: Arc::clone(router),
        pages: ingresses.pages(),
        exposes: Arc::clone(upstreams.board()),
        events: Arc::clone(bridges.board()),
        exporter: exporter.clone(),
        auth: Arc::clone(auth),
        last_reload: Arc::default(),
        draining: AtomicBool::new(false),
    })
}

/// Ticks when it is time to look after things.
fn upkeep() -> Interval {
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    upkeep
}

/// What is done every second.
fn look_after(
    exporter: &Exporter,
    router: &Arc<Router>,
    ingresses: &Ingresses,
    upstreams: &mut Upstreams,
) {
    exporter.upkeep();
    router.budget().upkeep();
    router.sum_up_faults(false);
    ingresses.sum_up_logs(false);
    ingresses.look();
    upstreams.end_retired(router);
    upstreams.forget();
    upstreams.show_breakers();
    upstreams.show_exposes();
}

/// What is read again that stands in files of its own: secrets, and certificates.
fn look_at_files((auth, admin): (&Arc<Auth>, &Admin), reload: &mut Reload) {
    auth.look();
    admin.look();
    reload.look_at_certificates();
}
