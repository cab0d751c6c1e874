//! Asks services whether they are what they announced, before anybody is told of them, and now and
//! then after that.
//!
//! The question is `get_service_specs`: Gemstone's services up to 0.9 answer it with their name, and
//! every other JSON-RPC service with an error, which does as well. It goes to a URL that a stranger
//! named: it says nothing, and what comes back is shown to nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::super::upstream::once::{Asker, Unanswered};
use super::Registry;
use super::announcement::{self, excerpt};
use super::book::{Finding, Key, Standing};
use crate::fault::FaultKind;
use crate::json::present;

/// How many are asked at once.
const AT_ONCE: usize = 64;
/// How many a second are begun to be asked, where many are to be: a flood of announcements is no flood
/// of questions. That many may be begun at once after a rest.
const RATE: f64 = 200.0;
const BURST: f64 = 64.0;
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often those who follow are told of changes.
const PUBLISH: Duration = Duration::from_millis(20);
/// The largest answer that is read.
pub(super) const LARGEST: usize = 64 << 10;

const QUESTION: &[u8] = br#"{"jsonrpc":"2.0","method":"get_service_specs","id":1}"#;

/// Looks after the book for as long as it runs.
pub(super) async fn run(registry: &Registry, asker: impl Fn() -> Arc<Asker>) {
    let mut probes = FuturesUnordered::new();
    let (mut published, mut changed) = (Instant::now(), true);
    let mut pace = Pace { may: BURST, since: published };
    loop {
        let now = Instant::now();
        let next = {
            let mut book = registry.book();
            registry.metrics.gone(book.expire(now), "expired");
            while probes.len() < AT_ONCE
                && pace.allows(now)
                && let Some(key) = book.take_due(now)
            {
                pace.may -= 1.0;
                let asker = asker();
                probes.push(async move {
                    let finding = probe(registry, &asker, &key).await;
                    (key, finding)
                });
            }
            changed |= book.take_change();
            // Where all are busy, what is due waits for one of them.
            let next = book.next().filter(|_| probes.len() < AT_ONCE);
            next.map(|next| next.max(pace.allows_from(now)))
        };
        if changed && published + PUBLISH <= now {
            registry.publish();
            (published, changed) = (now, false);
        }
        let wake = if changed { Some(published + PUBLISH) } else { next };
        tokio::select! {
            Some((key, finding)) = probes.next(), if !probes.is_empty() => {
                settle(registry, &key, finding);
                changed = true;
            }
            () = until(wake) => {}
            () = registry.stirred.notified() => changed = true,
        }
    }
}

/// How many may be begun, and when that was reckoned.
struct Pace {
    may: f64,
    since: Instant,
}

impl Pace {
    /// Whether one may be begun now.
    fn allows(&mut self, now: Instant) -> bool {
        let rested = now.saturating_duration_since(self.since).as_secs_f64();
        (self.may, self.since) = ((self.may + rested * RATE).min(BURST), now);
        self.may >= 1.0
    }

    /// When the next may be begun.
    fn allows_from(&self, now: Instant) -> Instant {
        let missing = (1.0 - self.may).max(0.0);
        // The timer's own steps are no finer.
        now + Duration::from_millis((missing * 1_000.0 / RATE).ceil() as u64)
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

fn settle(registry: &Registry, key: &Key, finding: Finding) {
    let mut book = registry.book();
    let before = book.standing(key).cloned();
    book.probed(Instant::now(), key, finding.clone());
    drop(book);
    // It has gone meanwhile.
    let Some(before) = before else { return };
    let (service, url) = (excerpt(&key.name), excerpt(&key.url));
    match finding {
        Finding::Service if before != Standing::Believed => {
            info!(service, url, "a service that announced itself is believed");
        }
        Finding::Nobody(why) if before == Standing::Believed => {
            warn!(service, url, why, "a service that announced itself does not answer any more");
        }
        Finding::Busy(why) | Finding::Nobody(why) => {
            debug!(service, url, why, "an announced service does not answer");
        }
        Finding::SomethingElse(why) if before != Standing::Refuted(why.clone()) => {
            warn!(service, url, why, "an announcement is not believed");
        }
        Finding::Service | Finding::SomethingElse(_) => {}
    }
}

async fn probe(registry: &Registry, asker: &Asker, key: &Key) -> Finding {
    let place = match announcement::place(&key.url, &registry.guard) {
        Ok(place) => place,
        Err(why) => return Finding::SomethingElse(format!("its URL {why}")),
    };
    match asker.ask(&place, Bytes::from_static(QUESTION), PATIENCE).await {
        Ok((status, body)) => judge(&key.name, &registry.agent, status, &body),
        Err(Unanswered { why, is_late: true }) => Finding::Busy(why),
        Err(Unanswered { why, .. }) => Finding::Nobody(why),
    }
}

/// An answer of JSON-RPC, as far as it is looked at.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// An error of another Genkan's.
#[derive(Deserialize)]
struct Error {
    data: ErrorData,
}

#[derive(Deserialize)]
struct ErrorData {
    kind: String,
}

/// What the result says of the service.
#[derive(Deserialize)]
struct Specs {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    instance: Option<String>,
}

/// What an answer shows.
fn judge(announced: &str, own: &str, status: StatusCode, body: &[u8]) -> Finding {
    let json = std::str::from_utf8(body).unwrap_or_default().trim_start();
    let answer: Option<Answer<'_>> =
        json.starts_with('{').then(|| serde_json::from_str(json).ok()).flatten();
    let Some(answer) = answer.filter(|it| it.result.is_some() || it.error.is_some()) else {
        return match status.as_u16() {
            // It has enough to do, or has not begun.
            code @ (429 | 503 | 504) => {
                Finding::Busy(format!("it answers with HTTP status {code}"))
            }
            502 => Finding::Nobody("it answers with HTTP status 502".to_owned()),
            200..=299 => Finding::SomethingElse("what answers there is no JSON-RPC".to_owned()),
            code => Finding::SomethingElse(format!(
                "what answers there is no JSON-RPC: HTTP status {code}"
            )),
        };
    };
    let error = answer.error.and_then(|error| serde_json::from_str::<Error>(error.get()).ok());
    if error.is_some_and(|error| error.data.kind == FaultKind::Unavailable.as_str()) {
        return Finding::Nobody("another gateway is there, which cannot reach it".to_owned());
    }
    let specs = answer.result.and_then(|result| serde_json::from_str::<Specs>(result.get()).ok());
    let Some(Specs { name, instance }) = specs else { return Finding::Service };
    if instance.as_deref() == Some(own) {
        return Finding::SomethingElse("what answers there is this Genkan itself".to_owned());
    }
    match name {
        Some(name) if name != announced => {
            Finding::SomethingElse(format!("what answers there calls itself `{}`", excerpt(&name)))
        }
        _ => Finding::Service,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_asked_at_a_pace() {
        let began = Instant::now();
        let mut pace = Pace { may: BURST, since: began };
        let mut begun = 0;
        let mut now = began;
        while now < began + Duration::from_secs(2) {
            while pace.allows(now) {
                pace.may -= 1.0;
                begun += 1;
            }
            assert!(pace.allows_from(now) > now);
            now += Duration::from_millis(3);
        }
        assert!((460..=465).contains(&begun), "{begun}");
    }

    #[test]
    fn what_an_answer_shows() {
        let something = |words: &str| Finding::SomethingElse(words.to_owned());
        let no_json_rpc = || something("what answers there is no JSON-RPC");
        for (status, body, finding) in [
            (
                200,
                r#"{"jsonrpc":"2.0","result":{"name":"a.b","methods":{}},"id":1}"#,
                Finding::Service,
            ),
            (
                200,
                r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"x"},"id":1}"#,
                Finding::Service,
            ),
            (200, r#"{"result":null,"error":{"code":-32601}}"#, Finding::Service),
            (400, r#"{"error":{"code":-32600},"id":null}"#, Finding::Service),
            (200, r#"{"result":7,"id":1}"#, Finding::Service),
            (200, r#"{"result":null,"id":1}"#, Finding::Service),
            (200, r#"{"result":null,"error":null}"#, Finding::Service),
            (
                200,
                r#"{"result":{"name":"orders"},"id":1}"#,
                something("what answers there calls itself `orders`"),
            ),
            (
                200,
                r#"{"result":{"name":"a.b","instance":"genkan-registry/1"},"id":1}"#,
                something("what answers there is this Genkan itself"),
            ),
            (200, r#"{"result":{"name":"a.b","instance":"genkan-registry/2"}}"#, Finding::Service),
            (
                200,
                r#"{"error":{"code":-32004,"message":"x","data":{"kind":"unavailable"}}}"#,
                Finding::Nobody("another gateway is there, which cannot reach it".to_owned()),
            ),
            (200, r#"{"error":{"code":-32004,"message":"x","data":7}}"#, Finding::Service),
            (200, "<html>", no_json_rpc()),
            (200, "", no_json_rpc()),
            (200, "[]", no_json_rpc()),
            (200, r#"{"a":1}"#, no_json_rpc()),
            (404, "", something("what answers there is no JSON-RPC: HTTP status 404")),
            (301, "", something("what answers there is no JSON-RPC: HTTP status 301")),
            (502, "", Finding::Nobody("it answers with HTTP status 502".to_owned())),
            (503, "", Finding::Busy("it answers with HTTP status 503".to_owned())),
            (429, "", Finding::Busy("it answers with HTTP status 429".to_owned())),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                judge("a.b", "genkan-registry/1", status, body.as_bytes()),
                finding,
                "{body}"
            );
        }
    }
}
