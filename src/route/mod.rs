//! A row of the routing table, as an operator means it. Plain data: the configuration reads it, the
//! router holds calls to it.

pub mod pattern;

use std::time::Duration;

use crate::call::CallName;
use pattern::Pattern;

/// The upstream that is always there, to which the implicit last row sends.
pub const HUB: &str = "hub";

/// Which of the two forms JSON-RPC answers take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// JSON-RPC 2.0 to the letter: either `result` or `error`.
    #[default]
    Strict,
    /// Gemstone's clients need both keys, always (WIRE, sections 4.2 and 4.7).
    Gemstone,
}

impl Dialect {
    /// The words in `dialect = "…"`.
    pub const WORDS: [(&'static str, Self); 2] =
        [("strict", Self::Strict), ("gemstone", Self::Gemstone)];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Gemstone => "gemstone",
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which calls it is for.
    pub pattern: Pattern,
    /// The upstream's name.
    pub upstream: String,
    /// The service to ask for instead of the caller's.
    pub service: Option<String>,
    /// The method to ask for instead of the caller's.
    pub method: Option<String>,
    /// The subject to send to, for an upstream that has subjects.
    pub subject: Option<String>,
    /// Names for positional params.
    pub params: Vec<String>,
    /// The form of JSON-RPC answers at the service's own address.
    pub dialect: Dialect,
    /// How long a call may take.
    pub timeout: Duration,
}

impl Rule {
    /// A row that sends calls on as they are.
    pub fn new(pattern: &str, upstream: &str, timeout: Duration) -> Self {
        Self {
            pattern: Pattern::new(pattern),
            upstream: upstream.to_owned(),
            service: None,
            method: None,
            subject: None,
            params: Vec::new(),
            dialect: Dialect::Strict,
            timeout,
        }
    }

    /// Whether it decides about calls of that name. One without a dot names no service: a row takes
    /// it that does.
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.matches(name) && (self.service.is_some() || names_a_service(name))
    }

    /// Whether it decides about every call that `other` would.
    pub fn covers(&self, other: &Rule) -> bool {
        let bare_too = self.service.is_some() || other.service.is_none();
        bare_too && self.pattern.covers(&other.pattern)
    }

    /// The service to ask for when `name` is called.
    pub fn service<'a>(&'a self, name: &'a CallName) -> &'a str {
        self.service.as_deref().unwrap_or(name.service())
    }

    /// The method to ask for when `name` is called.
    pub fn method<'a>(&'a self, name: &'a CallName) -> &'a str {
        self.method.as_deref().unwrap_or(name.method())
    }
}

/// Whether what is called says its service: `service.method`.
pub fn names_a_service(name: &str) -> bool {
    name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, service: Option<&str>) -> Rule {
        let service = service.map(str::to_owned);
        Rule { service, ..Rule::new(pattern, HUB, Duration::from_secs(1)) }
    }

    #[test]
    fn a_name_without_a_dot_goes_where_a_row_names_the_service() {
        let cases = [
            ("greet", Some("hello"), "greet", true),
            ("gre*", Some("hello"), "greet", true),
            ("*", Some("hello"), "greet", true),
            ("*", None, "greet", false),
            ("greet", None, "greet", false),
            ("*", None, "hello.greet", true),
            ("greet", Some("hello"), "hello.greet", false),
        ];
        for (pattern, service, name, expected) in cases {
            assert_eq!(rule(pattern, service).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_row_without_a_service_leaves_names_without_a_dot_to_others() {
        let (all, hello) = (rule("*", None), rule("greet", Some("hello")));
        assert!(!all.covers(&hello));
        assert!(all.covers(&rule("hello.*", None)));
        assert!(rule("*", Some("hello")).covers(&hello));
    }
}
