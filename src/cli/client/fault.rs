//! A fault as a person reads it: the message, then a row for each thing that is known of it
//! (CONTRACT, section 5). Services of other makes leave most of them out, or put their own in.
//!
//! Reads what is there by CONTRACT's words and shows the rest as it is. Nothing that a service
//! wrote reaches the terminal unescaped.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::json;
use crate::cli::output::{Paint, Role};
use crate::fault::FaultKind;
use crate::json::present;
use crate::printable::printable;

/// A label and what stands beside it.
type Row = (String, String);

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

/// The block for the JSON text of an `error`, with a line break at its end.
pub fn block(error: &str, paint: Paint) -> String {
    let object = error.starts_with('{').then(|| serde_json::from_str::<ErrorObject<'_>>(error));
    let (message, rows) = match object {
        Some(Ok(object)) => {
            let message = object.message.map(|message| text_of(message.get()));
            (message.unwrap_or_else(|| "without a message".to_owned()), rows(&object))
        }
        // Not what JSON-RPC asks for: `"error": "boom"`.
        _ => (text_of(error), Vec::new()),
    };
    let mut block = format!("{} {message}\n", paint.paint(Role::Error, "fault:"));
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in &rows {
        let label = paint.paint(Role::Faint, format_args!("{name:<width$}"));
        let value = value.replace('\n', &format!("\n  {:width$}  ", ""));
        block.push_str(&format!("  {label}  {value}\n"));
    }
    block
}

fn rows(object: &ErrorObject<'_>) -> Vec<Row> {
    let given = object.data.filter(|data| data.get() != "null");
    let members: Option<BTreeMap<String, &RawValue>> = given
        .filter(|data| data.get().starts_with('{'))
        .and_then(|data| serde_json::from_str(data.get()).ok());
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((printable(name), value));

    let mut members = match (members, given) {
        (Some(members), _) => members,
        (None, given) => {
            row_of_code(object, None).into_iter().for_each(|(name, value)| row(&name, value));
            given.into_iter().for_each(|data| row("data", text_of(data.get())));
            return rows;
        }
    };
    let mut take = |name: &str| members.remove(name).map(|value| text_of(value.get()));
    let kind = take("kind");
    let hint = take("hint");
    if let Some((name, value)) = row_of_code(object, kind.as_deref()) {
        row(&name, value);
    }
    if let Some(outcome) = take("outcome") {
        let meaning = outcome_meaning(&outcome).map(|meaning| format!(": {meaning}"));
        row("outcome", outcome + &meaning.unwrap_or_default());
    }
    if let Some(retryable) = take("retryable") {
        row("retryable", retryable.replace("true", "yes").replace("false", "no"));
    }
    for name in ["class", "info", "args", "path"] {
        take(name).into_iter().for_each(|value| row(name, value));
    }
    members.iter().for_each(|(name, value)| row(name, text_of(value.get())));
    let hint = hint.or_else(|| kind.as_deref().and_then(hint_for).map(str::to_owned));
    hint.into_iter().for_each(|hint| row("hint", hint));
    rows
}

/// The kind with the code beside it, or whichever of the two there is.
fn row_of_code(object: &ErrorObject<'_>, kind: Option<&str>) -> Option<Row> {
    match (kind, object.code.map(|code| text_of(code.get()))) {
        (Some(kind), Some(code)) => Some(("kind".to_owned(), format!("{kind} ({code})"))),
        (Some(kind), None) => Some(("kind".to_owned(), kind.to_owned())),
        (None, Some(code)) => Some(("code".to_owned(), code)),
        (None, None) => None,
    }
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
    match FaultKind::of(kind)? {
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
        assert_eq!(block(error, Paint::PLAIN), expected);
    }

    #[test]
    fn other_faults() {
        let cases = [
            (r#""boom""#, "fault: boom\n"),
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
            assert_eq!(block(error, Paint::PLAIN), expected, "{error}");
        }
        let error = r#"{"code":-32601,"message":"m","data":{"kind":"unknown_service","outcome":"not_sent","retryable":false}}"#;
        let shown = block(error, Paint::PLAIN);
        assert!(shown.contains("  hint       `genkan explain"), "{shown}");
    }
}
