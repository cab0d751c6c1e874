//! The tables, and the targets that they are held against.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::measure::{CONNECTIONS, Results, Sample, What};

/// A path through the gateway, the parts it cannot do without, and how many times their sum it
/// may cost.
const PATHS: [(&str, What, What, f64); 2] = [
    ("HTTP → NATS (picom)", What::NatsClient, What::GatewayNats, 1.6),
    ("HTTP → Nameko", What::LapinClient, What::GatewayNameko, 1.5),
];
/// How many times the bare client's share of RabbitMQ's CPU the gateway may use.
const BROKER_RATIO: f64 = 1.2;
/// How much may be resident, in MiB.
const RESIDENT: f64 = 25.0;
/// What still counts as flat: the growth of what is resident between the two readings, in MiB.
const FLAT: f64 = 1.0;
const SPEEDS: [(&str, What); 7] = [
    ("axum echo", What::AxumEcho),
    ("async-nats client, one thread", What::NatsClient),
    ("async-nats client, a thread a core", What::NatsClientThreads),
    ("gateway → NATS", What::GatewayNats),
    ("lapin client", What::LapinClient),
    ("lapin client, persistent", What::LapinPersistent),
    ("gateway → Nameko", What::GatewayNameko),
];

/// Prints everything that was measured.
pub(crate) fn print(results: &Results) -> Result<()> {
    let mut out = String::new();
    let setup = &results.setup;
    out.push_str(&format!(
        "set-up: {} cores, {}, Linux {}, nats-server {}, RabbitMQ {}; median of {} rounds\n",
        setup.cores,
        setup.processor,
        setup.kernel,
        setup.nats_server,
        setup.rabbitmq,
        results.rounds
    ));
    section(&mut out, "CPU per call, user and system, of the process alone (µs)", paths(results));
    section(&mut out, "RabbitMQ's own CPU per call, its idling taken off (µs)", brokers(results));
    section(&mut out, "The gateway's resident memory (MiB)", memory(results));
    section(&mut out, "For orientation: closed loop, on this machine all at once", speeds(results));
    Ok(stdout().lock().write_all(out.as_bytes())?)
}

/// Writes everything that was measured, every round of it.
pub(crate) fn write_json(results: &Results, path: &Path) -> Result<()> {
    let samples = results.samples.iter().map(|((what, connections), samples)| {
        json!({ "what": what, "connections": connections, "cpu_us_per_call": median(samples, cpu),
                "rounds": samples })
    });
    let all = json!({
        "setup": results.setup,
        "samples": samples.collect::<Vec<_>>(),
        "memory_mib": results.memory,
    });
    let text = serde_json::to_string_pretty(&all)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu
}

fn broker(sample: &Sample) -> f64 {
    sample.broker.unwrap_or(f64::NAN)
}

fn paths(results: &Results) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (path, client, gateway, target) in PATHS {
        for connections in CONNECTIONS {
            let of = |what| results.samples.get(&(what, connections));
            let (Some(axum), Some(client)) = (of(What::AxumEcho), of(client)) else { continue };
            let sum = median(axum, cpu) + median(client, cpu);
            let mut row = vec![
                path.to_owned(),
                connections.to_string(),
                spread(axum, cpu),
                spread(client, cpu),
                format!("{sum:.1}"),
            ];
            if let Some(gateway) = of(gateway) {
                row.push(spread(gateway, cpu));
                row.extend(verdict(median(gateway, cpu) / sum, target));
            }
            rows.push(row);
        }
    }
    headed("path|conns|axum echo|client alone|sum|gateway|ratio|target|", rows)
}

fn brokers(results: &Results) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let of = |what| results.samples.get(&(what, connections));
        let (Some(bare), Some(persistent)) = (of(What::LapinClient), of(What::LapinPersistent))
        else {
            continue;
        };
        let mut row =
            vec![connections.to_string(), spread(persistent, broker), spread(bare, broker)];
        if let Some(gateway) = of(What::GatewayNameko) {
            row.push(spread(gateway, broker));
            row.extend(verdict(median(gateway, broker) / median(bare, broker), BROKER_RATIO));
        }
        rows.push(row);
    }
    headed("conns|bare, persistent|bare, transient|gateway|ratio|target|", rows)
}

fn memory(results: &Results) -> Vec<Vec<String>> {
    let connections = CONNECTIONS[1];
    let mut rows = Vec::new();
    for point in &results.memory {
        let memory = point.memory;
        rows.push(vec![
            format!("{connections} connections, {} calls", point.calls),
            format!("{:.1}", memory.resident),
            format!("{:.1}", memory.anonymous),
            format!("{:.1}", memory.peak),
            format!("≤ {RESIDENT}"),
            mark(memory.resident <= RESIDENT),
        ]);
    }
    if let [_, early, late] = results.memory.as_slice() {
        let growth = late.memory.resident - early.memory.resident;
        let (from, to) = (early.calls, late.calls);
        rows.push(vec![
            format!("growth from {from} to {to} calls"),
            format!("{growth:+.1}"),
            format!("{:+.1}", late.memory.anonymous - early.memory.anonymous),
            String::new(),
            format!("≤ {FLAT}"),
            mark(growth <= FLAT),
        ]);
    }
    headed("after|resident|of it heap|peak|target|", rows)
}

fn speeds(results: &Results) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (name, what) in SPEEDS {
        for connections in CONNECTIONS {
            let Some(samples) = results.samples.get(&(what, connections)) else { continue };
            let speed = |sample: &Sample| sample.run.calls as f64 / sample.run.seconds;
            rows.push(vec![
                name.to_owned(),
                connections.to_string(),
                format!("{:.1}", median(samples, cpu)),
                format!("{:.0}", median(samples, speed)),
                format!("{:.2}", median(samples, |sample| f64::from(sample.run.p50) / 1e3)),
                format!("{:.2}", median(samples, |sample| f64::from(sample.run.p99) / 1e3)),
            ]);
        }
    }
    headed("what|conns|CPU µs|calls/s|p50 ms|p99 ms", rows)
}

fn verdict(ratio: f64, target: f64) -> [String; 3] {
    [format!("{ratio:.2}"), format!("≤ {target:.2}"), mark(ratio <= target)]
}

fn mark(good: bool) -> String {
    if good { "ok".to_owned() } else { "over".to_owned() }
}

/// The rows under their heads; nothing if there are no rows.
fn headed(heads: &str, rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    if rows.is_empty() {
        return rows;
    }
    let mut table = vec![heads.split('|').map(str::to_owned).collect()];
    table.extend(rows);
    table
}

fn section(out: &mut String, title: &str, table: Vec<Vec<String>>) {
    if table.is_empty() {
        return;
    }
    out.push_str(&format!("\n{title}\n"));
    let columns = table.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in &table {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let cell =
                if column == 0 { format!(" {cell:<width$}") } else { format!("  {cell:>width$}") };
            line.push_str(&cell);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// The median, and the lowest and highest when there was more than one round.
fn spread(samples: &[Sample], of: fn(&Sample) -> f64) -> String {
    let values = sorted(samples, of);
    let middle = median(samples, of);
    match values.as_slice() {
        [low, .., high] => format!("{middle:.1} ({low:.1}–{high:.1})"),
        _ => format!("{middle:.1}"),
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let values = sorted(samples, of);
    let middle = values.len() / 2;
    match (values.get(middle), values.get(middle.saturating_sub(1))) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => (upper + lower) / 2.0,
        (Some(middle), _) => *middle,
        _ => f64::NAN,
    }
}

fn sorted(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}
