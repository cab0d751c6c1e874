//! Which bridges run: they come and go with the configuration.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::board::Board;
use super::complaints::Complaints;
use super::inlet::inlet;
use super::pump::{Pump, Target};
use super::topics::{Lag, TopicRule, Topics};
use crate::event::{DedupKey, Event, Passage, Undelivered, glob_of, meeting};
use crate::event_port::{EventPort, Source, Taker};
use crate::metrics::EventMetrics;
use crate::route::bridge::{Bridge, Place, Topic, WEB};
use crate::route::pattern::Pattern;
use crate::tasks::Tasks;

/// The places where events come from and go to, by the names of their upstreams.
pub type Ports = HashMap<String, Arc<dyn EventPort>>;

/// The bridges at work, and the topics.
pub struct Bridges {
    topics: Arc<Topics>,
    board: Arc<Board>,
    running: Vec<Running>,
    tasks: Tasks,
}

/// A bridge, or the source of a topic.
struct Running {
    plan: Plan,
    /// The ports that it was begun with: where one is another, it begins anew.
    ports: Vec<Arc<dyn EventPort>>,
    source: Source,
}

/// What a bridge is to do.
#[derive(Clone, PartialEq, Eq)]
struct Plan {
    bridge: Bridge,
    /// Whether gateways share the source.
    shared: bool,
    /// The topics that its events come to, as names or globs.
    heard: Vec<String>,
}

impl Plan {
    /// Where its events go, for operators.
    fn goal(&self) -> String {
        let places = self.bridge.to.iter().map(ToString::to_string);
        let topics = self.row().map(|row| format!("{WEB}:{row}"));
        topics.unwrap_or_else(|| places.collect::<Vec<_>>().join(","))
    }

    /// The topics row whose own events it brings, which keep their names; `None` for a bridge.
    fn row(&self) -> Option<Pattern> {
        let is_of_row = self.bridge.to.iter().any(|place| place.address.is_empty());
        self.heard.first().filter(|_| is_of_row).map(|pattern| Pattern::new(pattern))
    }
}

impl Bridges {
    /// None yet. Each runs in a task of the group.
    pub fn new(tasks: Tasks) -> Self {
        Self { topics: Arc::default(), board: Arc::default(), running: Vec::new(), tasks }
    }

    /// What browsers may hear.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// The places that no events come from now.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Puts the bridges and topics of a configuration in force. What has not changed is not
    /// interrupted. A bridge to or from a place that has no events was reported when the
    /// configuration was read, and is left out.
    pub fn apply(&mut self, bridges: &[Bridge], topics: &[Topic], ports: &Ports) {
        self.topics.set_rules(topics.iter().map(rule).collect());
        // Of rows that are alike, the first one has the topics.
        let mut seen = HashSet::new();
        let first = topics.iter().filter(|topic| seen.insert(topic.pattern.as_str()));
        let topics: Vec<Plan> = first.filter_map(of_topic).collect();
        let plans = bridges.iter().flat_map(of_bridge);
        let mut before = std::mem::take(&mut self.running);
        for plan in plans.chain(topics) {
            let Some(ports) = self.ports_of(&plan, ports) else { continue };
            let same = before.iter().position(|running| running.is(&plan, &ports));
            let running = match same {
                Some(place) => before.swap_remove(place),
                None => {
                    let resumes = before.iter().any(|running| {
                        running.goes_on_as(&plan, &ports) || running.had_topics_of(&plan)
                    });
                    self.start(plan, ports, resumes)
                }
            };
            self.running.push(running);
        }
        let gone = before.iter().filter(|gone| !self.is_kept(gone));
        gone.for_each(|gone| gone.ports[0].forget(&gone.source));
        for (name, port) in ports {
            let here =
                self.running.iter().filter(|running| running.plan.bridge.from.upstream == *name);
            let sources: Vec<_> = here.map(|running| running.source.clone()).collect();
            port.listen(&sources);
        }
    }

    /// Takes no events any more, and waits until those that were taken are where they go to, at
    /// most `patience`. True if all are.
    pub async fn drain(&mut self, ports: &Ports, patience: Duration) -> bool {
        ports.values().for_each(|port| port.close());
        self.running.clear();
        let carried = async {
            while self.tasks.running() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(patience, carried).await.is_ok()
    }

    /// Whether somebody still wants what is kept by the name of a bridge that goes.
    fn is_kept(&self, gone: &Running) -> bool {
        let same = |running: &Running| {
            running.source.name == gone.source.name && running.source.shared == gone.source.shared
        };
        self.running.iter().any(same)
    }

    /// The ports of a bridge, that of its source first.
    fn ports_of(&self, plan: &Plan, ports: &Ports) -> Option<Vec<Arc<dyn EventPort>>> {
        let port = |place: &Place| match &*place.upstream {
            WEB => Some(Arc::new(Web::new(&self.topics, plan)) as Arc<dyn EventPort>),
            name => ports.get(name).cloned(),
        };
        let Bridge { from, to, dead_letter, .. } = &plan.bridge;
        std::iter::once(from).chain(to).chain(dead_letter).map(port).collect()
    }

    fn start(&self, plan: Plan, ports: Vec<Arc<dyn EventPort>>, resumes: bool) -> Running {
        let Bridge { from, to, dead_letter, retries } = &plan.bridge;
        let name = from.to_string();
        let metrics = EventMetrics::new(&name, &plan.goal());
        let source_name = source_name(&plan);
        let target = |(place, port): (&Place, &Arc<dyn EventPort>), passage| Target {
            name: place.to_string(),
            address: place.address.clone(),
            port: Arc::clone(port),
            passage,
        };
        let targets = to.iter().zip(&ports[1..]);
        let targets = targets.map(|it| target(it, Passage::of_events(&name, &it.0.to_string())));
        let letters = dead_letter.iter().zip(&ports[1 + to.len()..]);
        let mut letters =
            letters.map(|it| target(it, Passage::of_letters(&source_name, &it.0.to_string())));
        let pump = Pump {
            targets: targets.collect(),
            dead_letter: letters.next(),
            retries: *retries,
            metrics: metrics.clone(),
            complaints: Complaints::new(&name, &plan.goal()),
        };
        let (heard, row, topics) = (plan.heard.clone(), plan.row(), Arc::clone(&self.topics));
        let on_gap = move || match &row {
            Some(row) => topics.gap_of(row),
            None => heard.iter().for_each(|topic| topics.gap(topic)),
        };
        let (inlet, deliveries) = inlet(metrics, &self.board, on_gap);
        self.tasks.spawn("bridge", pump.run(deliveries));
        let taker: Arc<dyn Taker> = Arc::new(inlet);
        let source = Source {
            address: from.address.clone(),
            name: source_name.into(),
            shared: plan.shared,
            resumes,
            taker,
        };
        Running { plan, ports, source }
    }
}

impl Running {
    fn is(&self, plan: &Plan, ports: &[Arc<dyn EventPort>]) -> bool {
        let is_web = |place: usize| {
            let places = [&self.plan.bridge.from].into_iter().chain(&self.plan.bridge.to);
            let mut places = places.chain(&self.plan.bridge.dead_letter);
            places.nth(place).is_some_and(|place| place.upstream == WEB)
        };
        let same_ports = self.ports.iter().zip(ports).enumerate();
        self.plan == *plan
            && same_ports.into_iter().all(|(n, (one, other))| is_web(n) || Arc::ptr_eq(one, other))
    }

    /// Whether its events are to come from the same place over another port.
    fn goes_on_as(&self, plan: &Plan, ports: &[Arc<dyn EventPort>]) -> bool {
        self.plan == *plan && !Arc::ptr_eq(&self.ports[0], &ports[0])
    }

    /// Whether topics that it brought are brought by another row from now on.
    fn had_topics_of(&self, plan: &Plan) -> bool {
        let (from, other) = (&self.plan.bridge.from, &plan.bridge.from);
        let rows = self.plan.row().zip(plan.row());
        rows.is_some_and(|(row, other)| row.meets(&other))
            && from.upstream == other.upstream
            && meeting(&from.address, &other.address).is_some()
    }
}

/// A name that a bridge has as long as it carries the same to the same places, in whatever order these are named: what
/// waits for it in a queue is found again by it. Two rows of topics may have one source.
fn source_name(plan: &Plan) -> String {
    let mut targets: Vec<String> = plan.bridge.to.iter().map(ToString::to_string).collect();
    targets.sort_unstable();
    let heard = plan.row().map_or(String::new(), |_| plan.heard.join(","));
    format!("{}->{}{heard}", plan.bridge.from, targets.join(","))
}

fn rule(topic: &Topic) -> TopicRule {
    TopicRule {
        pattern: topic.pattern.clone(),
        keep: topic.keep,
        keep_bytes: topic.keep_bytes,
        access: topic.access.clone(),
        lag: if topic.disconnects_slow { Lag::Disconnect } else { Lag::Tell },
    }
}

/// Gateways share what a bridge carries, but for what browsers hear: each has its own, who are to hear all.
fn of_bridge(bridge: &Bridge) -> impl Iterator<Item = Plan> {
    let (web, others): (Vec<Place>, Vec<Place>) =
        bridge.to.iter().cloned().partition(|place| place.upstream == WEB);
    let heard = web.iter().map(|place| glob_of(&place.address)).collect();
    // What is no event at all is one dead letter.
    let dead_letter = bridge.dead_letter.clone().filter(|_| others.is_empty());
    let carried = Bridge { to: others, ..bridge.clone() };
    let shown = Bridge { to: web, dead_letter, ..bridge.clone() };
    let plans = [
        Plan { bridge: carried, shared: true, heard: Vec::new() },
        Plan { bridge: shown, shared: false, heard },
    ];
    plans.into_iter().filter(|plan| !plan.bridge.to.is_empty())
}

/// Brings a topic's own events: each gateway has them all.
fn of_topic(topic: &Topic) -> Option<Plan> {
    let from = topic.from.clone()?;
    let to = vec![Place { upstream: WEB.to_owned(), address: String::new() }];
    let bridge = Bridge { from, to, dead_letter: None, retries: 0 };
    Some(Plan { bridge, shared: false, heard: vec![topic.pattern.as_str().to_owned()] })
}

/// The way to the topics.
struct Web {
    topics: Arc<Topics>,
    /// Its own events keep the name that they have. What else its source brings is not that row's to show.
    row: Option<Pattern>,
}

impl Web {
    fn new(topics: &Arc<Topics>, plan: &Plan) -> Self {
        Self { topics: Arc::clone(topics), row: plan.row() }
    }
}

impl EventPort for Web {
    fn listen(&self, _sources: &[Source]) {}

    fn wants(&self, topic: &str) -> bool {
        self.row.as_ref().is_none_or(|row| self.topics.is_of(row, topic))
    }

    fn publish(
        &self,
        address: &str,
        event: &Event,
        _key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        let result = match &self.row {
            Some(row) => {
                if row.matches(&event.topic) {
                    self.topics.publish_of(row, &event.topic, &event.data, event.time);
                }
                Ok(())
            }
            None if self.topics.publish(address, &event.data, event.time) => Ok(()),
            None => Err(Undelivered::Refused(format!(
                "no [[topics]] row names `{address}`: add one, or send it elsewhere"
            ))),
        };
        std::future::ready(result).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
