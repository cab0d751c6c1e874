//! `genkan check --live`: what is wrong with the brokers and services that a configuration leads to.

use anyhow::Context as _;
use futures_util::future::{join_all, join3};

use crate::config::problem::{Problem, Severity};
use crate::config::twice::{self, Brings};
use crate::config::{Config, Loaded, UpstreamConfig};
use crate::event_port::Way;
use crate::route::Rule;
use crate::route::bridge::{Bridge, Topic};
use crate::route::expose::Expose;
use crate::tasks::Tasks;
use crate::upstream::{Amiss, EventsLook};

/// What something is that is amiss.
struct Found {
    /// For sorting: upstreams as a whole come first, then rows, then what is exposed, then events.
    order: (u8, usize),
    /// The key of it.
    path: String,
    severity: Severity,
    message: String,
}

/// An address of a row that carries events.
struct EventRow<'a> {
    order: (u8, usize),
    path: String,
    /// What row it is, and which address of it.
    about: String,
    way: Way<'a>,
    /// The row, where events come from that address.
    brings: Option<Brings>,
}

/// Looks at all upstreams, side by side. What is amiss comes in the order of the rows, after what
/// an upstream suffers from as a whole, and before what is amiss with exposed services and events.
pub(super) fn look(loaded: &Loaded) -> anyhow::Result<Vec<Problem>> {
    let config = &loaded.config;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let tasks = Tasks::new();
    let looks = config.upstreams.iter().map(|upstream| of_upstream(upstream, config, &tasks));
    let found = runtime.block_on(join_all(looks));
    // Not dropped: that would wait for a name server that does not answer.
    runtime.shutdown_background();
    let mut found: Vec<Found> = found.into_iter().flatten().collect();
    found.sort_by_key(|found| found.order);
    let problems = found.into_iter().map(|Found { path, severity, message, .. }| {
        let place = loaded.place(&path);
        Problem { severity, place, message }
    });
    Ok(problems.collect())
}

/// What is amiss with one.
async fn of_upstream(upstream: &UpstreamConfig, config: &Config, tasks: &Tasks) -> Vec<Found> {
    let UpstreamConfig { name, connector, .. } = upstream;
    let rows = config.routes.iter().enumerate().filter(|(_, rule)| rule.upstream == *name);
    let (rows, rules): (Vec<usize>, Vec<&Rule>) = rows.unzip();
    let exposed = config.exposes.iter().enumerate().filter(|(_, row)| row.is_on(name));
    let exposed = exposed.map(|(index, row)| (index, &*row.expose));
    let (exposed, services): (Vec<usize>, Vec<&Expose>) = exposed.unzip();
    let events = event_rows(name, &config.bridges, &config.topics);
    let ways: Vec<Way<'_>> = events.iter().map(|row| row.way).collect();
    let looked = join3(
        connector.look(&rules, tasks),
        connector.look_at_exposes(&services, tasks),
        connector.look_at_events(&ways, tasks),
    );
    let (of_rows, of_exposes, of_events) = looked.await;
    let found = |amiss: Amiss, order, path, about: String| {
        let severity = if amiss.lasts { Severity::Error } else { Severity::Warning };
        Found { order, path, severity, message: format!("{about}: {}", amiss.what) }
    };
    let whole = |amiss| {
        let path = format!("upstreams.{name}");
        found(amiss, (0, 0), path.clone(), format!("[{path}]"))
    };
    let of_rows = of_rows.into_iter().map(|amiss| {
        let row = amiss.row.and_then(|row| Some((*rows.get(row)?, *rules.get(row)?)));
        let Some((row, rule)) = row else { return whole(amiss) };
        let about = format!("[[routes]] #{} \"{}\"", row + 1, rule.pattern);
        found(amiss, (1, row), format!("routes[{row}]"), about)
    });
    let of_exposes = of_exposes.into_iter().map(|amiss| {
        let row = amiss.row.and_then(|row| Some((*exposed.get(row)?, *services.get(row)?)));
        let Some((row, expose)) = row else { return whole(amiss) };
        let about = format!("[[expose]] #{} \"{}\"", row + 1, expose.service);
        found(amiss, (2, row), format!("expose[{row}]"), about)
    });
    let EventsLook { amiss: of_events, also_at } = of_events;
    let of_events = of_events.into_iter().map(|amiss| {
        let Some(row) = amiss.row.and_then(|row| events.get(row)) else { return whole(amiss) };
        found(amiss, row.order, row.path.clone(), row.about.clone())
    });
    let also_at: Vec<_> = also_at
        .into_iter()
        .filter_map(|(row, address)| Some((events.get(row)?.brings?, address)))
        .collect();
    let twice = twice::as_brokers_show(&config.bridges, &config.topics, &also_at).into_iter();
    let twice = twice.map(|(row, message)| {
        let (order, path) = match row {
            Brings::Bridge(number) => ((3, number), format!("bridges[{number}]")),
            Brings::Topic(number) => ((4, number), format!("topics[{number}]")),
        };
        Found { order, path, severity: Severity::Warning, message }
    });
    of_rows.chain(of_exposes).chain(of_events).chain(twice).collect()
}

/// The addresses there that rows take events from and send them to.
fn event_rows<'a>(upstream: &str, bridges: &'a [Bridge], topics: &'a [Topic]) -> Vec<EventRow<'a>> {
    let mut rows = Vec::new();
    for (index, Bridge { from, to, dead_letter, .. }) in bridges.iter().enumerate() {
        let (order, path) = ((3, index), format!("bridges[{index}]"));
        let about = format!("[[bridges]] #{} \"{from}\"", index + 1);
        if from.upstream == upstream {
            let (path, about) = (path.clone(), about.clone());
            let (way, brings) = (Way::From(&from.address), Some(Brings::Bridge(index)));
            rows.push(EventRow { order, path, about, way, brings });
        }
        for place in to.iter().chain(dead_letter).filter(|place| place.upstream == upstream) {
            let (path, about) = (path.clone(), format!("{about}: `{place}`"));
            let way = Way::To(&place.address);
            rows.push(EventRow { order, path, about, way, brings: None });
        }
    }
    for (index, Topic { pattern, from, .. }) in topics.iter().enumerate() {
        let Some(from) = from.as_ref().filter(|from| from.upstream == upstream) else { continue };
        let about = format!("[[topics]] #{} \"{pattern}\": `{from}`", index + 1);
        let path = format!("topics[{index}]");
        let (way, brings) = (Way::From(&from.address), Some(Brings::Topic(index)));
        rows.push(EventRow { order: (4, index), path, about, way, brings });
    }
    rows
}
