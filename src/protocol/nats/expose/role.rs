//! What a generation does for exposed services: it subscribes to what is wanted for as long as it is
//! the latest one, and leaves when the next one has subscribed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::again::Again;
use super::super::generation::Generation;
use super::super::outbox::Outbox;
use super::super::streams::streams;
use super::{Hosted, Service, Settled, Wanted, subjects};

/// How long two connections take calls before the older one leaves: servers of a cluster tell each other
/// in their own time who subscribes.
const OVERLAP: Duration = Duration::from_millis(500);
/// Of how many of a service's subjects it is looked whether a stream stores them.
const MOST_LOOKED_AT: usize = 64;

/// Exposes what is wanted until the connection ends.
pub(in super::super) async fn run(
    generation: &Arc<Generation>,
    outbox: &Outbox,
    retired: &CancellationToken,
) -> Infallible {
    let hosted = generation.hosted();
    let exposes = &hosted.exposes;
    let mut wanted = exposes.wanted.subscribe();
    let mut leaves = std::pin::pin!(async {
        retired.cancelled().await;
        let mut settled = exposes.settled.subscribe();
        // The sender is in what `hosted` holds.
        let _is_followed = settled.wait_for(|it| it.host > hosted.host).await.is_ok();
        sleep(OVERLAP).await;
    });
    let (mut is_leaving, mut again) = (false, Again::new());
    loop {
        let Wanted { version, services } = wanted.borrow_and_update().clone();
        let services = if is_leaving { Vec::new() } else { services };
        outbox.confirm_answers(services.is_empty());
        let change = hosted.change(&services);
        if !change.lines.is_empty() {
            let subscribed = outbox.subscribe(change.lines, change.subscriptions).await;
            let Some(too_many) = subscribed else { return std::future::pending().await };
            outbox.say(hosted.settle(&change.left, change.first, too_many));
            let taken = hosted.newly_taken(&services);
            taken.iter().for_each(|service| tell(hosted, service));
            look_for_streams(generation, taken);
        }
        if !is_leaving && !retired.is_cancelled() {
            exposes.settled.send_replace(Settled { host: hosted.host, version });
        }
        tokio::select! {
            () = &mut leaves, if !is_leaving => is_leaving = true,
            // The sender is in what `hosted` holds.
            _changed = wanted.changed() => {}
            () = again.is_due(|| hosted.has_refused(), &hosted.refusal) => {}
        }
    }
}

fn tell(hosted: &Hosted, service: &Arc<Service>) {
    let (upstream, name) = (hosted.exposes.metrics.upstream(), &service.expose.name);
    let service = &service.expose.service;
    info!(upstream, service, name, "exposed: its calls are taken");
}

/// Tells of streams that answer in the place of services: callers would take receipts for results.
fn look_for_streams(generation: &Arc<Generation>, services: Vec<Arc<Service>>) {
    let generation = Arc::clone(generation);
    let exposes = Arc::clone(&generation.hosted().exposes);
    let tasks = exposes.tasks.clone();
    let looking = async move {
        for service in services {
            let subjects = subjects(&exposes.settings, &service.expose);
            for subject in subjects.iter().take(MOST_LOOKED_AT) {
                let Some(what) = streams(&generation, subject).await else { continue };
                let (upstream, service) = (exposes.metrics.upstream(), &service.expose.service);
                warn!(
                    upstream,
                    service, what, "a JetStream stream stores the calls of an exposed service"
                );
            }
        }
    };
    let shutdown = tasks.shutdown().clone();
    tasks.spawn_session(async move {
        let _ended = shutdown.run_until_cancelled(looking).await;
    });
}
