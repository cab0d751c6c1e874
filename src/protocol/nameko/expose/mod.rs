//! Services that are exposed on RabbitMQ: their callers find a Nameko service (WIRE 1.1 to 1.4).
//!
//! ```text
//!  rpc-NAME ──► service ──► answering ──► Entrance ─ … ─ the routing table
//!               (a channel)     │  ▲
//!     ack, once confirmed ◄─────┘  └── replier ──► exchange nameko-rpc, key = reply_to
//! ```
//!
//! A generation hosts the `role`, which has a connection to consume on and one to reply on: an alarm
//! of the broker holds back the one that publishes, and neither disturbs the upstream's own calls. Each
//! service has a task and a channel of its own, so that none waits for another's calls. What was taken
//! when the connection goes is finished; the broker delivers the request again, and that takes the reply out
//! if it comes in time (`running`).

mod answering;
mod complaint;
mod leaving;
mod replier;
pub(super) mod role;
mod running;
mod service;
mod unsent;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::types::ShortString;
use tokio::sync::{Semaphore, watch};

use super::config::Settings;
use super::open::Failure;
use crate::budget::Account;
use crate::caller::Caller;
use crate::exposer::debts::Debts;
use crate::exposer::{Entrance, Exposer, Extent, Trouble};
use crate::metrics::UpstreamMetrics;
use crate::route::expose::Expose;
use crate::tasks::Tasks;
use crate::token::random_uuid;
pub(super) use complaint::{Complaint, Step};
use running::Running;
use unsent::Unsent;

/// How many requests of an upstream are unpacked at once.
const UNPACKERS: usize = 2;
/// The longest name of a queue, and the longest routing key.
const SHORT_STRING: usize = 255;

/// The services that are exposed on one upstream, over all of its generations.
pub(super) struct Exposes {
    settings: Arc<Settings>,
    /// Whoever calls: the broker has let them in, and what else they say of themselves nobody has
    /// verified.
    caller: Caller,
    exchange: ShortString,
    /// What requests hold of the memory.
    account: Account,
    metrics: UpstreamMetrics,
    tasks: Tasks,
    wanted: watch::Sender<Wanted>,
    debts: Debts,
    /// Why services are not exposed, by their names over there.
    troubles: Mutex<BTreeMap<String, String>>,
    /// Why none is.
    down: Mutex<Option<String>>,
    unsent: Unsent,
    running: Running,
    /// The names of services that are to be exposed no more, until they have been left.
    gone: Mutex<BTreeSet<String>>,
    unpackers: Arc<Semaphore>,
    /// A routing key that nothing is bound to.
    nobody: String,
}

/// What is to be exposed now, and who takes its calls.
#[derive(Clone, Default)]
struct Wanted {
    services: Vec<Arc<Expose>>,
    entrance: Option<Arc<dyn Entrance>>,
}

impl Exposes {
    pub(super) fn new(
        settings: &Arc<Settings>,
        account: Account,
        metrics: &UpstreamMetrics,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            exchange: settings.exchange.as_str().into(),
            settings: Arc::clone(settings),
            caller: Caller::by_way_of(metrics.upstream()),
            account,
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            wanted: watch::Sender::default(),
            debts: Debts::default(),
            troubles: Mutex::default(),
            down: Mutex::default(),
            unsent: Unsent::new(metrics.upstream()),
            running: Running::default(),
            gone: Mutex::default(),
            unpackers: Arc::new(Semaphore::new(UNPACKERS)),
            nobody: random_uuid(),
        })
    }
}

impl Exposes {
    /// Whether an exchange that a request came by may be another one of Nameko's. What is sent to the
    /// queue itself comes by the one without a name.
    fn is_foreign(&self, exchange: &ShortString) -> bool {
        !exchange.as_str().is_empty() && *exchange != self.exchange
    }

    /// Who calls; `user` is whom the call says it comes from, and counts where that is believed.
    fn caller(&self, user: Option<&str>) -> Caller {
        match user.filter(|_| self.settings.trust_context) {
            Some(user) => self.caller.clone().vouched_for(user),
            None => self.caller.clone(),
        }
    }
}

impl Exposes {
    /// Why there is no connection for exposed services; `None` where there is one, or its want is not
    /// theirs alone.
    fn set_down(&self, failure: Option<&Failure>) {
        let what = failure.map(Failure::told);
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // Every use leaves the set whole.
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue that nobody consumes goes on taking calls.
    fn tell_left(&self, expose: &Expose, reason: &str) {
        let queue = queue_name(&expose.name);
        tracing::warn!(
            upstream = self.metrics.upstream(),
            service = expose.service,
            queue,
            reason,
            mend = "start who serves it now; or see what waits in it with rabbitmqctl list_queues name messages \
                    consumers, and delete it with rabbitmqctl delete_queue: until then its callers wait",
            "not exposed any more, and its queue is left"
        );
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Every use leaves the map whole.
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exposer for Exposes {
    fn expose(&self, services: &[Arc<Expose>], entrance: &Arc<dyn Entrance>) {
        let wanted = Wanted { services: services.to_vec(), entrance: Some(Arc::clone(entrance)) };
        self.gone().retain(|name| services.iter().all(|expose| expose.name != *name));
        self.wanted.send_replace(wanted);
    }

    fn abandon(&self, exposes: &[Arc<Expose>]) {
        let wanted = self.wanted.borrow();
        let is_down = self.down.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        for expose in exposes {
            // Whoever consumes it leaves it.
            if is_down {
                self.tell_left(expose, "there is no connection to rabbitmq");
            } else if wanted.services.iter().any(|wanted| wanted.name == expose.name) {
                self.gone().insert(expose.name.clone());
            } else {
                tracing::info!(
                    upstream = self.metrics.upstream(),
                    service = expose.service,
                    queue = queue_name(&expose.name),
                    note = "it was not consumed here when it was taken out: where nobody else serves it its callers wait, \
                            until it is deleted with rabbitmqctl delete_queue",
                    "not exposed any more, and its queue, if there is one, is left"
                );
            }
        }
    }

    fn troubles(&self) -> Vec<Trouble> {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(what) = down {
            let wanted = self.wanted.borrow();
            let names = wanted.services.iter().map(|expose| expose.name.clone());
            return names.map(|name| not_exposed(name, what.clone())).collect();
        }
        let troubles = self.troubles().clone().into_iter();
        troubles.map(|(name, what)| not_exposed(name, what)).collect()
    }

    fn owed(&self) -> usize {
        // A queue that is about to be left may have handed over more than has been looked at: it
        // counts until it is left, and is looked at before the calls that came out of it.
        let leaving = self.wanted.borrow().services.is_empty();
        let consumers = if leaving { self.debts.consumers() } else { 0 };
        consumers + self.debts.calls()
    }
}

fn not_exposed(name: String, what: String) -> Trouble {
    Trouble { name, extent: Extent::Nothing, what }
}

/// The queue of a service of that name.
pub(super) fn queue_name(service: &str) -> String {
    format!("rpc-{service}")
}

/// What of a row cannot be done on RabbitMQ, each with its key and the mend.
pub(super) fn object_to(expose: &Expose) -> Vec<(&'static str, String)> {
    let mut objections = Vec::new();
    if expose.dialect.is_some() {
        let message = "Nameko's services are called in one way alone: leave it out";
        objections.push(("dialect", message.to_owned()));
    }
    if !expose.subjects.is_empty() {
        let message = "Nameko's services are called by their names, on no subjects: leave it out";
        objections.push(("subjects", message.to_owned()));
    }
    let key = if expose.name == expose.service { "service" } else { "as" };
    if let Some(complaint) = complaint(&expose.name) {
        let name: String = expose.name.chars().take(80).collect();
        objections.push((
            key,
            format!(
                "{name:?} {complaint}, and can be no Nameko service's name: give it another one \
                 with `as`"
            ),
        ));
    }
    if let Some(method) = expose.methods.iter().find(|method| method.contains('.')) {
        let message = format!("{method:?} has a dot, which no method of a Nameko service has");
        objections.push(("methods", message));
    }
    objections
}

/// What is wrong with a service's name, as the routing key and the queue's name that it is a part of.
fn complaint(name: &str) -> Option<String> {
    // `rpc-NAME`, and `NAME.METHOD` with at least a letter.
    let longest = SHORT_STRING - "rpc-".len();
    let odd = |c: &char| matches!(c, '*' | '#') || c.is_whitespace() || c.is_control();
    if name.len() > longest {
        Some(format!("is longer than {longest} bytes"))
    } else if let Some(odd) = name.chars().find(odd) {
        Some(format!("holds {odd:?}"))
    } else if name.split('.').any(str::is_empty) {
        Some("has an empty part between its dots".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expose(name: &str) -> Expose {
        Expose {
            service: "mailer".to_owned(),
            name: name.to_owned(),
            methods: Vec::new(),
            prefetch: None,
            subjects: Vec::new(),
            dialect: None,
        }
    }

    #[test]
    fn names_that_can_be_no_services() {
        for name in ["mailer", "eu.mailer", "mailer_service", "é", &"x".repeat(251)] {
            assert_eq!(object_to(&expose(name)), [], "{name}");
        }
        for (name, words) in [
            ("mail*", "holds '*'"),
            ("mail#", "holds '#'"),
            ("mail er", "holds ' '"),
            ("mail..er", "empty part"),
            (".mailer", "empty part"),
            (&"x".repeat(252), "longer than 251 bytes"),
        ] {
            let objections = object_to(&expose(name));
            assert_eq!(objections.len(), 1, "{name}: {objections:?}");
            assert_eq!(objections[0].0, "as");
            assert!(objections[0].1.contains(words), "{objections:?}");
        }
    }

    #[test]
    fn what_has_no_meaning_is_told() {
        let with = Expose { dialect: Some("micro".to_owned()), ..expose("mailer") };
        assert_eq!(object_to(&with)[0].0, "dialect");
        let dotted = Expose { methods: vec!["a.b".to_owned()], ..expose("mailer") };
        assert_eq!(object_to(&dotted)[0].0, "methods");
    }
}
