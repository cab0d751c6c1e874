//! Carries the events of one bridge: the one place that keeps its promises.
//!
//! What a source keeps until it is settled is settled when every target has vouched for it, and
//! until then it is tried again; so it comes at least once, and in the order of its source. What a
//! source does not keep comes at most once. What a target will never take, or has not taken after
//! so many attempts, goes to the dead letters; where there are none, it is counted and logged.
//!
//! An outage is no refusal: where nobody is there to take an event, its source keeps it for as long as that
//! lasts. What no source keeps is not held up by it for longer than by a refusal, since all that comes
//! behind it would be lost in its place.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::time::sleep;

use super::complaints::Complaints;
use super::dead_letter::{Held, dead_letter};
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
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const STABLE: Duration = Duration::from_secs(10);

/// Where a bridge's events go to.
pub(super) struct Target {
    /// What it is called, for the log.
    pub(super) name: String,
    /// The address, with what is to be filled in.
    pub(super) address: String,
    pub(super) port: Arc<dyn EventPort>,
    /// By which way its events come.
    pub(super) passage: Passage,
}

/// What carries the events of a bridge.
pub(super) struct Pump {
    pub(super) targets: Vec<Target>,
    pub(super) dead_letter: Option<Target>,
    pub(super) retries: u32,
    pub(super) metrics: EventMetrics,
    pub(super) complaints: Complaints,
}

/// An event on its way, with what its source's wildcards matched.
struct Carried {
    event: Event,
    captures: Vec<String>,
    /// Which message of its source it is.
    message: u64,
}

impl Pump {
    /// Carries what comes, until nobody can hand anything in any more.
    pub(super) async fn run(self, mut deliveries: Deliveries) {
        let mut batch = Vec::new();
        while deliveries.take(&mut batch, BATCH).await {
            self.carry(std::mem::take(&mut batch)).await;
        }
    }

    async fn carry(&self, batch: Vec<Delivery>) {
        let (mut events, mut receipts) = (Vec::with_capacity(batch.len()), Vec::new());
        for Delivery { event, captures, message, receipt } in batch {
            receipts.extend(receipt);
            match event {
                Ok(event) if event.context.hops >= MOST_HOPS => {
                    let reason = format!("it has come through {MOST_HOPS} bridges: a circle");
                    self.bury(&event, Held::Event, message, &reason).await;
                }
                Ok(event) => events.push(Carried { event, captures, message }),
                // Another row's topic is that row's to tell of.
                Err(Unusable { topic, .. }) if !self.is_wanted(&topic) => {}
                Err(Unusable { topic, id, reason, body }) => {
                    let context = Arc::new(Context::new(TraceParent::generate()));
                    let time = SystemTime::now();
                    // Whoever reads it gets what came, also where that is no text.
                    let (data, held) =
                        body.map_or((Payload::NULL, Held::Event), |it| Held::of(&it));
                    let event = Event { topic, id, data, time, context };
                    self.bury(&event, held, message, &reason).await;
                }
            }
        }
        let lossless = !receipts.is_empty();
        let lanes = self.targets.iter().map(|target| self.send_all(target, &events, lossless));
        let mut failures: Vec<Option<String>> = vec![None; events.len()];
        for lane in join_all(lanes).await {
            for (number, reason) in lane {
                failures[number].get_or_insert(reason);
            }
        }
        for (Carried { event, message, .. }, failure) in events.iter().zip(&failures) {
            match failure {
                None => self.metrics.count(EventOutcome::Delivered),
                Some(reason) => self.bury(event, Held::Event, *message, reason).await,
            }
        }
        receipts.into_iter().for_each(Receipt::settle);
    }

    fn is_wanted(&self, topic: &str) -> bool {
        self.targets.iter().any(|target| target.port.wants(topic))
    }

    /// Hands events to a target, in their order: those that it does not take, and why not.
    async fn send_all(
        &self,
        target: &Target,
        events: &[Carried],
        lossless: bool,
    ) -> Vec<(usize, String)> {
        let mut failed = Vec::new();
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        let (mut from, mut attempts, mut fails) = (0, 0, None);
        while from < events.len() {
            // What was handed over first arrives first; one that was not taken is tried again with
            // all that came behind it.
            let mut under_way: FuturesOrdered<_> =
                events[from..].iter().map(|carried| self.publish(target, carried)).collect();
            let (mut next, mut is_tried_again) = (events.len(), false);
            let mut number = from;
            while let Some(result) = under_way.next().await {
                match result {
                    Ok(()) => {}
                    Err(Undelivered::Refused(reason)) => failed.push((number, reason)),
                    Err(undelivered) => {
                        // Those before it have arrived: the count is that of one event.
                        attempts = if number == from { attempts } else { 0 };
                        let is_outage = matches!(undelivered, Undelivered::Unreachable(_));
                        attempts += u32::from(!(is_outage && lossless));
                        let gives_up = self.dead_letter.is_some() || !lossless;
                        let reason = undelivered.to_string();
                        if gives_up && attempts > self.retries {
                            failed.push((number, reason));
                            (next, attempts) = (number + 1, 0);
                        } else {
                            self.complaints.unavailable(&target.name, &reason);
                            fails.get_or_insert_with(|| TargetFailing::new(&self.metrics));
                            (next, is_tried_again) = (number, true);
                        }
                        break;
                    }
                }
                number += 1;
            }
            drop(under_way);
            if is_tried_again {
                sleep(backoff.failed()).await;
            }
            from = next;
        }
        failed
    }

    fn publish(
        &self,
        target: &Target,
        Carried { event, captures, message }: &Carried,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        let key = target.passage.key(&event.topic, *message);
        if captures.is_empty() {
            return target.port.publish(&target.address, event, key);
        }
        target.port.publish(&fill(&target.address, captures), event, key)
    }

    /// Lays an event down where somebody finds it, with the reason.
    async fn bury(&self, event: &Event, held: Held, message: u64, reason: &str) {
        let Some(target) = &self.dead_letter else {
            self.metrics.count(EventOutcome::Lost);
            return self.complaints.lost(event, reason);
        };
        let mut letter = Event { data: dead_letter(event, reason, Some(held)), ..event.clone() };
        let key = target.passage.key(&event.topic, message);
        let (mut has_data, mut fails) = (true, None);
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        loop {
            match target.port.publish(&target.address, &letter, key).await {
                Ok(()) => return self.metrics.count(EventOutcome::DeadLetter),
                Err(Undelivered::Unreachable(why) | Undelivered::Unavailable(why)) => {
                    self.complaints.unavailable(&target.name, &why);
                    fails.get_or_insert_with(|| TargetFailing::new(&self.metrics));
                    sleep(backoff.failed()).await;
                }
                // It may be too large for the dead letters too: that it was there is told all the same.
                Err(Undelivered::Refused(_)) if has_data => {
                    letter.data = dead_letter(event, reason, None);
                    has_data = false;
                }
                Err(Undelivered::Refused(why)) => {
                    self.metrics.count(EventOutcome::Lost);
                    return self
                        .complaints
                        .lost(event, &format!("{reason}; {}: {why}", target.name));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::event::DedupKey;
    use crate::event_port::Source;

    /// A place that does with each event what it is told, and takes all when it is told no more.
    #[derive(Default)]
    struct Place {
        says: Mutex<Vec<Undelivered>>,
        has: Mutex<Vec<String>>,
    }

    impl EventPort for Place {
        fn listen(&self, _sources: &[Source]) {}

        fn wants(&self, topic: &str) -> bool {
            topic != "another's"
        }

        fn publish(
            &self,
            _address: &str,
            event: &Event,
            _key: DedupKey,
        ) -> BoxFuture<'static, Result<(), Undelivered>> {
            let said = self.says.lock().unwrap().pop();
            if said.is_none() {
                self.has.lock().unwrap().push(event.data.as_str().to_owned());
            }
            Box::pin(std::future::ready(said.map_or(Ok(()), Err)))
        }
    }

    fn place(says: Vec<Undelivered>) -> Arc<Place> {
        Arc::new(Place { says: Mutex::new(says), has: Mutex::default() })
    }

    fn pump(there: &Arc<Place>, dead: &Arc<Place>, retries: u32) -> Pump {
        let target = |port: &Arc<Place>| Target {
            name: "there".to_owned(),
            address: String::new(),
            port: Arc::clone(port) as Arc<dyn EventPort>,
            passage: Passage::of_events("here", "there"),
        };
        Pump {
            targets: vec![target(there)],
            dead_letter: Some(target(dead)),
            retries,
            metrics: EventMetrics::new("test", ""),
            complaints: Complaints::new("test", "there"),
        }
    }

    fn delivery(is_kept: bool) -> Delivery {
        let event = Event {
            topic: "a".into(),
            id: "1".into(),
            data: Payload::NULL,
            time: SystemTime::now(),
            context: Arc::new(Context::new(TraceParent::generate())),
        };
        let receipt = is_kept.then(|| Receipt::new(|| {}));
        Delivery { event: Ok(event), captures: Vec::new(), message: 0, receipt }
    }

    /// Carries one event to a target that says that first: what the target and the dead letters have.
    async fn carry(says: Vec<Undelivered>, retries: u32, is_kept: bool) -> (usize, usize) {
        let (there, dead) = (place(says), place(Vec::new()));
        pump(&there, &dead, retries).carry(vec![delivery(is_kept)]).await;
        let has = |place: &Place| place.has.lock().unwrap().len();
        (has(&there), has(&dead))
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_is_not_for_it_nothing_is_lost() {
        let (there, dead) = (place(Vec::new()), place(Vec::new()));
        let settled = Arc::new(Mutex::new(0));
        for topic in ["a", "another's"] {
            let told = Arc::clone(&settled);
            let receipt = Receipt::new(move || *told.lock().unwrap() += 1);
            let event = Err(Unusable {
                topic: topic.into(),
                id: "1".into(),
                reason: "no JSON".to_owned(),
                body: None,
            });
            let (captures, receipt) = (Vec::new(), Some(receipt));
            let delivery = Delivery { event, captures, message: 0, receipt };
            pump(&there, &dead, 0).carry(vec![delivery]).await;
        }
        assert_eq!(dead.has.lock().unwrap().len(), 1);
        assert_eq!(*settled.lock().unwrap(), 2, "its source need not keep it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_letter_that_is_refused_goes_without_its_data() {
        let refusal = || Undelivered::Refused("too large".to_owned());
        let (there, dead) = (place(vec![refusal()]), place(vec![refusal()]));
        pump(&there, &dead, 0).carry(vec![delivery(true)]).await;
        let letters = dead.has.lock().unwrap().clone();
        let expected = r#"{"topic":"a","id":"1","reason":"too large","data":null}"#;
        assert_eq!(letters, [expected]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_does_not_count_against_an_event_that_its_source_keeps() {
        let outage = || Undelivered::Unreachable("no connection".to_owned());
        let refusal = || Undelivered::Unavailable("full".to_owned());
        let outages = |times| std::iter::repeat_with(outage).take(times).collect::<Vec<_>>();
        assert_eq!(carry(outages(100), 0, true).await, (1, 0));
        let mixed = [outages(20), vec![refusal()], outages(20), vec![refusal()]].concat();
        assert_eq!(carry(mixed.clone(), 2, true).await, (1, 0));
        assert_eq!(carry(mixed, 1, true).await, (0, 1));
        assert_eq!(carry(vec![refusal()], 0, true).await, (0, 1));
        // What nobody keeps does not keep the next ones waiting.
        assert_eq!(carry(outages(3), 2, false).await, (0, 1));
        let never = Undelivered::Refused("no object".to_owned());
        assert_eq!(carry(vec![never], 9, true).await, (0, 1));
    }
}
