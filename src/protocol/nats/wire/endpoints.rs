//! What a NATS micro service says of itself (ADR-32): its answer to `$SRV.INFO.<name>`.
//!
//! An endpoint's subject is what its maker says, by default its bare name, behind those of its
//! groups: `service.method` is only a guess. A subject with wildcards takes calls whose own names say
//! what stands there.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::Message;
use super::subject::{flaw, flaw_as_told};

/// More than any service has.
const MOST: usize = 4096;

/// A service's endpoints, of all its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Endpoints(Vec<Endpoint>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    name: Box<str>,
    subject: Arc<str>,
    has_wildcards: bool,
    /// Its instance has several of its name: they are not the same thing.
    is_ambiguous: bool,
}

impl Endpoint {
    fn new(Listed { name, subject }: Listed, inbox_prefix: &str) -> Option<Self> {
        let has_wildcards = subject.split('.').any(|token| matches!(token, "*" | ">"));
        // What a service says is not to be trusted: nobody is called at NATS's own. Of wildcards a call
        // says what stands there, and that has been looked at.
        let flaw = if has_wildcards {
            flaw(&subject.replace(['*', '>'], "x"), inbox_prefix)
        } else {
            flaw_as_told(&subject, inbox_prefix)
        };
        flaw.is_none().then(|| Self {
            name: name.into(),
            subject: subject.into(),
            has_wildcards,
            is_ambiguous: false,
        })
    }

    /// Whether a message to `subject` reaches it.
    fn takes(&self, subject: &str) -> bool {
        if !self.has_wildcards {
            return *self.subject == *subject;
        }
        let mut tokens = subject.split('.');
        for pattern in self.subject.split('.') {
            match (pattern, tokens.next()) {
                (">", rest) => return rest.is_some(),
                ("*", Some(_)) => {}
                (pattern, Some(token)) if pattern == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
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
        let endpoints = info.endpoints.into_iter();
        let sound = endpoints.filter_map(|listed| Endpoint::new(listed, inbox_prefix));
        let mut all: Vec<_> = sound.take(MOST).collect();
        let mut names: HashMap<Box<str>, usize> = HashMap::with_capacity(all.len());
        for endpoint in &all {
            *names.entry(endpoint.name.clone()).or_default() += 1;
        }
        for endpoint in &mut all {
            endpoint.is_ambiguous = names.get(&endpoint.name).is_some_and(|times| *times > 1);
        }
        Some(Self(all))
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
    /// name, or to the one whose subject is the name without the service's. A subject that is
    /// spelt out goes before one with wildcards. Where instances have an endpoint of the called
    /// name at several subjects, those that are `passed` over come last.
    pub(in crate::protocol::nats) fn subject(
        &self,
        called: &str,
        inbox_prefix: &str,
        passed: impl Fn(&str) -> bool,
    ) -> Option<Arc<str>> {
        let rest = split(called)?.1;
        let spelt = || self.0.iter().filter(|one| !one.has_wildcards);
        let by_subject = |subject: &str| spelt().find(|one| *one.subject == *subject);
        let by_name = || spelt().find(|one| *one.name == *rest);
        let found = by_subject(called).or_else(by_name).or_else(|| by_subject(rest));
        if let Some(endpoint) = found {
            let is_same = |one: &&Endpoint| *one.name == *endpoint.name && !one.is_ambiguous;
            let has_others = *endpoint.name == *rest && !endpoint.is_ambiguous;
            let other = (has_others && passed(&endpoint.subject))
                .then(|| spelt().filter(is_same).find(|one| !passed(&one.subject)))
                .flatten();
            return Some(Arc::clone(&other.unwrap_or(endpoint).subject));
        }
        let is_taken = |subject: &&str| {
            self.0.iter().any(|endpoint| endpoint.has_wildcards && endpoint.takes(subject))
        };
        // The rest alone has not been looked at yet.
        let subjects = [called, rest].into_iter().filter(|one| flaw(one, inbox_prefix).is_none());
        subjects.filter(is_taken).map(Arc::from).next()
    }

    /// Their subjects.
    pub(in crate::protocol::nats) fn subjects(&self) -> Vec<Arc<str>> {
        self.0.iter().map(|endpoint| Arc::clone(&endpoint.subject)).collect()
    }

    /// These before those of an older answer.
    pub(in crate::protocol::nats) fn before(&self, older: Self) -> Self {
        let mut all = self.clone();
        all.merge(older);
        all
    }

    /// Their names, the first few of them, for a person.
    pub(in crate::protocol::nats) fn names(&self) -> String {
        const SHOWN: usize = 10;
        let shown = |Endpoint { name, subject, has_wildcards, .. }: &Endpoint| match has_wildcards {
            true => format!("`{name}` (`{subject}`)"),
            false => format!("`{name}`"),
        };
        let names = self.0.iter().take(SHOWN).map(shown);
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
            assert_eq!(
                calc.subject(called, "own.inbox", |_| false).as_deref(),
                subject,
                "{called}"
            );
        }
        assert!(calc.names().starts_with("`sum`, `max`, `divide`"), "{}", calc.names());
    }

    #[test]
    fn a_call_says_what_stands_in_the_place_of_a_wildcard() {
        let files = read(
            r#"[{"name":"get","subject":"files.*.get"},{"name":"any","subject":"tree.>"},
                {"name":"own","subject":"files.own.get"},{"name":"x*","subject":"a*.b"},
                {"name":"all","subject":"*.all"}]"#,
        )
        .expect("an answer");
        for (called, subject) in [
            ("files.one.get", Some("files.one.get")),
            ("svc.files.one.get", Some("files.one.get")),
            ("files.own", Some("files.own.get")),
            ("svc.tree.a.b", Some("tree.a.b")),
            ("svc.tree", None),
            ("files.one.two.get", None),
            ("svc.files.one", None),
            ("svc.get", None),
            ("svc.x*", None),
            ("svc.at.all", Some("at.all")),
            ("svc.$SYS.all", None),
            ("svc._INBOX.all", None),
        ] {
            assert_eq!(
                files.subject(called, "own.inbox", |_| false).as_deref(),
                subject,
                "{called}"
            );
        }
        assert_eq!(
            files.names(),
            "`get` (`files.*.get`), `any` (`tree.>`), `own`, `all` (`*.all`)"
        );
    }

    /// As nats-micro's own example has it.
    #[test]
    fn an_endpoint_may_be_at_a_subject_that_begins_as_those_of_nats_do() {
        let told = read(
            r#"[{"name":"bc","subject":"$EVT.config.change"},{"name":"any","subject":"$EVT.>"}]"#,
        );
        let told = told.expect("an answer");
        assert_eq!(told.names(), "`bc`");
        for called in ["svc.bc", "svc.$EVT.config.change"] {
            let subject = told.subject(called, "own.inbox", |_| false);
            assert_eq!(subject.as_deref(), Some("$EVT.config.change"), "{called}");
        }
        assert_eq!(told.subject("svc.$EVT.other", "own.inbox", |_| false), None);
    }

    #[test]
    fn subjects_that_must_not_be_published_to_are_left_out() {
        let listed = r#"[{"name":"a","subject":"$SYS.REQ"},{"name":"b","subject":"x*"},
            {"name":"f","subject":"$SYS.>"},{"name":"g","subject":"own.inbox.>"},{"name":"h","subject":"_INBOX.*"},
            {"name":"c","subject":"own.inbox.1"},{"name":"d","subject":"a b"},{"name":"e","subject":""}]"#;
        assert_eq!(read(listed), Some(Endpoints::default()));
        assert_eq!(read("7"), None);
    }

    #[test]
    fn instances_add_up() {
        let mut all = read(r#"[{"name":"a","subject":"a"}]"#).expect("an answer");
        all.merge(read(r#"[{"name":"a","subject":"a"},{"name":"b","subject":"b"}]"#).expect("one"));
        assert_eq!(all.names(), "`a`, `b`");
        let newer = read(r#"[{"name":"b","subject":"elsewhere"}]"#).expect("one");
        let both = newer.before(all);
        let none = |_: &str| false;
        assert_eq!(both.subject("x.b", "own.inbox", none).as_deref(), Some("elsewhere"));
        assert_eq!(both.subject("x.a", "own.inbox", none).as_deref(), Some("a"));
    }

    #[test]
    fn where_nobody_listens_the_same_endpoint_of_another_instance_is_called() {
        let mut all = read(
            r#"[{"name":"do","subject":"dead.do"},{"name":"get","subject":"a.get"},
                {"name":"get","subject":"b.get"},{"name":"odd","subject":"x.even"}]"#,
        )
        .expect("an answer");
        all.merge(
            read(
                r#"[{"name":"do","subject":"live.do"},{"name":"get","subject":"c.get"},
                    {"name":"even","subject":"elsewhere"}]"#,
            )
            .expect("another"),
        );
        let without = |called: &str, passed: &[&str]| {
            let found = all.subject(called, "own.inbox", |one| passed.contains(&one));
            found.expect("a subject").to_string()
        };
        assert_eq!(without("x.do", &[]), "dead.do");
        assert_eq!(without("x.do", &["dead.do"]), "live.do");
        assert_eq!(without("x.do", &["live.do"]), "dead.do");
        assert_eq!(without("x.do", &["live.do", "dead.do"]), "dead.do");
        // Whoever says which one gets that one, and no other.
        assert_eq!(without("x.dead.do", &["dead.do"]), "dead.do");
        assert_eq!(without("x.get", &["a.get"]), "a.get", "one instance has two");
        assert_eq!(without("x.even", &["x.even"]), "x.even", "the other one is another method");
    }
}
