//! Which bridges run: they come and go with the configuration.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::complaints::Complaints;
use super::inlet::inlet;
use super::pump::{Pump, Target};
use super::relay::Relay;
use super::topics::{Lag, TopicRule, Topics};
use crate::event::{DedupKey, Event, Passage, Undelivered, fill, glob_of, meeting};
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
    /// Those of the configuration in force.
    ports: Ports,
    /// The ways to them, for whatever is still to be carried.
    relays: HashMap<String, Arc<Relay>>,
    draining: CancellationToken,
    tasks: Tasks,
}

/// A bridge, or the source of a topic.
struct Running {
    plan: Plan,
    /// Over which its events come.
    port: Arc<dyn EventPort>,
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

    /// Where its events come from and go to.
    fn places(&self) -> impl Iterator<Item = &Place> {
        let Bridge { from, to, dead_letter, .. } = &self.bridge;
        std::iter::once(from).chain(to).chain(dead_letter)
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
        Self {
            topics: Arc::default(),
            board: Arc::default(),
            running: Vec::new(),
            ports: HashMap::new(),
            relays: HashMap::new(),
            draining: CancellationToken::new(),
            tasks,
        }
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
        let successors = self.turn_over(ports);
        let plans = bridges.iter().flat_map(of_bridge);
        let mut before = std::mem::take(&mut self.running);
        for plan in plans.chain(topics) {
            if !plan
                .places()
                .all(|place| place.upstream == WEB || ports.contains_key(&place.upstream))
            {
                continue;
            }
            let same = before.iter().position(|running| running.plan == plan);
            let running = match same {
                Some(place) => before.swap_remove(place).over(ports),
                None => {
                    let resumes = before.iter().any(|running| running.had_topics_of(&plan));
                    self.start(plan, ports, resumes)
                }
            };
            self.running.extend(running);
        }
        for gone in before.iter().filter(|gone| !self.is_kept(gone)) {
            if let Some(port) = successors.get(&gone.plan.bridge.from.upstream) {
                port.forget(&gone.source);
            }
        }
        // Where nobody took its place, it ends with what it has.
        let is_last = |port: &&Arc<dyn EventPort>| !ports.values().any(|it| Arc::ptr_eq(it, port));
        successors.values().filter(is_last).for_each(|port| port.listen(&[]));
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
        self.draining.cancel();
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

    /// Lets ports take the places of those of the same upstreams, whatever these are called now: who has what was had
    /// by each name. A port in whose place there is none stays there itself.
    fn turn_over(&mut self, ports: &Ports) -> Ports {
        let mut successors = ports.clone();
        let before = std::mem::replace(&mut self.ports, ports.clone());
        for (name, port) in &before {
            let is_new = |(name, _): &(&String, &Arc<dyn EventPort>)| !before.contains_key(*name);
            let renamed = || ports.iter().filter(is_new).find(|(_, next)| next.is_where(&**port));
            match ports.get(name).or_else(|| renamed().map(|(_, next)| next)) {
                Some(next) if Arc::ptr_eq(next, port) => {}
                Some(next) => {
                    next.succeed(&**port);
                    successors.insert(name.clone(), Arc::clone(next));
                }
                None => drop(successors.insert(name.clone(), Arc::clone(port))),
            }
        }
        self.relays.retain(|_, relay| Arc::strong_count(relay) > 1);
        for (name, relay) in &self.relays {
            // What is still to go to an upstream that has gone goes that way as long as there is one.
            if let Some(port) = successors.get(name) {
                relay.lead_to(port);
            }
        }
        successors
    }

    /// The way to a place.
    fn way(&mut self, place: &Place, plan: &Plan, ports: &Ports) -> Option<Arc<dyn EventPort>> {
        if place.upstream == WEB {
            return Some(Arc::new(Web::new(&self.topics, plan)));
        }
        let port = ports.get(&place.upstream)?;
        let relay = self.relays.entry(place.upstream.clone());
        Some(Arc::clone(relay.or_insert_with(|| Arc::new(Relay::new(port)))) as Arc<dyn EventPort>)
    }

    fn start(&mut self, plan: Plan, ports: &Ports, resumes: bool) -> Option<Running> {
        let Bridge { from, to, dead_letter, retries } = &plan.bridge;
        let name = from.to_string();
        let metrics = EventMetrics::new(&name, &plan.goal());
        let source_name = source_name(&plan);
        let mut target = |place: &Place, passage| {
            let port = self.way(place, &plan, ports)?;
            Some(Target { name: place.to_string(), address: place.address.clone(), port, passage })
        };
        let targets = to.iter().map(|to| target(to, Passage::of_events(&name, &to.to_string())));
        let targets = targets.collect::<Option<Vec<_>>>()?;
        let dead_letter = match dead_letter {
            Some(to) => Some(target(to, Passage::of_letters(&source_name, &to.to_string()))?),
            None => None,
        };
        let pump = Pump {
            bridge: name.clone(),
            targets,
            dead_letter,
            retries: *retries,
            metrics: metrics.clone(),
            complaints: Complaints::new(&name, &plan.goal()),
            draining: self.draining.clone(),
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
        let port = Arc::clone(ports.get(&plan.bridge.from.upstream)?);
        Some(Running { plan, port, source })
    }
}

impl Running {
    /// The same, over the port that its source has now.
    fn over(mut self, ports: &Ports) -> Option<Self> {
        let port = ports.get(&self.plan.bridge.from.upstream)?;
        if !Arc::ptr_eq(port, &self.port) {
            self.port = Arc::clone(port);
            self.source.resumes = true;
        }
        Some(self)
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
        captures: &[String],
        event: &Event,
        _key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>> {
        let address = &*fill(address, captures);
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
mod tests;
