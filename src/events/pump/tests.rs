use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
        _captures: &[String],
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
        bridge: "here".to_owned(),
        draining: CancellationToken::new(),
        targets: vec![target(there)],
        dead_letter: Some(target(dead)),
        retries,
        metrics: EventMetrics::new("test", ""),
        complaints: Complaints::new("test", "there"),
    }
}

fn numbered(number: usize, is_kept: bool) -> Delivery {
    let delivery = delivery(is_kept);
    let data = Payload::from_validated(number.to_string().into());
    Delivery { event: delivery.event.map(|event| Event { data, ..event }), ..delivery }
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
    let expected =
        r#"{"topic":"a","id":"1","reason":"too large","bridge":"here","to":["there"],"data":null}"#;
    assert_eq!(letters, [expected]);
}

/// A hold on an event that its source delivers again by another way.
struct Void;

impl crate::event::Hold for Void {
    fn settle(self: Box<Self>) {
        panic!("nobody vouches for it");
    }

    fn comes_again(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn what_its_source_keeps_is_left_to_it_at_the_end_and_what_comes_again_is_not_carried_twice()
{
    let outage = || Undelivered::Unreachable("no connection".to_owned());
    let (there, dead) = (place(vec![outage(), outage()]), place(Vec::new()));
    let ending = pump(&there, &dead, 0);
    ending.draining.cancel();
    let mut kept = delivery(true);
    kept.receipt = Some(Receipt::new(|| panic!("nobody vouches for it")));
    assert!(!ending.carry(vec![kept]).await);
    // What nobody keeps goes where there is somebody.
    assert!(ending.carry(vec![delivery(false)]).await);
    assert_eq!(dead.has.lock().unwrap().len(), 1);
    let mut again = delivery(true);
    again.receipt = Some(Receipt::of(Void));
    assert!(pump(&there, &dead, 0).carry(vec![again]).await);
    assert!(there.has.lock().unwrap().is_empty());
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

/// A place that hands each event to somebody who says what becomes of it.
struct Door<F>(F);

impl<F: Fn(&Event) -> Result<(), Undelivered> + Send + Sync + 'static> EventPort for Door<F> {
    fn listen(&self, _sources: &[Source]) {}

    fn publish(
        &self,
        _address: &str,
        _captures: &[String],
        event: &Event,
        _key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        Box::pin(std::future::ready((self.0)(event)))
    }
}

/// The same as [`pump`], to other doors.
fn pump_to(there: Arc<dyn EventPort>, dead: Arc<dyn EventPort>) -> Pump {
    let mut pump = pump(&place(Vec::new()), &place(Vec::new()), 3);
    pump.targets.iter_mut().for_each(|target| target.port = Arc::clone(&there));
    pump.dead_letter.iter_mut().for_each(|target| target.port = Arc::clone(&dead));
    pump
}

/// What a target that does not take the second and the fourth event at first has of five, in the order in which it
/// took them.
async fn taken(is_kept: bool) -> String {
    let refuses = Mutex::new(vec!["2".to_owned(), "4".to_owned()]);
    let has = Arc::new(Mutex::new(String::new()));
    let taken = Arc::clone(&has);
    let door = Door(move |event: &Event| {
        let mut refuses = refuses.lock().unwrap();
        let refused = refuses.iter().position(|data| data == event.data.as_str());
        if let Some(place) = refused {
            refuses.remove(place);
            return Err(Undelivered::Unavailable("a nack".to_owned()));
        }
        taken.lock().unwrap().push_str(event.data.as_str());
        Ok(())
    });
    let pump = pump_to(Arc::new(door), place(Vec::new()));
    assert!(pump.carry((1..=5).map(|number| numbered(number, is_kept)).collect()).await);
    let has = has.lock().unwrap();
    has.clone()
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_is_sent_again_only_where_its_source_keeps_it_and_its_order() {
    assert_eq!(taken(false).await, "13524");
    assert_eq!(taken(true).await, "1352345");
}

#[tokio::test]
async fn others_have_their_turn_between_events_that_are_much_work() {
    let turns = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (now, told) = (Arc::clone(&turns), Arc::clone(&seen));
    let door = Door(move |_: &Event| {
        // As to thousands of listeners.
        std::thread::sleep(2 * TURN);
        told.lock().unwrap().push(now.load(Ordering::Relaxed));
        Ok(())
    });
    let pump = pump_to(Arc::new(door), place(Vec::new()));
    let others = async {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    let batch = (0..4).map(|number| numbered(number, false)).collect();
    tokio::select! {
        biased;
        is_done = pump.carry(batch) => assert!(is_done),
        () = others => {}
    }
    let seen = seen.lock().unwrap();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
}

/// A hold on an event whose connection is lost at some time.
struct Lost(Arc<AtomicBool>);

impl crate::event::Hold for Lost {
    fn settle(self: Box<Self>) {
        panic!("nobody vouches for it");
    }

    fn comes_again(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Two events are of a connection that is lost while the first one is to be laid down, and the third is of another.
async fn goes_with_its_connection(first: Result<Event, Unusable>) {
    let is_lost = Arc::new(AtomicBool::new(false));
    let (lost, has) = (Arc::clone(&is_lost), Arc::new(Mutex::new(Vec::new())));
    let taken = Arc::clone(&has);
    let there = Door(move |event: &Event| match event.data.as_str() {
        "1" | "2" => Err(Undelivered::Refused("no object".to_owned())),
        data => {
            taken.lock().unwrap().push(data.to_owned());
            Ok(())
        }
    });
    let dead = Door(move |_: &Event| {
        lost.store(true, Ordering::Relaxed);
        Err(Undelivered::Unreachable("no connection".to_owned()))
    });
    let settled = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&settled);
    let held = |delivery: Delivery| Delivery {
        receipt: Some(Receipt::of(Lost(Arc::clone(&is_lost)))),
        ..delivery
    };
    let first = held(Delivery { event: first, ..delivery(true) });
    let third = Receipt::new(move || {
        told.fetch_add(1, Ordering::Relaxed);
    });
    let third = Delivery { receipt: Some(third), ..numbered(3, true) };
    let batch = vec![first, held(numbered(2, true)), third];
    assert!(!pump_to(Arc::new(there), Arc::new(dead)).carry(batch).await, "some are left");
    assert_eq!(*has.lock().unwrap(), ["3"]);
    assert_eq!(settled.load(Ordering::Relaxed), 1, "or its source would hold it for ever");
}

#[tokio::test(start_paused = true)]
async fn what_goes_with_its_connection_takes_nothing_of_another_along() {
    goes_with_its_connection(numbered(1, true).event).await;
    let (topic, id, reason) = ("a".into(), "1".into(), "no JSON".to_owned());
    goes_with_its_connection(Err(Unusable { topic, id, reason, body: None })).await;
}
