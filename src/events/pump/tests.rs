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
