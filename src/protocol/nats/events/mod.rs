//! Events over NATS: what is published to subjects is carried elsewhere, and what happened elsewhere is
//! published here.
//!
//! ```text
//!  subject, group ──► generation (read) ──► hosted ──► wire/event ──► Taker ─ … ─ the bridge
//!
//!  subject ◄───────── generation (write: letters) ◄─── publish ◄───────────────── the bridge
//! ```
//!
//! Core NATS keeps nothing: an event comes at most once. What streams keep is in `stream`, and what they confirm
//! in `receipts`. A generation hosts the `role`, which subscribes to what
//! is wanted; where a connection was lost, those that it brought events are told of a gap when the next one
//! has subscribed. Where a server says goodbye, the next generation subscribes before the old one leaves.

mod absent;
mod address;
mod duplicates;
mod hosted;
pub(super) mod letter;
mod look;
pub(super) mod receipts;
pub(super) mod role;
mod stream;

use std::any::Any;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::config::Settings;
use super::connection::{Link, State};
use super::connector::sites;
use super::generation::Generation;
use super::outbox::Publication;
use super::wire::{self, Ack, Confirmed, Unstored};
use crate::event::{DedupKey, Event, Undelivered, fill};
use crate::event_port::{EventPort, Source};
use crate::metrics::UpstreamMetrics;
use absent::Absences;
pub(super) use address::ADDRESSES;
use address::{Place, Stream};
use duplicates::Duplicates;
pub(super) use hosted::Hosted;
pub(super) use look::{look, probes, subjects};
use stream::StreamSource;

/// The events of one upstream, over all of its generations.
pub(super) struct Events {
    settings: Arc<Settings>,
    link: Arc<Link>,
    metrics: UpstreamMetrics,
    wanted: watch::Sender<Vec<Arc<Wanted>>>,
    /// The latest generation that has subscribed to all of it.
    settled: watch::Sender<u64>,
    hosts: AtomicU64,
    /// The subjects that are known not to be permitted.
    refused: Mutex<HashSet<String>>,
    absences: Arc<Absences>,
    duplicates: Arc<Duplicates>,
    /// Streams whose consumers are to be deleted, and which generation does that.
    gone: Mutex<Vec<(Arc<StreamSource>, u64)>>,
    own: Weak<Self>,
    /// Who has the streams now: those of the same upstream with other settings.
    successor: OnceLock<Weak<Self>>,
}

/// A source, from the configuration that wants it to the one that does not.
struct Wanted {
    source: Source,
    /// The stream that has its events, where one has.
    stream: Option<Arc<StreamSource>>,
    /// Who shares its events; `None` where each has all.
    group: Option<String>,
    /// How many connections bring its events.
    hosts: AtomicUsize,
    /// No connection did for a while, or another one did, of an upstream that this one replaces.
    was_interrupted: AtomicBool,
}

impl Wanted {
    /// One more connection brings its events. Whether none did before, and one had.
    fn begins(&self) -> bool {
        self.hosts.fetch_add(1, Ordering::AcqRel);
        self.was_interrupted.swap(false, Ordering::AcqRel)
    }

    /// A connection has left it, or was lost: then there is a gap where it was the last one.
    fn ends(&self, is_lost: bool) {
        if self.hosts.fetch_sub(1, Ordering::AcqRel) == 1 && is_lost {
            self.was_interrupted.store(true, Ordering::Release);
        }
    }
}

impl Events {
    pub(super) fn new(
        settings: &Arc<Settings>,
        link: &Arc<Link>,
        metrics: &UpstreamMetrics,
    ) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            settings: Arc::clone(settings),
            link: Arc::clone(link),
            metrics: metrics.clone(),
            wanted: watch::Sender::default(),
            settled: watch::Sender::default(),
            hosts: AtomicU64::new(0),
            refused: Mutex::default(),
            absences: Arc::default(),
            duplicates: Arc::new(Duplicates::new(metrics.upstream())),
            gone: Mutex::default(),
            own: Weak::clone(own),
            successor: OnceLock::new(),
        })
    }

    fn next_host(&self) -> u64 {
        self.hosts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether it has not been told yet that a subject is not permitted.
    fn tell_refused(&self, subject: &str) -> bool {
        // Configured subjects alone; every use leaves the set whole.
        self.refused().insert(subject.to_owned())
    }

    /// Whether it had been told that it is not, and is now.
    fn is_refused_no_more(&self, subject: &str) -> bool {
        self.refused().remove(subject)
    }

    fn refused(&self) -> MutexGuard<'_, HashSet<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a generation has subscribed to what is wanted, or been refused.
    pub(super) async fn is_settled(&self) {
        // The sender is here.
        let _is_settled = self.settled.subscribe().wait_for(|host| *host > 0).await.is_ok();
    }

    /// Hands an event over: its connection vouches for it later.
    fn hand_over(
        &self,
        address: &str,
        captures: &[String],
        event: &Event,
        key: DedupKey,
    ) -> Result<Handed, Undelivered> {
        let address = fill(address, captures);
        let (subject, stream) = match Place::read(&address) {
            Place::Subject(subject) => (subject, None),
            Place::Stream(Stream { name, subject }) => (subject, Some(name)),
        };
        let prefix = &self.settings.inbox_prefix;
        wire::publishable(subject, prefix).map_err(Undelivered::Refused)?;
        let state = self.link.state();
        let generation = match &*state {
            State::Up(generation) => generation,
            State::Down(why) => return Err(Undelivered::Unreachable(why.clone().into_owned())),
        };
        let headers = wire::event_headers(event, key, stream);
        let dialect = self.settings.dialect;
        let payload = wire::event_body(dialect, subject, &event.data, stream.is_some());
        let (size, limit) = (headers.len() + payload.len(), generation.max_payload());
        if size > limit {
            let reason = format!(
                "the event is {size} bytes with its headers, and this NATS takes {limit} at most: raise the \
                 server's `max_payload`"
            );
            return Err(Undelivered::Refused(reason));
        }
        let publication = Publication { subject: subject.into(), headers, payload };
        let stream: Option<Arc<str>> = stream.map(Arc::from);
        let vouched = generation.publish(publication, stream.clone());
        Ok(Handed { vouched, stored: stream.map(|stream| (stream, Arc::clone(generation))) })
    }

    fn upstream(&self) -> &str {
        self.metrics.upstream()
    }

    /// Tells a consumer what became of a message, where there is a connection.
    fn tell(&self, subject: &[u8], ack: Ack) {
        if let Some(next) = self.successor.get().and_then(Weak::upgrade) {
            return next.tell(subject, ack);
        }
        if let State::Up(generation) = &*self.link.state() {
            let mut lines = Vec::new();
            wire::push_ack(&mut lines, subject, ack);
            generation.say(lines);
        }
    }

    /// The streams whose consumers a generation is to delete, and has not been told of.
    fn to_remove(&self, host: u64) -> Vec<Arc<StreamSource>> {
        let mut gone = self.gone();
        let new = gone.iter_mut().filter(|(_, by)| *by < host);
        new.map(|(stream, by)| {
            *by = host;
            Arc::clone(stream)
        })
        .collect()
    }

    /// Whether a consumer is still this upstream's to delete.
    fn is_to_remove(&self, stream: &Arc<StreamSource>) -> bool {
        self.gone().iter().any(|(gone, _)| Arc::ptr_eq(gone, stream))
    }

    /// A consumer is deleted, or left.
    fn removed(&self, stream: &Arc<StreamSource>) {
        self.gone().retain(|(gone, _)| !Arc::ptr_eq(gone, stream));
    }

    fn gone(&self) -> MutexGuard<'_, Vec<(Arc<StreamSource>, u64)>> {
        // Every use leaves the list whole.
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventPort for Events {
    fn listen(&self, sources: &[Source]) {
        self.wanted.send_modify(|wanted| {
            let before = std::mem::take(wanted);
            let goes = |it: &&Arc<Wanted>| !sources.iter().any(|source| it.source.is(source));
            let going = before.iter().filter(goes).filter_map(|wanted| wanted.stream.as_ref());
            let going: Vec<_> = going.collect();
            let sources = sources.iter().map(|source| {
                let same = before.iter().find(|wanted| wanted.source.is(source));
                same.map_or_else(|| Arc::new(want(source, &going)), Arc::clone)
            });
            *wanted = sources.collect();
            let streams = wanted.iter().filter_map(|wanted| wanted.stream.as_ref());
            let streams: Vec<_> = streams.collect();
            let mut gone = self.gone();
            gone.retain(|(gone, _)| !streams.iter().any(|stream| stream.is_same_consumer(gone)));
            // A topic's are this gateway's alone.
            let own = going.iter().filter(|stream| !stream.source.shared);
            gone.extend(own.map(|stream| (Arc::clone(stream), 0)));
        });
    }

    fn forget(&self, source: &Source) {
        let wanted = self.wanted.borrow();
        let found = wanted.iter().find(|wanted| wanted.source.is(source));
        let stream = found.and_then(|wanted| wanted.stream.as_ref());
        if let Some(stream) = stream.filter(|stream| stream.source.shared) {
            self.gone().push((Arc::clone(stream), 0));
        }
    }

    fn succeed(&self, before: &dyn EventPort) {
        let any: &dyn Any = before;
        let Some(before) = any.downcast_ref::<Self>() else { return before.listen(&[]) };
        let is_kept =
            |it: &Arc<Wanted>| it.stream.as_ref().is_some_and(|stream| stream.source.shared);
        let mut kept = Vec::new();
        before.wanted.send_modify(|wanted| kept.extend(wanted.extract_if(.., |it| is_kept(it))));
        let gone = std::mem::take(&mut *before.gone());
        // What was settled meanwhile is told over the connection that there is.
        let _is_first = before.successor.set(Weak::clone(&self.own)).is_ok();
        before.listen(&[]);
        self.gone().extend(gone.into_iter().map(|(stream, _)| (stream, 0)));
        self.wanted.send_modify(|wanted| wanted.extend(kept));
    }

    fn is_where(&self, other: &dyn EventPort) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<Self>().is_some_and(|other| {
            let there = sites(&other.settings);
            sites(&self.settings).iter().any(|site| there.contains(site))
        })
    }

    fn is_leaving(&self) -> bool {
        !self.gone().is_empty()
    }

    fn publish(
        &self,
        address: &str,
        captures: &[String],
        event: &Event,
        key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        // What was handed over first is in the queue first, whoever is polled first.
        match self.hand_over(address, captures, event, key) {
            Ok(handed) => {
                let (absences, duplicates) =
                    (Arc::clone(&self.absences), Arc::clone(&self.duplicates));
                let id = Arc::clone(&event.id);
                async move { handed.wait(&id, &absences, &duplicates).await }.boxed()
            }
            Err(undelivered) => std::future::ready(Err(undelivered)).boxed(),
        }
    }
}

/// An event that was handed over.
struct Handed {
    vouched: letter::Vouched,
    /// The stream that is to have it, and over which connection that is to be said.
    stored: Option<(Arc<str>, Arc<Generation>)>,
}

impl Handed {
    /// Waits until its connection, or a stream, has vouched for it.
    async fn wait(
        self,
        id: &str,
        absences: &Absences,
        duplicates: &Duplicates,
    ) -> Result<(), Undelivered> {
        match (self.vouched.wait().await, &self.stored) {
            (Ok(Confirmed::Known), Some((stream, _))) => {
                duplicates.tell(stream, id);
                Ok(())
            }
            (Ok(_), _) => Ok(()),
            (Err(Unstored::Because(undelivered)), _) => Err(undelivered),
            (Err(Unstored::Nobody(reason)), Some((stream, generation))) => {
                Err(absences.explain(generation, stream, reason).await)
            }
            (Err(Unstored::Nobody(reason)), None) => Err(Undelivered::Unavailable(reason)),
        }
    }
}

/// `going`: the streams that are wanted no more.
fn want(source: &Source, going: &[&Arc<StreamSource>]) -> Wanted {
    let stream = match Place::read(&source.address) {
        Place::Stream(place) => Some(StreamSource::new(source, &place, going)),
        Place::Subject(_) => None,
    };
    Wanted {
        stream,
        group: source.shared.then(|| address::group(&source.name)),
        source: source.clone(),
        hosts: AtomicUsize::new(0),
        was_interrupted: AtomicBool::new(source.resumes),
    }
}
