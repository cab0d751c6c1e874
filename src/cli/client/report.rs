//! What a person reads after a call: a fault as a block, the timings as one line. A program
//! gets the fault's JSON instead, as it came.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::address::Address;
use super::envelope::present;
use super::http::Exchange;
use crate::cli::output::{Form, Output, Paint, Role, printable};
use crate::cli::{Status, json};
use crate::fault::FaultKind;

/// Reports a fault: on a terminal as a block on standard error, else as the error's JSON on
/// standard output.
pub fn fault(error: &str, output: &Output) -> anyhow::Result<Status> {
    match output.form() {
        Form::Human => output.note(&fault_block(error, output.err())),
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

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

/// The block: the message, then a row for each thing that is known (CONTRACT, section 5).
fn fault_block(error: &str, paint: Paint) -> String {
    let object = error.starts_with('{').then(|| serde_json::from_str::<ErrorObject<'_>>(error));
    let Some(Ok(object)) = object else {
        return format!("{} {}", paint.paint(Role::Error, "fault:"), text_of(error));
    };
    let mut data: BTreeMap<String, &RawValue> = object
        .data
        .filter(|data| data.get().starts_with('{'))
        .and_then(|data| serde_json::from_str(data.get()).ok())
        .unwrap_or_default();
    let known = !data.is_empty();
    let mut rows: Vec<(String, String)> = Vec::new();
    let code = object.code.map(RawValue::get);
    let kind = data.remove("kind").map(|kind| text_of(kind.get()));
    match (&kind, code) {
        (Some(kind), Some(code)) => rows.push(("kind".into(), format!("{kind} ({code})"))),
        (Some(kind), None) => rows.push(("kind".into(), kind.clone())),
        (None, Some(code)) => rows.push(("code".into(), code.to_owned())),
        (None, None) => {}
    }
    if let Some(outcome) = data.remove("outcome").map(|outcome| text_of(outcome.get())) {
        let meaning = outcome_meaning(&outcome).map(|meaning| format!(": {meaning}"));
        rows.push(("outcome".into(), format!("{outcome}{}", meaning.unwrap_or_default())));
    }
    if let Some(retryable) = data.remove("retryable") {
        let word = match retryable.get() {
            "true" => "yes".to_owned(),
            "false" => "no".to_owned(),
            other => printable(other),
        };
        rows.push(("retryable".into(), word));
    }
    let own_hint = data.remove("hint").map(|hint| text_of(hint.get()));
    for name in ["class", "info", "args", "path"] {
        if let Some(value) = data.remove(name) {
            rows.push((name.into(), text_of(value.get())));
        }
    }
    for (name, value) in &data {
        rows.push((printable(name), text_of(value.get())));
    }
    if let (false, Some(data)) = (known, object.data.filter(|data| data.get() != "null")) {
        rows.push(("data".into(), text_of(data.get())));
    }
    let hint = own_hint.or_else(|| kind.as_deref().and_then(hint_for).map(str::to_owned));
    rows.extend(hint.map(|hint| ("hint".into(), hint)));

    let message = object.message.map_or("without a message".to_owned(), |m| text_of(m.get()));
    let mut block = format!("{} {message}\n", paint.paint(Role::Error, "fault:"));
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in &rows {
        let label = paint.paint(Role::Faint, format_args!("{name:<width$}"));
        let value = value.replace('\n', &format!("\n  {:width$}  ", ""));
        block.push_str(&format!("  {label}  {value}\n"));
    }
    block
}

/// A JSON string as its text, any other value as its JSON, fit for a terminal.
fn text_of(raw: &str) -> String {
    match serde_json::from_str::<String>(raw) {
        Ok(text) => printable(&text),
        // A lone surrogate has no text.
        Err(_) => printable(&json::one_line(raw, Paint::PLAIN)),
    }
}

fn outcome_meaning(outcome: &str) -> Option<&'static str> {
    Some(match outcome {
        "not_sent" => "the service has not seen it",
        "rejected" => "the service refused it before it ran",
        "executed" => "the service ran it",
        "unknown" => "it was sent, and may have run",
        _ => return None,
    })
}

fn hint_for(kind: &str) -> Option<&'static str> {
    let kind = FaultKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    match kind {
        FaultKind::UnknownService | FaultKind::UnknownMethod => {
            Some("`genkan explain NAME.METHOD` shows which route takes the call, and where to")
        }
        FaultKind::InvalidParams => {
            Some("name:=json gives numbers, lists and objects; name=text is always a string")
        }
        FaultKind::Unavailable => {
            Some("/readyz on the gateway's admin port names the upstreams that are down")
        }
        FaultKind::Timeout => {
            Some("a route's `timeout` sets the limit; --timeout can only shorten it")
        }
        FaultKind::AccessDenied => Some("--header 'Authorization: …' sends credentials"),
        FaultKind::TooLarge => Some("`max_body` under [http] sets the gateway's limit"),
        FaultKind::ParseError
        | FaultKind::InvalidRequest
        | FaultKind::Internal
        | FaultKind::Application
        | FaultKind::Overloaded => None,
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
    fn an_application_fault_shows_all_that_the_service_said() {
        let error = r#"{"code":-32000,"message":"ValueError: bad 1","data":{"kind":"application",
            "outcome":"executed","retryable":false,"class":"ValueError","info":"bad 1",
            "args":["bad 1", 1.10],"path":"builtins.ValueError","extra":{"n":1}}}"#;
        let expected = "\
fault: ValueError: bad 1
  kind       application (-32000)
  outcome    executed: the service ran it
  retryable  no
  class      ValueError
  info       bad 1
  args       [\"bad 1\", 1.10]
  path       builtins.ValueError
  extra      {\"n\":1}
";
        assert_eq!(fault_block(error, Paint::PLAIN), expected);
    }

    #[test]
    fn other_faults() {
        let cases = [
            (r#""boom""#, "fault: boom"),
            (
                r#"{"code":-32601,"message":"Method not found"}"#,
                "fault: Method not found\n  code  -32601\n",
            ),
            (r#"{"code":1,"message":"m","data":[1,2]}"#, "fault: m\n  code  1\n  data  [1,2]\n"),
            (r#"{"message":"\ud800"}"#, "fault: \"\\ud800\"\n"),
            (r#"{"message":"a\u001b[2Jb"}"#, "fault: a\\u{1b}[2Jb\n"),
            ("{}", "fault: without a message\n"),
        ];
        for (error, expected) in cases {
            assert_eq!(fault_block(error, Paint::PLAIN), expected, "{error}");
        }
        let error = r#"{"code":-32601,"message":"m","data":{"kind":"unknown_service","outcome":"not_sent","retryable":false}}"#;
        let block = fault_block(error, Paint::PLAIN);
        assert!(block.contains("  hint       `genkan explain"), "{block}");
    }

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
