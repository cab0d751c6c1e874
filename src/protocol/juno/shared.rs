//! The hub behind its lock, and what it shares with its surroundings: the settings in force, the
//! router, metrics, the log, the tasks.
//!
//! The lock is one std mutex, taken for one frame at a time and never over an await: through
//! [`Io`](super::world::Io), which does what takes longer after it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::NAME;
use super::config::HubConfig;
use super::events::Sources;
use super::hub::Hub;
use super::journal::{Entry, Journal};
use super::peer::Peer;
use super::world::Io;
use crate::budget::{Account, Budget};
use crate::call::Payload;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::{HubMetrics, UpstreamMetrics};
use crate::router::ledger::IngressLabel;
use crate::router::{Router, Ticket};
use crate::tasks::Tasks;

/// Who is owed the end of a call of the hub, or of one that comes to it.
pub(super) enum Owed {
    /// From one module to another: the router.
    Router(Box<Ticket>),
    /// The same, where the call waited for its turn: the drop of what stands beside it ends the task that
    /// did.
    Late(Box<Ticket>, #[expect(dead_code, reason = "its drop is the message")] oneshot::Sender<()>),
    /// From elsewhere to a module: somebody awaits the end.
    Outside(oneshot::Sender<Result<Payload, Fault>>),
    /// A notification to a module: what comes back later has nobody to go to.
    Notification(oneshot::Sender<Result<Payload, Fault>>),
    /// From a module to elsewhere: dropped when the module has gone, which ends the task.
    Away(#[expect(dead_code, reason = "its drop is the message")] oneshot::Sender<()>),
}

impl Owed {
    /// The end of a call whose turn has come, and what tells that it is over.
    pub(super) fn late(ticket: Ticket) -> (Self, oneshot::Receiver<()>) {
        let (sender, is_over) = oneshot::channel();
        (Self::Late(Box::new(ticket), sender), is_over)
    }

    /// The ticket of a call to a module.
    pub(super) fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::Router(ticket) | Self::Late(ticket, _) => Some(ticket),
            Self::Outside(_) | Self::Notification(_) | Self::Away(_) => None,
        }
    }
}

/// What the hub learns when the gateway stands.
struct Routing {
    router: Weak<Router>,
    /// What modules' calls are counted under there.
    label: IngressLabel,
    budget: Budget,
    /// What hooks that wait for their listeners may hold together.
    hooks: Account,
}

/// The hub and its surroundings.
pub(super) struct Shared {
    hub: Mutex<Hub<Arc<Peer>, Owed>>,
    config: ArcSwap<HubConfig>,
    routing: OnceLock<Routing>,
    pub(super) events: Sources,
    pub(super) metrics: HubMetrics,
    pub(super) upstream: UpstreamMetrics,
    pub(super) tasks: Tasks,
    pub(super) journal: Journal,
    /// Wakes the task that ends calls at their deadlines.
    pub(super) deadline: Notify,
    /// Fires when no more connections are to be accepted.
    pub(super) closed: CancellationToken,
}

impl Shared {
    pub(super) fn new(config: HubConfig, upstream: UpstreamMetrics, tasks: Tasks) -> Self {
        Self {
            hub: Mutex::new(Hub::new(config.settings())),
            config: ArcSwap::from_pointee(config),
            routing: OnceLock::new(),
            events: Sources::default(),
            metrics: HubMetrics::new(),
            upstream,
            tasks,
            journal: Journal::new(),
            deadline: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Tells the hub of the router, which was made after it.
    pub(super) fn set_router(&self, router: &Arc<Router>) {
        let routing = Routing {
            router: Arc::downgrade(router),
            label: router.ingress(NAME),
            budget: router.budget().clone(),
            hooks: router.budget().upstream(),
        };
        let again = self.routing.set(routing).is_err();
        debug_assert!(!again, "a hub has one router");
    }

    pub(super) fn router(&self) -> Option<Arc<Router>> {
        self.routing().map(|(router, _)| router)
    }

    pub(super) fn routing(&self) -> Option<(Arc<Router>, IngressLabel)> {
        let Routing { router, label, .. } = self.routing.get()?;
        Some((router.upgrade()?, *label))
    }

    /// What hooks that wait for their listeners may hold together.
    pub(super) fn hooks(&self) -> Option<&Account> {
        self.routing.get().map(|routing| &routing.hooks)
    }

    /// What a new connection may hold. There is none before there is a router.
    pub(super) fn account(&self) -> Option<Account> {
        self.routing.get().map(|routing| routing.budget.connection())
    }

    /// The settings in force.
    pub(super) fn config(&self) -> Guard<Arc<HubConfig>> {
        self.config.load()
    }

    /// Puts other settings in force, for the connections that are open too.
    pub(super) fn set_config(&self, config: HubConfig) {
        let lost = {
            let mut hub = self.lock();
            let lost = hub.set_settings(config.settings());
            hub.peers().for_each(|peer| peer.set_limit(config.max_queue));
            self.config.store(Arc::new(config));
            lost
        };
        for (id, loss) in lost {
            self.journal.write(&id, &Entry::NotKnown { why: loss.why() });
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Hub<Arc<Peer>, Owed>> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the hub, and then what it asked for.
    pub(super) fn with<R>(
        self: &Arc<Self>,
        now: Instant,
        act: impl FnOnce(&mut Hub<Arc<Peer>, Owed>, &mut Io<'_>) -> R,
    ) -> R {
        let mut io = Io::new(self, now);
        let done = io.act(act);
        io.finish();
        done
    }
}

/// The fault of a call that the hub had taken and has forgotten: it has closed.
pub(super) fn closed() -> Fault {
    let message = "the hub has closed: the call may have run";
    Fault::new(FaultKind::Unavailable, Outcome::Unknown, message)
}
