//! Carries the events of one bridge: the one place that keeps its promises.
//!
//! What a source keeps until it is settled is settled when every target has vouched for it, and
//! until then it is tried again; so it comes at least once, and in the order of its source. What a
//! source does not keep is handed over once to whoever takes it, and again only where it was not taken, or nobody
//! knows. What a target will never take, or has not taken after
//! so many attempts, goes to the dead letters; where there are none, it is counted and logged.
//!
//! An outage is no refusal: where nobody is there to take an event, its source keeps it for as long as that
//! lasts. What no source keeps is not held up by it for longer than by a refusal, since all that comes
//! behind it would be lost in its place.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::dead_letter::{Cause, Held, dead_letter};
use super::inlet::Deliveries;
use crate::backoff::Backoff;
use crate::call::{Context, Payload};
use crate::event::{Delivery, Event, Passage, Receipt, Undelivered, Unusable, fill};
use crate::event_port::EventPort;
use crate::metrics::{EventMetrics, EventOutcome, TargetFailing};
use crate::trace::TraceParent;

/// How many events are on their way to the targets together.
const BATCH: usize = 256;
/// How many gateways and bridges an event may come through: one that comes back goes in a circle.
const MOST_HOPS: u8 = 16;
/// For how long events are handed over in one go.
const TURN: Duration = Duration::from_millis(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const STABLE: Duration = Duration::from_secs(10);

/// Where a bridge's events go to.
pub(super) struct Target {
    /// What it is called, with what is to be filled in.
    pub(super) name: String,
    /// The address, with what is to be filled in.
    pub(super) address: String,
    pub(super) port: Arc<dyn EventPort>,
    /// By which way its events come.
    pub(super) passage: Passage,
}

/// What carries the events of a bridge.
pub(super) struct Pump {
    /// Where they come from.
    pub(super) bridge: String,
    pub(super) targets: Vec<Target>,
    pub(super) dead_letter: Option<Target>,
    pub(super) retries: u32,
    pub(super) metrics: EventMetrics,
    pub(super) complaints: Complaints,
    /// Told when the gateway ends: what a source keeps is not tried again then.
    pub(super) draining: CancellationToken,
}

/// An event on its way, with what its source's wildcards matched.
struct Carried {
    event: Event,
    held: Held,
    captures: Vec<String>,
    /// Which message of its source it is.
    message: u64,
    receipt: Option<Receipt>,
}

/// What became of a batch on its way to one target.
struct Lane {
    /// Those that it does not take, by their numbers, and why not.
    failed: Vec<(usize, String)>,
    /// How many are done with; less than there are where the rest is left to its source.
    done: usize,
}

/// How often an event has been tried: of those that are tried again the first, for which the others wait.
struct Attempts {
    most: u32,
    number: usize,
    count: u32,
}

impl Attempts {
    /// An event was not taken. Whether that was once too often.
    fn are_over(&mut self, number: usize, counts: bool) -> bool {
        let before = if self.number == number { self.count } else { 0 };
        (self.number, self.count) = (number, before + u32::from(counts));
        self.count > self.most
    }
}

impl Pump {
    /// Carries what comes, until nobody can hand anything in any more.
    pub(super) async fn run(self, mut deliveries: Deliveries) {
        let mut batch = Vec::new();
        while deliveries.take(&mut batch, BATCH).await {
            let is_done = self.carry(std::mem::take(&mut batch)).await;
            // What is left to its source takes what is behind it along: the order is that of the source.
            if !is_done && self.draining.is_cancelled() {
                return;
            }
        }
    }

    /// Carries events. False where some are left to their source.
    async fn carry(&self, batch: Vec<Delivery>) -> bool {
        let mut events = Vec::with_capacity(batch.len());
        let mut is_left = false;
        for delivery in batch {
            // It comes again by another connection, and in its order.
            if comes_again(delivery.receipt.as_ref()) {
                continue;
            }
            let (carried, flaw) = self.read(delivery);
            let Some(reason) = flaw else {
                events.extend(carried);
                continue;
            };
            // Another row's topic is that row's to tell of.
            if let Some(carried) = carried {
                let nobody = (0..self.targets.len()).map(|target| (target, reason.clone()));
                if self.bury(&carried, &nobody.collect::<Vec<_>>()).await {
                    settle(carried.receipt);
                } else if self.draining.is_cancelled() {
                    return false;
                } else {
                    is_left = true;
                }
            }
        }
        if is_left {
            // What came with it goes with it, and what another connection has brought does not.
            events.retain(|carried: &Carried| !comes_again(carried.receipt.as_ref()));
        }
        let lanes = self.targets.iter().map(|target| self.send_all(target, &events));
        let lanes = join_all(lanes).await;
        let done = lanes.iter().map(|lane| lane.done).min().unwrap_or(events.len());
        let mut failures: Vec<Vec<(usize, String)>> = vec![Vec::new(); events.len()];
        for (target, lane) in lanes.into_iter().enumerate() {
            for (number, reason) in lane.failed {
                failures[number].push((target, reason));
            }
        }
        is_left |= done < events.len();
        for (carried, failures) in events.into_iter().zip(failures).take(done) {
            if failures.is_empty() {
                self.metrics.count(EventOutcome::Delivered);
            } else if comes_again(carried.receipt.as_ref()) || !self.bury(&carried, &failures).await
            {
                if self.draining.is_cancelled() {
                    return false;
                }
                is_left = true;
                continue;
            }
            settle(carried.receipt);
        }
        !is_left
    }

    /// What is to be carried, and why it cannot be, where that is so. Of what no target wants there is nothing.
    fn read(&self, delivery: Delivery) -> (Option<Carried>, Option<String>) {
        let Delivery { event, captures, message, receipt } = delivery;
        match event {
            Ok(event) => {
                let is_round = event.context.hops >= MOST_HOPS;
                let flaw =
                    is_round.then(|| format!("it has come through {MOST_HOPS} bridges: a circle"));
                (Some(Carried { event, held: Held::Event, captures, message, receipt }), flaw)
            }
            Err(Unusable { topic, reason, .. }) if !self.is_wanted(&topic) => {
                settle(receipt);
                (None, Some(reason))
            }
            Err(Unusable { topic, id, reason, body }) => {
                let context = Arc::new(Context::new(TraceParent::generate()));
                let time = SystemTime::now();
                // Whoever reads it gets what came, also where that is no text.
                let (data, held) = body.map_or((Payload::NULL, Held::Event), |it| Held::of(&it));
                let event = Event { topic, id, data, time, context };
                (Some(Carried { event, held, captures, message, receipt }), Some(reason))
            }
        }
    }

    fn is_wanted(&self, topic: &str) -> bool {
        self.targets.iter().any(|target| target.port.wants(topic))
    }

    /// Hands events to a target, in their order. What was not taken is tried again: with all that came behind it where
    /// their source keeps them, so that the order stays; else alone, so that nothing is sent again that was taken.
    async fn send_all(&self, target: &Target, events: &[Carried]) -> Lane {
        let lossless = events.iter().any(|carried| carried.receipt.is_some());
        let gives_up = self.dead_letter.is_some() || !lossless;
        let (mut failed, mut fails) = (Vec::new(), None);
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        let mut attempts = Attempts { most: self.retries, number: 0, count: 0 };
        let mut left: Vec<usize> = (0..events.len()).collect();
        while !left.is_empty() {
            let mut under_way = self.hand_over(target, events, &left).await;
            let (mut again, mut waits) = (Vec::new(), false);
            while let Some((number, result)) = under_way.next().await {
                let (reason, is_outage) = match result {
                    Ok(()) => continue,
                    Err(Undelivered::Refused(reason)) => {
                        failed.push((number, reason));
                        continue;
                    }
                    Err(Undelivered::Unreachable(reason)) => (reason, true),
                    Err(Undelivered::Unavailable(reason)) => (reason, false),
                };
                let is_first = !waits;
                if is_first && attempts.are_over(number, !(is_outage && lossless)) && gives_up {
                    failed.push((number, reason));
                } else {
                    self.complaints.unavailable(&target.name, &reason);
                    fails.get_or_insert_with(|| TargetFailing::new(&self.metrics));
                    again.push(number);
                    waits = true;
                }
                if lossless {
                    again.extend(number + 1..events.len());
                    break;
                }
            }
            drop(under_way);
            left = again;
            if let Some(first) = left.first().copied().filter(|_| waits)
                && !self.waits(&mut backoff, &events[first..]).await
            {
                return Lane { failed, done: first };
            }
        }
        Lane { failed, done: events.len() }
    }

    /// Hands those by these numbers over. To topics that is work, for each who listens: others have their turn
    /// meanwhile.
    async fn hand_over(
        &self,
        target: &Target,
        events: &[Carried],
        numbers: &[usize],
    ) -> FuturesOrdered<impl Future<Output = (usize, Result<(), Undelivered>)> + use<>> {
        let mut under_way = FuturesOrdered::new();
        let mut begin = Instant::now();
        for number in numbers.iter().copied() {
            if begin.elapsed() >= TURN {
                yield_now().await;
                begin = Instant::now();
            }
            let published = self.publish(target, &events[number]);
            under_way.push_back(published.map(move |result| (number, result)));
        }
        under_way
    }

    /// Pauses before events are tried again. False where they are left to their source, which keeps them: because the
    /// gateway ends, or because it delivers all of them again.
    async fn waits(&self, backoff: &mut Backoff, events: &[Carried]) -> bool {
        let is_kept = |carried: &Carried| carried.receipt.is_some();
        let pause = sleep(backoff.failed());
        if !events.iter().all(is_kept) {
            pause.await;
            return true;
        }
        tokio::select! {
            () = self.draining.cancelled() => return false,
            () = pause => {}
        }
        !events.iter().all(|carried| comes_again(carried.receipt.as_ref()))
    }

    fn publish(
        &self,
        target: &Target,
        Carried { event, captures, message, .. }: &Carried,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        let key = target.passage.key(&event.topic, *message);
        target.port.publish(&target.address, captures, event, key)
    }

    /// Lays an event down where somebody finds it, with which targets do not have it and why. False where it is left to its
    /// source.
    async fn bury(&self, carried: &Carried, failures: &[(usize, String)]) -> bool {
        let Carried { event, held, captures, message, .. } = carried;
        let reason = self.reason(captures, failures);
        let Some(target) = &self.dead_letter else {
            self.metrics.count(EventOutcome::Lost);
            self.complaints.lost(event, &reason);
            return true;
        };
        let to: Vec<String> = failures.iter().map(|(it, _)| self.place(*it, captures)).collect();
        let cause = Cause { reason: &reason, bridge: &self.bridge, to: &to };
        let letter = |held| Event { data: dead_letter(event, &cause, held), ..event.clone() };
        let key = target.passage.key(&event.topic, *message);
        let (mut has_data, mut fails) = (true, None);
        let mut letter_now = letter(Some(*held));
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        loop {
            match target.port.publish(&target.address, &[], &letter_now, key).await {
                Ok(()) => {
                    self.metrics.count(EventOutcome::DeadLetter);
                    return true;
                }
                Err(Undelivered::Unreachable(why) | Undelivered::Unavailable(why)) => {
                    self.complaints.unavailable(&target.name, &why);
                    fails.get_or_insert_with(|| TargetFailing::new(&self.metrics));
                    if !self.waits(&mut backoff, std::slice::from_ref(carried)).await {
                        return false;
                    }
                }
                // It may be too large for the dead letters too: that it was there is told all the same.
                Err(Undelivered::Refused(_)) if has_data => {
                    letter_now = letter(None);
                    has_data = false;
                }
                Err(Undelivered::Refused(why)) => {
                    self.metrics.count(EventOutcome::Lost);
                    self.complaints.lost(event, &format!("{reason}; {}: {why}", target.name));
                    return true;
                }
            }
        }
    }

    /// What a target is called, for an event.
    fn place(&self, target: usize, captures: &[String]) -> String {
        self.targets
            .get(target)
            .map_or_else(String::new, |it| fill(&it.name, captures).into_owned())
    }

    /// Why an event is not where it was to go; which target says so, where they do not say the same.
    fn reason(&self, captures: &[String], failures: &[(usize, String)]) -> String {
        let Some((_, first)) = failures.first() else { return String::new() };
        if failures.iter().all(|(_, reason)| reason == first) {
            return first.clone();
        }
        let one = |(target, reason): &(usize, String)| {
            format!("{}: {reason}", self.place(*target, captures))
        };
        failures.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// Whether a source delivers an event again whatever becomes of this one.
fn comes_again(receipt: Option<&Receipt>) -> bool {
    receipt.is_some_and(Receipt::comes_again)
}

/// Nobody has to keep an event any more.
fn settle(receipt: Option<Receipt>) {
    receipt.into_iter().for_each(Receipt::settle);
}
