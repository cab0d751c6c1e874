//! The tables of events, and the targets that they are held against.

use serde_json::{Value, json};

use super::measure::{Results, SUBSCRIBERS, What};
use super::subscribers::Way;
use crate::support::role::Run;
use crate::support::subject::Sample;
use crate::support::table::{headed, mark, median, section, spread, times, verdict};

/// How many times the bare loop's CPU an event may cost for each subscriber.
const FAN_RATIO: f64 = 1.5;
/// How much may be resident for an idle subscriber, in KiB.
const MEMORY: f64 = 12.0;
/// What share of the bare bridge's rate is wanted.
const BRIDGE_SHARE: f64 = 0.6;
/// How much later than the bare client a browser may hear, in milliseconds, in all but one of a hundred.
const LATER: f64 = 2.0;

/// The tables of everything that was measured.
pub(crate) fn tables(results: &Results, out: &mut String) {
    let title =
        format!("Events: one NATS subject to {SUBSCRIBERS} subscribers, CPU for each of them (µs)");
    section(out, &title, fans(results));
    let title = format!("Events: resident for each of {SUBSCRIBERS} idle subscribers (KiB)");
    section(out, &title, memory(results));
    let title =
        "Events: from a Nameko service to a JetStream stream, 1 KiB each, events per second";
    section(out, title, bridges(results));
    let title = "Events: from a Nameko service to a browser, one at a time (ms)";
    section(out, title, latencies(results));
}

/// Everything that was measured, every round of it.
pub(crate) fn json(results: &Results) -> Value {
    let samples = results.samples.iter().map(|(what, samples)| {
        json!({ "what": what, "cpu_us_per_event": median(samples, |sample| sample.cpu),
                "rounds": samples })
    });
    let memory = results.memory.iter().map(|(way, used)| (format!("{way:?}"), json!(used)));
    json!({
        "samples": samples.collect::<Vec<_>>(),
        "bare_bridge": results.bare,
        "bridge": results.bridge,
        "kib_per_idle_subscriber": memory.collect::<serde_json::Map<_, _>>(),
    })
}

fn fans(results: &Results) -> Vec<Vec<String>> {
    let ways = [
        ("WebSocket", What::LoopWebSocket, What::GatewayWebSocket),
        ("Server-Sent Events", What::LoopSse, What::GatewaySse),
    ];
    let each = |sample: &Sample| sample.cpu / SUBSCRIBERS as f64;
    let rows = ways.into_iter().filter_map(|(name, bare, gateway)| {
        let bare = results.samples.get(&bare)?;
        let mut row = vec![name.to_owned(), spread(bare, each)];
        if let Some(gateway) = results.samples.get(&gateway) {
            row.push(spread(gateway, each));
            row.extend(verdict(times(gateway, &[bare], each), FAN_RATIO));
        }
        Some(row)
    });
    headed("over|bare loop|Genkan|ratio|wanted|", rows.collect())
}

fn memory(results: &Results) -> Vec<Vec<String>> {
    let rows = results.memory.iter().map(|(way, used)| {
        let name = match way {
            Way::WebSocket => "WebSocket",
            Way::Sse => "Server-Sent Events",
        };
        let wanted = format!("≤ {MEMORY:.0}");
        vec![name.to_owned(), format!("{used:.1}"), wanted, mark(*used <= MEMORY)]
    });
    headed("over|Genkan|wanted|", rows.collect())
}

fn bridges(results: &Results) -> Vec<Vec<String>> {
    let rate = |run: &Run| run.calls as f64 / run.seconds;
    let row = (!results.bare.is_empty()).then(|| {
        let bare = median(&results.bare, rate);
        let mut row = vec![format!("{bare:.0}")];
        if !results.bridge.is_empty() {
            let bridge = median(&results.bridge, rate);
            let share = bridge / bare;
            let wanted = format!("≥ {BRIDGE_SHARE:.2}");
            row.extend([format!("{bridge:.0}"), format!("{share:.2}"), wanted]);
            row.push(mark(share >= BRIDGE_SHARE));
        }
        row
    });
    headed("lapin and async-nats|Genkan|ratio|wanted|", row.into_iter().collect())
}

fn latencies(results: &Results) -> Vec<Vec<String>> {
    let p50 = |sample: &Sample| f64::from(sample.run.p50) / 1e3;
    let p99 = |sample: &Sample| f64::from(sample.run.p99) / 1e3;
    let row = || {
        let bare = results.samples.get(&What::LapinEvents)?;
        let mut row =
            vec![format!("{:.2}", median(bare, p50)), format!("{:.2}", median(bare, p99))];
        if let Some(gateway) = results.samples.get(&What::GatewayEvents) {
            let later = median(gateway, p99) - median(bare, p99);
            row.push(format!("{:.2}", median(gateway, p50)));
            row.push(format!("{:.2}", median(gateway, p99)));
            row.extend([format!("{later:+.2}"), format!("≤ {LATER:+.2}"), mark(later <= LATER)]);
        }
        Some(row)
    };
    let heads = "lapin, p50|p99|a browser, p50|p99|p99 later by|wanted|";
    headed(heads, row().into_iter().collect())
}
