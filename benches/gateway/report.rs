//! The tables, and the targets that they are held against.

use serde_json::{Value, json};

use super::alone;
use super::glance::{self, RESIDENT};
use super::measure::{CONNECTIONS, Results, What};
use crate::support::subject::Sample;
use crate::support::table::{headed, mark, median, section, spread, times, verdict};

/// A path through the gateway, and the parts it cannot do without.
const PATHS: [(&str, What, What); 2] = [
    ("HTTP → NATS (picom)", What::NatsClient, What::GatewayNats),
    ("HTTP → Nameko", What::LapinClient, What::GatewayNameko),
];
/// How many times the bare client's share of RabbitMQ's CPU the gateway may use.
const BROKER_RATIO: f64 = 1.2;
/// What still counts as flat: the growth of what is resident between the two readings, in MiB.
const FLAT: f64 = 1.0;
const SPEEDS: [(&str, What); 25] = [
    ("axum echo", What::AxumEcho),
    ("nginx", What::Nginx),
    ("async-nats client, one thread", What::NatsClient),
    ("async-nats client, a thread a core", What::NatsClientThreads),
    ("gateway → NATS", What::GatewayNats),
    ("gateway → NATS, one WebSocket", What::GatewayWebSocket),
    ("gateway → NATS, 10,000 routes", What::GatewayManyRoutes),
    ("nginx, 100 KiB", What::NginxLarge),
    ("gateway → NATS, 100 KiB", What::GatewayLarge),
    ("lapin client", What::LapinClient),
    ("lapin client, persistent", What::LapinPersistent),
    ("gateway → Nameko", What::GatewayNameko),
    ("Fastify + amqplib", What::NodeNameko),
    ("a JSON-RPC service", What::JsonRpcService),
    ("nginx → JSON-RPC", What::NginxJsonRpc),
    ("HAProxy → JSON-RPC", What::HaproxyJsonRpc),
    ("gateway → JSON-RPC", What::GatewayJsonRpc),
    ("lapin service", What::LapinService),
    ("async-nats service", What::NatsService),
    ("Nameko → gateway → NATS", What::GatewayFromNameko),
    ("Picom → gateway → Nameko", What::GatewayFromPicom),
    ("gateway → NATS, API key, rate, breaker", What::GatewayKeyed),
    ("gateway → NATS, token", What::GatewayToken),
    ("gateway → NATS, new tokens (ES256)", What::GatewayNewTokens),
    ("verification of a token (ES256) alone", What::Verification),
];

/// The tables of everything that was measured.
pub(crate) fn tables(results: &Results, out: &mut String) {
    out.push_str(&format!("with {}\n", results.versions));
    section(
        out,
        "At a glance: medians, each beside its yardstick in this run",
        glance::rows(results),
    );
    section(out, "One call at a time: half of them take at most", alone::rows(results));
    section(out, "CPU per call, user and system, of the process alone (µs)", paths(results));
    section(out, "RabbitMQ's own CPU per call, its idling taken off (µs)", brokers(results));
    section(out, "The gateway's resident memory (MiB)", memory(results));
    section(out, "For orientation: closed loop, on this machine all at once", speeds(results));
}

/// Everything that was measured, every round of it.
pub(crate) fn json(results: &Results) -> Value {
    let samples = results.samples.iter().map(|((what, connections), samples)| {
        json!({ "what": what, "connections": connections, "cpu_us_per_call": median(samples, cpu),
                "rounds": samples })
    });
    json!({
        "versions": results.versions,
        "samples": samples.collect::<Vec<_>>(),
        "memory_mib": results.memory,
        "many_routes": results.scale,
    })
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu
}

fn broker(sample: &Sample) -> f64 {
    sample.broker.unwrap_or(f64::NAN)
}

fn paths(results: &Results) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (path, client, gateway) in PATHS {
        for connections in CONNECTIONS {
            let of = |what| results.samples.get(&(what, connections));
            let (Some(axum), Some(client)) = (of(What::AxumEcho), of(client)) else { continue };
            let sum = median(axum, cpu) + median(client, cpu);
            let parts = [axum, client];
            let mut row = vec![
                path.to_owned(),
                connections.to_string(),
                spread(axum, cpu),
                spread(client, cpu),
                format!("{sum:.1}"),
            ];
            if let Some(gateway) = of(gateway) {
                row.push(spread(gateway, cpu));
                row.push(format!("{:.2}", times(gateway, &parts, cpu)));
            }
            rows.push(row);
        }
    }
    headed("path|conns|axum echo|client alone|sum|gateway|ratio", rows)
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
            row.extend(verdict(times(gateway, &[bare], broker), BROKER_RATIO));
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
