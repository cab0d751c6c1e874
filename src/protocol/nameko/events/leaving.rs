//! What becomes of the queue of a bridge that has gone for good.
//!
//! Where nobody else reads it, it is unbound, so that it does not grow; what waits in it is still carried to
//! where it was to go; and when nothing does any more, it is deleted. That may take as long as a target is
//! down, over any number of connections. A bridge that comes back meanwhile takes its queue over.
//!
//! Nothing is published between two bridges: while another one is to have the same exchange's events from now on,
//! the old queue stays bound until that one's is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::open::refused_with;
use super::binding::{Purpose, passive};
use super::complaint::{Complaint, Step};
use super::source::{CANCEL, Listening};
use super::{Events, Wanted};
use crate::backoff::Backoff;

/// How many queues of an upstream are emptied at once: those that went first are left.
pub(super) const MOST: usize = 64;
/// How often a connection may be lost over the same queue's deletion: some cannot be deleted so.
const MOST_LOST: u32 = 3;
/// How often it is looked whether somebody else reads it still.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);
const STABLE: Duration = Duration::from_secs(10);
const SILENT: &str = "rabbitmq does not answer";
const PRECONDITION_FAILED: u16 = 406;
const NOT_FOUND: u16 = 404;

/// How far a source that goes for good has gone.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// It goes.
    begun: CancellationToken,
    /// Nobody else reads the queue, and nothing new comes into it.
    is_unbound: AtomicBool,
    /// There is nothing more to do: it is deleted, or was told of.
    is_over: AtomicBool,
    lost: AtomicU32,
}

/// Whose a queue is.
enum Owner {
    /// Ours alone, and it is unbound.
    Us,
    Others,
    /// It is not there.
    Nobody,
    Unknown(Complaint),
}

enum Deletion {
    /// It is not known whose it is.
    NotYet,
    Done,
    /// Something waits in it.
    NotEmpty,
    Others,
    Failed(Complaint),
}

impl Leaving {
    pub(super) fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether there is still something to do.
    pub(super) fn is_under_way(&self) -> bool {
        self.begun.is_cancelled() && !self.is_over()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(super) fn is_unbound(&self) -> bool {
        self.is_unbound.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

impl Wanted {
    /// Whether it is to have what another one of the same exchange has had.
    fn succeeds(&self, other: &Self) -> bool {
        self.keeps()
            && !self.leaving.begun.is_cancelled()
            && self.place.exchange() == other.place.exchange()
    }
}

impl Events {
    /// A source has gone: nothing is left to do.
    pub(super) fn gone(&self, wanted: &Arc<Wanted>) {
        self.wanted.send_if_modified(|all| {
            let before = all.len();
            all.retain(|other| !Arc::ptr_eq(other, wanted));
            all.len() < before
        });
    }

    /// A queue that is left as it is, for somebody to look at.
    pub(super) fn tell_left(&self, wanted: &Wanted, reason: &str) {
        wanted.leaving.end();
        let is_bound = !wanted.leaving.is_unbound();
        tracing::warn!(
            upstream = self.metrics.upstream(),
            queue = wanted.place.queue(&wanted.source.name),
            is_bound,
            reason,
            mend = "see what waits in it with rabbitmqctl list_queues name messages consumers, and read it, or delete \
                    it with rabbitmqctl delete_queue when no other gateway has that bridge",
            "a bridge that has gone leaves its queue"
        );
    }
}

impl Listening {
    /// Waits until the source goes for good, and what is published is somebody else's.
    pub(super) async fn departs(&self) {
        self.wanted.leaving.begun.cancelled().await;
        let mut all = self.events.wanted.subscribe();
        let is_ready = |other: &Arc<Wanted>| {
            !other.succeeds(&self.wanted) || other.was_bound.load(Ordering::Acquire)
        };
        // Where another port has it by now, that one knows who is to be waited for.
        let is_ours = |all: &[Arc<Wanted>]| all.iter().any(|it| Arc::ptr_eq(it, &self.wanted));
        // The sender is in `events`.
        drop(all.wait_for(|all| is_ours(all) && all.iter().all(is_ready)).await);
    }

    /// Sees to it that nothing new comes into the queue, unless somebody else reads it. Nobody consumes it here.
    pub(super) async fn unbind(&self) {
        if !self.wanted.leaving.is_under_way() || self.wanted.leaving.is_unbound() {
            return;
        }
        let silent = |_| Owner::Unknown(Complaint::plain(SILENT));
        match timeout(CANCEL, self.owner()).await.unwrap_or_else(silent) {
            Owner::Us => self.wanted.leaving.is_unbound.store(true, Ordering::Release),
            Owner::Others => self.events.tell_left(&self.wanted, "another gateway reads it"),
            Owner::Nobody => self.wanted.leaving.end(),
            // It is tried again, over the next connection for one.
            Owner::Unknown(complaint) if complaint.is_outage => {}
            Owner::Unknown(complaint) => self.events.tell_left(&self.wanted, &complaint.told()),
        }
    }

    async fn owner(&self) -> Owner {
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(complaint) => return Owner::Unknown(complaint),
        };
        let unknown =
            |step: Step| move |error: &lapin::Error| Owner::Unknown(Complaint::new(step, error));
        let place = &self.wanted.place;
        let queue = place.queue(&self.wanted.source.name);
        let name = ShortString::from(queue.as_str());
        match passive(&channel, &name).await {
            Ok(found) if found.consumer_count() > 0 => return Owner::Others,
            Ok(_) => {}
            Err(error) if refused_with(&error, NOT_FOUND) => return Owner::Nobody,
            Err(error) => return unknown(Step::Queue)(&error),
        }
        let (exchange, key) = (ShortString::from(place.exchange().1), place.binding(&queue).into());
        match channel.queue_unbind(name, exchange, key, FieldTable::default()).await {
            Ok(()) => Owner::Us,
            Err(error) => unknown(Step::Bind)(&error),
        }
    }

    /// Carries what waits in the queue, and deletes it when nothing does.
    pub(super) async fn leave(&self) {
        let leaving = &self.wanted.leaving;
        if self.told_to_end(self.departs()).await.is_none() {
            return;
        }
        let mut backoff = Backoff::new(PAUSE, STABLE);
        let mut looks = 0;
        while leaving.is_under_way() && !self.is_told_to_end() {
            self.unbind().await;
            let silent = |_| Deletion::Failed(Complaint::plain(SILENT));
            let deletion = match leaving.is_unbound() {
                true => timeout(CANCEL, self.delete()).await.unwrap_or_else(silent),
                false => Deletion::NotYet,
            };
            match deletion {
                Deletion::NotYet => {}
                Deletion::Done => {
                    let upstream = self.events.metrics.upstream();
                    let queue = self.wanted.place.queue(&self.wanted.source.name);
                    tracing::info!(upstream, queue, "deleted the queue of a bridge that has gone");
                    leaving.end();
                }
                Deletion::NotEmpty => self.listen(Purpose::Rest).await,
                // One that leaves it too has left it soon, and so has this one's own consumer.
                Deletion::Others if looks < LOOKS => looks += 1,
                Deletion::Others => {
                    self.events.tell_left(&self.wanted, "another gateway reads it");
                }
                Deletion::Failed(complaint) => {
                    let is_lost = !self.is_connected();
                    let losses = leaving.lost.fetch_add(u32::from(is_lost), Ordering::AcqRel)
                        + u32::from(is_lost);
                    if !complaint.is_outage || losses >= MOST_LOST {
                        self.events.tell_left(&self.wanted, &complaint.told());
                    }
                }
            }
            if !self.is_connected() {
                self.lost.cancel();
            }
            if leaving.is_under_way() {
                self.told_to_end(sleep(backoff.failed())).await;
            }
        }
    }

    /// Whether it is to end, or cannot go on over this connection.
    pub(super) fn is_told_to_end(&self) -> bool {
        self.stop.is_cancelled() || self.over.is_cancelled() || self.lost.is_cancelled()
    }

    /// Waits for something, unless it is told to end: then `None`.
    pub(super) async fn told_to_end<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            () = self.over.cancelled() => None,
            () = self.lost.cancelled() => None,
            result = work => Some(result),
        }
    }

    /// Whether it is this upstream's still.
    pub(super) fn is_ours(&self) -> bool {
        self.events.wanted.borrow().iter().any(|wanted| Arc::ptr_eq(wanted, &self.wanted))
    }

    fn is_connected(&self) -> bool {
        self.transport.connection.status().connected()
    }

    /// Deletes the queue, unless somebody reads it or something waits in it.
    async fn delete(&self) -> Deletion {
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(complaint) => return Deletion::Failed(complaint),
        };
        let name = ShortString::from(self.wanted.place.queue(&self.wanted.source.name));
        let options = QueueDeleteOptions { if_unused: true, if_empty: true, ..Default::default() };
        // One that is not there is deleted.
        let Err(error) = channel.queue_delete(name.clone(), options).await else {
            return Deletion::Done;
        };
        if !refused_with(&error, PRECONDITION_FAILED) {
            return Deletion::Failed(Complaint::new(Step::Queue, &error));
        }
        let Ok(channel) = self.channel().await else { return Deletion::NotEmpty };
        match passive(&channel, &name).await {
            Ok(found) if found.consumer_count() > 0 => Deletion::Others,
            _ => Deletion::NotEmpty,
        }
    }
}
