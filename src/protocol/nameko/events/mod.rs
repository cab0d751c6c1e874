//! Events on RabbitMQ: Nameko's (WIRE 1.5), Gemstone's (WIRE 4.5), and queues for dead letters.
//!
//! ```text
//! exchange ─► queue ─► source (a channel) ─► Taker ─ … ─ the pump ─ … ─► emitter ─► exchange or queue
//!                         ▲ acks, when settled                             │ confirms
//!                         └─────────────── Receipt        Ok(()) ◄─────────┘
//! ```
//!
//! A generation hosts the `role`, which has a connection to listen on while anybody wants events, and
//! one to publish on from the first event that goes out: an alarm of the broker holds back who publishes,
//! a wrong exchange closes a channel, a refused event costs its connection: none of it is the calls'
//! business. Each source has a task and a channel of its own. What a source keeps waits in a durable
//! queue of Genkan's own, by the name of the bridge, and is acked when its receipt is settled.

mod address;
mod binding;
mod complaint;
mod emitter;
mod hold;
mod intakes;
mod leaving;
mod look;
mod named;
mod outstanding;
mod places;
pub(super) mod role;
mod seen;
mod source;

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

pub(super) use self::address::ADDRESSES;
use self::address::{Source as Place, Target};
use self::emitter::Outgoing;
use self::leaving::Leaving;
pub(super) use self::look::look;
use self::named::Named;
use self::seen::Seen;
use super::config::Settings;
use super::connector::sites;
use super::wire::event as wire;
use crate::budget::Account;
use crate::event::{DedupKey, Event, Undelivered};
use crate::event_port::{EventPort, Source};
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// How many events of an upstream are unpacked at once.
const UNPACKERS: usize = 2;

/// The events of one upstream, over all of its generations.
pub(super) struct Events {
    settings: Arc<Settings>,
    /// What events hold of the memory.
    account: Account,
    metrics: UpstreamMetrics,
    tasks: Tasks,
    wanted: watch::Sender<Vec<Arc<Wanted>>>,
    /// Where events go to that are to be published, as long as a generation lives. It has no bound of
    /// its own: each bridge has a batch of events under way, and no more.
    outbox: ArcSwapOption<mpsc::UnboundedSender<Outgoing>>,
    unpackers: Arc<Semaphore>,
    named: Named,
    /// Another upstream's port has what it had: its sources are not waited for much longer.
    is_succeeded: AtomicBool,
}

/// A source, and what is known of it over all connections.
struct Wanted {
    source: Source,
    place: Place,
    seen: Mutex<Seen>,
    /// Told when an event is done with.
    done: Notify,
    /// Its queue has been bound.
    was_bound: AtomicBool,
    /// Nobody will ask for what its queue keeps.
    is_forgotten: AtomicBool,
    leaving: Leaving,
    /// One connection at a time takes what its queue keeps: what another one still has comes first.
    turn: Semaphore,
}

impl Wanted {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Every use leaves it whole, so a panic elsewhere has not broken it.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what comes is kept until it is settled.
    fn keeps(&self) -> bool {
        self.source.shared && matches!(self.place, Place::Nameko { .. })
    }
}

impl Events {
    pub(super) fn new(
        settings: &Arc<Settings>,
        account: Account,
        metrics: &UpstreamMetrics,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::clone(settings),
            account,
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            wanted: watch::Sender::default(),
            outbox: ArcSwapOption::empty(),
            unpackers: Arc::new(Semaphore::new(UNPACKERS)),
            named: Named::default(),
            is_succeeded: AtomicBool::new(false),
        })
    }

    /// Puts an event into the outbox: now, so that what is handed over first goes first.
    fn hand_over(
        &self,
        address: &str,
        captures: &[String],
        event: &Event,
    ) -> Result<oneshot::Receiver<Result<(), Undelivered>>, Undelivered> {
        let (target, is_named) = Target::filled(address, captures).map_err(Undelivered::Refused)?;
        if is_named {
            self.named.admit(&target).map_err(Undelivered::Refused)?;
        }
        let (done, told) = oneshot::channel();
        let (properties, body) = (wire::properties(event), event.data.clone().into_bytes());
        let outbox = self.outbox.load();
        let outbox = outbox.as_ref().ok_or_else(|| lost("not connected to rabbitmq"))?;
        let outgoing = Outgoing { target, properties, body, done };
        outbox.send(outgoing).map_err(|_| lost("the connection to rabbitmq was lost"))?;
        Ok(told)
    }
}

/// Nobody is there to take an event, or nobody knows whether it was taken.
fn lost(reason: &str) -> Undelivered {
    Undelivered::Unreachable(reason.to_owned())
}

impl EventPort for Events {
    fn listen(&self, sources: &[Source]) {
        self.wanted.send_modify(|wanted| {
            let before = std::mem::take(wanted);
            let next = sources.iter().filter_map(|source| {
                let same = before.iter().find(|before| before.source.is(source));
                if let Some(same) = same {
                    return Some(Arc::clone(same));
                }
                // Others were refused when the configuration was read.
                let place = Place::parse(&source.address).ok()?;
                Some(Arc::new(Wanted {
                    source: source.clone(),
                    place,
                    seen: Mutex::default(),
                    done: Notify::new(),
                    was_bound: AtomicBool::new(false),
                    is_forgotten: AtomicBool::new(false),
                    leaving: Leaving::default(),
                    turn: Semaphore::new(1),
                }))
            });
            let next: Vec<_> = next.collect();
            let is_had = |gone: &Wanted| {
                next.iter().any(|next| next.keeps() && next.source.name == gone.source.name)
            };
            let leaves = |gone: &&Arc<Wanted>| {
                let is_forgotten = gone.is_forgotten.load(Ordering::Acquire);
                is_forgotten && gone.keeps() && !gone.leaving.is_over() && !is_had(gone)
            };
            let mut leaving: Vec<_> = before.iter().filter(leaves).cloned().collect();
            for gone in leaving.split_off(leaving.len().min(leaving::MOST)) {
                self.tell_left(&gone, "too many bridges have gone before their events had");
            }
            leaving.iter().for_each(|gone| gone.leaving.begin());
            *wanted = [next, leaving].concat();
        });
    }

    fn succeed(&self, before: &dyn EventPort) {
        let any: &dyn Any = before;
        let Some(before) = any.downcast_ref::<Self>() else { return before.listen(&[]) };
        before.is_succeeded.store(true, Ordering::Release);
        // What no queue keeps is heard anew.
        let kept = before.wanted.send_replace(Vec::new()).into_iter().filter(|it| it.keeps());
        self.wanted.send_modify(|wanted| wanted.extend(kept));
        self.named.succeed(&before.named);
    }

    fn is_where(&self, other: &dyn EventPort) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<Self>().is_some_and(|other| {
            let there = sites(&other.settings);
            sites(&self.settings).iter().any(|site| there.contains(site))
        })
    }

    fn is_leaving(&self) -> bool {
        self.wanted.borrow().iter().any(|wanted| wanted.leaving.is_under_way())
    }

    fn close(&self) {
        self.wanted.send_modify(|wanted| {
            let before = std::mem::take(wanted);
            for gone in before.iter().filter(|gone| gone.leaving.is_under_way()) {
                self.tell_left(gone, "Genkan ends before all that waits in it has been carried");
            }
        });
    }

    fn forget(&self, source: &Source) {
        let wanted = self.wanted.borrow();
        let found = wanted.iter().find(|wanted| wanted.source.is(source));
        if let Some(wanted) = found {
            wanted.is_forgotten.store(true, Ordering::Release);
        }
    }

    fn publish(
        &self,
        address: &str,
        captures: &[String],
        event: &Event,
        _key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        match self.hand_over(address, captures, event) {
            Err(undelivered) => ready(Err(undelivered)).boxed(),
            Ok(told) => async move {
                told.await.unwrap_or_else(|_| Err(lost("the connection to rabbitmq was lost")))
            }
            .boxed(),
        }
    }
}
