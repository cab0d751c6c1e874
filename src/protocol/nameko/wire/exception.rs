//! The exception table: a Nameko service's error object → the fault its caller sees
//! (CONTRACT 5, WIRE 1.3).
//!
//! Matched by `exc_path`, because a service may define a class of the same name. Each part may be
//! missing or any JSON at all: other libraries speak this format too.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::Payload;
use crate::fault::{Fault, FaultKind, Outcome, RemoteError};

/// The longest message, in characters. All of it stays in `info`.
const LONGEST_MESSAGE: usize = 1_000;

/// What `exc_path` can say about a call that never ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exception {
    MethodNotFound,
    IncorrectSignature,
    MalformedRequest,
    Other,
}

impl Exception {
    fn from_path(path: Option<&str>) -> Self {
        match path {
            Some("nameko.exceptions.MethodNotFound") => Self::MethodNotFound,
            Some("nameko.exceptions.IncorrectSignature") => Self::IncorrectSignature,
            Some("nameko.exceptions.MalformedRequest") => Self::MalformedRequest,
            _ => Self::Other,
        }
    }

    /// The total table. A method that was not found is ours only if it is the one that was
    /// called: otherwise the service ran, and a call of its own failed.
    fn kind(self, names_our_method: bool) -> (FaultKind, Outcome) {
        match (self, names_our_method) {
            (Self::MethodNotFound, true) => (FaultKind::UnknownMethod, Outcome::Rejected),
            (Self::IncorrectSignature, _) => (FaultKind::InvalidParams, Outcome::Rejected),
            (Self::MalformedRequest, _) => (FaultKind::InvalidRequest, Outcome::Rejected),
            (Self::MethodNotFound, false) | (Self::Other, _) => {
                (FaultKind::Application, Outcome::Executed)
            }
        }
    }
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow, default)]
    exc_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    exc_path: Option<&'a RawValue>,
    #[serde(borrow, default)]
    exc_args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

/// The fault for a reply's `error`, which is valid JSON and truthy; `method` is what was called.
pub(super) fn fault(error: &str, method: &str) -> Fault {
    // serde reads a list as an object's fields in order, too: that is not meant here.
    let object = error.starts_with('{').then(|| serde_json::from_str::<ErrorObject<'_>>(error));
    let Some(Ok(parts)) = object else { return unstructured(error) };
    let class = parts.exc_type.and_then(text);
    let path = parts.exc_path.and_then(text);
    let exception = Exception::from_path(path.as_deref());
    let ours = named_method(&parts).is_some_and(|named| named == method);
    let (kind, outcome) = exception.kind(ours);
    let said = parts.value.map(|value| text(value).unwrap_or_else(|| value.get().to_owned()));
    let message = match (&class, said.as_deref().filter(|said| !said.is_empty())) {
        (Some(class), Some(said)) => format!("{class}: {said}"),
        (Some(class), None) => class.clone(),
        (None, Some(said)) => said.to_owned(),
        (None, None) => "the service reported an error and did not say which".to_owned(),
    };
    let remote = RemoteError {
        class,
        info: parts.value.map(payload),
        args: parts.exc_args.map(array),
        path,
        code: None,
    };
    Fault::new(kind, outcome, shortened(message)).with_remote(remote)
}

/// An `error` that is no object, or an object that repeats its keys: all of it is the info.
fn unstructured(error: &str) -> Fault {
    let message = serde_json::from_str::<String>(error).unwrap_or_else(|_| error.to_owned());
    let info = Payload::from_validated(error.as_bytes().to_vec().into());
    let remote = RemoteError { info: Some(info), ..RemoteError::default() };
    Fault::application(shortened(message), remote)
}

/// The method that `MethodNotFound` names: its first argument.
fn named_method(parts: &ErrorObject<'_>) -> Option<String> {
    let args = parts.exc_args?;
    let args: Vec<&RawValue> = serde_json::from_str(args.get()).ok()?;
    args.first().and_then(|first| text(first))
}

/// A JSON string's text; `None` for other types, and for the lone surrogates that Rust's strings
/// cannot hold.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn payload(value: &RawValue) -> Payload {
    Payload::from_validated(value.get().as_bytes().to_vec().into())
}

fn array(value: &RawValue) -> Payload {
    let text = value.get();
    let text = if text.starts_with('[') { text.to_owned() } else { format!("[{text}]") };
    Payload::from_validated(text.into_bytes().into())
}

fn shortened(mut message: String) -> String {
    if let Some((cut, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(cut);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Expected {
        kind: FaultKind,
        message: &'static str,
        class: Option<&'static str>,
        info: Option<&'static str>,
        args: Option<&'static str>,
        path: Option<&'static str>,
    }

    fn check(error: &str, expected: Expected) {
        let fault = fault(error, "create");
        let rejected = matches!(
            expected.kind,
            FaultKind::UnknownMethod | FaultKind::InvalidParams | FaultKind::InvalidRequest
        );
        let outcome = if rejected { Outcome::Rejected } else { Outcome::Executed };
        assert_eq!((fault.kind(), fault.outcome()), (expected.kind, outcome), "{error}");
        assert_eq!(fault.message(), expected.message, "{error}");
        let remote = fault.remote().expect(error);
        assert_eq!(remote.class.as_deref(), expected.class, "{error}");
        assert_eq!(remote.info.as_ref().map(Payload::as_str), expected.info, "{error}");
        assert_eq!(remote.args.as_ref().map(Payload::as_str), expected.args, "{error}");
        assert_eq!(remote.path.as_deref(), expected.path, "{error}");
    }

    #[test]
    fn what_services_raise() {
        check(
            r#"{"exc_type": "ValueError", "exc_path": "builtins.ValueError", "exc_args": ["bad 1"], "value": "bad 1"}"#,
            Expected {
                kind: FaultKind::Application,
                message: "ValueError: bad 1",
                class: Some("ValueError"),
                info: Some(r#""bad 1""#),
                args: Some(r#"["bad 1"]"#),
                path: Some("builtins.ValueError"),
            },
        );
        check(
            r#"{"exc_type":"PizzaError","exc_path":"service.PizzaError","exc_args":["a","2",{"k":["1"]}],"value":"('a', 2, {'k': [1]})"}"#,
            Expected {
                kind: FaultKind::Application,
                message: "PizzaError: ('a', 2, {'k': [1]})",
                class: Some("PizzaError"),
                info: Some(r#""('a', 2, {'k': [1]})""#),
                args: Some(r#"["a","2",{"k":["1"]}]"#),
                path: Some("service.PizzaError"),
            },
        );
    }

    #[test]
    fn calls_that_never_ran() {
        check(
            r#"{"exc_type":"MethodNotFound","exc_path":"nameko.exceptions.MethodNotFound","exc_args":["create"],"value":"create"}"#,
            Expected {
                kind: FaultKind::UnknownMethod,
                message: "MethodNotFound: create",
                class: Some("MethodNotFound"),
                info: Some(r#""create""#),
                args: Some(r#"["create"]"#),
                path: Some("nameko.exceptions.MethodNotFound"),
            },
        );
        let signature = r#"{"exc_type":"IncorrectSignature","exc_path":"nameko.exceptions.IncorrectSignature","exc_args":["create() got an unexpected keyword argument 'bogus'"],"value":"create() got an unexpected keyword argument 'bogus'"}"#;
        check(
            signature,
            Expected {
                kind: FaultKind::InvalidParams,
                message: "IncorrectSignature: create() got an unexpected keyword argument 'bogus'",
                class: Some("IncorrectSignature"),
                info: Some(r#""create() got an unexpected keyword argument 'bogus'""#),
                args: Some(r#"["create() got an unexpected keyword argument 'bogus'"]"#),
                path: Some("nameko.exceptions.IncorrectSignature"),
            },
        );
        check(
            r#"{"exc_type":"MalformedRequest","exc_path":"nameko.exceptions.MalformedRequest","exc_args":["Message missing `args` or `kwargs`"],"value":"Message missing `args` or `kwargs`"}"#,
            Expected {
                kind: FaultKind::InvalidRequest,
                message: "MalformedRequest: Message missing `args` or `kwargs`",
                class: Some("MalformedRequest"),
                info: Some(r#""Message missing `args` or `kwargs`""#),
                args: Some(r#"["Message missing `args` or `kwargs`"]"#),
                path: Some("nameko.exceptions.MalformedRequest"),
            },
        );
    }

    #[test]
    fn a_nested_calls_missing_method_is_the_services_own_error() {
        for args in [r#"["other"]"#, "[]", "null", r#""create""#, "[1]"] {
            let error = format!(
                r#"{{"exc_type":"MethodNotFound","exc_path":"nameko.exceptions.MethodNotFound","exc_args":{args},"value":"other"}}"#
            );
            assert_eq!(fault(&error, "create").kind(), FaultKind::Application, "{args}");
        }
    }

    #[test]
    fn a_class_of_the_same_name_is_the_services_own() {
        let error = r#"{"exc_type":"MethodNotFound","exc_path":"orders.MethodNotFound","exc_args":["create"],"value":"create"}"#;
        assert_eq!(fault(error, "create").kind(), FaultKind::Application);
    }

    #[test]
    fn anything_may_be_missing_or_of_another_type() {
        check(
            r#"{"exc_type":"E"}"#,
            Expected {
                kind: FaultKind::Application,
                message: "E",
                class: Some("E"),
                info: None,
                args: None,
                path: None,
            },
        );
        check(
            r#"{"exc_type":5,"exc_path":{},"exc_args":{"a":1},"value":[1, 2]}"#,
            Expected {
                kind: FaultKind::Application,
                message: "[1, 2]",
                class: None,
                info: Some("[1, 2]"),
                args: Some(r#"[{"a":1}]"#),
                path: None,
            },
        );
        check(
            r#"{"exc_type":"E","value":"\ud800","exc_args":null}"#,
            Expected {
                kind: FaultKind::Application,
                message: r#"E: "\ud800""#,
                class: Some("E"),
                info: Some(r#""\ud800""#),
                args: None,
                path: None,
            },
        );
        let nothing = fault(r#"{"a":1}"#, "create");
        assert_eq!(nothing.kind(), FaultKind::Application);
        assert!(nothing.message().contains("did not say"));
    }

    #[test]
    fn errors_that_are_no_objects() {
        for (error, message) in
            [(r#""it broke""#, "it broke"), ("[1, 2]", "[1, 2]"), ("7", "7"), ("true", "true")]
        {
            check(
                error,
                Expected {
                    kind: FaultKind::Application,
                    message,
                    class: None,
                    info: Some(error),
                    args: None,
                    path: None,
                },
            );
        }
    }

    #[test]
    fn a_long_message_is_cut_and_kept_in_the_info() {
        let value = "é".repeat(5_000);
        let fault = fault(&format!(r#"{{"exc_type":"E","value":"{value}"}}"#), "create");
        assert_eq!(fault.message().chars().count(), LONGEST_MESSAGE + 1);
        let info = fault.remote().and_then(|remote| remote.info.clone()).unwrap();
        assert_eq!(info.as_str().chars().count(), 5_002);
    }
}
