//! What a NATS micro service says of itself (ADR-32): its answer to `$SRV.INFO.<name>`.
//!
//! An endpoint's subject is what its maker says, by default its bare name, behind those of its
//! groups: `service.method` is only a guess.

use std::sync::Arc;

use serde::Deserialize;

use super::Message;
use super::request::flaw;

/// More than any service has.
const MOST: usize = 4096;

/// A service's endpoints, of all its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Endpoints(Vec<Endpoint>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    name: Box<str>,
    subject: Arc<str>,
}

#[derive(Deserialize)]
struct Info {
    endpoints: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    subject: String,
}

/// The subject that asks for what `name` has.
pub(in crate::protocol::nats) fn inquiry(name: &str) -> String {
    ["$SRV.INFO.", name].concat()
}

/// A call's name in two: what may be a micro service's name, which has no dots, and the rest.
pub(in crate::protocol::nats) fn split(called: &str) -> Option<(&str, &str)> {
    called.split_once('.')
}

impl Endpoints {
    /// Reads one instance's answer; `None` where it is none.
    pub(in crate::protocol::nats) fn read(message: &Message, inbox_prefix: &str) -> Option<Self> {
        let info: Info = serde_json::from_slice(&message.payload).ok()?;
        // What a service says is no more to be trusted than what a caller says.
        let sound = |listed: &Listed| flaw(&listed.subject, inbox_prefix).is_none();
        let endpoints = info.endpoints.into_iter().filter(sound).take(MOST);
        let endpoints = endpoints.map(|Listed { name, subject }| Endpoint {
            name: name.into(),
            subject: subject.into(),
        });
        Some(Self(endpoints.collect()))
    }

    /// Adds what another instance has.
    pub(in crate::protocol::nats) fn merge(&mut self, other: Self) {
        for endpoint in other.0 {
            if self.0.len() < MOST && !self.0.contains(&endpoint) {
                self.0.push(endpoint);
            }
        }
    }

    /// Where a call goes: to the subject that is the call's whole name, to the endpoint of that
    /// name, or to the one whose subject is the name without the service's.
    pub(in crate::protocol::nats) fn subject(&self, called: &str) -> Option<Arc<str>> {
        let rest = split(called)?.1;
        let by_subject = |subject: &str| self.0.iter().find(|one| *one.subject == *subject);
        let by_name = || self.0.iter().find(|one| *one.name == *rest);
        let found = by_subject(called).or_else(by_name).or_else(|| by_subject(rest));
        found.map(|endpoint| Arc::clone(&endpoint.subject))
    }

    /// Their names, the first few of them, for a person.
    pub(in crate::protocol::nats) fn names(&self) -> String {
        const SHOWN: usize = 10;
        let names = self.0.iter().take(SHOWN).map(|endpoint| format!("`{}`", endpoint.name));
        let mut names = names.collect::<Vec<_>>().join(", ");
        if self.0.len() > SHOWN {
            names.push_str(", …");
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(listed: &str) -> Option<Endpoints> {
        let payload =
            format!(r#"{{"type":"io.nats.micro.v1.info_response","endpoints":{listed}}}"#);
        let message = Message { payload: payload.into(), ..Message::default() };
        Endpoints::read(&message, "own.inbox")
    }

    #[test]
    fn a_call_finds_its_endpoint() {
        let calc = read(
            r#"[{"name":"sum","subject":"calc.sum","queue_group":"q","metadata":null},
                {"name":"max","subject":"max"},
                {"name":"divide","subject":"math.v2.divide"},
                {"name":"max","subject":"calc.group.max"},
                {"name":"odd","subject":"calc.even"},
                {"name":"even","subject":"elsewhere"}]"#,
        )
        .expect("an answer");
        for (called, subject) in [
            ("calc.sum", Some("calc.sum")),
            ("calc.max", Some("max")),
            ("calc.divide", Some("math.v2.divide")),
            ("calc.math.v2.divide", Some("math.v2.divide")),
            ("calc.group.max", Some("calc.group.max")),
            ("calc.even", Some("calc.even")),
            ("calc.odd", Some("calc.even")),
            ("calc.median", None),
            ("calc", None),
        ] {
            assert_eq!(calc.subject(called).as_deref(), subject, "{called}");
        }
        assert!(calc.names().starts_with("`sum`, `max`, `divide`"), "{}", calc.names());
    }

    #[test]
    fn subjects_that_must_not_be_published_to_are_left_out() {
        let listed = r#"[{"name":"a","subject":"$SYS.REQ"},{"name":"b","subject":"x.*"},
            {"name":"c","subject":"own.inbox.1"},{"name":"d","subject":"a b"},{"name":"e","subject":""}]"#;
        assert_eq!(read(listed), Some(Endpoints::default()));
        assert_eq!(read("7"), None);
    }

    #[test]
    fn instances_add_up() {
        let mut all = read(r#"[{"name":"a","subject":"a"}]"#).expect("an answer");
        all.merge(read(r#"[{"name":"a","subject":"a"},{"name":"b","subject":"b"}]"#).expect("one"));
        assert_eq!(all.names(), "`a`, `b`");
    }
}
