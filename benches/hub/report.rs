//! The hub's tables, and the targets that they are held against.

use serde_json::{Value, json};

use super::measure::{CONNECTIONS, IDLE_MODULES, IN_FLIGHT, LISTENERS, Results, What};
use crate::support::subject::Sample;
use crate::support::table::{headed, mark, median, section, spread, verdict};

/// What the real daemon was measured at on the machine that the targets were set on, by calls in
/// flight: its CPU per call in microseconds, and its calls per second. They stand in for it where
/// `--juno` does not name one to be measured in the same run.
const REAL: [(usize, f64, f64); 3] =
    [(1, 81.0, 14_400.0), (16, 17.9, 50_100.0), (64, 12.7, 64_500.0)];
/// What the real daemon has resident for an idle module, in KiB.
const REAL_MEMORY: f64 = 11.7;
/// How many times the relay's CPU a call may cost.
const CALL_RATIO: f64 = 1.6;
/// How much of the real daemon's CPU a call may cost.
const SHARE_OF_REAL: f64 = 0.5;
/// How many times the sum of its parts' CPU a call over HTTP may cost.
const HTTP_RATIO: f64 = 1.4;
/// How much may be resident for an idle module, in KiB.
const MEMORY: f64 = 8.0;

/// The tables of everything that was measured.
pub(crate) fn tables(results: &Results, out: &mut String) {
    let title = "Hub: CPU per call from module to module, of the hub or relay alone (µs)";
    section(out, title, calls(results));
    section(out, "Hub: calls per second from module to module", speeds(results));
    let title = "Hub: CPU per call over HTTP to a module's function (µs)";
    section(out, title, http(results));
    section(out, "Hub: one hook to many listeners", hooks(results));
    let title = format!("Hub: resident for each of {IDLE_MODULES} idle modules (KiB)");
    section(out, &title, memory(results));
}

/// Everything that was measured, every round of it.
pub(crate) fn json(results: &Results) -> Value {
    let samples = results.samples.iter().map(|((what, at), samples)| {
        json!({ "what": what, "at": at, "cpu_us_per_call": median(samples, cpu),
                "rounds": samples })
    });
    json!({
        "samples": samples.collect::<Vec<_>>(),
        "kib_per_idle_module": results.memory,
    })
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu
}

fn speed(sample: &Sample) -> f64 {
    sample.run.calls as f64 / sample.run.seconds
}

/// The time from the first listener to the last, in milliseconds.
fn first_to_last(sample: &Sample) -> f64 {
    f64::from(sample.run.p50) / 1e3
}

impl Results {
    fn of(&self, what: What, at: usize) -> Option<&[Sample]> {
        self.samples.get(&(what, at)).map(Vec::as_slice)
    }
}

fn calls(results: &Results) -> Vec<Vec<String>> {
    let rows = IN_FLIGHT.into_iter().zip(REAL).filter_map(|((at, _), (_, elsewhere, _))| {
        let relay = results.of(What::RelayCalls, at)?;
        let mut row = vec![at.to_string(), spread(relay, cpu)];
        if let Some(hub) = results.of(What::HubCalls, at) {
            let (real, shown) = daemon(results, at, cpu, elsewhere);
            let (used, target) = (median(hub, cpu), real * SHARE_OF_REAL);
            row.push(spread(hub, cpu));
            row.extend(verdict(used / median(relay, cpu), CALL_RATIO));
            row.extend([shown, format!("≤ {target:.2}"), mark(used <= target)]);
        }
        Some(row)
    });
    headed("in flight|relay|hub|ratio|target||real daemon|half of it|", rows.collect())
}

fn speeds(results: &Results) -> Vec<Vec<String>> {
    let rows = IN_FLIGHT.into_iter().zip(REAL).filter_map(|((at, _), (_, _, elsewhere))| {
        let relay = results.of(What::RelayCalls, at)?;
        let mut row = vec![at.to_string(), format!("{:.0}", median(relay, speed))];
        if let Some(hub) = results.of(What::HubCalls, at) {
            let (real, shown) = daemon(results, at, speed, elsewhere);
            let made = median(hub, speed);
            let half_took = median(hub, |sample| f64::from(sample.run.p50));
            row.extend([format!("{made:.0}"), format!("{half_took:.0}"), shown]);
            row.push(mark(made > real));
        }
        Some(row)
    });
    headed("in flight|relay|hub|p50 µs|real daemon|", rows.collect())
}

/// The real daemon's figure, and how it is shown: measured here, or elsewhere.
fn daemon(results: &Results, at: usize, of: fn(&Sample) -> f64, elsewhere: f64) -> (f64, String) {
    match results.of(What::JunoCalls, at) {
        Some(samples) => (median(samples, of), format!("{:.1}", median(samples, of))),
        None => (elsewhere, format!("{elsewhere:.1}, elsewhere")),
    }
}

fn http(results: &Results) -> Vec<Vec<String>> {
    let row = || {
        let axum = results.of(What::AxumEcho, CONNECTIONS)?;
        let relay = results.of(What::RelayCalls, CONNECTIONS)?;
        let sum = median(axum, cpu) + median(relay, cpu);
        let parts = [spread(axum, cpu), spread(relay, cpu), format!("{sum:.1}")];
        let mut row = vec![CONNECTIONS.to_string()];
        row.extend(parts);
        if let Some(gateway) = results.of(What::HubHttp, CONNECTIONS) {
            row.push(spread(gateway, cpu));
            row.extend(verdict(median(gateway, cpu) / sum, HTTP_RATIO));
        }
        Some(row)
    };
    headed("conns|axum echo|relay|sum|gateway|ratio|target|", row().into_iter().collect())
}

fn hooks(results: &Results) -> Vec<Vec<String>> {
    let rows = LISTENERS.into_iter().filter_map(|(at, _)| {
        let relay = results.of(What::RelayHooks, at)?;
        let each = |sample: &Sample| sample.cpu / at as f64;
        let mut row = vec![at.to_string(), spread(relay, each)];
        let Some(hub) = results.of(What::HubHooks, at) else { return Some(row) };
        row.push(spread(hub, each));
        row.push(format!("{:.2}", median(hub, each) / median(relay, each)));
        let (last, relay_last) = (median(hub, first_to_last), median(relay, first_to_last));
        row.extend([format!("{relay_last:.2}"), format!("{last:.2}")]);
        row.push(format!("{:.2}", last / relay_last));
        row.push(format!("{:.2}", last * 1e3 / at as f64));
        Some(row)
    });
    let heads = "listeners|relay, CPU µs each|hub|ratio|relay, first to last ms|hub|ratio|µs each";
    headed(heads, rows.collect())
}

fn memory(results: &Results) -> Vec<Vec<String>> {
    let row = results.memory.map(|used| {
        let texts = [format!("{REAL_MEMORY:.1}"), format!("≤ {MEMORY:.0}"), mark(used <= MEMORY)];
        let mut row = vec![format!("{used:.2}")];
        row.extend(texts);
        row
    });
    headed("hub|real daemon|target|", row.into_iter().collect())
}
