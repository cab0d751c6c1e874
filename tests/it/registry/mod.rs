//! Services announce themselves to Genkan, and are found and called through it.

mod announcing;
mod command_line;
mod gemstone;
mod telling;

use serde_json::{Value, json};

use crate::harness::{Asked, Gateway, Say, eventually};

/// A gateway's configuration: which names may be announced, and calls that go to what matches.
pub fn config(allow: &str, more: &str) -> String {
    format!(
        "[registry]\nallow = [\"{allow}\"]\n{more}\n[upstreams.announced]\nprotocol = \"jsonrpc\"\n\
         registry = \"{allow}\"\n[[routes]]\nmatch = \"{allow}\"\nupstream = \"announced\"\n"
    )
}

/// A service that answers every call with a name, and knows no `get_service_specs`.
pub fn named(name: &'static str) -> impl Fn(&Asked) -> Say + Send + Sync + 'static {
    move |asked| match asked.method().as_str() {
        "get_service_specs" => asked.error(r#"{"code":-32601,"message":"Method not found"}"#),
        _ => asked.result(&format!("\"{name}\"")),
    }
}

/// Announces a service.
pub async fn ping(gateway: &Gateway, name: &str, url: &str) -> Value {
    gateway.rpc("ping", json!({"name": name, "url": url})).await
}

/// The URLs of what matches.
pub async fn located(gateway: &Gateway, name: &str) -> Vec<String> {
    let found = gateway.rpc("locate_service", json!({"name": name})).await;
    let found = found["result"].as_array().unwrap_or_else(|| panic!("a list: {found}")).clone();
    found.iter().map(|url| url.as_str().expect("a URL").to_owned()).collect()
}

/// Waits until so many match.
pub async fn found(gateway: &Gateway, name: &str, count: usize) -> Vec<String> {
    eventually(&format!("{count} services match {name}"), async || {
        let found = located(gateway, name).await;
        (found.len() == count).then_some(found)
    })
    .await
}

/// What the page shows of a service.
pub async fn shown(gateway: &Gateway, name: &str) -> Option<Value> {
    let page = gateway.page("/registry/services").await.json();
    let services = page["services"].as_array().expect("a list").clone();
    services.into_iter().find(|service| service["name"] == name)
}

/// Waits until a service is in that state; where it is in service, until callers are told of it, which
/// they are a moment after the page shows it.
pub async fn in_state(gateway: &Gateway, name: &str, state: &str) -> Value {
    let service = eventually(&format!("{name} is {state}"), async || {
        shown(gateway, name).await.filter(|service| service["state"] == state)
    })
    .await;
    if state == "in_service" {
        let is_found = async || (!located(gateway, name).await.is_empty()).then_some(());
        eventually(&format!("{name} is found"), is_found).await;
    }
    service
}
