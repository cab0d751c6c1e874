//! What events are called on RabbitMQ. Must not: do I/O.
//!
//! ```text
//! SERVICE.EVENT     exchange SERVICE.events (topic, durable), routing key EVENT     WIRE 1.5
//! SERVICE.*         the same, whatever the key
//! gemstone/EVENT    exchange gemstone.broadcast.EVENT (fanout, not durable)         WIRE 4.5
//! gemstone-0.9/EVENT    exchange gemstone.events.EVENT, of Gemstone 0.5 to 0.9
//! queue/NAME        the queue itself; to send to
//! ```

use lapin::ExchangeKind;

use super::super::open::Sort;
use crate::event::{self, fill, highest_capture};
use crate::event_port::{EventAddresses, Promise};
use crate::fnv::fnv;

/// How an address names events of Gemstone's, and how the exchanges of these begin.
const GEMSTONE: [(&str, &str); 2] =
    [("gemstone/", "gemstone.broadcast."), ("gemstone-0.9/", "gemstone.events.")];
const QUEUE: &str = "queue/";
/// The longest short string of AMQP 0-9-1, which names and routing keys are.
const SHORT_STRING: usize = 255;
/// How much of a queue's name tells whose it is.
const TELLING: usize = 200;

/// The addresses, with their promises.
pub(in super::super) const ADDRESSES: EventAddresses = EventAddresses {
    source: promise_of_source,
    target: promise_of_target,
    reached,
    also_at: |_| None,
};

/// What `SERVICE.*` matches is the event's whole name, which may have dots.
fn reached(source: &str, place: &str) -> Option<Vec<String>> {
    let all_of = source.strip_suffix(".*").filter(|service| !service.contains('/'));
    let event = all_of.and_then(|service| place.strip_prefix(service)?.strip_prefix('.'));
    match event {
        Some(event) if !event.is_empty() => Some(vec![event.to_owned()]),
        _ => event::reached(source, place),
    }
}

fn promise_of_source(address: &str) -> Result<Promise, String> {
    Ok(match Source::parse(address)? {
        Source::Nameko { .. } => Promise::AtLeastOnce,
        Source::Gemstone { .. } => Promise::AtMostOnce,
    })
}

fn promise_of_target(address: &str) -> Result<Promise, String> {
    Ok(match Target::parse(address)? {
        Target::Queue(_) | Target::Exchange { kind: Kind::Nameko, .. } => Promise::AtLeastOnce,
        Target::Exchange { kind: Kind::Gemstone, .. } => Promise::AtMostOnce,
    })
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A Nameko service's events: one of them, or all.
    Nameko { service: String, event: Option<String> },
    /// A Gemstone event, whoever emits it.
    Gemstone { event: String, exchange: String },
}

impl Source {
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        if let Some((event, exchange)) = gemstone(address) {
            if has_wildcard(event) {
                return Err(format!(
                    "`{address}` names no one event: each of Gemstone's has an exchange of its own"
                ));
            }
            check_gemstone(event, &exchange)?;
            return Ok(Self::Gemstone { event: event.to_owned(), exchange });
        }
        if address.starts_with(QUEUE) {
            return Err(format!("`{address}` is a place to send to: nothing comes from a queue"));
        }
        let (service, event) = split(address)?;
        if has_wildcard(service) || (event != "*" && has_wildcard(event)) {
            return Err(format!(
                "`{address}` names no one service: each has an exchange of its own; `SERVICE.*` is \
                 all events of one"
            ));
        }
        nameko(service, if event == "*" { "all" } else { event })?;
        let (service, event) = (service.to_owned(), (event != "*").then(|| event.to_owned()));
        Ok(Self::Nameko { service, event })
    }

    /// The exchange that they are published to.
    pub(super) fn exchange(&self) -> (Kind, String) {
        match self {
            Self::Nameko { service, .. } => (Kind::Nameko, nameko_exchange(service)),
            Self::Gemstone { exchange, .. } => (Kind::Gemstone, exchange.clone()),
        }
    }

    /// The key by which a queue is bound to it.
    pub(super) fn binding<'a>(&'a self, queue: &'a str) -> &'a str {
        match self {
            Self::Nameko { event, .. } => event.as_deref().unwrap_or("#"),
            Self::Gemstone { .. } => queue,
        }
    }

    /// What an event is called, and what of it the address leaves open.
    pub(super) fn topic(&self, routing_key: &str) -> (String, Vec<String>) {
        match self {
            Self::Nameko { service, event } => {
                let open = event.is_none().then(|| routing_key.to_owned());
                (format!("{service}.{routing_key}"), open.into_iter().collect())
            }
            Self::Gemstone { event, .. } => (event.clone(), Vec::new()),
        }
    }

    /// The queue of whoever wants them by a name: the same one after a restart.
    pub(super) fn queue(&self, name: &str) -> String {
        format!("genkan.bridge-{}-{:016x}", self.telling(), fnv(name.as_bytes()))
    }

    /// The queue of one who wants them for itself as long as it is connected.
    pub(super) fn own_queue(&self, unique: &str) -> String {
        format!("genkan.topic-{}-{unique}", self.telling())
    }

    fn telling(&self) -> String {
        let mut telling = match self {
            Self::Nameko { service, event } => {
                format!("{service}.{}", event.as_deref().unwrap_or("all"))
            }
            Self::Gemstone { event, .. } => format!("gemstone.{event}"),
        };
        while telling.len() > TELLING {
            telling.pop();
        }
        telling
    }
}

/// What kind of exchange events go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Nameko,
    Gemstone,
}

impl Kind {
    /// How it is declared: Nameko's so that it goes with its last queue where `auto_delete` says so.
    pub(super) fn declared(self, auto_delete: bool) -> Sort {
        match self {
            Self::Nameko => Sort { kind: ExchangeKind::Topic, durable: true, auto_delete },
            Self::Gemstone => {
                Sort { kind: ExchangeKind::Fanout, durable: false, auto_delete: false }
            }
        }
    }
}

/// Where an event goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// An exchange, and the key.
    Exchange { kind: Kind, exchange: String, key: String },
    /// A queue.
    Queue(String),
}

impl Target {
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        if let Some(name) = address.strip_prefix(QUEUE) {
            check(name, "queue's name")?;
            return Ok(Self::Queue(name.to_owned()));
        }
        if has_wildcard(address) {
            return Err(format!(
                "`{address}` names no one event: write `$1` for what `from` matched"
            ));
        }
        if let Some((event, exchange)) = gemstone(address) {
            check_gemstone(event, &exchange)?;
            return Ok(Self::Exchange { kind: Kind::Gemstone, exchange, key: String::new() });
        }
        let (service, event) = split(address)?;
        nameko(service, event)?;
        let (exchange, key) = (nameko_exchange(service), event.to_owned());
        Ok(Self::Exchange { kind: Kind::Nameko, exchange, key })
    }

    /// Reads an address, and puts what a source's wildcards matched where it stands: within the service's name or
    /// the event's. Whether it so names another exchange or queue than others do.
    pub(super) fn filled(address: &str, captures: &[String]) -> Result<(Self, bool), String> {
        if captures.is_empty() || highest_capture(address) == 0 {
            return Ok((Self::parse(address)?, false));
        }
        if address.starts_with(QUEUE) || gemstone(address).is_some() {
            return Ok((Self::parse(&fill(address, captures))?, true));
        }
        let (service, event) = split(address)?;
        let is_named = highest_capture(service) > 0;
        let (service, event) = (fill(service, captures), fill(event, captures));
        nameko(&service, &event)?;
        let (exchange, key) = (nameko_exchange(&service), event.into_owned());
        Ok((Self::Exchange { kind: Kind::Nameko, exchange, key }, is_named))
    }

    /// The exchange and the routing key.
    pub(super) fn way(&self) -> (&str, &str) {
        match self {
            Self::Exchange { exchange, key, .. } => (exchange, key),
            Self::Queue(name) => ("", name),
        }
    }
}

fn nameko_exchange(service: &str) -> String {
    format!("{service}.events")
}

/// An event of Gemstone's and its exchange, where the address names one.
fn gemstone(address: &str) -> Option<(&str, String)> {
    GEMSTONE.iter().find_map(|(words, exchange)| {
        let event = address.strip_prefix(words)?;
        Some((event, [exchange, event].concat()))
    })
}

fn split(address: &str) -> Result<(&str, &str), String> {
    let split = address
        .rsplit_once('.')
        .filter(|(service, event)| !service.is_empty() && !event.is_empty());
    split.ok_or_else(|| {
        format!(
            "`{address}` is no event: write `SERVICE.EVENT` (Nameko's), `gemstone/EVENT`, or \
             `queue/NAME` to send to a queue"
        )
    })
}

fn nameko(service: &str, event: &str) -> Result<(), String> {
    check(service, "service's name")?;
    check(event, "event's name")?;
    fits(&nameko_exchange(service), "exchange's name")
}

fn check_gemstone(event: &str, exchange: &str) -> Result<(), String> {
    check(event, "event's name")?;
    fits(exchange, "exchange's name")
}

fn has_wildcard(text: &str) -> bool {
    text.split('.').any(|word| word == ">") || text.contains(['*', '#'])
}

fn check(name: &str, what: &str) -> Result<(), String> {
    let shown: String = name.chars().take(80).collect();
    if name.split('.').any(str::is_empty) {
        return Err(format!("{shown:?} is no {what}: a part of it is empty"));
    }
    if let Some(odd) = name.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{shown:?} is no {what}: it holds {odd:?}"));
    }
    fits(name, what)
}

fn fits(name: &str, what: &str) -> Result<(), String> {
    if name.len() <= SHORT_STRING {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(format!(
        "the {what} {shown:?}… is {} bytes long, and AMQP takes {SHORT_STRING}",
        name.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(kind: Kind, exchange: &str, key: &str) -> Target {
        Target::Exchange { kind, exchange: exchange.to_owned(), key: key.to_owned() }
    }

    #[test]
    fn sources() {
        let orders = Source::parse("eu.orders.created").expect("one event");
        assert_eq!(orders.exchange(), (Kind::Nameko, "eu.orders.events".to_owned()));
        assert_eq!(orders.binding("q"), "created");
        assert_eq!(orders.topic("created"), ("eu.orders.created".to_owned(), Vec::new()));
        let all = Source::parse("orders.*").expect("all events");
        assert_eq!(all.binding("q"), "#");
        let captured = vec!["order.created".to_owned()];
        assert_eq!(all.topic("order.created"), ("orders.order.created".to_owned(), captured));
        let price = Source::parse("gemstone/price_changed").expect("one event");
        let broadcast = "gemstone.broadcast.price_changed".to_owned();
        assert_eq!((price.exchange(), price.binding("q")), ((Kind::Gemstone, broadcast), "q"));
        assert_eq!(price.topic(""), ("price_changed".to_owned(), Vec::new()));
        let old = Source::parse("gemstone-0.9/price").expect("one event");
        assert_eq!(old.exchange(), (Kind::Gemstone, "gemstone.events.price".to_owned()));
        assert_eq!(old.topic(""), ("price".to_owned(), Vec::new()));
    }

    #[test]
    fn targets() {
        for (address, expected) in [
            ("orders.created", exchange(Kind::Nameko, "orders.events", "created")),
            ("a.b.c", exchange(Kind::Nameko, "a.b.events", "c")),
            ("gemstone/x", exchange(Kind::Gemstone, "gemstone.broadcast.x", "")),
            ("gemstone-0.9/x", exchange(Kind::Gemstone, "gemstone.events.x", "")),
            ("queue/dead.letters", Target::Queue("dead.letters".to_owned())),
        ] {
            assert_eq!(Target::parse(address), Ok(expected), "{address}");
        }
        assert!(promise_of_target("orders.$1").is_ok(), "it is filled in later");
    }

    #[test]
    fn what_a_wildcard_matched_stays_where_it_stands() {
        let captures = ["order.created".to_owned()];
        let filled = |address| Target::filled(address, &captures);
        let whole = exchange(Kind::Nameko, "copies.events", "order.created");
        assert_eq!(filled("copies.$1"), Ok((whole, false)));
        let service = exchange(Kind::Nameko, "eu.order.created.events", "copied");
        assert_eq!(filled("eu.$1.copied"), Ok((service, true)));
        assert_eq!(filled("queue/$1"), Ok((Target::Queue("order.created".to_owned()), true)));
        let plain = exchange(Kind::Nameko, "a.b.events", "c");
        assert_eq!(filled("a.b.c"), Ok((plain, false)));
        let odd = Target::filled("copies.$1", &["a..b".to_owned()]).expect_err("odd");
        assert!(odd.contains("a part of it is empty"), "{odd}");
        let captured = |source, place| reached(source, place).map(|all| all.join(","));
        for (source, place, expected) in [
            ("dot.*", "dot.order.created", Some("order.created")),
            ("dot.*", "dots.x", None),
            ("dot.order.created", "dot.order.created", Some("")),
            ("gemstone/x", "gemstone/x", Some("")),
        ] {
            assert_eq!(captured(source, place).as_deref(), expected, "{source} {place}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        for (address, words) in [
            ("orders", "SERVICE.EVENT"),
            ("orders.", "SERVICE.EVENT"),
            (".created", "SERVICE.EVENT"),
            ("a..b", "a part of it is empty"),
            ("or ders.x", "holds ' '"),
            ("*.created", "SERVICE.*"),
            ("orders.>", "SERVICE.*"),
            ("orders.#", "SERVICE.*"),
            ("gemstone/*", "no one event"),
            ("gemstone/", "is empty"),
            ("queue/x", "a place to send to"),
        ] {
            let complaint = promise_of_source(address).expect_err(address);
            assert!(complaint.contains(words), "{address}: {complaint}");
        }
        for (address, words) in [
            ("orders.*", "$1"),
            ("gemstone/a*", "$1"),
            ("queue/", "is empty"),
            ("orders", "SERVICE.EVENT"),
        ] {
            let complaint = promise_of_target(address).expect_err(address);
            assert!(complaint.contains(words), "{address}: {complaint}");
        }
        let long = format!("{}.x", "s".repeat(249));
        assert!(promise_of_target(&long).expect_err("too long").contains("AMQP takes 255"));
    }

    #[test]
    fn queues_are_found_again_and_told_apart() {
        let orders = Source::parse("orders.created").expect("one event");
        let queue = orders.queue("rabbit:orders.created->bus:x");
        assert_eq!(queue, "genkan.bridge-orders.created-e5278913b5196f2f");
        assert_ne!(queue, orders.queue("rabbit:orders.created->bus:y"));
        let long = Source::parse(&format!("{}.x", "é".repeat(120))).expect("one event");
        assert!(long.queue("x").len() <= 255 && long.own_queue(&"u".repeat(36)).len() <= 255);
    }
}
