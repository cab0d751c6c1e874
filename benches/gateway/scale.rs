//! What many routes cost that nobody calls: the check of such a configuration, the start with it,
//! the metrics page.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::backends::PICOM_SERVICE;
use crate::args::{Args, Part};
use crate::support::gateway::{Gateway, PROGRAM};
use crate::support::note::note;
use crate::support::place::folder;
use crate::support::process::Memory;

/// The number of routes that everything else is measured with.
pub(crate) const FEW: usize = 2;
/// The number that a large company has.
pub(crate) const MANY: usize = 10_000;
/// The numbers of routes that the metrics page is looked at with.
pub(crate) const PAGES: [usize; 3] = [FEW, 200, MANY];

/// How long something took with a number of routes, in milliseconds, round by round.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) routes: usize,
    pub(crate) check: Vec<f64>,
    pub(crate) start: Vec<f64>,
}

/// The metrics page of a gateway that nobody has called.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    pub(crate) routes: usize,
    pub(crate) series: usize,
    pub(crate) bytes: usize,
    /// What is resident after the page was asked for, in MiB.
    pub(crate) resident: f64,
}

/// What was found with many routes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Scale {
    pub(crate) times: Vec<Times>,
    pub(crate) pages: Vec<Page>,
}

/// Measures what is wanted of it.
pub(crate) fn all(args: &Args, nats: &str) -> Result<Scale> {
    let mut scale = Scale::default();
    if args.floors {
        return Ok(scale);
    }
    if args.wants(Part::Routes) {
        for routes in [FEW, MANY] {
            scale.times.push(times(routes, nats, args.rounds())?);
        }
    }
    if args.wants(Part::Metrics) {
        for routes in PAGES {
            scale.pages.push(page(routes, nats)?);
        }
    }
    Ok(scale)
}

/// A configuration of that many routes; the echo's is the last one.
pub(crate) fn configuration(routes: usize, nats: &str) -> String {
    let mut text = format!(
        r#"
[hub]
listen = []

[upstreams.nats]
protocol = "nats"
servers = ["{nats}"]
dialect = "picom"
"#
    );
    let row = |pattern: &str| format!("\n[[routes]]\nmatch = \"{pattern}\"\nupstream = \"nats\"\n");
    for number in 1..routes {
        text.push_str(&row(&format!("service_{number:05}.*")));
    }
    text.push_str(&row(&format!("{PICOM_SERVICE}.*")));
    text
}

fn times(routes: usize, nats: &str, rounds: u32) -> Result<Times> {
    let text = configuration(routes, nats);
    let folder = folder("check")?;
    let file = folder.join("genkan.toml");
    std::fs::write(&file, &text)?;
    let (mut check, mut start) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        note(&format!("{routes} routes: check and start, round {round} of {rounds}"));
        let begin = Instant::now();
        let mut checking = Command::new(PROGRAM);
        checking.args(["check", "--config"]).arg(&file).stdin(Stdio::null());
        let done = checking.output()?;
        check.push(begin.elapsed().as_secs_f64() * 1e3);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "the configuration is refused: {said}");
        start.push(Gateway::start("routes", &text)?.took.as_secs_f64() * 1e3);
    }
    std::fs::remove_dir_all(folder)?;
    Ok(Times { routes, check, start })
}

fn page(routes: usize, nats: &str) -> Result<Page> {
    note(&format!("{routes} routes: the metrics page"));
    let gateway = Gateway::start("metrics", &configuration(routes, nats))?;
    let page = gateway.admin_page("/metrics")?;
    let series = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let resident = Memory::read(gateway.pid())?.resident;
    Ok(Page { routes, series, bytes: page.len(), resident })
}
