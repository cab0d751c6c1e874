//! Tells other registries of services that are reached through this gateway (WIRE, section 4.4, in
//! the form of Gemstone 0.10 and later).
//!
//! A service is told of while calls can be sent to where its row sends them; else it is forgotten
//! there in time.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::super::upstream::once::Asker;
use super::super::upstream::place::Place;
use super::Registry;
use crate::router::Router;
use crate::upstream::Readiness;

/// How often registries are told: as often as Gemstone's services tell them.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon it is looked whether there is something to tell that there was not.
const LOOK: Duration = Duration::from_secs(1);
/// How long a registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many are told at once.
const AT_ONCE: usize = 16;

/// Tells for as long as it runs.
pub(super) async fn run(
    registry: &Registry,
    router: &Weak<Router>,
    asker: impl Fn() -> Arc<Asker>,
) {
    // By registry and service.
    let mut told: HashMap<(String, String), Told> = HashMap::new();
    loop {
        let Some(live) = router.upgrade() else { return };
        let config = registry.config.load_full();
        let mut due = Vec::new();
        let mut wanted = HashMap::new();
        for place in &config.announce {
            for (name, url) in &config.told {
                // What is shown of a place leaves out what may be a secret, and two may differ by that.
                let key = (format!("{place} {}", place.uris[1]), name.clone());
                let mut state = told.remove(&key).unwrap_or_default();
                let now = Instant::now();
                let is_due = state.at.is_none_or(|at| at + state.pause() <= now);
                if is_due && is_reached(&live, name) {
                    state.at = Some(now);
                    due.push((Arc::clone(place), name.clone(), url.clone(), key.clone()));
                }
                wanted.insert(key, state);
            }
        }
        drop(live);
        told = wanted;
        let asker = asker();
        let telling = due.into_iter().map(|(place, name, url, key)| {
            let asker = Arc::clone(&asker);
            async move { (tell(&asker, &place, &name, &url).await, place, name, key) }
        });
        let mut answers = stream::iter(telling).buffer_unordered(AT_ONCE);
        while let Some((result, place, name, key)) = answers.next().await {
            registry.metrics.told(result.is_ok());
            if let Some(state) = told.get_mut(&key) {
                state.note(result, &place, &name);
            }
        }
        drop(answers);
        sleep(LOOK).await;
    }
}

/// What is known of a service at a registry.
#[derive(Default)]
struct Told {
    /// When it was told, or that was tried.
    at: Option<Instant>,
    /// How many times in a row it could not be told.
    failed: u32,
    took: bool,
}

impl Told {
    /// How long after it was told, or that was tried, it is told again.
    fn pause(&self) -> Duration {
        match self.failed {
            0 => INTERVAL,
            failed => LOOK.saturating_mul(1 << failed.min(5)).min(INTERVAL),
        }
    }

    fn note(&mut self, result: Result<(), String>, registry: &Place, service: &str) {
        match result {
            Ok(()) => {
                if !self.took {
                    info!(%registry, service, "announced a service");
                }
                (self.failed, self.took) = (0, true);
            }
            Err(why) => {
                if self.failed == 0 {
                    warn!(%registry, service, why, "cannot announce a service; trying again");
                }
                (self.failed, self.took) = (self.failed.saturating_add(1), false);
            }
        }
    }
}

/// Whether calls of the service can be sent to where the table sends them.
fn is_reached(router: &Router, service: &str) -> bool {
    let table = router.table();
    let row = table.find(&format!("{service}.*"));
    row.target.as_ref().is_some_and(|target| target.upstream.readiness() == Readiness::Ready)
}

async fn tell(asker: &Asker, place: &Place, name: &str, url: &str) -> Result<(), String> {
    let ping =
        json!({"jsonrpc": "2.0", "method": "ping", "params": {"name": name, "url": url}, "id": 1});
    let asked = asker.ask(place, Bytes::from(ping.to_string()), PATIENCE).await;
    let (status, body) = asked.map_err(|unanswered| unanswered.why)?;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match answer.get("error") {
        Some(error) if !error.is_null() => {
            let message = error.get("message").and_then(serde_json::Value::as_str);
            let message = super::announcement::excerpt(message.unwrap_or("without a message"));
            Err(format!("it answers with an error: {message}"))
        }
        _ if status.is_success() => Ok(()),
        _ => Err(format!("it answers with HTTP status {}", status.as_u16())),
    }
}
