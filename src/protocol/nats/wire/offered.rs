//! What a NATS micro service says can be called, in its answer to `$SRV.INFO` (ADR-32).
//!
//! Its schemas are not part of the protocol any more. Services keep them in an endpoint's metadata,
//! under the name that they had: `schema`, with `request` and `response`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::subject::is_own;
use crate::offer::room::{LARGEST, Room};
use crate::offer::{Description, MOST, Offer, openrpc};

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

/// What one instance has; nothing where it has answered something else, or too much. What there is no `room` for is told
/// by name alone.
pub(in crate::protocol::nats) fn offers(answer: &[u8], room: &mut Room) -> Vec<Offer> {
    if answer.len() > LARGEST {
        return Vec::new();
    }
    let Ok(Info { name, endpoints }) = serde_json::from_slice(answer) else { return Vec::new() };
    // Of one with a wildcard it is not known what may stand there.
    let is_open = |it: &Endpoint| it.subject.split('.').any(|word| matches!(word, "*" | ">"));
    let offer = |Endpoint { name: method, metadata, .. }| {
        let metadata = metadata.unwrap_or_default();
        Offer { service: name.clone(), method, description: describe(&metadata, room) }
    };
    let can_be_called = |it: &Endpoint| !is_open(it) && !is_own(&it.subject);
    endpoints.into_iter().filter(can_be_called).take(MOST).map(offer).collect()
}

fn describe(metadata: &HashMap<String, String>, room: &mut Room) -> Description {
    if room.is_spent() {
        return Description::unknown();
    }
    let mut told = metadata.get("schema").and_then(|text| room.parse(text.as_bytes()));
    let mut schema = |key: &str| match told.as_mut()?.get_mut(key)?.take() {
        Value::Null => None,
        // Older services have a schema's text within the text.
        Value::String(text) => room.parse(text.as_bytes()),
        told => Some(told),
    };
    let (request, response) = (schema("request"), schema("response"));
    let response = response.filter(openrpc::is_schema);
    let described = Description::of_schemas(request.as_ref(), response);
    let described = described.with_summary(metadata.get("description").map(String::as_str));
    if room.take(described.weight()) { described } else { Description::unknown() }
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
        let found = offers(info.to_string().as_bytes(), &mut Room::default());
        let names: Vec<_> = found.iter().map(|one| (&*one.service, &*one.method)).collect();
        assert_eq!(names, [("calc", "sum"), ("calc", "max"), ("calc", "odd")]);
        let sum = found[0].description.named("sum");
        assert_eq!((&sum["summary"], &sum["params"][0]["name"]), (&json!("Adds."), &json!("a")));
        assert_eq!(sum["result"]["schema"], json!({"type": "number"}));
        assert_eq!(found[1].description, Description::unknown());
        assert_eq!(found[2].description, Description::unknown());
        assert!(offers(b"7", &mut Room::default()).is_empty());
    }

    #[test]
    fn what_would_fill_the_memory_is_told_by_name_alone_or_not_at_all() {
        let info = |zeros: usize, text: usize| {
            let schema = format!(r#"{{"response":{{"enum":[{}]}}}}"#, vec!["0"; zeros].join(","));
            let metadata = json!({"schema": schema, "description": " ".repeat(text)});
            let one = json!({"name": "a", "subject": "a", "metadata": metadata});
            json!({"name": "s", "endpoints": [one, one, one, one]}).to_string()
        };
        let told = |info: String| {
            let found = offers(info.as_bytes(), &mut Room::default());
            let unknown = Description::unknown();
            found.iter().map(|offer| offer.description != unknown).collect::<Vec<_>>()
        };
        assert_eq!(told(info(10, 0)), [true; 4]);
        assert_eq!(told(info(100_000, 0)), [true, true, false, false]);
        assert!(told(info(0, 300_000)).is_empty());
    }
}
