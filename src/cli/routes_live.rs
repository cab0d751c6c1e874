//! `genkan routes --live`: the routing table of a running gateway and how its upstreams do, asked from its
//! admin page.

use std::collections::HashMap;

use serde::Deserialize;

use super::Status;
use super::client::admin;
use super::output::{Output, Paint, Role};
use super::routes::Args;
use super::table::Table;
use crate::printable::printable_line;

const PAGE: &str = "/routes";
pub(super) const TIMEOUT_HELP: &str =
    "With --live: how long to wait for the page, such as 800ms, 5s or 2m [default: 10s]";

/// Asks, and prints.
pub(super) fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    let page = (PAGE, "routing table");
    admin::show(&args.admin, args.config.config, page, &args.client, output, human)
}

#[derive(Deserialize)]
struct Live {
    routes: Vec<Route>,
    upstreams: Vec<Place>,
}

#[derive(Deserialize)]
struct Route {
    r#match: String,
    upstream: String,
    service: Option<String>,
    method: Option<String>,
    timeout: String,
    implicit: bool,
}

#[derive(Deserialize)]
struct Place {
    name: String,
    ready: bool,
    #[serde(default)]
    why: String,
    in_flight: usize,
    open: Vec<Open>,
}

#[derive(Deserialize)]
struct Open {
    service: String,
    state: String,
    retry_after: String,
}

fn human(live: &Live, paint: Paint) -> String {
    let places: HashMap<&str, &Place> =
        live.upstreams.iter().map(|place| (place.name.as_str(), place)).collect();
    let titles = ["#", "MATCH", "UPSTREAM", "STATE", "IN FLIGHT", "SERVICE", "METHOD", "TIMEOUT"];
    let mut table = Table::new(titles);
    for (index, route) in live.routes.iter().enumerate() {
        let (state, role, in_flight) = match places.get(route.upstream.as_str()) {
            Some(place) if place.ready => ("ready", Role::Good, place.in_flight.to_string()),
            Some(place) => ("not ready", Role::Error, place.in_flight.to_string()),
            None => ("none", Role::Error, String::new()),
        };
        let number = if route.implicit { "·".to_owned() } else { (index + 1).to_string() };
        let same = |name: &Option<String>| name.as_deref().map_or("=".to_owned(), printable_line);
        table.coloured_row(vec![
            (number, Some(Role::Faint)),
            (printable_line(&route.r#match), Some(Role::Strong)),
            (printable_line(&route.upstream), None),
            (state.to_owned(), Some(role)),
            (in_flight, None),
            (same(&route.service), None),
            (same(&route.method), None),
            (printable_line(&route.timeout), None),
        ]);
    }
    let mut text = table.render(paint);
    let mut warn = |about: String| {
        text.push_str(&format!("{} {about}\n", paint.paint(Role::Warning, "warning:")));
    };
    for place in &live.upstreams {
        let name = printable_line(&place.name);
        if !place.ready {
            warn(format!("`{name}` is not ready: {}", printable_line(&place.why)));
        }
        for Open { service, state, retry_after } in &place.open {
            let service = printable_line(service);
            let how = match state.as_str() {
                "open" => format!(
                    "does not answer: its calls are refused for {} (its breaker is open)",
                    printable_line(retry_after)
                ),
                _ => "did not answer last: the next call tries it (its breaker is half-open)"
                    .to_owned(),
            };
            warn(format!("`{service}` over `{name}` {how}"));
        }
    }
    let note = "The first row that matches wins. `=`: as the caller said. `·`: always there.";
    format!("{text}\n{}", paint.paint(Role::Faint, note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        human(&serde_json::from_str(json).expect("valid"), Paint::PLAIN)
    }

    #[test]
    fn what_does_not_do_well_stands_below_the_table() {
        let page = r#"{"routes":[
            {"match":"orders.*","upstream":"rabbit","service":"orders_service","method":null,
             "timeout":"5s","implicit":false},
            {"match":"*","upstream":"hub","service":null,"method":null,"timeout":"30s","implicit":true}],
            "upstreams":[
            {"name":"rabbit","ready":false,"why":"connecting","in_flight":3,"max_in_flight":9,
             "open":[{"service":"orders_service","state":"open","retry_after":"4s"},
                     {"service":"mailer","state":"half_open","retry_after":"0s"}]},
            {"name":"hub","ready":true,"in_flight":0,"max_in_flight":9,"open":[]}]}"#;
        let expected = "\
#  MATCH     UPSTREAM  STATE      IN FLIGHT  SERVICE         METHOD  TIMEOUT
1  orders.*  rabbit    not ready  3          orders_service  =       5s
·  *         hub       ready      0          =               =       30s
warning: `rabbit` is not ready: connecting
warning: `orders_service` over `rabbit` does not answer: its calls are refused for 4s (its breaker is open)
warning: `mailer` over `rabbit` did not answer last: the next call tries it (its breaker is half-open)

The first row that matches wins. `=`: as the caller said. `·`: always there.";
        assert_eq!(shown(page), expected);
    }

    /// Callers choose the names of services.
    #[test]
    fn no_word_of_a_service_steers_the_terminal() {
        let word = "\\u001b[2J\\u0007\\n\\u202e\\u009b31m";
        let page = format!(
            r#"{{"routes":[{{"match":"{word}","upstream":"{word}","service":"{word}","method":"{word}",
            "timeout":"{word}","implicit":false}}],"upstreams":[{{"name":"{word}","ready":false,
            "why":"{word}","in_flight":0,"open":[{{"service":"{word}","state":"open",
            "retry_after":"{word}"}}]}}]}}"#
        );
        let shown = shown(&page);
        let steering = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(steering), "{shown:?}");
        assert_eq!(shown.lines().count(), 6, "{shown}");
    }
}
