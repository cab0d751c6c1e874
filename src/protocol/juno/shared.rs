//! The hub and what stands around it: the routing table, metrics, logs, and the tasks that carry
//! calls to other upstreams.
//!
//! The hub is behind one std mutex, taken for one frame at a time and never over an await.
//! Whatever may take longer (writing to sockets, logging faults, starting tasks) is gathered in
//! [`Io`] under the lock, and done after it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::NAME;
use super::config::HubConfig;
use super::hub::{End, Hub, Note, Presence, Way, World};
use super::journal::{Entry, Journal};
use super::peer::{Closing, Peer};
use super::shadow;
use super::wire::{CallId, Frame, Key, Outgoing};
use crate::budget::{Account, Budget};
use crate::call::{Call, CallKind, CallName, Context, Params, Payload, TraceParent};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::{HubMetrics, UpstreamMetrics};
use crate::params;
use crate::route::HUB;
use crate::router::ledger::IngressLabel;
use crate::router::{Arrival, Declined, Ending, Router, Ticket};
use crate::tasks::Tasks;

/// Who is owed the end of a call of the hub, or of one that comes to it.
pub(super) enum Owed {
    /// From one module to another: the router.
    Router(Box<Ticket>),
    /// From elsewhere to a module: somebody awaits the end.
    Outside(oneshot::Sender<Result<Payload, Fault>>),
    /// A notification to a module: what comes back later has nobody to go to.
    Notification(oneshot::Sender<Result<Payload, Fault>>),
    /// From a module to elsewhere: dropped when the module has gone, which ends the task.
    Away(#[expect(dead_code, reason = "its drop is the message")] oneshot::Sender<()>),
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

    fn routing(&self) -> Option<(Arc<Router>, IngressLabel)> {
        let Routing { router, label, .. } = self.routing.get()?;
        Some((router.upgrade()?, *label))
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
        let mut hub = self.lock();
        hub.set_settings(config.settings());
        hub.peers().for_each(|peer| peer.set_limit(config.max_queue));
        self.config.store(Arc::new(config));
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

/// A call that leaves the hub.
struct Leaving {
    id: CallId,
    call: Call,
    ticket: Ticket,
    caller_gone: oneshot::Receiver<()>,
}

/// A module's call that ended with a fault.
struct Failed {
    ending: Ending,
    name: String,
    fault: Fault,
}

/// The world as the hub sees it, for the time of a few frames.
pub(super) struct Io<'a> {
    shared: &'a Arc<Shared>,
    now: Instant,
    to_flush: Vec<Arc<Peer>>,
    leaving: Vec<Leaving>,
    /// Of the call that leaves next: its ticket, and what tells that its caller has gone.
    next: Option<(Ticket, oneshot::Receiver<()>)>,
    faults: Vec<Failed>,
    refused: Vec<Fault>,
    /// What is to be said of modules, by their ids.
    entries: Vec<(String, Entry)>,
    /// Functions that modules have declared, behind the modules' ids.
    declared: Vec<(String, String)>,
    modules_changed: bool,
    /// Whoever has hung up is waited for no longer.
    insists: bool,
}

impl<'a> Io<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, now: Instant) -> Self {
        Self {
            shared,
            now,
            to_flush: Vec::new(),
            leaving: Vec::new(),
            next: None,
            faults: Vec::new(),
            refused: Vec::new(),
            entries: Vec::new(),
            declared: Vec::new(),
            modules_changed: false,
            insists: false,
        }
    }

    /// The same, for a line that has waited long enough for somebody to leave.
    pub(super) fn insisting(shared: &'a Arc<Shared>, now: Instant) -> Self {
        Self { insists: true, ..Self::new(shared, now) }
    }

    /// Does something with the hub.
    pub(super) fn act<R>(
        &mut self,
        act: impl FnOnce(&mut Hub<Arc<Peer>, Owed>, &mut Self) -> R,
    ) -> R {
        let shared = self.shared;
        let mut hub = shared.lock();
        let done = act(&mut hub, self);
        if self.modules_changed {
            self.modules_changed = false;
            let counts = hub.counts();
            shared.metrics.set_modules(counts.active, counts.waiting, counts.unregistered);
        }
        done
    }

    /// The number of modules or connections is another one.
    pub(super) fn modules_changed(&mut self) {
        self.modules_changed = true;
    }

    /// Does what the hub asked for.
    pub(super) fn finish(self) {
        for peer in &self.to_flush {
            peer.flush();
        }
        for (id, entry) in &self.entries {
            self.shared.journal.write(id, entry);
            if let Entry::Registered { .. } = entry {
                self.warn_of_shadows(id, &[]);
            }
        }
        for (id, function) in &self.declared {
            self.warn_of_shadows(id, &[function]);
        }
        for Failed { ending, name, fault } in self.faults {
            ending.write(&name, Err(&fault));
        }
        if self.refused.is_empty() && self.leaving.is_empty() {
            return;
        }
        let Some((router, ingress)) = self.shared.routing() else { return };
        for fault in &self.refused {
            router.refuse(ingress, &TraceParent::generate(), self.now, fault);
        }
        for leaving in self.leaving {
            self.shared.tasks.spawn_session(carry_out(Arc::clone(self.shared), leaving));
        }
    }

    fn list(&mut self, peer: &Arc<Peer>) {
        self.to_flush.push(Arc::clone(peer));
    }

    /// Something about a module that its number of modules may have to do with.
    fn tell(&mut self, id: &str, entry: Entry) {
        self.modules_changed = true;
        self.entries.push((id.to_owned(), entry));
    }

    /// Says why nobody will call a module: at its registration for all of it, at a declaration
    /// for one function.
    fn warn_of_shadows(&self, id: &str, functions: &[&str]) {
        let Some(router) = self.shared.router() else { return };
        let shadows = shadow::of(&router.table(), id, functions.iter().copied());
        for shadow in shadows.into_iter().filter(|shadow| shadow.whole == functions.is_empty()) {
            self.shared.journal.write(id, &Entry::Shadowed(shadow));
        }
    }
}

/// Carries a module's call to another upstream, for as long as the module is there.
async fn carry_out(shared: Arc<Shared>, leaving: Leaving) {
    let Leaving { id, call, ticket, caller_gone } = leaving;
    let dispatched = tokio::select! {
        dispatched = ticket.carry_out(&call) => dispatched,
        _ = caller_gone => return,
    };
    let result = dispatched.result.as_ref().map(|reply| &reply.payload);
    shared.with(Instant::now(), |hub, io| hub.returned(id, result, io));
}

impl World for Io<'_> {
    type Peer = Arc<Peer>;
    type Ticket = Owed;

    fn send(&mut self, to: &Arc<Peer>, frame: &Outgoing<'_>) {
        if to.push(frame) {
            self.list(to);
        }
    }

    fn call(&mut self, to: &Arc<Peer>, frame: &Outgoing<'_>) -> bool {
        let pushed = to.push_call(frame);
        if pushed == Some(true) {
            self.list(to);
        }
        pushed.is_some()
    }

    fn hold(&mut self, line: Vec<u8>) -> Result<Bytes, Fault> {
        let Some(routing) = self.shared.routing.get() else { return Ok(Bytes::from(line)) };
        let mut share = routing.hooks.share();
        share.grow(line.len()).map_err(|exceeded| exceeded.fault(Outcome::NotSent))?;
        Ok(share.keep_with(Bytes::from(line)))
    }

    fn deliver(&mut self, to: &Arc<Peer>, line: &Bytes) {
        let pushed = to.push_shared(line);
        let metrics = &self.shared.metrics;
        let count =
            if pushed.is_some() { &metrics.hooks_delivered } else { &metrics.hooks_dropped };
        count.increment(1);
        if pushed == Some(true) {
            self.list(to);
        }
    }

    fn way(&mut self, name: &str) -> Way<Owed> {
        let Some((router, ingress)) = self.shared.routing() else {
            let message = "the gateway is not ready to route calls";
            return Way::Refused(Fault::not_sent(FaultKind::Unavailable, message));
        };
        let received = self.now;
        let arrival = Arrival { ingress, name, received, timeout: None, trace: None };
        let ticket = match router.admit(&arrival) {
            Ok(ticket) => ticket,
            Err(declined) => {
                let Declined { ending, fault } = *declined;
                let (name, told) = (name.to_owned(), fault.clone());
                self.faults.push(Failed { ending, name, fault });
                return Way::Refused(told);
            }
        };
        let rule = &ticket.row().rule;
        if rule.upstream != HUB {
            let (sender, receiver) = oneshot::channel();
            self.next = Some((ticket, receiver));
            return Way::Away(Owed::Away(sender));
        }
        Way::Here {
            service: rule.service.clone(),
            method: rule.method.clone(),
            timeout: ticket.deadline().timeout(),
            ticket: Owed::Router(Box::new(ticket)),
        }
    }

    fn named(&self, owed: &Owed, name: &str, array: &str) -> Result<Option<String>, Fault> {
        match owed {
            Owed::Router(ticket) if !ticket.row().rule.params.is_empty() => {
                params::by_name(name, &ticket.row().rule.params, array).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn away(&mut self, id: CallId, name: &str, frame: &Frame<'_>) {
        let name = CallName::parse(name.to_owned()).ok();
        if let (Some(name), Some((mut ticket, caller_gone))) = (name, self.next.take()) {
            let call = Call {
                name,
                params: params(frame),
                kind: CallKind::Call,
                context: Arc::new(Context::new(ticket.trace())),
                received: self.now,
                timeout: None,
            };
            self.leaving.push(Leaving { id, call, ticket, caller_gone });
        }
    }

    fn ended(&mut self, owed: Owed, name: &str, end: End<'_>) {
        match (owed, end) {
            (Owed::Router(ticket), End::Fault(fault)) => {
                let (ending, name) = (ticket.release(), name.to_owned());
                self.faults.push(Failed { ending, name, fault: fault.into_owned() });
            }
            (Owed::Router(ticket), End::Answer(_)) => ticket.end(name, Ok(())),
            (Owed::Outside(sender) | Owed::Notification(sender), end) => {
                let result = match end {
                    End::Answer(data) => Ok(data.map_or(Payload::NULL, payload)),
                    End::Fault(fault) => Err(fault.into_owned()),
                    End::CallerGone => return,
                };
                if sender.send(result).is_err() {
                    debug!("nobody waits for the answer");
                }
            }
            // The drop of the ticket, or of the sender, tells it.
            (Owed::Router(_), End::CallerGone) | (Owed::Away(_), _) => {}
        }
    }

    fn presence(&self, peer: &Arc<Peer>) -> Presence {
        match (peer.has_hung_up(), self.insists) {
            (true, true) => Presence::Gone,
            (true, false) => Presence::Doubtful,
            // On a busy machine the end of one connection can come behind the next one's first
            // bytes. Where instances share an id, nobody is refused for it.
            (false, false) if !self.shared.config().share => Presence::Doubtful,
            (false, _) => Presence::There,
        }
    }

    fn forgotten(&mut self, peer: &Arc<Peer>) {
        self.modules_changed = true;
        peer.close(Closing::Gone);
    }

    fn arm(&mut self, _at: Instant) {
        self.shared.deadline.notify_one();
    }

    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::Registered { id, version, waits_for } => {
                self.tell(id, Entry::Registered { version: version.to_owned(), waits_for });
            }
            Note::NotLetIn { id, why } => {
                self.tell(id, Entry::Refused { why: why.message().to_owned() });
            }
            Note::Declared { id, function } => {
                self.declared.push((id.to_owned(), function.to_owned()));
            }
            Note::Activated { id } => self.tell(id, Entry::Active),
            Note::Deactivated { id } => self.tell(id, Entry::Inactive),
            Note::Left { id, calls } => self.tell(id, Entry::Left { unanswered_calls: calls }),
            Note::CallRefused { fault } => self.refused.push(fault.clone()),
            Note::RequestRefused { fault } => self.shared.metrics.refused(fault.kind()),
            Note::NotTaken { id, why } => {
                self.shared.metrics.refused(why.kind());
                let why = why.message().to_owned();
                self.entries.push((id.to_owned(), Entry::NotTaken { why }));
            }
            Note::HookNotDelivered { id, hook, why } => {
                let metrics = &self.shared.metrics;
                let too_large = why.kind() == FaultKind::TooLarge;
                let count =
                    if too_large { &metrics.hooks_too_large } else { &metrics.hooks_dropped };
                count.increment(1);
                let (hook, why) = (hook.to_owned(), why.message().to_owned());
                self.entries.push((id.to_owned(), Entry::HookNotDelivered { hook, why }));
            }
            Note::Ignored => self.shared.metrics.ignored_lines.increment(1),
            Note::Late => self.shared.upstream.late_reply(),
        }
    }
}

/// The arguments of a call that leaves the hub. No arguments and an empty object are told apart.
fn params(frame: &Frame<'_>) -> Params {
    match frame.raw(Key::Arguments) {
        Some(raw) if raw.starts_with('{') => Params::Object(payload(raw)),
        Some(raw) if raw.starts_with('[') => Params::Array(payload(raw)),
        _ => Params::None,
    }
}

fn payload(raw: &str) -> Payload {
    Payload::from_validated(Bytes::copy_from_slice(raw.as_bytes()))
}

/// The fault of a call that the hub had taken and has forgotten: it has closed.
pub(super) fn closed() -> Fault {
    let message = "the hub has closed: the call may have run";
    Fault::new(FaultKind::Unavailable, Outcome::Unknown, message)
}
