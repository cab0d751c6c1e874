//! Who may: an `allow` list, as a row means it. Plain data.
//!
//! Each of its words names callers by what somebody has verified of them. One that fits is enough.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::pattern::Pattern;
use crate::caller::{Caller, Denial, Identity, Scheme};
use crate::fault::{Challenge, Fault, FaultKind};

/// Who may call, or listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Whoever can reach the gateway: there is nothing by which anybody could be known.
    #[default]
    Open,
    /// Nobody.
    Closed,
    /// Those whom one of these fits.
    Only(Vec<Grant>),
}

/// A word of an `allow` list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `any`: whoever can reach the gateway.
    Any,
    /// `key:NAME`: an API key.
    Key(Pattern),
    /// `sub:SUBJECT`: a subject that a token, a certificate or a trusted upstream vouches for.
    Subject(Pattern),
    /// `cert:SUBJECT`: a subject that a certificate vouches for.
    Certificate(Pattern),
    /// `scope:SCOPE`.
    Scope(Pattern),
    /// `claim:NAME=VALUE`: what else a token says.
    Claim(String, Pattern),
    /// `hub:MODULE`: a module that has shown its token.
    Module(Pattern),
    /// `unix:USER`: whoever connects by a Unix socket as that user.
    SystemUser(Pattern),
    /// `UPSTREAM:` for all that call by way of an upstream; `UPSTREAM:USER` for those whom it vouches
    /// for, where it is trusted.
    Upstream(String, Pattern),
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows who it is.
    Unknown,
    /// What it showed does not make it known.
    Denied(Denial),
    /// It is known, and not one of those who may.
    Forbidden,
}

impl Refusal {
    /// The fault of a caller who may not `call`, or `listen to`, something.
    pub fn fault(self, does: &str, name: &str, caller: &Caller) -> Fault {
        let denied = |why: &str| format!("not everybody may {does} `{name}`: {why}");
        let refused = |message: String| Fault::not_sent(FaultKind::AccessDenied, message);
        match self {
            Refusal::Unknown => {
                let why = "it is not known who wants to: show an API key, a token or a certificate that is accepted here";
                refused(denied(why)).with_challenge(Challenge::Missing)
            }
            Refusal::Denied(denial) => fault_of(denial, denied(denial.message())),
            Refusal::Forbidden => {
                let known = caller.identity();
                let scheme = known.map_or("", |known| known.scheme.word());
                let subject = known.map_or("", |known| &known.subject);
                refused(format!("`{scheme}:{subject}` may not {does} `{name}`"))
            }
        }
    }
}

/// The fault of somebody who has shown something that is not taken.
pub fn fault_of(denial: Denial, message: String) -> Fault {
    match denial {
        // It may be good: who could tell is away.
        Denial::NoKeys => Fault::not_sent(FaultKind::Unavailable, message),
        _ => Fault::not_sent(FaultKind::AccessDenied, message).with_challenge(Challenge::Invalid),
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Any => f.write_str("any"),
            Grant::Key(name) => write!(f, "key:{name}"),
            Grant::Subject(subject) => write!(f, "sub:{subject}"),
            Grant::Certificate(subject) => write!(f, "cert:{subject}"),
            Grant::Scope(scope) => write!(f, "scope:{scope}"),
            Grant::Claim(name, value) => write!(f, "claim:{name}={value}"),
            Grant::Module(id) => write!(f, "hub:{id}"),
            Grant::SystemUser(name) => write!(f, "unix:{name}"),
            Grant::Upstream(name, user) => write!(f, "{name}:{user}"),
        }
    }
}

impl Grant {
    /// What stands before the colon, where it is no upstream's name.
    pub const KINDS: [&'static str; 7] = ["key", "sub", "cert", "scope", "claim", "hub", "unix"];

    /// Reads a word; the complaint says what to write instead.
    pub fn parse(word: &str) -> Result<Self, String> {
        if word == "any" {
            return Ok(Grant::Any);
        }
        let malformed = || {
            "write \"any\", or one of \"key:NAME\", \"sub:SUBJECT\", \"cert:SUBJECT\", \"scope:SCOPE\", \
             \"claim:NAME=VALUE\", \"hub:MODULE\", \"unix:USER\" and \"UPSTREAM:\""
                .to_owned()
        };
        let (kind, rest) = word.split_once(':').ok_or_else(malformed)?;
        let is_upstream = !Self::KINDS.contains(&kind);
        if kind.is_empty() || (rest.is_empty() && !is_upstream) || word.contains(char::is_control) {
            return Err(malformed());
        }
        let pattern = Pattern::new(rest);
        Ok(match kind {
            "key" => Grant::Key(pattern),
            "sub" => Grant::Subject(pattern),
            "cert" => Grant::Certificate(pattern),
            "scope" => Grant::Scope(pattern),
            "claim" => match rest.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                    Grant::Claim(name.to_owned(), Pattern::new(value))
                }
                _ => return Err("a claim is written \"claim:NAME=VALUE\"".to_owned()),
            },
            "hub" => Grant::Module(pattern),
            "unix" => Grant::SystemUser(pattern),
            upstream => {
                let all = if rest.is_empty() { Pattern::new("*") } else { pattern };
                Grant::Upstream(upstream.to_owned(), all)
            }
        })
    }

    /// Whether it fits somebody who is known.
    fn fits(&self, known: &Identity) -> bool {
        let is = |scheme: &Scheme, pattern: &Pattern| {
            known.scheme == *scheme && pattern.matches(&known.subject)
        };
        match self {
            Grant::Any => true,
            Grant::Key(name) => is(&Scheme::Key, name),
            Grant::Certificate(subject) => is(&Scheme::Certificate, subject),
            Grant::Module(id) => is(&Scheme::Module, id),
            Grant::SystemUser(name) => is(&Scheme::SystemUser, name),
            Grant::Subject(subject) => match &known.scheme {
                Scheme::Token | Scheme::Certificate => subject.matches(&known.subject),
                // An upstream that vouches for nobody leaves it empty.
                Scheme::Upstream(_) => !known.subject.is_empty() && subject.matches(&known.subject),
                Scheme::Key | Scheme::Module | Scheme::SystemUser => false,
            },
            Grant::Scope(scope) => known.scopes.iter().any(|known| scope.matches(known)),
            Grant::Claim(name, value) => {
                known.claims.iter().any(|(known, said)| known == name && value.matches(said))
            }
            Grant::Upstream(name, user) => match &known.scheme {
                Scheme::Upstream(known_as) => **known_as == **name && user.matches(&known.subject),
                _ => false,
            },
        }
    }
}

impl Access {
    /// What holds where callers can be known: without a list, nobody may.
    #[must_use]
    pub fn guarded(self) -> Self {
        match self {
            Access::Open => Access::Closed,
            other => other,
        }
    }

    /// Whether anybody may, known or not.
    pub fn is_for_all(&self) -> bool {
        match self {
            Access::Open => true,
            Access::Closed => false,
            Access::Only(grants) => grants.contains(&Grant::Any),
        }
    }

    /// Whether somebody may call `service.method`. Takes no lock and allocates nothing.
    pub fn lets_call(&self, caller: &Caller, name: &str) -> Result<(), Refusal> {
        self.admits(caller, |known| {
            known.calls.as_ref().is_none_or(|calls| calls.iter().any(|one| one.matches(name)))
        })
    }

    /// Whether somebody may listen.
    pub fn lets_listen(&self, caller: &Caller) -> Result<(), Refusal> {
        self.admits(caller, |_| true)
    }

    fn admits(&self, caller: &Caller, also: impl Fn(&Identity) -> bool) -> Result<(), Refusal> {
        if self.is_for_all() {
            // Everybody may, but whoever acts as somebody who makes other calls alone.
            let may = caller.in_force().is_none_or(|known| also(known));
            return if may { Ok(()) } else { Err(Refusal::Forbidden) };
        }
        let grants = match self {
            Access::Only(grants) => &grants[..],
            Access::Open | Access::Closed => &[],
        };
        // Whoever shows something that is not good is told that, whatever its connection is known
        // by: its call is not to be made as somebody else's.
        if let Some(denial) = caller.denial() {
            return Err(Refusal::Denied(denial));
        }
        let is_shown = |known| caller.shown().is_some_and(|shown| Arc::ptr_eq(shown, known));
        let mut refusal = Refusal::Unknown;
        for known in caller.identities() {
            match known.ended(SystemTime::now) {
                Some(denial) if is_shown(known) => return Err(Refusal::Denied(denial)),
                Some(denial) if refusal == Refusal::Unknown => refusal = Refusal::Denied(denial),
                Some(_) => {}
                None if grants.iter().any(|grant| grant.fits(known)) && also(known) => {
                    return Ok(());
                }
                None => refusal = Refusal::Forbidden,
            }
        }
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn only(words: &[&str]) -> Access {
        let grants = words.iter().map(|word| Grant::parse(word).expect("a word"));
        Access::Only(grants.collect())
    }

    fn known(scheme: Scheme, subject: &str) -> Identity {
        Identity::new(scheme, subject)
    }

    fn showing(identity: Identity) -> Caller {
        Caller::NOBODY.showing(Ok(Arc::new(identity)))
    }

    #[test]
    fn a_word_fits_whom_it_names() {
        let rabbit = |user: &str| known(Scheme::Upstream("rabbit".into()), user);
        let scoped =
            Identity { scopes: vec!["orders.write".to_owned()], ..known(Scheme::Token, "x") };
        let of_acme = Identity {
            claims: vec![("tenant".to_owned(), "acme".to_owned())],
            ..known(Scheme::Token, "x")
        };
        let cases: [(&str, Identity, bool); 25] = [
            ("key:web", known(Scheme::Key, "web"), true),
            ("key:w*", known(Scheme::Key, "web"), true),
            ("key:web", known(Scheme::Key, "other"), false),
            ("key:web", known(Scheme::Token, "web"), false),
            ("sub:*@example.com", known(Scheme::Token, "a@example.com"), true),
            ("sub:*@example.com", known(Scheme::Token, "a@example.com.evil"), false),
            ("sub:*@example.com", known(Scheme::Key, "a@example.com"), false),
            ("sub:proxy", known(Scheme::Certificate, "proxy"), true),
            ("cert:proxy", known(Scheme::Certificate, "proxy"), true),
            ("cert:spiffe://x/*", known(Scheme::Certificate, "spiffe://x/ns/edge"), true),
            ("cert:proxy", known(Scheme::Token, "proxy"), false),
            ("sub:*", rabbit(""), false),
            ("sub:alice", rabbit("alice"), true),
            ("scope:orders.write", scoped.clone(), true),
            ("scope:orders.*", scoped.clone(), true),
            ("scope:orders", scoped, false),
            ("claim:tenant=acme", of_acme.clone(), true),
            ("claim:tenant=other", of_acme, false),
            ("hub:billing", known(Scheme::Module, "billing"), true),
            ("unix:root", known(Scheme::SystemUser, "root"), true),
            ("hub:root", known(Scheme::SystemUser, "root"), false),
            ("rabbit:", rabbit(""), true),
            ("rabbit:alice", rabbit("alice"), true),
            ("rabbit:alice", rabbit(""), false),
            ("nats:", rabbit(""), false),
        ];
        for (word, who, expected) in cases {
            let admitted = only(&[word]).lets_call(&showing(who.clone()), "a.b");
            assert_eq!(admitted.is_ok(), expected, "{word} {who:?}");
        }
    }

    #[test]
    fn why_somebody_may_not() {
        let web = || known(Scheme::Key, "web");
        let (row, nobody) = (only(&["key:web"]), Caller::NOBODY);
        assert_eq!(row.lets_call(&nobody, "a.b"), Err(Refusal::Unknown));
        let other = showing(known(Scheme::Key, "other"));
        assert_eq!(row.lets_call(&other, "a.b"), Err(Refusal::Forbidden));
        let refused = other.clone().showing(Err(Denial::UnknownKey));
        assert_eq!(row.lets_call(&refused, "a.b"), Err(Refusal::Denied(Denial::UnknownKey)));
        let until = Some(SystemTime::now() - Duration::from_secs(1));
        let late = showing(Identity { until, ..web() });
        assert_eq!(row.lets_call(&late, "a.b"), Err(Refusal::Denied(Denial::Expired)));
        let withdrawn = web();
        withdrawn.standing.withdraw();
        let withdrawn = showing(withdrawn);
        assert_eq!(row.lets_call(&withdrawn, "a.b"), Err(Refusal::Denied(Denial::Withdrawn)));
        assert_eq!(Access::Closed.lets_call(&showing(web()), "a.b"), Err(Refusal::Forbidden));
        assert_eq!(Access::Closed.lets_call(&nobody, "a.b"), Err(Refusal::Unknown));
        for open in [Access::Open, only(&["key:x", "any"])] {
            for who in [&nobody, &other, &refused, &late] {
                assert_eq!(open.lets_call(who, "a.b"), Ok(()));
            }
        }
        assert_eq!(Access::Open.guarded(), Access::Closed);
        assert_eq!(only(&["any"]).guarded(), only(&["any"]));
    }

    #[test]
    fn a_key_for_some_calls_makes_no_others() {
        let calls = Some(vec![Pattern::new("orders.*"), Pattern::new("mailer.send")]);
        let web = showing(Identity { calls, ..known(Scheme::Key, "web") });
        let row = only(&["key:web"]);
        for (name, expected) in [
            ("orders.create", Ok(())),
            ("mailer.send", Ok(())),
            ("mailer.drop", Err(Refusal::Forbidden)),
        ] {
            assert_eq!(row.lets_call(&web, name), expected, "{name}");
        }
        assert_eq!(row.lets_listen(&web), Ok(()));
        let any = only(&["any"]);
        assert_eq!(any.lets_call(&web, "orders.create"), Ok(()));
        assert_eq!(any.lets_call(&web, "mailer.drop"), Err(Refusal::Forbidden));
        assert_eq!(any.lets_call(&Caller::NOBODY, "mailer.drop"), Ok(()));
        web.shown().expect("it is shown").standing.withdraw();
        assert_eq!(any.lets_call(&web, "mailer.drop"), Ok(()), "it is nobody's call");
    }

    #[test]
    fn either_of_two_that_are_known_is_enough() {
        let proxy = Arc::new(known(Scheme::Certificate, "proxy"));
        let both = showing(known(Scheme::Token, "alice")).connected_as(proxy);
        for word in ["sub:alice", "sub:proxy"] {
            assert_eq!(only(&[word]).lets_call(&both, "a.b"), Ok(()), "{word}");
        }
        assert_eq!(only(&["key:x"]).lets_call(&both, "a.b"), Err(Refusal::Forbidden));
    }

    #[test]
    fn what_was_shown_and_is_not_good_is_not_made_good_by_the_connection() {
        let row = only(&["cert:*", "sub:*"]);
        let until = Some(SystemTime::now() - Duration::from_secs(1));
        let alice = Identity { until, ..known(Scheme::Token, "alice") };
        let proxy = || Arc::new(known(Scheme::Certificate, "proxy"));
        for bad in [Err(Denial::Expired), Ok(Arc::new(alice))] {
            let both = Caller::NOBODY.connected_as(proxy()).showing(bad);
            assert_eq!(row.lets_call(&both, "a.b"), Err(Refusal::Denied(Denial::Expired)));
        }
        // A connection's that has ended is told of where there is nothing better.
        let late = Arc::new(Identity { until, ..known(Scheme::Certificate, "proxy") });
        let late = Caller::NOBODY.connected_as(late);
        assert_eq!(row.lets_call(&late, "a.b"), Err(Refusal::Denied(Denial::Expired)));
        let token = |subject| Ok(Arc::new(known(Scheme::Token, subject)));
        assert_eq!(row.lets_call(&late.clone().showing(token("bob")), "a.b"), Ok(()));
        let other = only(&["cert:*"]).lets_call(&late.showing(token("bob")), "a.b");
        assert_eq!(other, Err(Refusal::Forbidden));
    }

    #[test]
    fn what_is_no_word() {
        for word in ["", "key", "key:", ":x", "sub:", "claim:x", "claim:=x", "Any", "scope:\u{7}"] {
            assert!(Grant::parse(word).is_err(), "{word}");
        }
        assert_eq!(
            Grant::parse("rabbit:"),
            Ok(Grant::Upstream("rabbit".to_owned(), Pattern::new("*")))
        );
    }
}
