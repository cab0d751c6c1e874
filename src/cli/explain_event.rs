//! `genkan explain --event`: where an event would go. Sends nothing.

use serde::Serialize;

use super::output::{Form, Output, Paint, Role};
use super::{CommandError, Status};
use crate::caller::Caller;
use crate::config::Config;
use crate::event::{fill, glob_of};
use crate::event_port::Promise;
use crate::printable::printable;
use crate::route::bridge::{Place, Topic, WEB};
use crate::route::pattern::Pattern;

/// How far an event is followed: longer ways end in the gateway too.
const MOST_STEPS: usize = 16;

/// Explains where an event goes that happens at a place.
pub(super) fn run(
    place: &str,
    whom: Option<&Caller>,
    config: &Config,
    output: &Output,
) -> anyhow::Result<Status> {
    let place = read(place, config)?;
    let way = Way::from(&place, whom, config);
    match output.form() {
        Form::Human => output.print(&human(&way, output.out()))?,
        Form::Json => output.print(&serde_json::to_string(&way)?)?,
    }
    let may = whom.is_none() || way.topics.is_empty() || way.topics.iter().any(Heard::may_listen);
    Ok(if way.is_anywhere() && may { Status::Done } else { Status::Fault })
}

fn read(text: &str, config: &Config) -> Result<Place, CommandError> {
    let shown = printable(text);
    let Some(place) = Place::parse(text) else {
        let message = format!("`{shown}` is no place of an event: write UPSTREAM:ADDRESS");
        return Err(CommandError::Usage(message));
    };
    let addresses = match &*place.upstream {
        WEB => return Ok(place),
        name => config.event_addresses(name),
    };
    let Some(addresses) = addresses else {
        let message =
            format!("`{shown}`: no upstream by that name has events in this configuration");
        return Err(CommandError::Usage(message));
    };
    let read = (addresses.source)(&place.address).or_else(|_| (addresses.target)(&place.address));
    read.map_err(|flaw: String| CommandError::Usage(printable(&flaw)))?;
    Ok(place)
}

/// Where an event goes.
#[derive(Serialize)]
struct Way {
    event: String,
    /// The bridges that take it, and those that take it from there.
    bridges: Vec<Step>,
    /// What browsers listen to, to hear it.
    topics: Vec<Heard>,
}

/// What a bridge does with it.
#[derive(Serialize)]
struct Step {
    /// The row, from 1.
    row: usize,
    from: String,
    /// Where the event was when the bridge took it.
    event: String,
    to: Vec<Leg>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<String>,
    retries: u32,
}

#[derive(Serialize)]
struct Leg {
    place: String,
    promise: &'static str,
}

#[derive(Serialize)]
struct Heard {
    topic: String,
    row: usize,
    r#match: String,
    promise: &'static str,
    /// By how many ways it comes there: by more than one it is heard more than once.
    #[serde(skip_serializing_if = "is_one")]
    times: usize,
    /// Whether whoever was asked about may listen; none where nobody was.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_listen: Option<bool>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<String>,
}

fn is_one(times: &usize) -> bool {
    *times == 1
}

impl Heard {
    fn is(&self, topic: &str, row: usize) -> bool {
        self.topic == topic && self.row == row + 1
    }

    fn may_listen(&self) -> bool {
        self.may_listen == Some(true)
    }
}

impl Way {
    fn from(begin: &Place, whom: Option<&Caller>, config: &Config) -> Self {
        let mut way = Self { event: begin.to_string(), bridges: Vec::new(), topics: Vec::new() };
        let mut next = vec![begin.clone()];
        let mut steps = 0;
        while let Some(place) = next.pop().filter(|_| steps < MOST_STEPS) {
            steps += 1;
            way.hear(&place, whom, config);
            for (number, bridge) in config.bridges.iter().enumerate() {
                let Some(captures) = captured(config, &bridge.from, &place) else { continue };
                if way.bridges.iter().any(|step| step.row == number + 1) {
                    continue;
                }
                let kept = promise(config, &bridge.from, Side::Source);
                let filled = bridge.to.iter().map(|to| Place {
                    upstream: to.upstream.clone(),
                    address: fill(&to.address, &captures).into_owned(),
                });
                let targets: Vec<Place> = filled.collect();
                let legs = bridge.to.iter().zip(&targets).map(|(to, target)| Leg {
                    place: target.to_string(),
                    promise: words(kept && promise(config, to, Side::Target)),
                });
                way.bridges.push(Step {
                    row: number + 1,
                    from: bridge.from.to_string(),
                    event: place.to_string(),
                    to: legs.collect(),
                    dead_letter: bridge.dead_letter.as_ref().map(ToString::to_string),
                    retries: bridge.retries,
                });
                let also = targets.iter().filter_map(|target| {
                    let address =
                        (config.event_addresses(&target.upstream)?.also_at)(&target.address)?;
                    Some(Place { upstream: target.upstream.clone(), address: address.to_owned() })
                });
                next.extend(also.collect::<Vec<_>>());
                next.extend(targets);
            }
        }
        way
    }

    /// Finds the topics that browsers hear it by.
    fn hear(&mut self, place: &Place, whom: Option<&Caller>, config: &Config) {
        for (number, row) in config.topics.iter().enumerate() {
            if let Some(topic) = topic(config, row, place, &config.topics[..number]) {
                if let Some(known) = self.topics.iter_mut().find(|it| it.is(&topic, number)) {
                    known.times += 1;
                    continue;
                }
                let may = whom.map(|whom| {
                    let may = row.access.lets_listen(whom);
                    may.map_err(|refusal| refusal.fault("listen to", &topic, whom))
                });
                let denied = may.as_ref().and_then(|may| may.as_ref().err());
                let denied = denied.map(|fault| fault.message().to_owned());
                self.topics.push(Heard {
                    topic,
                    row: number + 1,
                    times: 1,
                    r#match: row.pattern.to_string(),
                    promise: words(false),
                    may_listen: may.map(|may| may.is_ok()),
                    denied,
                });
            }
        }
    }

    fn is_anywhere(&self) -> bool {
        !self.bridges.is_empty() || !self.topics.is_empty()
    }
}

/// The topic by which a row shows what happens at a place. A topic is its first row's.
fn topic(config: &Config, row: &Topic, place: &Place, earlier: &[Topic]) -> Option<String> {
    // It keeps the name that it has there.
    let (name, is_all) = match place.upstream == WEB {
        true => (place.address.as_str(), false),
        false => {
            let from = row.from.as_ref()?;
            captured(config, from, place)?;
            let name = place.address.rsplit('/').next().unwrap_or_default();
            (name, place.address == from.address)
        }
    };
    let topics = Pattern::new(&glob_of(name).replace('>', "*"));
    let covers =
        |earlier: &Topic| earlier.pattern.covers(&topics) || earlier.pattern.covers(&row.pattern);
    let is_its = (is_all || row.pattern.meets(&topics)) && !earlier.iter().any(covers);
    is_its.then(|| name.to_owned())
}

fn captured(config: &Config, from: &Place, place: &Place) -> Option<Vec<String>> {
    if !config.are_one(&from.upstream, &place.upstream) {
        return None;
    }
    (config.event_addresses(&from.upstream)?.reached)(&from.address, &place.address)
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

/// Whether a place keeps its events, or confirms them.
fn promise(config: &Config, place: &Place, side: Side) -> bool {
    let promise = config.event_addresses(&place.upstream).map(|addresses| match side {
        Side::Source => (addresses.source)(&place.address),
        Side::Target => (addresses.target)(&place.address),
    });
    matches!(promise, Some(Ok(Promise::AtLeastOnce)))
}

fn words(is_kept: bool) -> &'static str {
    if is_kept { "at least once" } else { "at most once" }
}

fn human(way: &Way, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.paint(Role::Strong, printable(&way.event)));
    let mut line = |label: &str, value: &str| {
        let label = paint.paint(Role::Faint, format!("{label:<17}"));
        text.push_str(&format!("  {label} {}\n", printable(value)));
    };
    for step in &way.bridges {
        line("bridge", &format!("[[bridges]] #{} from {}", step.row, step.from));
        if step.event != way.event {
            line("", &format!("takes {}", step.event));
        }
        for leg in &step.to {
            line("to", &format!("{}, {}", leg.place, leg.promise));
        }
        match &step.dead_letter {
            Some(place) => {
                line("dead letters", &format!("{place}, after {} retries", step.retries))
            }
            None => {
                line("dead letters", "nowhere: what a target never takes is counted and logged")
            }
        }
    }
    for heard in &way.topics {
        line(
            "browsers",
            &format!(
                "by the topic {}, [[topics]] #{} \"{}\", {}",
                heard.topic, heard.row, heard.r#match, heard.promise
            ),
        );
        if heard.times > 1 {
            line("", &format!("it comes there by {} ways, and is heard as often", heard.times));
        }
        match &heard.denied {
            Some(why) => line("as asked", &format!("access_denied: {why}")),
            None if heard.may_listen() => line("as asked", "may listen"),
            None => {}
        }
    }
    if !way.is_anywhere() {
        line("nowhere", "no [[bridges]] row and no [[topics]] row takes it");
    }
    text
}
