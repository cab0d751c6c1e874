//! What the server says of a permission that is missing, or of a limit that is reached.

/// What the server does not take.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Violation<'a> {
    /// To publish to this subject.
    Publish(&'a str),
    /// To subscribe to this subject.
    Subscription(&'a str),
    /// To subscribe to more than is subscribed to. It does not say to what.
    TooMany,
}

/// Reads a server's error; `None` for one that is about something else.
pub(in crate::protocol::nats) fn violation(error: &str) -> Option<Violation<'_>> {
    if error.eq_ignore_ascii_case("maximum subscriptions exceeded") {
        return Some(Violation::TooMany);
    }
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
            ("maximum subscriptions exceeded", Some(Violation::TooMany)),
            ("Permissions Violation for Publish to a.b", None),
            ("Unknown Protocol Operation", None),
        ] {
            assert_eq!(violation(text), expected, "{text}");
        }
    }
}
