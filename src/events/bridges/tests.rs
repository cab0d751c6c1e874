use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::*;
use crate::call::{Context, Payload};
use crate::event::{Delivery, Receipt};
use crate::trace::TraceParent;

#[test]
fn the_order_of_its_targets_makes_no_other_bridge() {
    let name = |to: &[&str]| {
        let place = |text: &str| Place::parse(text).expect("a place");
        let to = to.iter().map(|text| place(text)).collect();
        let bridge = Bridge { from: place("bus:in"), to, dead_letter: None, retries: 0 };
        source_name(&of_bridge(&bridge).next().expect("it carries something"))
    };
    assert_eq!(name(&["rabbit:b", "bus:a"]), name(&["bus:a", "rabbit:b"]));
    assert_ne!(name(&["rabbit:b", "bus:a"]), name(&["bus:a"]));
}

/// A place that takes events where it is up, and knows who listens to it.
#[derive(Default)]
struct Site {
    is_up: bool,
    taker: Mutex<Option<Arc<dyn Taker>>>,
    asked: AtomicUsize,
    has: AtomicUsize,
}

impl EventPort for Site {
    fn listen(&self, sources: &[Source]) {
        let taker = sources.first().map(|source| Arc::clone(&source.taker));
        *self.taker.lock().unwrap() = taker;
    }

    fn publish(
        &self,
        _address: &str,
        _captures: &[String],
        _event: &Event,
        _key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.has.fetch_add(usize::from(self.is_up), Ordering::Relaxed);
        let down = || Err(Undelivered::Unreachable("no connection".to_owned()));
        std::future::ready(if self.is_up { Ok(()) } else { down() }).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_bridge_had_that_went_with_its_target_waits_for_one_by_that_name() {
    let place = |text: &str| Place::parse(text).expect("a place");
    let (from, to) = (place("bus:a"), vec![place("rabbit:b")]);
    let bridge = Bridge { from, to, dead_letter: None, retries: 0 };
    let site = |is_up| Arc::new(Site { is_up, ..Site::default() });
    let (bus, down, up) = (site(true), site(false), site(true));
    let ports = |rabbit: Option<&Arc<Site>>| -> Ports {
        let all = [("bus", Some(&bus)), ("rabbit", rabbit)];
        let port = |site: &Arc<Site>| Arc::clone(site) as Arc<dyn EventPort>;
        all.into_iter().filter_map(|(name, it)| Some((name.to_owned(), port(it?)))).collect()
    };
    let mut bridges = Bridges::new(Tasks::new());
    bridges.apply(std::slice::from_ref(&bridge), &[], &ports(Some(&down)));
    let settled = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&settled);
    let receipt = Receipt::new(move || {
        told.fetch_add(1, Ordering::Relaxed);
    });
    let context = Arc::new(Context::new(TraceParent::generate()));
    let (topic, id, time) = ("a".into(), "1".into(), SystemTime::now());
    let event = Ok(Event { topic, id, data: Payload::NULL, time, context });
    let delivery = Delivery { event, captures: Vec::new(), message: 0, receipt: Some(receipt) };
    let taker = bus.taker.lock().unwrap().clone().expect("it listens");
    assert!(taker.take(delivery).is_ok());
    drop(taker);
    let until = async |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    until(&|| down.asked.load(Ordering::Relaxed) > 0).await;
    bridges.apply(&[], &[], &ports(None));
    let before = down.asked.load(Ordering::Relaxed);
    until(&|| down.asked.load(Ordering::Relaxed) > before).await;
    bridges.apply(&[], &[], &ports(Some(&up)));
    until(&|| settled.load(Ordering::Relaxed) == 1).await;
    assert_eq!(up.has.load(Ordering::Relaxed), 1);
    until(&|| bridges.tasks.running() == 0).await;
}
