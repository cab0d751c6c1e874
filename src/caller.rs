//! Who calls: one value for every way in, which every policy reads.
//!
//! Plain data: whoever took the call in has verified what stands here, by the means of its protocol.
//! What a caller says of itself and nobody has verified is no part of it. Cheap to copy: an anonymous
//! caller owns nothing, and a known one is shared by all of its calls.

mod evidence;
mod standing;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::route::pattern::Pattern;

pub use evidence::{Evidence, Judge};
pub use standing::Standing;

/// How often, at least, it is looked whether somebody who is let in for long is still vouched for.
const LOOK: Duration = Duration::from_secs(10);

/// By what a subject was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// An API key: the subject is the key's name.
    Key,
    /// A token that an issuer has signed.
    Token,
    /// A certificate of the connection.
    Certificate,
    /// A module's token: the subject is the module's id.
    Module,
    /// The system, which knows whose process is at the other end of a Unix socket.
    SystemUser,
    /// A broker that lets in whom it knows; by the upstream's name. The subject is what the caller
    /// says of itself, where the upstream is trusted to have verified it, else empty.
    Upstream(Arc<str>),
}

impl Scheme {
    /// The words that stand in front of user ids, so that a service can tell whose they are: nobody
    /// else's begins so.
    pub const IN_USER_IDS: [&'static str; 4] = ["key", "cert", "hub", "unix"];

    /// Its word, in front of a subject: `key`, `rabbit`.
    pub fn word(&self) -> &str {
        match self {
            Scheme::Key => "key",
            Scheme::Token => "sub",
            Scheme::Certificate => "cert",
            Scheme::Module => "hub",
            Scheme::SystemUser => "unix",
            Scheme::Upstream(name) => name,
        }
    }
}

/// Somebody who is known.
#[derive(Clone, Debug)]
pub struct Identity {
    /// By what.
    pub scheme: Scheme,
    /// As whom.
    pub subject: String,
    /// Whose subject that is, where several vouch for theirs by the same means.
    pub issuer: Option<String>,
    /// Who that is to services, where it is somebody.
    pub user_id: Option<String>,
    /// What it may do, in the words of whoever vouches for it.
    pub scopes: Vec<String>,
    /// What else is vouched for, and the configuration names.
    pub claims: Vec<(String, String)>,
    /// The only calls that it may make, if not all.
    pub calls: Option<Vec<Pattern>>,
    /// When it ends to be known.
    pub until: Option<SystemTime>,
    /// Whether whoever vouches for it still does.
    pub standing: Standing,
}

impl Identity {
    /// Somebody of whom nothing else is known.
    pub fn new(scheme: Scheme, subject: impl Into<String>) -> Self {
        Self {
            scheme,
            subject: subject.into(),
            issuer: None,
            user_id: None,
            scopes: Vec::new(),
            claims: Vec::new(),
            calls: None,
            until: None,
            standing: Standing::default(),
        }
    }

    /// Whether it is the same one, known by the same means.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.subject == other.subject && self.issuer == other.issuer
    }

    /// Why it is not known any more, if so.
    pub fn ended(&self, now: impl FnOnce() -> SystemTime) -> Option<Denial> {
        if self.standing.is_withdrawn() {
            return Some(Denial::Withdrawn);
        }
        self.until.is_some_and(|until| until <= now()).then_some(Denial::Expired)
    }

    /// The same, who is not known any more, whatever becomes of others that its source made known.
    fn withdrawn(&self) -> Self {
        let standing = Standing::default();
        standing.withdraw();
        Self { standing, ..self.clone() }
    }
}

/// Why what a caller showed does not make it known. It says no more than the caller may learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// It is no key and no token at all.
    Malformed,
    /// More than one thing was shown.
    Several,
    /// Nobody knows that key.
    UnknownKey,
    /// Its end has passed.
    Expired,
    /// Its begin has not come.
    NotYet,
    /// It is signed in no way that is taken.
    Algorithm,
    /// Nobody who is trusted has signed it so.
    BadSignature,
    /// Somebody else has issued it.
    WrongIssuer,
    /// It is for somebody else.
    WrongAudience,
    /// It lacks what has to be in it.
    MissingClaim,
    /// What has to be in it is there, and is not what it has to be.
    BadClaim,
    /// Whom it is of, services would take for somebody else.
    Ambiguous,
    /// It wants something to be understood that is not.
    UnknownCritical,
    /// It is longer than any.
    TooLong,
    /// Who signed it cannot be asked now.
    NoKeys,
    /// It was good, and is not any more.
    Withdrawn,
}

impl Denial {
    /// Whether the same may be good later: its begin may come, or its signer's key.
    fn may_pass(self) -> bool {
        matches!(self, Denial::NotYet | Denial::NoKeys | Denial::BadSignature)
    }

    /// Its word in a metric.
    pub fn label(self) -> &'static str {
        match self {
            Denial::Malformed => "malformed",
            Denial::Several => "several",
            Denial::UnknownKey => "unknown_key",
            Denial::Expired => "expired",
            Denial::NotYet => "not_yet",
            Denial::Algorithm => "algorithm",
            Denial::BadSignature => "bad_signature",
            Denial::WrongIssuer => "wrong_issuer",
            Denial::WrongAudience => "wrong_audience",
            Denial::MissingClaim => "missing_claim",
            Denial::BadClaim => "bad_claim",
            Denial::Ambiguous => "ambiguous",
            Denial::UnknownCritical => "unknown_critical",
            Denial::TooLong => "too_long",
            Denial::NoKeys => "no_keys",
            Denial::Withdrawn => "withdrawn",
        }
    }

    /// What the caller is told.
    pub fn message(self) -> &'static str {
        match self {
            Denial::Malformed => "what was sent is no API key and no token",
            Denial::Several => "more than one key or token was sent: send one",
            Denial::UnknownKey => "the API key is not known",
            Denial::Expired => "the key, token or certificate has expired",
            Denial::NotYet => "the token is not valid yet",
            Denial::Algorithm => "the token is not signed by an algorithm that is taken here",
            Denial::BadSignature => "the token is not signed by a key that is known here",
            Denial::WrongIssuer => "the token is of another issuer",
            Denial::WrongAudience => "the token is for another audience",
            Denial::MissingClaim => "the token lacks a claim that it needs",
            Denial::BadClaim => {
                "a claim that the token needs is there, and malformed: of another type, empty, too long, or with a \
                 control character"
            }
            Denial::Ambiguous => {
                "the token's subject or user begins like a key's, a certificate's, a module's or a system \
                 user's, or has a blank at an end"
            }
            Denial::UnknownCritical => "the token has a critical header that is not understood",
            Denial::TooLong => "the key or token is too long",
            Denial::NoKeys => "tokens cannot be verified now: try again later",
            Denial::Withdrawn => "the key, token or certificate is not accepted any more",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    address: Option<IpAddr>,
    connection: Option<Arc<Identity>>,
    shown: Shown,
    /// What it showed, where it is let in for long.
    evidence: Option<Evidence>,
}

/// What was shown with a call, or once for all calls of a session.
#[derive(Clone, Debug, Default)]
enum Shown {
    #[default]
    Nothing,
    Known(Arc<Identity>),
    Refused(Denial),
}

impl Caller {
    /// Somebody of whom nothing is known.
    pub const NOBODY: Caller =
        Caller { address: None, connection: None, shown: Shown::Nothing, evidence: None };

    /// Somebody at an address.
    pub fn at(address: IpAddr) -> Self {
        Self { address: Some(address), ..Self::NOBODY }
    }

    /// The same, on whose behalf somebody trusted has connected: it calls from there.
    #[must_use]
    pub fn calling_from(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// Somebody whose connection tells who it is.
    #[must_use]
    pub fn connected_as(mut self, identity: Arc<Identity>) -> Self {
        self.connection = Some(identity);
        self
    }

    /// Somebody whom a broker has let in: the upstream by that name.
    pub fn by_way_of(upstream: &str) -> Self {
        Self::NOBODY.connected_as(Arc::new(Identity::new(Scheme::Upstream(upstream.into()), "")))
    }

    /// The same, where the upstream by way of which it calls is trusted to have verified who it is.
    #[must_use]
    pub fn vouched_for(mut self, user: &str) -> Self {
        if let Some(upstream) = &self.connection {
            let identity = Identity::new(upstream.scheme.clone(), user);
            let identity = Identity { user_id: Some(user.to_owned()), ..identity };
            self.connection = Some(Arc::new(identity));
        }
        self
    }

    /// The same, who has shown what makes it known, or does not.
    #[must_use]
    pub fn showing(mut self, shown: Result<Arc<Identity>, Denial>) -> Self {
        self.shown = match shown {
            Ok(identity) => Shown::Known(identity),
            Err(denial) => Shown::Refused(denial),
        };
        self.evidence = None;
        self
    }

    /// The same, for longer than a call: what it showed can be judged again.
    #[must_use]
    pub fn with_evidence(mut self, evidence: Option<Evidence>) -> Self {
        self.evidence = evidence;
        self
    }

    /// Looks whether what it showed makes it known as something else by now, and so it does: for those that keep a
    /// caller for longer than a call.
    pub fn refresh(&mut self) -> bool {
        let before = self.shown().map(Arc::as_ptr);
        self.look_again();
        // What it was known as lives until it is known as something else: so that is never in its place.
        before != self.shown().map(Arc::as_ptr)
    }

    fn look_again(&mut self) {
        match &mut self.shown {
            Shown::Known(identity) => {
                let standing = &identity.standing;
                if standing.is_changed() || standing.is_withdrawn() {
                    match standing.now() {
                        Some(now) => *identity = now,
                        None => self.judge_again(),
                    }
                }
            }
            Shown::Refused(denial) if denial.may_pass() => self.judge_again(),
            Shown::Refused(_) | Shown::Nothing => {}
        }
    }

    fn judge_again(&mut self) {
        let Some(judged) = self.evidence.as_ref().and_then(Evidence::judge) else { return };
        match (judged, &mut self.shown) {
            (Ok(now), shown) => *shown = Shown::Known(now),
            (Err(denial), Shown::Known(identity)) => {
                if identity.ended(SystemTime::now).is_none() {
                    *identity = Arc::new(identity.withdrawn());
                }
                // What was taken back is not good again by itself. But whoever could tell may be away.
                if denial != Denial::NoKeys {
                    self.evidence = None;
                }
            }
            (Err(denial), shown) => *shown = Shown::Refused(denial),
        }
    }

    /// Whether all that rows ask of it is the same as of another one: it is known by the same, and as the same.
    pub fn may_the_same(&self, other: &Self) -> bool {
        let connections = (&self.connection, &other.connection);
        let is_same_connection = match connections {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let is_same = |one: &Identity, other: &Identity| {
            let same = one.is_same_as(other) && one.calls == other.calls;
            same && one.scopes == other.scopes && one.claims == other.claims
        };
        let mut shown = self.shown().zip(other.shown()).into_iter();
        is_same_connection && shown.any(|(one, other)| is_same(one, other))
    }

    /// Where it calls from; none where that has no address.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// As whom it is known: by what it showed, and by its connection.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.shown().into_iter().chain(&self.connection)
    }

    /// As whom it is known first of all: by what it showed, else by its connection.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identities().next()
    }

    /// As whom it is known first of all, in the words of `allow`: `key:web`. For people and the log.
    pub fn name(&self) -> Option<String> {
        let Identity { scheme, subject, .. } = &**self.identity()?;
        Some(format!("{}:{subject}", scheme.word()))
    }

    /// As whom it is known by what it showed.
    pub fn shown(&self) -> Option<&Arc<Identity>> {
        match &self.shown {
            Shown::Known(identity) => Some(identity),
            Shown::Nothing | Shown::Refused(_) => None,
        }
    }

    /// For how long that by which it is known first of all is good at least, after which it is to be
    /// asked again; none where nobody knows it. An error where that has ended.
    pub fn lasts(&self) -> Result<Option<Duration>, Denial> {
        let Some(identity) = self.identity() else { return Ok(None) };
        let now = SystemTime::now();
        if let Some(denial) = identity.ended(|| now) {
            return Err(denial);
        }
        let left = identity.until.and_then(|until| until.duration_since(now).ok());
        Ok(Some(left.map_or(LOOK, |left| left.min(LOOK))))
    }

    /// Why what it showed does not make it known.
    pub fn denial(&self) -> Option<Denial> {
        match self.shown {
            Shown::Refused(denial) => Some(denial),
            Shown::Nothing | Shown::Known(_) => None,
        }
    }

    /// As whom it acts now: to services, and for limits. Nobody, once that by which it is known has
    /// ended, and where what it showed is not good: it does not act as its connection then.
    pub fn in_force(&self) -> Option<&Arc<Identity>> {
        let identity = match &self.shown {
            Shown::Known(identity) => identity,
            Shown::Refused(_) => return None,
            Shown::Nothing => self.connection.as_ref()?,
        };
        identity.ended(SystemTime::now).is_none().then_some(identity)
    }

    /// Whether it is known by the upstream alone by way of which it calls: so are all others there.
    pub fn is_one_of_many(&self) -> bool {
        let known = self.in_force();
        known.is_some_and(|it| it.subject.is_empty() && matches!(it.scheme, Scheme::Upstream(_)))
    }

    /// Who it is to services now.
    pub fn user_id(&self) -> Option<&str> {
        self.in_force()?.user_id.as_deref()
    }
}

#[cfg(test)]
mod tests;
