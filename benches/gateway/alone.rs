//! What a caller waits for the gateway when nothing else is under way: the median of a call through it, and of
//! what it is made of without.

use super::measure::{ALONE, Results, What};
use crate::support::subject::Sample;
use crate::support::table::{headed, mark, median, more};

/// How much longer half of the calls may take at most, in microseconds.
const MORE: f64 = 100.0;

/// A path through the gateway, and the bare clients that go the same way, one after the other.
const PATHS: [(&str, What, &str, &[What]); 5] = [
    ("HTTP → NATS", What::GatewayNats, "async-nats", &[What::NatsClient]),
    ("HTTP → Nameko", What::GatewayNameko, "lapin", &[What::LapinClient]),
    ("HTTP → JSON-RPC", What::GatewayJsonRpc, "HTTP", &[What::JsonRpcService]),
    (
        "Nameko → NATS",
        What::GatewayFromNameko,
        "lapin + async-nats",
        &[What::LapinClient, What::NatsClient],
    ),
    (
        "Picom → Nameko",
        What::GatewayFromPicom,
        "async-nats + lapin",
        &[What::NatsClient, What::LapinClient],
    ),
];

/// The table's rows.
pub(super) fn rows(results: &Results) -> Vec<Vec<String>> {
    let of = |what| results.samples.get(&(what, ALONE));
    let half = |sample: &Sample| f64::from(sample.run.p50);
    let row = |(path, gateway, name, parts): (&str, What, &str, &[What])| {
        let through = of(gateway)?;
        let parts: Vec<_> = parts.iter().map(|part| of(*part)).collect::<Option<_>>()?;
        let bare: f64 = parts.iter().map(|part| median(part, half)).sum();
        let more = more(through, &parts, half);
        Some(vec![
            path.to_owned(),
            format!("{:.0} µs", median(through, half)),
            format!("{bare:.0} µs"),
            name.to_owned(),
            format!("{more:+.0} µs"),
            format!("≤ {MORE:.0} µs"),
            mark(more <= MORE),
        ])
    };
    let rows = PATHS.into_iter().filter_map(row).collect();
    headed("path|through Genkan|without||more|wanted|", rows)
}
