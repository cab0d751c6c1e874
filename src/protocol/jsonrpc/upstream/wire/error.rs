//! What a service's `error` means (CONTRACT 5, WIRE 4.1). As it came it goes on to callers that speak
//! JSON-RPC too; for all others it is put into a fault's words.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::Payload;
use crate::fault::{Fault, FaultKind, Outcome, RemoteCode, RemoteError, Stated};
use crate::json::whole_number;

/// The longest message, in characters. All of it stays in what is passed on.
const LONGEST_MESSAGE: usize = 1_000;

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// What `data` may say: Gemstone's words, and another gateway's.
#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    outcome: Option<&'a RawValue>,
    #[serde(borrow, default)]
    class: Option<&'a RawValue>,
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    path: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
}

impl Data<'_> {
    /// Whether they are the words of a gateway.
    fn is_a_gateways(&self) -> bool {
        let known = |value: Option<&RawValue>| value.and_then(text);
        known(self.kind).is_some_and(|kind| FaultKind::of(&kind).is_some())
            && known(self.outcome).is_some_and(|outcome| Outcome::of(&outcome).is_some())
    }
}

/// The kind of an error by its number. What is said of the method and the params may be said of
/// a call that the service made itself; of what it could not read, it is not known what became.
fn kind(code: i64) -> (FaultKind, Outcome) {
    match code {
        -32601 => (FaultKind::UnknownMethod, Outcome::Unknown),
        -32602 => (FaultKind::InvalidParams, Outcome::Unknown),
        -32700 | -32600 => (FaultKind::Application, Outcome::Unknown),
        _ => (FaultKind::Application, Outcome::Executed),
    }
}

/// Whether an `error` is one of JSON-RPC's: a number and words.
pub(super) fn is_json_rpc(error: &str) -> bool {
    let is_object = error.starts_with('{');
    is_object
        && serde_json::from_str::<ErrorObject<'_>>(error).is_ok_and(|error| {
            let code = error.code.is_some_and(|code| whole_number(code.get()).is_some());
            code && error.message.is_some_and(|message| message.get().starts_with('"'))
        })
}

/// The fault for an answer's `error`, which is JSON and not null. `told` is what another gateway says of
/// this very call, and `denied` what the answer's status does that lets nobody in. Words of a
/// gateway that are in the error alone speak of a call that the service made: it ran, and has passed
/// them on.
pub(super) fn fault(
    error: &str,
    told: Option<(FaultKind, Outcome)>,
    denied: Option<(FaultKind, Outcome)>,
) -> Fault {
    // serde reads a list as an object's fields in order, too: that is not meant here.
    let object = error.starts_with('{').then(|| serde_json::from_str::<ErrorObject<'_>>(error));
    let Some(Ok(object)) = object else { return unstructured(error) };
    let data = object.data.map(RawValue::get).unwrap_or_default();
    let is_object = data.starts_with('{');
    let parts = is_object.then(|| serde_json::from_str::<Data<'_>>(data).ok()).flatten();
    let parts = parts.unwrap_or_default();
    let number = object.code.and_then(|code| whole_number(code.get()));
    let passed_on = told.is_none() && parts.is_a_gateways();
    let (kind, outcome) = match told.or(denied) {
        Some(told) => told,
        None if passed_on => (FaultKind::Application, Outcome::Executed),
        None => kind(number.unwrap_or_default()),
    };
    let class = parts.class.and_then(text).filter(|_| told.is_some() || number == Some(-32603));
    let has_words = told.is_some() || class.is_some();
    let info = if has_words { parts.info } else { object.data };
    let own_code = if told.is_some() { parts.code } else { object.code };
    let said = object.message.map(|message| text(message).unwrap_or(message.get().to_owned()));
    let said = said.filter(|said| !said.is_empty());
    let words = info.map(|info| text(info).unwrap_or_else(|| info.get().to_owned()));
    let words = words.filter(|words| words != "null");
    let message = match (&class, words, told) {
        // Gemstone says the same of every exception. Who gets a text alone has all of it so.
        (Some(class), Some(words), None) => format!("{class}: {words}"),
        (Some(class), None, None) => class.clone(),
        _ => said.unwrap_or_else(|| "the service reported an error without a message".to_owned()),
    };
    // A code that is no integer is none of JSON-RPC's (section 5.1): callers get it as `data.code`.
    let stated_code = match object.code {
        None => Some(RemoteCode::Number(-32000).to_payload()),
        Some(code) if code.get().parse::<i128>().is_ok() => Some(payload(code)),
        Some(code) => whole_number(code.get()).map(|code| RemoteCode::Number(code).to_payload()),
    };
    let stated = stated_code.map(|code| Stated {
        code,
        message: object
            .message
            .filter(|message| message.get().starts_with('"'))
            .map_or_else(|| Payload::from_text(&message), payload),
        // Where callers look for the outcome of their own call, that of another may not be.
        data: object.data.map(|data| match passed_on {
            true => Payload::from_validated(format!(r#"{{"info":{}}}"#, data.get()).into()),
            false => payload(data),
        }),
    });
    let remote = RemoteError {
        class,
        info: info.map(payload),
        args: parts.args.filter(|args| has_words && args.get().starts_with('[')).map(payload),
        path: parts.path.filter(|_| has_words).and_then(text),
        code: own_code.and_then(code),
        stated,
    };
    Fault::new(kind, outcome, shortened(message)).with_remote(remote)
}

/// An `error` that is no object, as JSON-RPC 1.0 has it: all of it is the info.
fn unstructured(error: &str) -> Fault {
    let message = serde_json::from_str::<String>(error).unwrap_or_else(|_| error.to_owned());
    let info = Payload::from_validated(error.as_bytes().to_vec().into());
    let remote = RemoteError { info: Some(info), ..RemoteError::default() };
    Fault::application(shortened(message), remote)
}

fn code(value: &RawValue) -> Option<RemoteCode> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => text(value).map(RemoteCode::Word),
        b'-' | b'0'..=b'9' => Some(match whole_number(json) {
            Some(number) => RemoteCode::Number(number),
            None => RemoteCode::Word(json.to_owned()),
        }),
        _ => None,
    }
}

/// A JSON string's text; `None` for other types, and for the lone surrogates that Rust's strings
/// cannot hold.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn payload(value: &RawValue) -> Payload {
    Payload::from_validated(value.get().as_bytes().to_vec().into())
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

    #[test]
    fn a_code_is_a_number_however_it_is_written() {
        for code in ["-32601.0", "-3.2601e4", "-32601"] {
            let error = format!(r#"{{"code":{code},"message":"no such method"}}"#);
            assert!(is_json_rpc(&error), "{code}");
            let [kind, outcome, message, _, _, shown] = read(&error, None);
            assert_eq!((kind.as_str(), outcome.as_str()), ("unknown_method", "unknown"), "{code}");
            assert_eq!((message.as_str(), shown.as_str()), ("no such method", "-32601"));
            let fault = fault(&error, None, None);
            let stated = fault.remote().and_then(|remote| remote.stated.as_ref()).expect("stated");
            assert_eq!(stated.code.as_str(), "-32601", "callers read an integer");
        }
        for code in ["5.5", "1e400", "1e30"] {
            let error = format!(r#"{{"code":{code},"message":"m"}}"#);
            let [kind, _, _, _, _, shown] = read(&error, None);
            assert_eq!((kind.as_str(), shown), ("application", format!("\"{code}\"")), "{code}");
        }
    }

    /// Kind, outcome, message, class, info and code.
    fn read(error: &str, told: Option<(FaultKind, Outcome)>) -> [String; 6] {
        let fault = fault(error, told, None);
        let remote = fault.remote().expect("what the service said");
        let show = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let json = |value: &Option<Payload>| show(value.as_ref().map(|v| v.as_str().to_owned()));
        [
            fault.kind().as_str().to_owned(),
            fault.outcome().as_str().to_owned(),
            fault.message().to_owned(),
            show(remote.class.clone()),
            json(&remote.info),
            show(remote.code.as_ref().map(|code| code.to_payload().as_str().to_owned())),
        ]
    }

    #[test]
    fn errors_and_what_they_mean() {
        for (error, expected) in [
            (
                r#"{"code":-32601,"message":"Method not found"}"#,
                ["unknown_method", "unknown", "Method not found", "-", "-", "-32601"],
            ),
            (
                r#"{"code":-32602,"message":"Invalid params","data":["a"]}"#,
                ["invalid_params", "unknown", "Invalid params", "-", r#"["a"]"#, "-32602"],
            ),
            (
                r#"{"code":-32603,"message":"Internal error","data":{"class":"ValueError","info":"bad x"}}"#,
                [
                    "application",
                    "executed",
                    "ValueError: bad x",
                    "ValueError",
                    "\"bad x\"",
                    "-32603",
                ],
            ),
            (
                r#"{"code":-32603,"message":"Internal error","data":{"class":"Refused","info":{"line":7}}}"#,
                [
                    "application",
                    "executed",
                    r#"Refused: {"line":7}"#,
                    "Refused",
                    r#"{"line":7}"#,
                    "-32603",
                ],
            ),
            (
                r#"{"code":404,"message":"no such order","data":{"class":"x","id":1180591620717411303424}}"#,
                [
                    "application",
                    "executed",
                    "no such order",
                    "-",
                    r#"{"class":"x","id":1180591620717411303424}"#,
                    "404",
                ],
            ),
            (
                r#"{"code":-32600,"message":"Invalid Request"}"#,
                ["application", "unknown", "Invalid Request", "-", "-", "-32600"],
            ),
            (
                r#"{"code":"E42","message":""}"#,
                [
                    "application",
                    "executed",
                    "the service reported an error without a message",
                    "-",
                    "-",
                    "\"E42\"",
                ],
            ),
        ] {
            assert_eq!(read(error, None), expected.map(str::to_owned), "{error}");
        }
    }

    #[test]
    fn what_another_gateway_says_of_this_call_and_what_a_service_passes_on() {
        let down = r#"{"code":-32004,"message":"down","data":{"kind":"unavailable","outcome":"not_sent","retryable":true}}"#;
        let data = r#"{"kind":"unavailable","outcome":"not_sent","retryable":true}"#;
        let told = Some((FaultKind::Unavailable, Outcome::NotSent));
        let expected = ["unavailable", "not_sent", "down", "-", "-", "-"];
        assert_eq!(read(down, told), expected.map(str::to_owned));
        let expected = ["application", "executed", "down", "-", data, "-32004"];
        assert_eq!(read(down, None), expected.map(str::to_owned));
        let stated = fault(down, None, None).remote().and_then(|remote| remote.stated.clone());
        let shown = stated.and_then(|stated| stated.data).expect("data");
        assert_eq!(shown.as_str(), format!(r#"{{"info":{data}}}"#));
        let raised = r#"{"code":-32000,"message":"ValueError: bad","data":{"kind":"application","outcome":"executed","class":"ValueError","info":"bad","code":7}}"#;
        let told = Some((FaultKind::Application, Outcome::Executed));
        let expected = ["application", "executed", "ValueError: bad", "ValueError", "\"bad\"", "7"];
        assert_eq!(read(raised, told), expected.map(str::to_owned));
    }

    #[test]
    fn what_is_no_error_of_json_rpc() {
        for (error, expected) in [
            (
                r#"{"code":1,"message":"m","data":{"kind":"unavailable","outcome":"surely"}}"#,
                [
                    "application",
                    "executed",
                    "m",
                    "-",
                    r#"{"kind":"unavailable","outcome":"surely"}"#,
                    "1",
                ],
            ),
            (
                r#""just words""#,
                ["application", "executed", "just words", "-", "\"just words\"", "-"],
            ),
            ("[1,2]", ["application", "executed", "[1,2]", "-", "[1,2]", "-"]),
            (
                "{}",
                [
                    "application",
                    "executed",
                    "the service reported an error without a message",
                    "-",
                    "-",
                    "-",
                ],
            ),
        ] {
            assert_eq!(read(error, None), expected.map(str::to_owned), "{error}");
        }
    }

    #[test]
    fn what_came_is_kept_as_it_came() {
        let error = r#"{"data":{"b":1e400,"a":1.10},"message":"\ud83d\ude00","code":-5}"#;
        let fault = fault(error, None, None);
        let stated = fault.remote().and_then(|remote| remote.stated.as_ref()).expect("stated");
        assert_eq!(stated.code.as_str(), "-5");
        assert_eq!(stated.message.as_str(), r#""\ud83d\ude00""#);
        assert_eq!(stated.data.as_ref().map(Payload::as_str), Some(r#"{"b":1e400,"a":1.10}"#));
    }

    #[test]
    fn a_code_that_is_no_integer_is_passed_on_in_the_data() {
        for (error, code) in [
            (r#"{"code":"ABC","message":"m"}"#, "\"ABC\""),
            (r#"{"code":-32000.5,"message":"m"}"#, "\"-32000.5\""),
        ] {
            let fault = fault(error, None, None);
            let remote = fault.remote().expect("what the service said");
            assert!(remote.stated.is_none(), "{error}");
            assert_eq!(remote.code.as_ref().expect("a code").to_payload().as_str(), code);
        }
        let worded = fault(r#"{"code":1,"message":{"de":"nein"}}"#, None, None);
        let stated = worded.remote().and_then(|remote| remote.stated.as_ref()).expect("stated");
        assert_eq!(stated.message.as_str(), r#""{\"de\":\"nein\"}""#);
    }

    #[test]
    fn only_a_number_and_words_are_json_rpcs() {
        for (error, expected) in [
            (r#"{"code":-1,"message":"m"}"#, true),
            (r#"{"code":"x","message":"m"}"#, false),
            (r#"{"message":"m"}"#, false),
            (r#""Not Found""#, false),
            (r#"{"code":404}"#, false),
        ] {
            assert_eq!(is_json_rpc(error), expected, "{error}");
        }
    }
}
