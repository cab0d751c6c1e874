//! What the server says of a permission that is missing.

/// What the server does not permit.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Violation<'a> {
    /// To publish to this subject.
    Publish(&'a str),
    /// To subscribe to this subject.
    Subscription(&'a str),
}

/// Reads a server's error; `None` for one that is not about permissions.
pub(in crate::protocol::nats) fn violation(error: &str) -> Option<Violation<'_>> {
    let (action, rest) = error.strip_prefix("Permissions Violation for ")?.split_once(" to \"")?;
    let (subject, _) = rest.split_once('"')?;
    match action {
        "Publish" => Some(Violation::Publish(subject)),
        "Subscription" => Some(Violation::Subscription(subject)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations() {
        for (text, expected) in [
            ("Permissions Violation for Publish to \"a.b\"", Some(Violation::Publish("a.b"))),
            (
                "Permissions Violation for Subscription to \"_INBOX.x.*\"",
                Some(Violation::Subscription("_INBOX.x.*")),
            ),
            ("Permissions Violation for Publish to a.b", None),
            ("Unknown Protocol Operation", None),
        ] {
            assert_eq!(violation(text), expected, "{text}");
        }
    }
}
