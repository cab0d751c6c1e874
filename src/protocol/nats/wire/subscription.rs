//! What a connection subscribes to for an exposed service, and which services and methods have no
//! place in a dialect.

use std::collections::HashMap;

use super::Dialect;
use super::discovery::{GROUP, Verb, discovery};
use super::subject::{flaw, written};
use crate::call::is_plain_name;
use crate::route::expose::Expose;
use crate::route::pattern::Pattern;

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Subscription {
    pub(in crate::protocol::nats) subject: String,
    /// Who shares what comes in; `None` where each gets all of it.
    pub(in crate::protocol::nats) group: Option<String>,
    pub(in crate::protocol::nats) taken: Taken,
}

/// What comes in over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Taken {
    /// Calls, whose subject says of which method.
    Calls,
    /// Calls of an endpoint: the place of its method.
    Endpoint(usize),
    /// Questions about the service itself.
    Questions(Verb),
}

/// What is subscribed to. Picom's services and clients know the subject and the group (WIRE 2.1), so a
/// real instance and gateways share its calls.
pub(in crate::protocol::nats) fn subscriptions(
    dialect: Dialect,
    expose: &Expose,
    id: &str,
) -> Vec<Subscription> {
    let name = &expose.name;
    let group = if dialect == Dialect::Micro { GROUP } else { name };
    let calls =
        |subject: String, taken| Subscription { subject, group: Some(group.to_owned()), taken };
    let endpoints =
        expose.methods.iter().enumerate().map(|(index, method)| {
            calls(endpoint(dialect, expose, method), Taken::Endpoint(index))
        });
    match dialect {
        Dialect::Picom | Dialect::Plain => {
            let all = general(dialect, expose).map(|subject| calls(subject, Taken::Calls));
            let own = endpoints
                .filter(|it| matches!(it.taken, Taken::Endpoint(index) if has_own(expose, index)));
            all.into_iter().chain(own).collect()
        }
        // Nest's own servers subscribe to each pattern.
        Dialect::Nest => endpoints.collect(),
        Dialect::Micro => {
            let questions = Verb::ALL.into_iter().flat_map(|verb| {
                discovery(verb, name, id).map(|subject| Subscription {
                    subject,
                    group: None,
                    taken: Taken::Questions(verb),
                })
            });
            endpoints.chain(questions).collect()
        }
    }
}

/// The subject by which a method is called: its own, or what the names make.
pub(in crate::protocol::nats) fn endpoint(
    dialect: Dialect,
    expose: &Expose,
    method: &str,
) -> String {
    match expose.own_subject(method) {
        Some(subject) => written(dialect, subject),
        None => [&expose.name, ".", method].concat(),
    }
}

fn has_own(expose: &Expose, index: usize) -> bool {
    expose.methods.get(index).is_some_and(|method| expose.own_subject(method).is_some())
}

/// Where all methods come in that have no subject of their own; `None` where there are none of them.
fn general(dialect: Dialect, expose: &Expose) -> Option<String> {
    let all = if dialect == Dialect::Picom { ".>" } else { ".*" };
    let mut methods = 0..expose.methods.len();
    let is_used = methods.is_empty() || methods.any(|index| !has_own(expose, index));
    is_used.then(|| [&expose.name, all].concat())
}

/// The methods that a message to a subject is for, where it reaches the service. The subject may be a glob,
/// and so may a method be.
pub(in crate::protocol::nats) fn reached(
    dialect: Dialect,
    expose: &Expose,
    subject: &str,
) -> Vec<String> {
    let by_name = general(dialect, expose).and_then(|_| by_name(dialect, expose, subject));
    if expose.subjects.is_empty() {
        return by_name.into_iter().collect();
    }
    let subject = written(dialect, subject);
    let asked = Pattern::new(&subject);
    let own = expose.subjects.iter().filter(|(method, _)| {
        let own = endpoint(dialect, expose, method);
        own == subject || asked.matches(&own)
    });
    own.map(|(method, _)| method.clone()).chain(by_name).collect()
}

/// The method by its name, where the subject says one.
fn by_name(dialect: Dialect, expose: &Expose, subject: &str) -> Option<String> {
    let rest = subject.strip_prefix(expose.name.as_str())?.strip_prefix('.')?;
    let method = rest.rsplit_once('.').map_or(rest, |(_, method)| method);
    // Picom alone has more before its methods.
    let is_its = dialect == Dialect::Picom || method.len() == rest.len();
    is_its.then(|| method.to_owned())
}

/// What of a row cannot be done, each with its key and the mend.
pub(in crate::protocol::nats) fn objections(
    dialect: Dialect,
    inbox_prefix: &str,
    expose: &Expose,
) -> Vec<(&'static str, String)> {
    let mut objections = Vec::new();
    let name: String = expose.name.chars().take(80).collect();
    let key = if expose.name == expose.service { "service" } else { "as" };
    let mend = "give it another one with `as`";
    if let Some((_, flaw)) = flaw(&[&expose.name, ".x"].concat(), inbox_prefix) {
        objections
            .push((key, format!("{name:?} can be no service's name on NATS: {flaw}: {mend}")));
    } else if dialect == Dialect::Micro && !is_token(&expose.name) {
        let message = format!(
            "{name:?} can be no micro service's name, which has letters, digits, `_` and `-` alone: {mend}"
        );
        objections.push((key, message));
    }
    if dialect == Dialect::Micro && expose.methods.is_empty() {
        let message = "a micro service tells of its endpoints: list them, as in \
                       `methods = [\"send\", \"outbox\"]`";
        objections.push(("methods", message.to_owned()));
    }
    if dialect == Dialect::Nest && expose.methods.is_empty() {
        let message = "NestJS's servers subscribe to each pattern: list the methods, as in \
                       `methods = [\"send\", \"outbox\"]`, or give `subjects`";
        objections.push(("methods", message.to_owned()));
    }
    let fits = |method: &&String| match dialect {
        Dialect::Micro => is_token(method),
        Dialect::Picom | Dialect::Plain | Dialect::Nest => {
            !method.contains('.') && flaw(&["x.", method].concat(), inbox_prefix).is_none()
        }
    };
    if let Some(method) = expose.methods.iter().find(|method| !fits(method)) {
        let method: String = method.chars().take(80).collect();
        let words = match dialect {
            Dialect::Micro => "letters, digits, `_` and `-` alone",
            Dialect::Picom | Dialect::Plain | Dialect::Nest => "no dot, no blank and no wildcard",
        };
        let message = format!(
            "{method:?} can be no method of a service on NATS, which has {words}: leave it out"
        );
        objections.push(("methods", message));
    }
    objections.extend(
        objection_to_subjects(dialect, inbox_prefix, expose).map(|message| ("subjects", message)),
    );
    objections
}

fn objection_to_subjects(dialect: Dialect, inbox_prefix: &str, expose: &Expose) -> Option<String> {
    let mut earlier: HashMap<String, &String> = HashMap::new();
    for (method, written) in &expose.subjects {
        let subject = endpoint(dialect, expose, method);
        let shown: String = written.chars().take(80).collect();
        if let Some((_, flaw)) = flaw(&subject, inbox_prefix) {
            return Some(format!("{shown:?} of `{method}` can be no subject on NATS: {flaw}"));
        }
        if general(dialect, expose).is_some()
            && let Some(by_name) = by_name(dialect, expose, &subject)
        {
            return Some(format!(
                "{shown:?} of `{method}` is where `{by_name}` comes in by its name: write another subject"
            ));
        }
        if let Some(other) = earlier.insert(subject, method) {
            return Some(format!(
                "{shown:?} is said of `{other}` and of `{method}`: leave one of them out"
            ));
        }
    }
    None
}

fn is_token(name: &str) -> bool {
    is_plain_name(name) && !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expose(name: &str, methods: &[&str]) -> Expose {
        Expose {
            service: "mailer".to_owned(),
            name: name.to_owned(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            subjects: Vec::new(),
            prefetch: None,
            dialect: None,
        }
    }

    #[test]
    fn what_is_subscribed_to() {
        let subjects = |dialect, expose: &Expose| -> Vec<String> {
            let all = subscriptions(dialect, expose, "id");
            let shown =
                |it: Subscription| format!("{} {}", it.subject, it.group.unwrap_or_default());
            all.into_iter().map(shown).collect()
        };
        let all = expose("eu.mailer", &[]);
        assert_eq!(subjects(Dialect::Picom, &all), ["eu.mailer.> eu.mailer"]);
        assert_eq!(subjects(Dialect::Plain, &all), ["eu.mailer.* eu.mailer"]);
        let some = expose("mailer", &["send", "outbox"]);
        assert_eq!(subjects(Dialect::Nest, &some), ["mailer.send mailer", "mailer.outbox mailer"]);
        let micro = subjects(Dialect::Micro, &some);
        assert_eq!(micro[..2], ["mailer.send q", "mailer.outbox q"]);
        for verb in ["PING", "INFO", "STATS"] {
            for rest in ["", ".mailer", ".mailer.id"] {
                assert!(micro.contains(&format!("$SRV.{verb}{rest} ")), "{micro:?}");
            }
        }
        assert_eq!(micro.len(), 11);
    }

    #[test]
    fn methods_with_subjects_of_their_own() {
        let mut some = expose("sums", &["add", "sum"]);
        some.subjects = vec![("sum".to_owned(), "legacy.sum".to_owned())];
        let subjects = |dialect, expose: &Expose| -> Vec<(String, Taken)> {
            let calls = subscriptions(dialect, expose, "id").into_iter();
            let calls = calls.filter(|it| !matches!(it.taken, Taken::Questions(_)));
            calls.map(|it| (it.subject, it.taken)).collect()
        };
        let of = |subject: &str, taken| (subject.to_owned(), taken);
        let own = of("legacy.sum", Taken::Endpoint(1));
        for dialect in [Dialect::Micro, Dialect::Nest] {
            let expected = [of("sums.add", Taken::Endpoint(0)), own.clone()];
            assert_eq!(subjects(dialect, &some), expected);
        }
        assert_eq!(subjects(Dialect::Plain, &some), [of("sums.*", Taken::Calls), own.clone()]);
        assert_eq!(subjects(Dialect::Picom, &some), [of("sums.>", Taken::Calls), own]);
        assert_eq!(reached(Dialect::Plain, &some, "legacy.sum"), ["sum"]);
        assert_eq!(reached(Dialect::Plain, &some, "legacy.*"), ["sum"]);
        assert_eq!(reached(Dialect::Plain, &some, "sums.add"), ["add"]);

        some.methods.remove(0);
        let own = of("legacy.sum", Taken::Endpoint(0));
        assert_eq!(subjects(Dialect::Plain, &some), [own]);
        assert_eq!(reached(Dialect::Plain, &some, "sums.sum"), [] as [&str; 0]);

        some.subjects = vec![("sum".to_owned(), r#"{ "cmd": "sum" }"#.to_owned())];
        let own = of(r#"{"cmd":"sum"}"#, Taken::Endpoint(0));
        assert_eq!(subjects(Dialect::Nest, &some), [own]);
        assert_eq!(reached(Dialect::Nest, &some, r#"{"cmd":"sum"}"#), ["sum"]);
    }

    #[test]
    fn rows_that_cannot_be() {
        let all = [Dialect::Picom, Dialect::Plain, Dialect::Micro, Dialect::Nest];
        for dialect in all {
            for name in ["mailer", "mailer_2-x"] {
                assert_eq!(objections(dialect, "_INBOX", &expose(name, &["send"])), [], "{name}");
            }
            for (name, words) in [
                ("mail*", "wildcard"),
                ("mail er", "blank"),
                ("mail..er", "between two dots"),
                ("$SRV", "belongs to NATS itself"),
                ("_INBOX.x", "belongs to NATS itself"),
            ] {
                let said = objections(dialect, "_INBOX", &expose(name, &["send"]));
                let [(key, message)] = said.as_slice() else { panic!("{name}: {said:?}") };
                assert_eq!(*key, "as");
                assert!(message.contains(words) && message.contains("with `as`"), "{message}");
            }
            for method in ["a.b", "a b", "*", ""] {
                let said = objections(dialect, "_INBOX", &expose("mailer", &["send", method]));
                assert_eq!(said.first().map(|(key, _)| *key), Some("methods"), "{method}");
            }
        }
        assert_eq!(objections(Dialect::Picom, "_INBOX", &expose("eu.mailer", &[])), []);
        assert_eq!(objections(Dialect::Micro, "_INBOX", &expose("eu.mailer", &["x"]))[0].0, "as");
        for dialect in [Dialect::Micro, Dialect::Nest] {
            assert_eq!(objections(dialect, "_INBOX", &expose("mailer", &[]))[0].0, "methods");
        }
    }
}
