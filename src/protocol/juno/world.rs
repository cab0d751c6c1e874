//! The world as the hub sees it: connections to send to, the routing table, metrics and logs.
//!
//! Whatever may take longer than the lock is to be held (writing to sockets, logging faults,
//! starting tasks) is gathered in [`Io`] under it, and done after it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::debug;

use super::closing::Closing;
use super::events::Carried;
use super::hub::{End, Here, Hub, Note, Presence, Way, World, is_callable};
use super::journal::Entry;
use super::late::Late;
use super::leaving::{Leaving, payload};
use super::peer::Peer;
use super::shadow;
use super::shared::{Owed, Shared};
use super::wire::{CallId, Frame, OutgoingFrame};
use crate::call::Payload;
use crate::caller::Caller;
use crate::fault::{Challenge, Fault, FaultKind, Outcome};
use crate::idempotency_key::IdempotencyKey;
use crate::metrics::credential_refused;
use crate::params;
use crate::route::{HUB, service_of};
use crate::router::{Arrival, Called, Ending, Ticket, Unadmitted};
use crate::trace::TraceParent;

/// A module's call that ended with a fault.
struct Failed {
    ending: Ending,
    name: String,
    fault: Fault,
}

/// A module's call that was refused before it was routed.
struct RefusedCall {
    called: Option<String>,
    caller: Caller,
    fault: Fault,
}

/// The world as the hub sees it, for the time of a few frames.
pub(super) struct Io<'a> {
    shared: &'a Arc<Shared>,
    now: Instant,
    to_flush: Vec<Arc<Peer>>,
    leaving: Vec<Leaving>,
    late: Vec<Late>,
    /// Of the call that leaves next: its ticket, what tells that its caller has gone, and who that is.
    next: Option<(Ticket, oneshot::Receiver<()>, Caller)>,
    faults: Vec<Failed>,
    refused: Vec<RefusedCall>,
    /// What is to be said of modules, by their ids.
    entries: Vec<(String, Entry)>,
    /// Functions that modules have declared, behind the modules' ids.
    declared: Vec<(String, String)>,
    modules_changed: bool,
    /// Whoever has hung up is waited for no longer.
    insists: bool,
    /// What travels with the hook that a bridge has brought.
    carried: Option<Carried>,
}

impl<'a> Io<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, now: Instant) -> Self {
        Self {
            shared,
            now,
            to_flush: Vec::new(),
            leaving: Vec::new(),
            late: Vec::new(),
            next: None,
            faults: Vec::new(),
            refused: Vec::new(),
            entries: Vec::new(),
            declared: Vec::new(),
            modules_changed: false,
            insists: false,
            carried: None,
        }
    }

    /// The same, for a line that has waited long enough for somebody to leave.
    pub(super) fn insisting(shared: &'a Arc<Shared>, now: Instant) -> Self {
        Self { insists: true, ..Self::new(shared, now) }
    }

    /// The same, for a hook that a bridge brings.
    pub(super) fn carrying(shared: &'a Arc<Shared>, now: Instant, carried: Carried) -> Self {
        Self { carried: Some(carried), ..Self::new(shared, now) }
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

    /// An answer was no JSON but for Python's `NaN` or `Infinity`, which are `null` now.
    pub(super) fn repaired_answer(&self) {
        self.shared.upstream.repaired_reply();
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
            if is_callable(function) {
                self.warn_of_shadows(id, &[function]);
            } else {
                self.shared.journal.write(id, &Entry::Uncallable { function: function.clone() });
            }
        }
        for Failed { ending, name, fault } in self.faults {
            ending.write(&name, Err(&fault));
        }
        if self.refused.is_empty() && self.leaving.is_empty() && self.late.is_empty() {
            return;
        }
        let Some((router, ingress)) = self.shared.routing() else { return };
        for RefusedCall { called, caller, fault } in &self.refused {
            let called = called.as_deref().map_or(Called::Unknown, Called::Routed);
            let trace = TraceParent::generate();
            router.refuse(ingress, (called, caller, &trace), self.now, fault);
        }
        for leaving in self.leaving {
            self.shared.tasks.spawn_session(leaving.carry_out(Arc::clone(self.shared)));
        }
        for late in self.late {
            self.shared.tasks.spawn_session(late.carry_out(Arc::clone(self.shared)));
        }
    }

    /// The way of a call to a module whose ticket is owed.
    pub(super) fn here(&self, owed: Owed) -> Here<Owed> {
        let rule = owed.ticket().map(|ticket| &ticket.row().rule);
        let service = rule.and_then(|rule| rule.service.clone());
        let method = rule.and_then(|rule| rule.method.clone());
        Here { service, method, timeout: None, ticket: owed }
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

/// A module cannot show what others can by whom nobody knows: its token is the one that it registers with.
fn in_its_words(fault: Fault, name: &str) -> Fault {
    if fault.challenge() != Some(Challenge::Missing) {
        return fault;
    }
    let message = format!(
        "not everybody may call `{name}`: it is not known which module wants to: give it a token in [hub.tokens], \
         and register with that"
    );
    Fault::not_sent(fault.kind(), message).with_challenge(Challenge::Missing)
}

impl World for Io<'_> {
    type Peer = Arc<Peer>;
    type Ticket = Owed;

    fn send(&mut self, to: &Arc<Peer>, frame: &OutgoingFrame<'_>) {
        if to.push(frame) {
            self.list(to);
        }
    }

    fn call(&mut self, to: &Arc<Peer>, frame: &OutgoingFrame<'_>) -> bool {
        let pushed = to.push_call(frame);
        if pushed == Some(true) {
            self.list(to);
        }
        pushed.is_some()
    }

    fn recall(&mut self, from: &Arc<Peer>, id: CallId) -> bool {
        from.recall(id)
    }

    fn hold(&mut self, line: Vec<u8>) -> Result<Bytes, Fault> {
        let Some(hooks) = self.shared.hooks() else { return Ok(Bytes::from(line)) };
        let mut share = hooks.share();
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

    fn happened(&mut self, hook: &str, data: &str) {
        self.shared.events.hand_on(hook, data, self.carried.take());
    }

    fn way(&mut self, name: &str, caller: &Caller, key: Option<&IdempotencyKey>) -> Way<Owed> {
        let Some((router, ingress)) = self.shared.routing() else {
            let message = "the gateway is not ready to route calls";
            return Way::Refused(Fault::not_sent(FaultKind::Unavailable, message));
        };
        let received = self.now;
        let arrival = Arrival {
            ingress,
            caller,
            name,
            service: service_of(name),
            received,
            timeout: None,
            trace: None,
            hops: 0,
            idempotency_key: key,
            may_have_run: false,
        };
        let ticket = match router.admit(&arrival) {
            Ok(ticket) => ticket,
            Err(unadmitted) => {
                let Unadmitted { ending, fault, .. } = *unadmitted;
                let fault = in_its_words(fault, name);
                let (name, told) = (name.to_owned(), fault.clone());
                self.faults.push(Failed { ending, name, fault });
                return Way::Refused(told);
            }
        };
        if ticket.row().rule.upstream != HUB || ticket.is_waiting() {
            let (sender, receiver) = oneshot::channel();
            self.next = Some((ticket, receiver, caller.clone()));
            return Way::Away(Owed::Away(sender));
        }
        let timeout = Some(ticket.deadline().timeout());
        Way::Here(Here { timeout, ..self.here(Owed::Router(Box::new(ticket))) })
    }

    fn named(&self, owed: &Owed, name: &str, array: &str) -> Result<Option<String>, Fault> {
        match owed.ticket() {
            Some(ticket) if !ticket.row().rule.params.is_empty() => {
                params::by_name(name, &ticket.row().rule.params, array).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn away(
        &mut self,
        from: &Arc<Peer>,
        id: CallId,
        call: (&str, Option<IdempotencyKey>),
        frame: &Frame<'_>,
    ) {
        let Some((ticket, caller_gone, caller)) = self.next.take() else { return };
        if ticket.row().rule.upstream == HUB && !ticket.is_keyed() {
            let (name, line) = (call.0.to_owned(), frame.line());
            return self.late.push(Late { id, name, line, ticket, caller_gone });
        }
        let (from, made) = (Arc::clone(from), (caller, self.now));
        self.leaving.extend(Leaving::new(id, call, frame, (from, made), ticket, caller_gone));
    }

    fn ended(&mut self, owed: Owed, name: &str, end: End<'_>) {
        match (owed, end) {
            (Owed::Router(ticket) | Owed::Late(ticket, _), End::Fault(fault)) => {
                let (ending, name) = (ticket.release(&fault), name.to_owned());
                self.faults.push(Failed { ending, name, fault: fault.into_owned() });
            }
            (Owed::Router(ticket) | Owed::Late(ticket, _), End::Answer(_)) => {
                ticket.end(name, Ok(()))
            }
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
            (Owed::Router(_) | Owed::Late(..), End::CallerGone) | (Owed::Away(_), _) => {}
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

    fn ask_after(&mut self, peer: &Arc<Peer>) {
        peer.ask_after();
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
            Note::TokenRefused { how } => credential_refused(how.label()),
            Note::Declared { id, function } => {
                self.declared.push((id.to_owned(), function.to_owned()));
            }
            Note::GaveWay { id } => self.tell(id, Entry::GaveWay),
            Note::Activated { id } => self.tell(id, Entry::Active),
            Note::Deactivated { id } => self.tell(id, Entry::Inactive),
            Note::Left { id, calls } => self.tell(id, Entry::Left { unanswered_calls: calls }),
            Note::CallRefused { called, caller, fault } => {
                let (called, caller) = (called.map(str::to_owned), caller.clone());
                self.refused.push(RefusedCall { called, caller, fault: fault.clone() });
            }
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
            Note::Ignored { id } => {
                self.shared.metrics.ignored_lines.increment(1);
                self.entries.push((id.to_owned(), Entry::NoJson));
            }
            Note::Late => self.shared.upstream.late_reply(),
        }
    }
}
