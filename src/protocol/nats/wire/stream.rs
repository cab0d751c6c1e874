//! A stream as JetStream's API shows it (`STREAM.INFO`), and what of it keeps events from coming out or going in.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::event::{glob_of, highest_capture};
use crate::route::pattern::Pattern;
use crate::units::format_duration;

/// So many of a stream's subjects are named.
const NAMED: usize = 5;

/// The answer that shows a stream.
#[derive(Debug, Deserialize)]
pub(in crate::protocol::nats) struct ShownStream {
    config: Config,
    #[serde(default)]
    state: Fill,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    name: String,
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    retention: String,
    #[serde(default)]
    discard: String,
    /// No limit where one of these is below one.
    #[serde(default)]
    max_msgs: i64,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_age: i64,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    sealed: bool,
    mirror: Option<IgnoredAny>,
    sources: Option<IgnoredAny>,
    subject_transform: Option<IgnoredAny>,
    consumer_limits: Option<ConsumerLimits>,
}

/// What a stream's consumers have where they do not say otherwise (nats-server 2.10).
#[derive(Debug, Default, Deserialize)]
struct ConsumerLimits {
    /// For how long nobody may ask one before it goes, in nanoseconds; for ever where it is 0.
    #[serde(default)]
    inactive_threshold: u64,
}

/// What it holds.
#[derive(Debug, Default, Deserialize)]
struct Fill {
    #[serde(default)]
    messages: u64,
    #[serde(default)]
    bytes: u64,
}

/// What is wrong with a stream, with the mend.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Flaw {
    pub(in crate::protocol::nats) what: String,
    /// Whether somebody has to mend it; else it may be a matter of time.
    pub(in crate::protocol::nats) lasts: bool,
}

impl Flaw {
    pub(in crate::protocol::nats) fn lasting(what: impl Into<String>) -> Self {
        Self { what: what.into(), lasts: true }
    }

    pub(in crate::protocol::nats) fn passing(what: impl Into<String>) -> Self {
        Self { what: what.into(), lasts: false }
    }
}

impl ShownStream {
    /// Whether it tells whoever sends something that it has it.
    pub(in crate::protocol::nats) fn sends_receipts(&self) -> bool {
        !self.config.no_ack
    }

    /// Those of its subjects that are spelt out and meant by `subject`, which may have wildcards; the first
    /// few of them, and `None` where it takes more in.
    pub(in crate::protocol::nats) fn spelt_out(&self, subject: &str) -> Option<Vec<&str>> {
        let met = self.config.subjects.iter().filter(|taken| meets(taken, subject));
        let spelt = |taken: &&String| !taken.split('.').any(|token| matches!(token, "*" | ">"));
        met.clone()
            .all(|taken| spelt(&taken))
            .then(|| met.take(NAMED).map(String::as_str).collect())
    }

    /// The subjects of what it keeps under one: that, or where it is none all that it takes.
    pub(in crate::protocol::nats) fn subjects_under(&self, subject: &str) -> Vec<String> {
        let subjects = &self.config.subjects;
        match subject {
            "" => subjects.clone(),
            _ if subjects.iter().any(|taken| meets(taken, subject)) => vec![subject.to_owned()],
            _ => Vec::new(),
        }
    }

    /// Why nothing comes out of it under a subject, which may have wildcards; all subjects where that is empty.
    pub(in crate::protocol::nats) fn flaw_of_source(&self, subject: &str) -> Option<Flaw> {
        let Config { name, subjects, mirror, sources, subject_transform, .. } = &self.config;
        // What these bring has other streams' subjects, or others than it was sent to.
        let has_others = mirror.is_some() || sources.is_some() || subject_transform.is_some();
        let is_in = subject.is_empty() || subjects.iter().any(|taken| meets(taken, subject));
        let nothing = (!has_others && !is_in).then(|| {
            Flaw::lasting(format!(
                "there is nothing under `{subject}` in the stream `{name}`, which takes {}: correct the \
                 address, or give the stream that subject with `nats stream edit --subjects`",
                self.taken()
            ))
        });
        nothing.or_else(|| self.forgets_consumers())
    }

    /// It takes consumers away from whoever is away for long.
    fn forgets_consumers(&self) -> Option<Flaw> {
        let Config { name, consumer_limits, .. } = &self.config;
        let limits = consumer_limits.as_ref().filter(|limits| limits.inactive_threshold > 0)?;
        let long = format_duration(Duration::from_nanos(limits.inactive_threshold));
        Some(Flaw::passing(format!(
            "the stream `{name}` takes a consumer away that nobody has asked for {long}, a bridge's too \
             (`consumer_limits`): what comes while Genkan is away for longer is lost, or comes again: take its \
             `inactive_threshold` out, or make it longer than any outage"
        )))
    }

    /// Why it does not take what is sent to a subject, or does not say so. What is to be filled in there may be
    /// anything.
    pub(in crate::protocol::nats) fn flaw_of_target(&self, subject: &str) -> Option<Flaw> {
        let Config { name, subjects, .. } = &self.config;
        if self.config.mirror.is_some() {
            return Some(Flaw::lasting(format!(
                "the stream `{name}` is a mirror, which takes nothing: send to the one that it mirrors"
            )));
        }
        if self.config.sealed {
            return Some(Flaw::lasting(format!(
                "the stream `{name}` is sealed, and takes nothing: send to another one"
            )));
        }
        let is_taken = |taken: &String| match highest_capture(subject) {
            0 => meets(taken, subject),
            _ => Pattern::new(&taken.replace('>', "*")).meets(&Pattern::new(&glob_of(subject))),
        };
        if !subjects.iter().any(is_taken) {
            return Some(Flaw::lasting(format!(
                "the stream `{name}` does not take `{subject}`, only {}: correct the address, or give the \
                 stream that subject with `nats stream edit --subjects`",
                self.taken()
            )));
        }
        if self.config.no_ack {
            return Some(Flaw::lasting(format!(
                "the stream `{name}` does not confirm what it stores: leave its `no_ack` out"
            )));
        }
        self.fullness()
    }

    /// What it holds, where nothing more goes in until some of that has gone.
    fn fullness(&self) -> Option<Flaw> {
        let Config { name, discard, retention, max_msgs, max_bytes, max_age, .. } = &self.config;
        let Fill { messages, bytes } = self.state;
        let (most, largest) =
            (u64::try_from(*max_msgs).unwrap_or(0), u64::try_from(*max_bytes).unwrap_or(0));
        // Whether another message of the usual size would fit: nobody knows of the next one.
        let usual = bytes.checked_div(messages).unwrap_or(0);
        let is_full = (most > 0 && messages >= most) || (largest > 0 && bytes + usual >= largest);
        if discard != "new" || !is_full {
            return None;
        }
        let s = if messages == 1 { "" } else { "s" };
        let what = format!(
            "the stream `{name}` is full: it has {messages} message{s} of {bytes} bytes together, and discards \
             new ones: raise its limits, or let it discard old ones with `nats stream edit --discard old`"
        );
        // Some go by themselves, by age or with whoever takes them.
        let some_go = *max_age > 0 || matches!(retention.as_str(), "workqueue" | "interest");
        Some(Flaw { what, lasts: !some_go })
    }

    /// Its subjects, for an operator.
    fn taken(&self) -> String {
        let subjects = &self.config.subjects;
        let named = subjects.iter().take(NAMED).map(|subject| format!("`{subject}`"));
        let mut named: Vec<_> = named.collect();
        match subjects.len().saturating_sub(NAMED) {
            0 if named.is_empty() => return "none".to_owned(),
            0 => {}
            more => named.push(format!("{more} more")),
        }
        named.join(", ")
    }
}

/// Whether some subject is meant by both, which may have wildcards.
fn meets(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(one), Some(other)) if one == other || one == "*" || other == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_takes_in_of_wildcards() {
        for (subjects, subject, expected) in [
            (r#"["ne.echo","x"]"#, "ne.>", Some(vec!["ne.echo"])),
            (r#"["ne.echo"]"#, "ne.echo", Some(vec!["ne.echo"])),
            (r#"["ne.*"]"#, "ne.>", None),
            (r#"["ne.a",">"]"#, "ne.>", None),
        ] {
            let stream = stream(&format!("\"subjects\":{subjects}"), "");
            assert_eq!(stream.spelt_out(subject), expected, "{subjects}");
        }
    }

    fn stream(config: &str, state: &str) -> ShownStream {
        let text = format!(
            r#"{{"type":"t","created":"then","config":{{"name":"S",{config}}},"state":{{{state}}}}}"#
        );
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn subjects_that_meet() {
        for (one, other, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "*.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.>", true),
            ("a.b", "a.c", false),
        ] {
            assert_eq!(
                (meets(one, other), meets(other, one)),
                (expected, expected),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn what_comes_out() {
        let flaw = |config, subject| stream(config, "").flaw_of_source(subject);
        let plain = r#""subjects":["a.*","b.>"]"#;
        for subject in ["", "a.x", "*.x", ">", "b.x.y"] {
            assert_eq!(flaw(plain, subject), None, "{subject}");
        }
        let none = flaw(plain, "c.x").expect("nothing is there");
        assert!(none.lasts && none.what.contains("takes `a.*`, `b.>`: correct"), "{none:?}");
        for other in [
            r#""mirror":{"name":"X"}"#,
            r#""subjects":["a"],"sources":[{"name":"X"}]"#,
            r#""subjects":["a"],"subject_transform":{"src":"a","dest":"c"}"#,
        ] {
            assert_eq!(flaw(other, "c.x"), None, "{other}");
        }
        let limited = r#""subjects":["a.*"],"consumer_limits":{"inactive_threshold":3000000000}"#;
        let forgets = flaw(limited, "a.x").expect("bridges lose events");
        assert!(!forgets.lasts && forgets.what.contains("asked for 3s"), "{forgets:?}");
    }

    #[test]
    fn what_goes_in() {
        let flaw = |config: &str, subject| stream(config, "").flaw_of_target(subject);
        let plain = r#""subjects":["a.*","b.x"]"#;
        for subject in ["a.x", "a.$1", "$1.x", "$1", "b.$1x"] {
            assert_eq!(flaw(plain, subject), None, "{subject}");
        }
        for (config, subject, words) in [
            (plain, "a.x.y", "only `a.*`, `b.x`"),
            (plain, "c.$1", "does not take `c.$1`"),
            (r#""subjects":["1","2","3","4","5","6","7"]"#, "a", "`5`, 2 more"),
            (r#""mirror":{"name":"X"}"#, "a", "mirror"),
            (r#""subjects":["a"],"sealed":true"#, "a", "sealed"),
            (r#""subjects":["a"],"no_ack":true"#, "a", "`no_ack`"),
        ] {
            let flaw = flaw(config, subject).expect(subject);
            assert!(flaw.lasts && flaw.what.contains(words), "{config} {subject}: {flaw:?}");
        }
    }

    #[test]
    fn what_has_room() {
        let full = |limits: &str, state| {
            let config = format!(r#""subjects":["a"],{limits}"#);
            stream(&config, state).flaw_of_target("a").map(|flaw| flaw.lasts)
        };
        let ten = r#""messages":10,"bytes":1000"#;
        for (limits, expected) in [
            (r#""discard":"new","max_msgs":-1,"max_bytes":-1,"max_age":0"#, None),
            (r#""discard":"new","max_msgs":11,"max_bytes":1200"#, None),
            (r#""discard":"old","max_msgs":10,"max_bytes":1000"#, None),
            (r#""discard":"new","max_msgs":10"#, Some(true)),
            (r#""discard":"new","max_bytes":1050"#, Some(true)),
            (r#""discard":"new","max_msgs":10,"max_age":1"#, Some(false)),
            (r#""discard":"new","max_msgs":10,"retention":"workqueue""#, Some(false)),
            (r#""discard":"new","max_msgs":10,"retention":"limits""#, Some(true)),
        ] {
            assert_eq!(full(limits, ten), expected, "{limits}");
        }
        assert_eq!(full(r#""discard":"new","max_msgs":1"#, ""), None, "it is empty");
    }
}
