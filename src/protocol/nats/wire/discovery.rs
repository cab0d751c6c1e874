//! What an exposed micro service says of itself (ADR-32): its answers to `$SRV.PING`, `INFO` and
//! `STATS`, by which tools find it and clients its endpoints.

use std::time::Duration;

use serde::Serialize;

/// The group that takes calls of a micro service, as every library has it.
pub(super) const GROUP: &str = "q";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Verb {
    /// Who is there.
    Ping,
    /// What it has.
    Info,
    /// What it has done.
    Stats,
}

impl Verb {
    pub(super) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    fn word(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }

    fn answer(self) -> &'static str {
        match self {
            Self::Ping => "io.nats.micro.v1.ping_response",
            Self::Info => "io.nats.micro.v1.info_response",
            Self::Stats => "io.nats.micro.v1.stats_response",
        }
    }
}

/// The subjects on which one instance is asked: with all others, with those of its name, and alone.
pub(super) fn discovery(verb: Verb, name: &str, id: &str) -> [String; 3] {
    let verb = verb.word();
    [format!("$SRV.{verb}"), format!("$SRV.{verb}.{name}"), format!("$SRV.{verb}.{name}.{id}")]
}

/// An instance.
pub(in crate::protocol::nats) struct Described<'a> {
    /// The name over there.
    pub(in crate::protocol::nats) name: &'a str,
    pub(in crate::protocol::nats) id: &'a str,
    /// The service, as the routing table knows it.
    pub(in crate::protocol::nats) service: &'a str,
    /// Since when it has been there, as RFC 3339 has it.
    pub(in crate::protocol::nats) started: &'a str,
    pub(in crate::protocol::nats) endpoints: Vec<EndpointStats<'a>>,
}

/// An endpoint, and what it has done.
pub(in crate::protocol::nats) struct EndpointStats<'a> {
    pub(in crate::protocol::nats) method: &'a str,
    pub(in crate::protocol::nats) subject: String,
    pub(in crate::protocol::nats) requests: u64,
    pub(in crate::protocol::nats) errors: u64,
    /// `CODE:TEXT`.
    pub(in crate::protocol::nats) last_error: String,
    pub(in crate::protocol::nats) processing: Duration,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    id: &'a str,
    version: &'static str,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<Endpoint<'a>>>,
}

#[derive(Serialize)]
struct Metadata {}

#[derive(Serialize)]
struct Endpoint<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'static str,
    metadata: Metadata,
    #[serde(flatten)]
    done: Option<Done<'a>>,
}

#[derive(Serialize)]
struct Done<'a> {
    num_requests: u64,
    num_errors: u64,
    last_error: &'a str,
    processing_time: u64,
    average_processing_time: u64,
}

/// What an instance answers.
pub(in crate::protocol::nats) fn described(
    verb: Verb,
    instance: &Described<'_>,
) -> serde_json::Result<Vec<u8>> {
    let endpoints = instance.endpoints.iter().map(|endpoint| Endpoint {
        name: endpoint.method,
        subject: &endpoint.subject,
        queue_group: GROUP,
        metadata: Metadata {},
        done: (verb == Verb::Stats).then(|| done(endpoint)),
    });
    let description = || format!("the service {}, exposed by Genkan", instance.service);
    serde_json::to_vec(&Answer {
        kind: verb.answer(),
        name: instance.name,
        id: instance.id,
        version: env!("CARGO_PKG_VERSION"),
        metadata: Metadata {},
        description: (verb == Verb::Info).then(description),
        started: (verb == Verb::Stats).then_some(instance.started),
        endpoints: (verb != Verb::Ping).then(|| endpoints.collect()),
    })
}

fn done<'a>(endpoint: &'a EndpointStats<'_>) -> Done<'a> {
    let nanos = u64::try_from(endpoint.processing.as_nanos()).unwrap_or(u64::MAX);
    Done {
        num_requests: endpoint.requests,
        num_errors: endpoint.errors,
        last_error: &endpoint.last_error,
        processing_time: nanos,
        average_processing_time: nanos.checked_div(endpoint.requests).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn answers() {
        let endpoint = EndpointStats {
            method: "send",
            subject: "mailer.send".to_owned(),
            requests: 4,
            errors: 1,
            last_error: "422:no".to_owned(),
            processing: Duration::from_nanos(1000),
        };
        let instance = Described {
            name: "mailer",
            id: "x1",
            service: "eu.mailer",
            started: "2026-01-02T03:04:05Z",
            endpoints: vec![endpoint],
        };
        let answer = |verb| -> Value {
            serde_json::from_slice(&described(verb, &instance).expect("JSON")).expect("JSON")
        };
        let with = |kind: &str, more: Value| {
            let mut all = json!({
                "type": format!("io.nats.micro.v1.{kind}_response"), "name": "mailer", "id": "x1",
                "version": env!("CARGO_PKG_VERSION"), "metadata": {},
            });
            all.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
            all
        };
        assert_eq!(answer(Verb::Ping), with("ping", json!({})));
        let known =
            json!({"name": "send", "subject": "mailer.send", "queue_group": "q", "metadata": {}});
        let info = json!({
            "description": "the service eu.mailer, exposed by Genkan", "endpoints": [known],
        });
        assert_eq!(answer(Verb::Info), with("info", info));
        let done = json!({
            "name": "send", "subject": "mailer.send", "queue_group": "q", "metadata": {},
            "num_requests": 4, "num_errors": 1, "last_error": "422:no",
            "processing_time": 1000, "average_processing_time": 250,
        });
        let stats = json!({"started": "2026-01-02T03:04:05Z", "endpoints": [done]});
        assert_eq!(answer(Verb::Stats), with("stats", stats));
    }
}
