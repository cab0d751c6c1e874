//! The exception table: a Nameko service's error object → the fault its caller sees
//! (CONTRACT 5, WIRE 1.3).
//!
//! Matched by `exc_path`, because a service may define a class of the same name. Each part may be
//! missing or any JSON at all: other libraries speak this format too.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::class_path;
use crate::call::Payload;
use crate::fault::{Fault, FaultKind, Outcome, RemoteCode, RemoteError};

/// The longest message, in characters. All of it stays in `info`.
const LONGEST_MESSAGE: usize = 1_000;

/// What `exc_path` can say about a call that may never have run. `MalformedRequest` is not among it: Nameko
/// raises it where `args` or `kwargs` is missing, and what Genkan sends has both. So it is about a
/// call of the service's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exception {
    MethodNotFound,
    IncorrectSignature,
    Other,
}

impl Exception {
    fn from_path(path: Option<&str>) -> Self {
        match path {
            Some("nameko.exceptions.MethodNotFound") => Self::MethodNotFound,
            Some("nameko.exceptions.IncorrectSignature") => Self::IncorrectSignature,
            _ => Self::Other,
        }
    }

    /// Whether it may be about the call that this is the reply to, by its first argument.
    /// Otherwise the service ran, and a call of its own failed.
    fn is_about(self, method: &str, first: Option<&str>) -> bool {
        match self {
            Self::MethodNotFound => first == Some(method),
            // Python's words begin with the function's name. Who says it in other words names none.
            Self::IncorrectSignature => {
                first.and_then(named_function).is_none_or(|named| named == method)
            }
            Self::Other => false,
        }
    }

    /// The total table. Nothing is certain about a call that may have been refused: a service that
    /// ran, and passes on what a call of its own got, sends the same bytes if the other method has
    /// the same name; and it may raise the exception itself.
    fn kind(self, about_this_call: bool) -> (FaultKind, Outcome) {
        match (self, about_this_call) {
            (Self::MethodNotFound, true) => (FaultKind::UnknownMethod, Outcome::Unknown),
            (Self::IncorrectSignature, true) => (FaultKind::InvalidParams, Outcome::Unknown),
            (_, false) | (Self::Other, true) => (FaultKind::Application, Outcome::Executed),
        }
    }
}

/// The function that a message such as `add() missing 1 required …` is about. Newer Pythons write
/// it with its class: `Shop.add()`.
fn named_function(message: &str) -> Option<&str> {
    let (name, _) = message.split_once("()")?;
    let name = name.rsplit('.').next()?;
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some(name)
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
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// What another gateway says of its fault, and of which call: by the correlation id that only this call
/// had. A service that ran, and passes on what a call of its own got, passes on that call's.
#[derive(Deserialize)]
struct Told<'a> {
    kind: &'a str,
    outcome: &'a str,
    #[serde(default)]
    call: Option<&'a str>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
}

impl Told<'_> {
    /// The kind and the outcome, where the exception is the kind's own, and the call this one.
    fn fault(&self, path: Option<&str>, call: Option<&str>) -> Option<(FaultKind, Outcome)> {
        if call.is_none() || self.call != call {
            return None;
        }
        let (kind, outcome) = (FaultKind::of(self.kind)?, Outcome::of(self.outcome)?);
        let own = kind == FaultKind::Application || path == Some(class_path(kind));
        own.then_some((kind, outcome))
    }

    fn code(&self) -> Option<RemoteCode> {
        let code = self.code?;
        text(code).map(RemoteCode::Word).or_else(|| code.get().parse().ok().map(RemoteCode::Number))
    }
}

/// The fault for a reply's `error`, which is valid JSON and truthy; `method` is what was called, with
/// the correlation id `call`.
pub(super) fn fault(error: &str, method: &str, call: Option<&str>) -> Fault {
    // serde reads a list as an object's fields in order, too: that is not meant here.
    let object = error.starts_with('{').then(|| serde_json::from_str::<ErrorObject<'_>>(error));
    let Some(Ok(parts)) = object else { return unstructured(error) };
    let class = parts.exc_type.and_then(text);
    let path = parts.exc_path.and_then(text);
    let exception = Exception::from_path(path.as_deref());
    let first = first_argument(&parts);
    let told = parts.data.and_then(|data| serde_json::from_str::<Told<'_>>(data.get()).ok());
    let gateways = told.as_ref().and_then(|told| told.fault(path.as_deref(), call));
    let (kind, outcome) =
        gateways.unwrap_or_else(|| exception.kind(exception.is_about(method, first.as_deref())));
    let said = parts.value.map(|value| text(value).unwrap_or_else(|| value.get().to_owned()));
    // A gateway's words are whole sentences, but where a service may have said them.
    let services = matches!(
        kind,
        FaultKind::Application | FaultKind::UnknownMethod | FaultKind::InvalidParams
    );
    let gateways_own = gateways.is_some() && !services;
    let named = class.as_ref().filter(|_| !gateways_own);
    let message = match (named, said.as_deref().filter(|said| !said.is_empty())) {
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
        code: told.and_then(|told| told.code()),
        stated: None,
    };
    let fault = Fault::new(kind, outcome, shortened(message));
    if gateways_own { fault.scrubbed() } else { fault.with_remote(remote) }
}

/// An `error` that is no object, or an object that repeats its keys: all of it is the info.
fn unstructured(error: &str) -> Fault {
    let message = serde_json::from_str::<String>(error).unwrap_or_else(|_| error.to_owned());
    let info = Payload::from_validated(error.as_bytes().to_vec().into());
    let remote = RemoteError { info: Some(info), ..RemoteError::default() };
    Fault::application(shortened(message), remote)
}

/// An exception's first argument, if it is text.
fn first_argument(parts: &ErrorObject<'_>) -> Option<String> {
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
        let fault = fault(error, "create", None);
        let refused = matches!(expected.kind, FaultKind::UnknownMethod | FaultKind::InvalidParams);
        let outcome = if refused { Outcome::Unknown } else { Outcome::Executed };
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
    fn calls_that_the_service_seems_to_have_refused() {
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
    }

    #[test]
    fn a_nested_calls_missing_method_is_the_services_own_error() {
        for args in [r#"["other"]"#, "[]", "null", r#""create""#, "[1]"] {
            let error = format!(
                r#"{{"exc_type":"MethodNotFound","exc_path":"nameko.exceptions.MethodNotFound","exc_args":{args},"value":"other"}}"#
            );
            assert_eq!(fault(&error, "create", None).kind(), FaultKind::Application, "{args}");
        }
    }

    fn raised(class: &str, args: &str) -> Fault {
        let path = format!("nameko.exceptions.{class}");
        let error = format!(
            r#"{{"exc_type":"{class}","exc_path":"{path}","exc_args":{args},"value":"x"}}"#
        );
        fault(&error, "create", None)
    }

    #[test]
    fn wrong_arguments_are_ours_unless_they_name_another_function() {
        for (args, kind) in [
            (
                r#"["create() missing 1 required positional argument: 'b'"]"#,
                FaultKind::InvalidParams,
            ),
            (
                r#"["create() takes 2 positional arguments but 4 were given"]"#,
                FaultKind::InvalidParams,
            ),
            (
                r#"["Orders.create() got an unexpected keyword argument 'x'"]"#,
                FaultKind::InvalidParams,
            ),
            (r#"["Orders.make.<locals>.create() takes 1"]"#, FaultKind::InvalidParams),
            (r#"["take() takes 2 positional arguments but 4 were given"]"#, FaultKind::Application),
            (r#"["Pantry.take() missing 1 required"]"#, FaultKind::Application),
            (r#"["recreate() missing 1 required"]"#, FaultKind::Application),
            // Not Python's words: nothing says that it was another's.
            (r#"["two arguments are needed (a, b)"]"#, FaultKind::InvalidParams),
            ("[]", FaultKind::InvalidParams),
            ("null", FaultKind::InvalidParams),
        ] {
            let fault = raised("IncorrectSignature", args);
            let executed = kind == FaultKind::Application;
            let outcome = if executed { Outcome::Executed } else { Outcome::Unknown };
            assert_eq!((fault.kind(), fault.outcome()), (kind, outcome), "{args}");
        }
    }

    #[test]
    fn a_malformed_request_was_not_ours() {
        let fault = raised("MalformedRequest", r#"["Message missing `args` or `kwargs`"]"#);
        assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Application, Outcome::Executed));
    }

    #[test]
    fn a_class_of_the_same_name_is_the_services_own() {
        let error = r#"{"exc_type":"MethodNotFound","exc_path":"orders.MethodNotFound","exc_args":["create"],"value":"create"}"#;
        assert_eq!(fault(error, "create", None).kind(), FaultKind::Application);
    }

    #[test]
    fn another_gateways_fault_is_what_it_was() {
        for kind in FaultKind::ALL {
            let outcome = Outcome::NotSent;
            let sent = Fault::new(kind, outcome, "nobody is there: start it");
            let body = super::super::answer::exception(&sent, "create", Some("id-1"));
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let read = fault(&body["error"].to_string(), "create", Some("id-1"));
            assert_eq!((read.kind(), read.outcome()), (kind, outcome), "{body}");
            assert_eq!(read.retryable(), sent.retryable(), "{body}");
            let said = if kind == FaultKind::UnknownMethod { "create" } else { sent.message() };
            assert!(read.message().ends_with(said), "{}", read.message());
            // A service that has passed it on was called by another id.
            for call in [None, Some("id-2")] {
                let read = fault(&body["error"].to_string(), "create", call);
                assert!(read.outcome().may_have_run(), "{body}");
            }
        }
        let forged = r#"{"exc_type":"E","exc_path":"a.E","value":"v","data":{"kind":"unavailable","outcome":"not_sent","call":"id-1"}}"#;
        let read = fault(forged, "create", Some("id-1"));
        assert_eq!((read.kind(), read.outcome()), (FaultKind::Application, Outcome::Executed));
        let coded = r#"{"exc_type":"E","exc_path":"genkan.RemoteError","value":"v","data":{"kind":"application","outcome":"executed","call":"id-1","code":"E42"}}"#;
        let code =
            fault(coded, "create", Some("id-1")).remote().and_then(|remote| remote.code.clone());
        assert_eq!(code, Some(RemoteCode::Word("E42".to_owned())));
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
        let nothing = fault(r#"{"a":1}"#, "create", None);
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
        let fault = fault(&format!(r#"{{"exc_type":"E","value":"{value}"}}"#), "create", None);
        assert_eq!(fault.message().chars().count(), LONGEST_MESSAGE + 1);
        let info = fault.remote().and_then(|remote| remote.info.clone()).unwrap();
        assert_eq!(info.as_str().chars().count(), 5_002);
    }
}
