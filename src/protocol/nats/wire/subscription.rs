//! What a connection subscribes to for an exposed service, and which services and methods have no
//! place in a dialect.

use super::Dialect;
use super::discovery::{GROUP, Verb, discovery, endpoint};
use super::request::flaw;
use crate::call::is_plain_name;
use crate::route::expose::Expose;

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
    let calls =
        |subject: String| Subscription { subject, group: Some(name.clone()), taken: Taken::Calls };
    match dialect {
        Dialect::Picom => vec![calls(format!("{name}.>"))],
        Dialect::Plain => vec![calls(format!("{name}.*"))],
        // Nest's own servers subscribe to each pattern.
        Dialect::Nest => {
            expose.methods.iter().map(|method| calls(format!("{name}.{method}"))).collect()
        }
        Dialect::Micro => {
            let endpoints = expose.methods.iter().enumerate().map(|(index, method)| Subscription {
                subject: endpoint(name, method),
                group: Some(GROUP.to_owned()),
                taken: Taken::Endpoint(index),
            });
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

/// The method that a message to a subject is for, where it reaches the service. The method may be a glob.
pub(in crate::protocol::nats) fn reached(
    dialect: Dialect,
    expose: &Expose,
    subject: &str,
) -> Option<String> {
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
                       `methods = [\"send\", \"outbox\"]`";
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
    objections
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
