//! A row of the routing table, as an operator means it. Plain data: the configuration reads it, the
//! router holds calls to it.

pub mod access;
pub mod breaker;
pub mod bridge;
pub mod expose;
pub(crate) mod first_words;
pub mod idempotency;
pub mod index;
pub mod pattern;
mod radix;
pub mod rate;

use std::time::Duration;

use crate::call::CallName;
use crate::offer::schema_file::SchemaFile;
use access::Access;
use idempotency::Idempotency;
use pattern::Pattern;
use rate::Limits;

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
    /// What describes the service's methods, where it cannot tell itself.
    pub schema: Option<SchemaFile>,
    /// Whether a call may run twice.
    pub idempotent: bool,
    /// How often one that may is tried again.
    pub retries: usize,
    /// What becomes of calls that have a key; none where a key is passed on and no more.
    pub idempotency: Option<Idempotency>,
    /// How long a call may take.
    pub timeout: Duration,
    /// How much of it there may be.
    pub limits: Limits,
    /// Who may call.
    pub access: Access,
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
            schema: None,
            idempotent: false,
            retries: 0,
            idempotency: None,
            timeout,
            limits: Limits::default(),
            access: Access::Open,
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

    /// The method to ask for when `name` is called. Where the row tells the service, that is all that
    /// stands behind the service of its pattern: `a.x.f` is no other name of `a.f`, which a row before
    /// it may close.
    pub fn method<'a>(&'a self, name: &'a CallName) -> &'a str {
        let behind = || {
            let own = self.service.as_ref().and(self.own_service())?;
            name.as_str().strip_prefix(own)?.strip_prefix('.')
        };
        self.method.as_deref().or_else(behind).unwrap_or(name.method())
    }

    /// What stands before the last dot of the pattern, where nothing of it is left open.
    fn own_service(&self) -> Option<&str> {
        let (service, _) = self.pattern.as_str().rsplit_once('.')?;
        (!service.contains(['*', '?'])).then_some(service)
    }

    /// The name that a longer one may be taken for over there, when `*` has taken dots too: some services look
    /// at a name's last word alone. `None` for all names of two words.
    pub fn shorter(&self, name: &str) -> Option<String> {
        if !name.split_once('.')?.1.contains('.') {
            return None;
        }
        let own = self.own_service()?;
        let (_, last) = name.strip_prefix(own)?.strip_prefix('.')?.rsplit_once('.')?;
        Some(format!("{own}.{last}"))
    }
}

impl Rule {
    /// The service that its calls ask for, where the row alone tells.
    pub fn known_service(&self) -> Option<&str> {
        if let Some(service) = &self.service {
            return Some(service);
        }
        self.own_service()
    }

    /// The method that its calls ask for, where the row alone tells.
    pub fn known_method(&self) -> Option<&str> {
        if let Some(method) = &self.method {
            return Some(method);
        }
        let text = self.pattern.as_str();
        let method = text.rsplit_once('.').map_or(text, |(_, method)| method);
        self.pattern.is_literal().then_some(method)
    }
}

/// Whether what is called says its service: `service.method`.
pub fn names_a_service(name: &str) -> bool {
    name.contains('.')
}

/// What of such a name is the service; empty where it says none.
pub fn service_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(service, _)| service)
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
    fn what_a_row_with_a_service_leaves_open_is_the_method() {
        let renamed = rule("svc.*", Some("there"));
        for (name, method) in
            [("svc.secret", "secret"), ("svc.x.secret", "x.secret"), ("svc..secret", ".secret")]
        {
            let name = CallName::parse(name.to_owned()).expect("a name");
            assert_eq!((renamed.service(&name), renamed.method(&name)), ("there", method));
        }
        let name = CallName::parse("a.b.c".to_owned()).expect("a name");
        assert_eq!(rule("*", Some("there")).method(&name), "c");
        assert_eq!(rule("a.*", None).method(&name), "c");
    }

    #[test]
    fn a_longer_name_may_be_taken_for_a_shorter_one() {
        for (pattern, name, shorter) in [
            ("svc.*", "svc.secret", None),
            ("svc.*", "svc.x.secret", Some("svc.secret")),
            ("a.b.*", "a.b.c", None),
            ("a.b.*", "a.b.x.y.c", Some("a.b.c")),
            ("*", "a.b.c", None),
        ] {
            assert_eq!(rule(pattern, None).shorter(name).as_deref(), shorter, "{pattern} {name}");
        }
    }

    #[test]
    fn what_a_row_alone_tells() {
        for (pattern, service, known, method) in [
            ("orders.*", None, Some("orders"), None),
            ("orders.create", None, Some("orders"), Some("create")),
            ("a.b.c", None, Some("a.b"), Some("c")),
            ("orders.c*", None, Some("orders"), None),
            ("o*.create", None, None, None),
            ("*", None, None, None),
            ("*", Some("hello"), Some("hello"), None),
            ("greet", Some("hello"), Some("hello"), Some("greet")),
        ] {
            let rule = rule(pattern, service);
            assert_eq!((rule.known_service(), rule.known_method()), (known, method), "{pattern}");
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
