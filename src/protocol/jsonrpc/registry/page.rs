//! `/registry/services`: who has announced himself, for operators.

use serde::Serialize;
use tokio::time::Instant;

use super::Registry;
use super::book::{Entry, Key, Standing};
use crate::units::format_duration;

#[derive(Serialize)]
struct Shown<'a> {
    allow: Vec<&'a str>,
    ttl: String,
    services: Vec<Service<'a>>,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    url: &'a str,
    state: &'static str,
    /// Why it is not in service, or has not answered lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    /// How many seconds ago it was heard of.
    heard: u64,
}

impl<'a> Service<'a> {
    fn new(entry: &'a Entry, now: Instant) -> Self {
        let state = match &entry.standing {
            Standing::Believed => "in_service",
            Standing::Unproven(_) => "unproven",
            Standing::Refuted(_) => "refuted",
        };
        let heard = now.saturating_duration_since(entry.heard).as_secs();
        let Key { name, url } = &*entry.key;
        Self { name, url, state, why: entry.why(), heard }
    }
}

/// The page.
pub(super) fn json(registry: &Registry) -> String {
    let config = registry.config.load();
    let now = Instant::now();
    let book = registry.book();
    let mut services: Vec<Service<'_>> =
        book.entries().map(|entry| Service::new(entry, now)).collect();
    services.sort_unstable_by_key(|service| (service.name, service.url));
    let allow = config.allow.iter().map(|pattern| pattern.as_str()).collect();
    let shown = Shown { allow, ttl: format_duration(config.ttl), services };
    serde_json::to_string(&shown).unwrap_or_default()
}
