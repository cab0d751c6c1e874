//! What a generation hosts for exposed services: two connections of its own while there are any, and a
//! task for each service. They are set up again by themselves for as long as the generation lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::super::config::Node;
use super::super::generation::End;
use super::super::open::Failure;
use super::super::outlet::Outlet;
use super::super::transport::Transport;
use super::answering::Desk;
use super::replier::{self, Outgoing, Replier};
use super::service::Service;
use super::{Exposes, Wanted};
use crate::backoff::Backoff;
use crate::route::expose::Expose;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long connections have to live for the next ones to be opened at once.
const STABLE: Duration = Duration::from_secs(1);

/// Exposes what is wanted until the generation ends.
pub(in super::super) async fn run(exposes: Arc<Exposes>, node: Arc<Node>, end: End) {
    let mut wanted = exposes.wanted.subscribe();
    let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
    let mut said = None;
    let _over = Over(&exposes);
    loop {
        let some = async { wanted.wait_for(|wanted| !wanted.services.is_empty()).await.is_ok() };
        tokio::select! {
            () = end.wait() => return,
            some = some => if !some {
                return;
            }
        }
        let opened = tokio::select! {
            () = end.wait() => return,
            opened = Connections::open(&exposes, &node) => opened,
        };
        let pause = match opened {
            Ok(connections) => {
                said = None;
                exposes.set_down(None);
                let since = Instant::now();
                connections.host(&mut wanted, &end).await;
                backoff.lived(since.elapsed());
                since.elapsed() < STABLE
            }
            Err(failure) => {
                exposes.set_down(Some(&failure));
                if said.as_ref() != Some(&failure.reason) {
                    let what = "no connection for exposed services";
                    failure.tell(exposes.metrics.upstream(), what);
                    said = Some(failure.reason);
                }
                true
            }
        };
        if pause {
            tokio::select! {
                () = end.wait() => return,
                () = tokio::time::sleep(backoff.failed()) => {}
            }
        }
    }
}

/// What is known of a generation ends with it.
struct Over<'a>(&'a Exposes);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.set_down(None);
        self.0.unsent.sum_up(true);
    }
}

/// What services are exposed over.
struct Connections {
    exposes: Arc<Exposes>,
    node: Arc<Node>,
    consuming: Arc<Transport>,
    replier: Replier,
    replies: mpsc::Sender<Outgoing>,
    lost: CancellationToken,
}

/// A service that is exposed.
struct Exposed {
    expose: Arc<Expose>,
    stop: CancellationToken,
}

impl Connections {
    async fn open(exposes: &Arc<Exposes>, node: &Arc<Node>) -> Result<Self, Failure> {
        let settings = &exposes.settings;
        let node = &settings.renewed(node);
        let open = async {
            tokio::try_join!(
                Transport::open_for(settings, node, "serve", settings.max_request, None),
                Outlet::open_for(settings, node, "reply")
            )
        };
        let opened = timeout(settings.connect_timeout, open).await;
        let (consuming, outlet) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(Failure::of_connecting(&error)),
            Err(_) => return Err(Failure::slow(settings.connect_timeout)),
        };
        let (replies, queue) = mpsc::channel(replier::QUEUE);
        Ok(Self {
            exposes: Arc::clone(exposes),
            node: Arc::clone(node),
            consuming: Arc::new(consuming),
            replier: Replier::new(exposes, node, outlet, queue),
            replies,
            lost: CancellationToken::new(),
        })
    }

    /// Exposes what is wanted, until nothing is and all that was taken is answered, or a connection is
    /// lost.
    async fn host(self, wanted: &mut watch::Receiver<Wanted>, end: &End) {
        let Self { exposes, node, consuming, replier, replies, lost } = self;
        // Whatever ends this, those that still serve have to know.
        let _lost = lost.clone().drop_guard();
        let mut services: HashMap<String, Exposed> = HashMap::new();
        // Each service holds one: the replier ends with the last of them. Those that come back before
        // that go on over the same connections.
        let held = replies.downgrade();
        let mut replies = Some(replies);
        let mut replier = std::pin::pin!(replier.run());
        loop {
            let Wanted { services: next, entrance } = wanted.borrow_and_update().clone();
            services.retain(|_, exposed| {
                let stays = next.contains(&exposed.expose);
                if !stays {
                    exposed.stop.cancel();
                }
                stays
            });
            replies = match replies {
                _ if next.is_empty() => None,
                None => held.upgrade(),
                replies => replies,
            };
            if let (Some(replies), Some(entrance)) = (&replies, entrance) {
                for expose in next {
                    if services.contains_key(&expose.name) {
                        continue;
                    }
                    let stop = CancellationToken::new();
                    let desk = Arc::new(Desk {
                        exposes: Arc::clone(&exposes),
                        expose: Arc::clone(&expose),
                        entrance: Arc::clone(&entrance),
                        replies: replies.clone(),
                        lost: lost.clone(),
                    });
                    let (node, consuming) = (Arc::clone(&node), Arc::clone(&consuming));
                    let service = Service { desk, node, consuming, stop: stop.clone() };
                    exposes.tasks.spawn("nameko exposed service", service.run());
                    services.insert(expose.name.clone(), Exposed { expose, stop });
                }
            }
            tokio::select! {
                () = end.wait() => return,
                () = lost.cancelled() => return,
                () = &mut replier => break,
                changed = wanted.changed() => if changed.is_err() {
                    return;
                }
            }
        }
        if let Some(consuming) = Arc::into_inner(consuming) {
            consuming.close().await;
        }
    }
}
