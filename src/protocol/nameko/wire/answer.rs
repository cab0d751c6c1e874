//! What goes back to whoever called: `{"result":…,"error":…}`, and faults as the exceptions that a
//! Nameko client can raise (CONTRACT 5, WIRE 1.3, 1.6).

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::json;

use super::tagged;
use crate::call::Payload;
use crate::fault::{Fault, FaultKind, RemoteError};

/// What says that a reply is another call's under the same key.
const REPLAYED: &str = "nameko.idempotency_replayed";

/// AMQP's delivery mode of what survives the broker. So Nameko's own replies go.
const PERSISTENT: u8 = 2;
/// The beginning of the names that the broker makes of `amq.rabbitmq.reply-to`.
const DIRECT: &str = "amq.rabbitmq.reply-to";

/// Where a reply goes: the exchange, and the key on it. Direct replies are reached by the default
/// exchange alone.
pub(in super::super) fn address(exchange: &str, reply_to: &str) -> (ShortString, ShortString) {
    let exchange = if is_direct(reply_to) { "" } else { exchange };
    (exchange.into(), reply_to.into())
}

/// Whether the broker itself hands a reply to its caller.
pub(in super::super) fn is_direct(reply_to: &str) -> bool {
    reply_to.starts_with(DIRECT)
}

/// A reply's properties. Only what the caller gave to know it by comes back. A key of two words may be a
/// service's, which dies of a message that names nobody to answer (WIRE 1.4): `nobody` is that.
pub(in super::super) fn properties(
    reply_to: &str,
    correlation_id: Option<ShortString>,
    nobody: &str,
) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(FieldTable::default())
        .with_delivery_mode(PERSISTENT)
        .with_priority(0);
    if let Some(id) = correlation_id {
        properties = properties.with_correlation_id(id);
    }
    if reply_to.contains('.') && !reply_to.starts_with(DIRECT) {
        properties = properties.with_reply_to(nobody.into());
    }
    properties
}

/// The properties of a reply that is another call's under the same key.
pub(in super::super) fn replayed(properties: BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(REPLAYED.into(), AMQPValue::Boolean(true));
    properties.with_headers(headers)
}

/// The body for a result; `None` where a Nameko client would read something else than what is there,
/// or not survive it: an object that kombu takes for a tagged value.
pub(in super::super) fn result(payload: &Payload, keep_tagged: bool) -> Option<Vec<u8>> {
    let payload = payload.as_bytes();
    if !keep_tagged && tagged::holds_tagged_value(payload) {
        return None;
    }
    let parts: [&[u8]; 3] = [br#"{"result": "#, payload, br#", "error": null}"#];
    Some(parts.concat())
}

/// The class that a fault is on a Nameko client's side, where the service did not give its own.
pub(super) fn class_path(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::ParseError | FaultKind::InvalidRequest => "nameko.exceptions.MalformedRequest",
        FaultKind::UnknownMethod => "nameko.exceptions.MethodNotFound",
        FaultKind::UnknownService => "nameko.exceptions.UnknownService",
        FaultKind::InvalidParams => "nameko.exceptions.IncorrectSignature",
        FaultKind::Internal => "genkan.Internal",
        FaultKind::Application => "genkan.RemoteError",
        FaultKind::AccessDenied => "genkan.AccessDenied",
        FaultKind::Timeout => "nameko.exceptions.RpcTimeout",
        FaultKind::Unavailable => "genkan.Unavailable",
        FaultKind::Overloaded => "genkan.Overloaded",
        FaultKind::TooLarge => "genkan.TooLarge",
    }
}

/// The body for a fault of a call of `method`. `data` beside Nameko's four keys is for whoever looks:
/// what the caller may believe about the service's side, and for another gateway by which correlation
/// id, `call`, the call came that this is said of.
pub(in super::super) fn exception(fault: &Fault, method: &str, call: Option<&str>) -> Vec<u8> {
    let none = RemoteError::default();
    let remote = fault.remote().unwrap_or(&none);
    let is_own = fault.kind() == FaultKind::Application;
    let path = remote.path.as_deref().filter(|_| is_own);
    let path = path.unwrap_or_else(|| class_path(fault.kind()));
    let class = remote.class.as_deref().filter(|_| is_own);
    let class = class.unwrap_or_else(|| path.rsplit('.').next().unwrap_or(path));
    // What an exception says is text. Other worlds send any JSON beside their words.
    let has_words = remote.stated.is_some() && remote.class.is_none();
    let is_text = |info: &Payload| info.as_bytes().starts_with(b"\"") && !has_words;
    let is_said = |info: &Payload| remote.args.is_some() || is_text(info);
    let (said, beside) = match remote.info.clone() {
        Some(info) if is_said(&info) => (Some(info), None),
        info => (None, info),
    };
    let value = said.unwrap_or_else(|| match fault.kind() {
        FaultKind::UnknownMethod => Payload::from_text(method),
        _ => Payload::from_text(fault.message()),
    });
    let args = remote.args.as_ref().map(Payload::as_str);
    let args = args.map_or_else(|| format!("[{}]", value.as_str()), str::to_owned);
    let mut data = json!({
        "kind": fault.kind().as_str(),
        "outcome": fault.outcome().as_str(),
        "retryable": fault.retryable(),
    });
    if let Some(call) = call {
        data["call"] = json!(call);
    }
    if let Some(code) = &remote.code {
        data["code"] = serde_json::from_str(code.to_payload().as_str()).unwrap_or_default();
    }
    let mut data = data.to_string();
    if let Some(info) = beside {
        data.pop();
        data.extend([", \"info\": ", info.as_str(), "}"]);
    }
    let (class, path, value) = (json!(class), json!(path), value.as_str());
    let body = format!(
        r#"{{"result": null, "error": {{"exc_type": {class}, "exc_path": {path}, "exc_args": {args}, "value": {value}, "data": {data}}}}}"#
    );
    body.into_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::Value;

    use super::*;
    use crate::fault::{Outcome, RemoteCode};

    fn payload(text: &'static str) -> Payload {
        Payload::from_validated(Bytes::from_static(text.as_bytes()))
    }

    fn error(fault: &Fault) -> Value {
        let body: Value = serde_json::from_slice(&exception(fault, "send", None)).expect("JSON");
        assert_eq!(body["result"], Value::Null);
        body["error"].clone()
    }

    #[test]
    fn results_go_as_they_are() {
        let text = |payload: &Payload, keep| {
            result(payload, keep).map(|body| String::from_utf8(body).expect("UTF-8"))
        };
        assert_eq!(
            text(&payload("1.10"), false).as_deref(),
            Some(r#"{"result": 1.10, "error": null}"#)
        );
        assert_eq!(
            text(&Payload::NULL, false).as_deref(),
            Some(r#"{"result": null, "error": null}"#)
        );
        let tagged = payload(r#"[{"__type__":"mine","__value__":1}]"#);
        assert_eq!(text(&tagged, false), None);
        assert!(text(&tagged, true).is_some());
    }

    #[test]
    fn each_kind_has_its_class() {
        let expected = [
            ("parse_error", "MalformedRequest", "nameko.exceptions.MalformedRequest"),
            ("invalid_request", "MalformedRequest", "nameko.exceptions.MalformedRequest"),
            ("unknown_method", "MethodNotFound", "nameko.exceptions.MethodNotFound"),
            ("unknown_service", "UnknownService", "nameko.exceptions.UnknownService"),
            ("invalid_params", "IncorrectSignature", "nameko.exceptions.IncorrectSignature"),
            ("internal", "Internal", "genkan.Internal"),
            ("application", "RemoteError", "genkan.RemoteError"),
            ("access_denied", "AccessDenied", "genkan.AccessDenied"),
            ("timeout", "RpcTimeout", "nameko.exceptions.RpcTimeout"),
            ("unavailable", "Unavailable", "genkan.Unavailable"),
            ("overloaded", "Overloaded", "genkan.Overloaded"),
            ("too_large", "TooLarge", "genkan.TooLarge"),
        ];
        assert_eq!(expected.len(), FaultKind::ALL.len());
        for (kind, (name, class, path)) in FaultKind::ALL.into_iter().zip(expected) {
            let error = error(&Fault::new(kind, Outcome::Unknown, "it \"broke\""));
            assert_eq!((kind.as_str(), &error["data"]["kind"]), (name, &json!(name)));
            assert_eq!((&error["exc_type"], &error["exc_path"]), (&json!(class), &json!(path)));
            let value = if kind == FaultKind::UnknownMethod { "send" } else { "it \"broke\"" };
            assert_eq!((&error["value"], &error["exc_args"]), (&json!(value), &json!([value])));
            assert_eq!(error["data"]["outcome"], "unknown");
            assert_eq!(error["data"]["retryable"], false);
        }
    }

    #[test]
    fn a_service_is_quoted_to_the_letter() {
        let remote = RemoteError {
            class: Some("PizzaError".to_owned()),
            info: Some(payload(r#""('a', 2)""#)),
            args: Some(payload(r#"["a","2",{"k":["1"]}]"#)),
            path: Some("service.PizzaError".to_owned()),
            code: None,
            stated: None,
        };
        let own = error(&Fault::application("PizzaError: ('a', 2)", remote.clone()));
        assert_eq!(
            (&own["exc_type"], &own["exc_path"]),
            (&json!("PizzaError"), &json!("service.PizzaError"))
        );
        assert_eq!(
            (&own["value"], &own["exc_args"]),
            (&json!("('a', 2)"), &json!(["a", "2", {"k": ["1"]}]))
        );
        // What is about the call itself is the class that the client's library knows.
        let refused =
            Fault::new(FaultKind::InvalidParams, Outcome::Unknown, "m").with_remote(remote);
        assert_eq!(error(&refused)["exc_path"], "nameko.exceptions.IncorrectSignature");
        assert_eq!(error(&refused)["exc_args"], json!(["a", "2", {"k": ["1"]}]));
    }

    #[test]
    fn what_other_worlds_say_is_there_too() {
        let remote = RemoteError {
            class: Some("ValueError".to_owned()),
            info: Some(payload(r#"{"n":1}"#)),
            code: Some(RemoteCode::Word("E42".to_owned())),
            ..RemoteError::default()
        };
        let error = error(&Fault::application("bad", remote));
        assert_eq!(
            (&error["exc_type"], &error["exc_path"]),
            (&json!("ValueError"), &json!("genkan.RemoteError"))
        );
        assert_eq!((&error["value"], &error["exc_args"]), (&json!("bad"), &json!(["bad"])));
        assert_eq!(error["data"]["info"], json!({"n": 1}));
        assert_eq!(error["data"]["code"], "E42");
    }

    #[test]
    fn replies_find_their_way() {
        let (exchange, key) = address("nameko-rpc", "9f0c");
        assert_eq!((exchange.as_str(), key.as_str()), ("nameko-rpc", "9f0c"));
        let direct = "amq.rabbitmq.reply-to.g1h2";
        let (exchange, key) = address("nameko-rpc", direct);
        assert_eq!((exchange.as_str(), key.as_str()), ("", direct));
        let sent = properties("9f0c", Some("id".into()), "nobody");
        assert_eq!(sent.correlation_id().as_ref().map(ShortString::as_str), Some("id"));
        assert_eq!((sent.reply_to().is_none(), *sent.delivery_mode()), (true, Some(2)));
        assert_eq!(sent.content_type().as_ref().map(ShortString::as_str), Some("application/json"));
        let to_service = properties("orders.create", None, "nobody");
        assert_eq!(to_service.reply_to().as_ref().map(ShortString::as_str), Some("nobody"));
        assert_eq!(properties(direct, None, "nobody").reply_to(), &None);
    }
}
