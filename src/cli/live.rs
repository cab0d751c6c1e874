//! `genkan check --live`: what is wrong with the brokers and services that a configuration leads to.

use anyhow::Context as _;
use futures_util::future::join_all;

use crate::config::problem::{Place, Problem, Severity};
use crate::config::{Config, Origin, UpstreamConfig};
use crate::route::Rule;
use crate::tasks::Tasks;

/// Looks at all upstreams, side by side. What is amiss comes in the order of the rows, after what
/// an upstream suffers from as a whole.
pub(super) fn look(config: &Config, origin: &Origin) -> anyhow::Result<Vec<Problem>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let tasks = Tasks::new();
    let looks = config.upstreams.iter().map(|upstream| of_upstream(upstream, config, &tasks));
    let found = runtime.block_on(join_all(looks));
    // Not dropped: that would wait for a name server that does not answer.
    runtime.shutdown_background();
    let mut found: Vec<(usize, Severity, String)> = found.into_iter().flatten().collect();
    found.sort_by_key(|(row, ..)| *row);
    let problems = found.into_iter().map(|(_, severity, message)| {
        let place = Place::File(origin.name());
        Problem { severity, place, message }
    });
    Ok(problems.collect())
}

/// What is amiss with one, with the number of the row, 0 for the whole.
async fn of_upstream(
    upstream: &UpstreamConfig,
    config: &Config,
    tasks: &Tasks,
) -> Vec<(usize, Severity, String)> {
    let rows = config.routes.iter().enumerate().filter(|(_, rule)| rule.upstream == upstream.name);
    let (numbers, rules): (Vec<usize>, Vec<&Rule>) =
        rows.map(|(index, rule)| (index + 1, rule)).unzip();
    let amiss = upstream.connector.look(&rules, tasks).await;
    let told = amiss.into_iter().map(|amiss| {
        let severity = if amiss.lasts { Severity::Error } else { Severity::Warning };
        let row = amiss.row.and_then(|row| Some((*numbers.get(row)?, *rules.get(row)?)));
        let (number, about) = match row {
            Some((number, rule)) => (number, format!("[[routes]] #{number} \"{}\"", rule.pattern)),
            None => (0, format!("[upstreams.{}]", upstream.name)),
        };
        (number, severity, format!("{about}: {}", amiss.what))
    });
    told.collect()
}
