//! What a NATS micro service says can be called, in its answer to `$SRV.INFO` (ADR-32).
//!
//! Its schemas are not part of the protocol any more. Services keep them in an endpoint's metadata,
//! under the name that they had: `schema`, with `request` and `response`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::subject::is_own;
use crate::offer::{Description, MOST, Offer};

/// The subject that asks all services for what they have.
pub(in crate::protocol::nats) const fn inquiry_of_all() -> &'static str {
    "$SRV.INFO"
}

#[derive(Deserialize)]
struct Info {
    name: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    name: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    metadata: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Schema {
    request: Option<Value>,
    response: Option<Value>,
}

/// What one instance has; nothing where it has answered something else.
pub(in crate::protocol::nats) fn offers(answer: &[u8]) -> Vec<Offer> {
    let Ok(Info { name, endpoints }) = serde_json::from_slice(answer) else { return Vec::new() };
    // Of one with a wildcard it is not known what may stand there.
    let is_open = |it: &Endpoint| it.subject.split('.').any(|word| matches!(word, "*" | ">"));
    let offer = |Endpoint { name: method, metadata, .. }| {
        let metadata = metadata.unwrap_or_default();
        Offer { service: name.clone(), method, description: describe(&metadata) }
    };
    let can_be_called = |it: &Endpoint| !is_open(it) && !is_own(&it.subject);
    endpoints.into_iter().filter(can_be_called).take(MOST).map(offer).collect()
}

fn describe(metadata: &HashMap<String, String>) -> Description {
    let told = metadata.get("schema").and_then(|text| serde_json::from_str(text).ok());
    let Schema { request, response } = told.unwrap_or_default();
    // Older services have a schema's text within the text.
    let schema = |told: Option<Value>| match told {
        Some(Value::String(text)) => serde_json::from_str(&text).ok(),
        told => told,
    };
    let response = schema(response).filter(crate::offer::openrpc::is_schema);
    let described = Description::of_schemas(schema(request).as_ref(), response);
    described.with_summary(metadata.get("description").map(String::as_str))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_tells_of_itself_in_its_metadata() {
        let request = r#"{"type": "object", "properties": {"a": {"type": "number"}}}"#;
        let schema = json!({"request": request, "response": {"type": "number"}}).to_string();
        let info = json!({"type": "io.nats.micro.v1.info_response", "name": "calc", "endpoints": [
            {"name": "sum", "subject": "sum", "metadata": {"schema": schema, "description": "Adds."}},
            {"name": "max", "subject": "max", "metadata": null},
            {"name": "get", "subject": "files.*.get", "metadata": null},
            {"name": "ping", "subject": "$SRV.PING", "metadata": null},
            {"name": "odd", "subject": "odd", "metadata": {"schema": "7"}}]});
        let found = offers(info.to_string().as_bytes());
        let names: Vec<_> = found.iter().map(|one| (&*one.service, &*one.method)).collect();
        assert_eq!(names, [("calc", "sum"), ("calc", "max"), ("calc", "odd")]);
        let sum = found[0].description.named("sum");
        assert_eq!((&sum["summary"], &sum["params"][0]["name"]), (&json!("Adds."), &json!("a")));
        assert_eq!(sum["result"]["schema"], json!({"type": "number"}));
        assert_eq!(found[1].description, Description::unknown());
        assert_eq!(found[2].description, Description::unknown());
        assert!(offers(b"7").is_empty());
    }
}
