//! What a command says after an exchange: its fault, that the answer was none, and the timings
//! as one line.

use std::time::Duration;

use http::HeaderMap;

use super::address::Address;
use super::fault;
use super::http::Exchange;
use crate::cli::Status;
use crate::cli::output::{Form, Output, Paint, Role};
use crate::printable::printable;

/// Reports a fault: on a terminal as a block on standard error, else as the error's JSON on
/// standard output.
pub fn fault(error: &str, output: &Output) -> anyhow::Result<Status> {
    match output.form() {
        Form::Human => output.note(&fault::block(error, output.err())),
        Form::Json => output.print_json(error)?,
    }
    Ok(Status::Fault)
}

/// Says that an answer is not JSON-RPC, what it is instead, and what may help.
pub fn not_json_rpc(to: &Address, exchange: &Exchange, why: &str) -> anyhow::Error {
    let status = exchange.status;
    let location = exchange.headers.get(http::header::LOCATION).and_then(|to| to.to_str().ok());
    let mend = match (status.as_u16(), location) {
        (300..=399, Some(location)) => format!("\n  it points to {}", printable(location)),
        (431, _) => "\n  send fewer or shorter headers (-H)".to_owned(),
        (404 | 405, _) => "\n  does the URL's path lead to a JSON-RPC service?".to_owned(),
        _ => String::new(),
    };
    let shown = to.shown();
    anyhow::anyhow!(
        "{shown} answered HTTP {status} without JSON-RPC: {why}{}{mend}",
        excerpt(exchange)
    )
}

fn excerpt(exchange: &Exchange) -> String {
    const LONGEST: usize = 200;
    let body = String::from_utf8_lossy(&exchange.body[..exchange.body.len().min(4 * LONGEST)]);
    let words: Vec<_> = body.split_whitespace().collect();
    let line = printable(&words.join(" "));
    match line.chars().count() {
        0 => String::new(),
        n if n <= LONGEST => format!("\n  {line}"),
        _ => format!("\n  {}…", line.chars().take(LONGEST).collect::<String>()),
    }
}

/// One line with the time of the look-up, if there was one, of the call or notification, and
/// where the answer tells, whose time it was: `call 3.4 ms (gateway 0.1 ms, service 3.2 ms)`.
pub fn timings(
    look_up: Option<Duration>,
    (word, exchange): (&str, &Exchange),
    found: Option<&Address>,
    paint: Paint,
) -> String {
    let look_up = look_up.map(|took| format!("look-up {} · ", milliseconds(took)));
    let shares: Vec<_> = server_timing(&exchange.headers)
        .into_iter()
        .map(|(name, took)| format!("{name} {}", milliseconds(took)))
        .collect();
    let shares =
        if shares.is_empty() { String::new() } else { format!(" ({})", shares.join(", ")) };
    let found = found.map(|address| format!(" · {}", address.shown())).unwrap_or_default();
    let took = milliseconds(exchange.took);
    let line = format!("{}{word} {took}{shares}{found}", look_up.unwrap_or_default());
    paint.paint(Role::Faint, line)
}

/// The durations in `Server-Timing: gateway;dur=0.1, service;dur=3.2`, the first few.
fn server_timing(headers: &HeaderMap) -> Vec<(String, Duration)> {
    const MOST: usize = 8;
    let values = headers.get_all("server-timing").iter().filter_map(|value| value.to_str().ok());
    let metrics = values.flat_map(|value| value.split(','));
    let read = metrics.filter_map(|metric| {
        let mut parts = metric.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let millis: f64 = parts.find_map(|part| part.strip_prefix("dur="))?.parse().ok()?;
        Some((printable(name), Duration::try_from_secs_f64(millis / 1_000.0).ok()?))
    });
    read.take(MOST).collect()
}

/// `3.4 ms`, with as many digits as mean something; `12.3 s` from ten seconds on.
fn milliseconds(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1_000.0;
    match millis {
        m if m < 0.1 => format!("{m:.2} ms"),
        m if m < 100.0 => format!("{m:.1} ms"),
        m if m < 10_000.0 => format!("{m:.0} ms"),
        m => format!("{:.1} s", m / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timings_are_one_line() {
        let mut headers = HeaderMap::new();
        let value = "gateway;dur=0.1, service;desc=\"x\";dur=3.2, cache;desc=hit";
        headers.insert("server-timing", value.parse().expect("valid"));
        let exchange = Exchange {
            status: http::StatusCode::OK,
            headers,
            body: bytes::Bytes::new(),
            took: Duration::from_micros(3_400),
        };
        let found = Address::service("http://u:p@127.0.0.1:1/api").expect("valid");
        let line = timings(
            Some(Duration::from_micros(1_200)),
            ("call", &exchange),
            Some(&found),
            Paint::PLAIN,
        );
        let expected = "look-up 1.2 ms · call 3.4 ms (gateway 0.1 ms, service 3.2 ms) · \
                        http://127.0.0.1:1/api";
        assert_eq!(line, expected);
    }

    #[test]
    fn milliseconds_have_digits_that_mean_something() {
        let cases =
            [(40, "0.04 ms"), (3_400, "3.4 ms"), (250_000, "250 ms"), (12_300_000, "12.3 s")];
        for (micros, text) in cases {
            assert_eq!(milliseconds(Duration::from_micros(micros)), text);
        }
    }
}
