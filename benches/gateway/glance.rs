//! The one table to look at: what the gateway takes, a yardstick from the same run beside it, and
//! how the two are wanted to compare.

use super::measure::{CONNECTIONS, MANY_AT, Results, What};
use super::scale::{FEW, MANY, Page, Times};
use crate::support::subject::Sample;
use crate::support::table::{headed, mark, median, more, times, verdict};

/// A path through the gateway, what it is held against, and how many times its CPU it may take, where
/// that is no mere comparison.
struct Path {
    name: &'static str,
    gateway: What,
    beside: &'static str,
    /// What is measured of it; the sum where there are several.
    parts: &'static [What],
    wanted: Option<f64>,
}

const PATHS: [Path; 12] = [
    Path {
        name: "HTTP → NATS, small body",
        gateway: What::GatewayNats,
        beside: "nginx",
        parts: &[What::Nginx],
        wanted: Some(0.75),
    },
    Path {
        name: "HTTP → NATS, small body",
        gateway: What::GatewayNats,
        beside: "axum + async-nats",
        parts: &[What::AxumEcho, What::NatsClient],
        wanted: Some(1.6),
    },
    Path {
        name: "one WebSocket → NATS, small body, as many calls in flight as",
        gateway: What::GatewayWebSocket,
        beside: "over HTTP",
        parts: &[What::GatewayNats],
        wanted: Some(0.7),
    },
    Path {
        name: "HTTP → NATS, 100 KiB of JSON each way",
        gateway: What::GatewayLarge,
        beside: "nginx",
        parts: &[What::NginxLarge],
        wanted: Some(2.0),
    },
    Path {
        name: "HTTP → Nameko",
        gateway: What::GatewayNameko,
        beside: "axum + lapin",
        parts: &[What::AxumEcho, What::LapinClient],
        wanted: Some(1.1),
    },
    Path {
        name: "HTTP → Nameko",
        gateway: What::GatewayNameko,
        beside: "Fastify + amqplib",
        parts: &[What::NodeNameko],
        wanted: Some(0.25),
    },
    Path {
        name: "HTTP → JSON-RPC over HTTP",
        gateway: What::GatewayJsonRpc,
        beside: "nginx",
        parts: &[What::NginxJsonRpc],
        wanted: Some(1.5),
    },
    Path {
        name: "HTTP → JSON-RPC over HTTP",
        gateway: What::GatewayJsonRpc,
        beside: "HAProxy",
        parts: &[What::HaproxyJsonRpc],
        wanted: None,
    },
    Path {
        name: "Nameko caller → NATS, as many calls in flight as",
        gateway: What::GatewayFromNameko,
        beside: "lapin service + async-nats",
        parts: &[What::LapinService, What::NatsClient],
        wanted: Some(1.3),
    },
    Path {
        name: "Picom caller → Nameko, as many calls in flight as",
        gateway: What::GatewayFromPicom,
        beside: "async-nats service + lapin",
        parts: &[What::NatsService, What::LapinClient],
        wanted: Some(1.3),
    },
    Path {
        name: "with an API key, a rate and a breaker",
        gateway: What::GatewayKeyed,
        beside: "with none",
        parts: &[What::GatewayNats],
        wanted: Some(1.04),
    },
    Path {
        name: "with a token that was seen before",
        gateway: What::GatewayToken,
        beside: "with none",
        parts: &[What::GatewayNats],
        wanted: Some(1.05),
    },
];
/// What a call with a new token may take more than one with none and the bare verification, in microseconds.
const MORE_FOR_NEW: f64 = 5.0;
/// What a call of the last of many routes may take more than one of the first, in microseconds.
const MORE_FOR_MANY: f64 = 1.0;
/// How long the check of many routes, and the start with them, may take, in milliseconds.
const MANY_WITHIN: f64 = 500.0;
/// How many series there may be before anything is called.
const SERIES: usize = 100;

/// The table's rows.
pub(crate) fn rows(results: &Results) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for path in &PATHS {
        rows.extend(CONNECTIONS.into_iter().filter_map(|at| path.row(results, at)));
    }
    rows.extend(CONNECTIONS.into_iter().filter_map(|at| new_tokens(results, at)));
    rows.extend(last_of_many(results));
    rows.extend(check_and_start(&results.scale.times));
    rows.extend(pages(&results.scale.pages));
    rows.extend(memory(results));
    headed("what|Genkan|yardstick||ratio|wanted|", rows)
}

/// How much may be resident, in MiB.
pub(crate) const RESIDENT: f64 = 17.0;

fn cpu(sample: &Sample) -> f64 {
    sample.cpu
}

fn micros(value: f64) -> String {
    format!("{value:.1} µs")
}

impl Path {
    /// The row, where the gateway was measured.
    fn row(&self, results: &Results, at: usize) -> Option<Vec<String>> {
        let of = |what| results.samples.get(&(what, at));
        let gateway = of(self.gateway)?;
        let name = format!("{}, {at} connections: CPU per call", self.name);
        let mut row = vec![name, micros(median(gateway, cpu))];
        let parts: Option<Vec<&Vec<Sample>>> = self.parts.iter().map(|what| of(*what)).collect();
        match parts {
            Some(parts) => {
                let beside = parts.iter().map(|part| median(part, cpu)).sum();
                row.extend([micros(beside), self.beside.to_owned()]);
                let ratio = times(gateway, &parts, cpu);
                match self.wanted {
                    Some(wanted) => row.extend(verdict(ratio, wanted)),
                    None => row.push(format!("{ratio:.2}")),
                }
            }
            None => {
                let missing = format!("{}: not measured", self.beside);
                row.extend(["–".to_owned(), missing, "–".to_owned()]);
                row.extend(self.wanted.map(|wanted| format!("≤ {wanted:.2}")));
            }
        }
        Some(row)
    }
}

fn new_tokens(results: &Results, at: usize) -> Option<Vec<String>> {
    let of = |what| results.samples.get(&(what, at));
    let new = of(What::GatewayNewTokens)?;
    let beside = [of(What::GatewayNats)?, of(What::Verification)?];
    let more = more(new, &beside, cpu);
    Some(vec![
        format!("with a new token (ES256), {at} connections: CPU per call"),
        micros(median(new, cpu)),
        micros(beside.into_iter().map(|part| median(part, cpu)).sum()),
        "with none + the verification".to_owned(),
        format!("{more:+.1} µs"),
        format!("≤ {MORE_FOR_NEW:+.1} µs"),
        mark(more <= MORE_FOR_NEW),
    ])
}

fn last_of_many(results: &Results) -> Option<Vec<String>> {
    let of = |what| results.samples.get(&(what, MANY_AT));
    let (many, few) = (of(What::GatewayManyRoutes)?, of(What::GatewayNats)?);
    let more = more(many, &[few], cpu);
    Some(vec![
        format!("{} routes, the last one called: CPU per call", number(MANY)),
        micros(median(many, cpu)),
        micros(median(few, cpu)),
        "with the first of a few".to_owned(),
        format!("{more:+.1} µs"),
        format!("≤ {MORE_FOR_MANY:+.1} µs"),
        mark(more <= MORE_FOR_MANY),
    ])
}

fn check_and_start(times: &[Times]) -> Vec<Vec<String>> {
    let of = |routes| times.iter().find(|times| times.routes == routes);
    let (Some(few), Some(many)) = (of(FEW), of(MANY)) else { return Vec::new() };
    let row = |what: &str, few: &[f64], many: &[f64]| {
        let (few, many) = (median(few, |time| *time), median(many, |time| *time));
        vec![
            format!("{} routes: {what}", number(MANY)),
            format!("{many:.0} ms"),
            format!("{few:.0} ms"),
            format!("with {FEW}"),
            format!("{:+.0} ms", many - few),
            format!("≤ {MANY_WITHIN:.0} ms"),
            mark(many <= MANY_WITHIN),
        ]
    };
    vec![
        row("`genkan check`", &few.check, &many.check),
        row("from its start until it is ready", &few.start, &many.start),
    ]
}

fn pages(pages: &[Page]) -> Vec<Vec<String>> {
    let Some(few) = pages.iter().find(|page| page.routes == FEW) else { return Vec::new() };
    let many = pages.iter().filter(|page| page.routes != FEW);
    let row = |page: &Page| {
        vec![
            format!("{} routes, nothing called: series in `/metrics`", number(page.routes)),
            format!("{}, {:.1} KiB", page.series, page.bytes as f64 / 1024.0),
            format!("{}, {:.1} KiB", few.series, few.bytes as f64 / 1024.0),
            format!("with {FEW}"),
            String::new(),
            format!("< {SERIES}"),
            mark(page.series < SERIES),
        ]
    };
    let resident = |page: &Page| {
        vec![
            format!("{} routes, nothing called: resident", number(page.routes)),
            format!("{:.1} MiB", page.resident),
            format!("{:.1} MiB", few.resident),
            format!("with {FEW}"),
            format!("{:+.1} MiB", page.resident - few.resident),
            String::new(),
            String::new(),
        ]
    };
    many.flat_map(|page| [row(page), resident(page)]).collect()
}

fn memory(results: &Results) -> Option<Vec<String>> {
    let last = results.memory.last()?;
    let connections = CONNECTIONS[1];
    let resident = last.memory.resident;
    Some(vec![
        format!("resident, {connections} connections, {} calls", number_u64(last.calls)),
        format!("{resident:.1} MiB"),
        String::new(),
        String::new(),
        String::new(),
        format!("≤ {RESIDENT:.0} MiB"),
        mark(resident <= RESIDENT),
    ])
}

/// `10,000`.
fn number(value: usize) -> String {
    number_u64(value as u64)
}

fn number_u64(value: u64) -> String {
    match value {
        0..1_000 => value.to_string(),
        _ => format!("{},{:03}", number_u64(value / 1_000), value % 1_000),
    }
}
