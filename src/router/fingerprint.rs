//! What tells two calls apart that have keys: whose key it is, and what is asked under it. Digests, so that
//! nothing of either is kept, and all are of one size.

use std::net::IpAddr;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use crate::call::{Call, Params};
use crate::caller::{Caller, Scheme};
use crate::idempotency_key::IdempotencyKey;

/// A digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

#[cfg(test)]
impl Fingerprint {
    /// One for each number.
    pub(super) fn of(number: u64) -> Self {
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        Self(digest)
    }
}

/// A digest of texts, each with its length before it: no two lists of texts are one.
struct Digest(Context);

impl Digest {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn finish(self) -> Fingerprint {
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest.copy_from_slice(self.0.finish().as_ref());
        Fingerprint(digest)
    }
}

/// Whose key it is, for which method, and the key. Callers are who they are known as, else the address that
/// they call from: all of it, so that no neighbour's answer is seen. What a caller says of itself tells it
/// apart from others that are the same so far.
pub(super) fn of_key(caller: &Caller, name: &str, key: &IdempotencyKey) -> Fingerprint {
    let mut digest = Digest::new();
    match (caller.in_force(), caller.address().map(|address| address.to_canonical())) {
        (Some(identity), _) => {
            let upstream = matches!(identity.scheme, Scheme::Upstream(_));
            // An upstream may be called `key`.
            match (&identity.issuer, upstream) {
                (_, true) => digest.add(b"upstream"),
                (None, false) => digest.add(b"known"),
                (Some(issuer), false) => {
                    digest.add(b"known by");
                    digest.add(issuer.as_bytes());
                }
            }
            digest.add(identity.scheme.word().as_bytes());
            digest.add(identity.subject.as_bytes());
        }
        (None, Some(IpAddr::V4(address))) => {
            digest.add(b"address");
            digest.add(&address.octets());
        }
        (None, Some(IpAddr::V6(address))) => {
            digest.add(b"address");
            digest.add(&address.octets());
        }
        (None, None) => digest.add(b"nobody"),
    }
    match key.claimed() {
        Some(claimed) => digest.add(claimed.as_bytes()),
        None => digest.0.update(&u64::MAX.to_le_bytes()),
    }
    digest.add(name.as_bytes());
    digest.add(key.as_str().as_bytes());
    digest.finish()
}

/// What is asked: the params, byte for byte as they came.
pub(super) fn of_request(call: &Call) -> Fingerprint {
    let mut digest = Digest::new();
    match &call.params {
        Params::None => {}
        Params::Array(params) | Params::Object(params) => digest.add(params.as_bytes()),
        Params::Both { positional, named } => {
            digest.add(positional.as_bytes());
            digest.add(named.as_bytes());
        }
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::call::{CallKind, CallName, Payload};
    use crate::caller::Identity;
    use crate::trace::TraceParent;

    #[test]
    fn no_two_callers_have_one_key() {
        let known = |scheme, subject: &str| {
            Caller::NOBODY.connected_as(Arc::new(Identity::new(scheme, subject)))
        };
        let of = |issuer: &str| {
            let issuer = Some(issuer.to_owned());
            let token = Identity { issuer, ..Identity::new(Scheme::Token, "web") };
            Caller::NOBODY.connected_as(Arc::new(token))
        };
        let at = |address: &str| Caller::at(address.parse().expect("an address"));
        let callers = [
            Caller::NOBODY,
            known(Scheme::Key, "web"),
            known(Scheme::Key, "webb"),
            known(Scheme::Token, "web"),
            known(Scheme::Upstream("key".into()), "web"),
            known(Scheme::Upstream("rabbit".into()), ""),
            at("192.0.2.1"),
            of("https://a.example/"),
            of("https://b.example/"),
            at("192.0.2.2"),
            at("2001:db8::1"),
            at("2001:db8::2"),
        ];
        let key = |text| IdempotencyKey::new(text).expect("a key");
        let keys =
            [key("1"), key("11"), key("1").claimed_by(Some("")), key("1").claimed_by(Some("a"))];
        let mut seen = HashSet::new();
        for caller in &callers {
            for name in ["a.b", "a.bc"] {
                for key in &keys {
                    assert!(seen.insert(of_key(caller, name, key)), "{caller:?} {name} {key:?}");
                }
            }
        }
        let again = |caller: &Caller, key| of_key(caller, "a.b", &key);
        let bare = IdempotencyKey::from_header(b"1").expect("a key");
        assert_eq!(again(&callers[6], key("1")), again(&at("::ffff:192.0.2.1"), bare));
        let elsewhere = callers[1].clone().calling_from("192.0.2.9".parse().expect("an address"));
        assert_eq!(again(&callers[1], key("1")), again(&elsewhere, key("1")));
    }

    #[test]
    fn requests_are_told_apart_by_their_bytes() {
        let json = |text: &str| Payload::from_validated(text.to_owned().into());
        let request = |params, kind| {
            let context = crate::call::Context::new(TraceParent::generate());
            of_request(&Call {
                name: CallName::parse("a.b".to_owned()).expect("a name"),
                params,
                kind,
                caller: Caller::NOBODY,
                context: Arc::new(context),
                received: Instant::now(),
                timeout: None,
                may_have_run: false,
            })
        };
        let both =
            |positional, named| Params::Both { positional: json(positional), named: json(named) };
        let params = [
            Params::None,
            Params::Array(json("[1]")),
            Params::Array(json("[1.0]")),
            Params::Object(json("{}")),
            both("[1]", r#"{"a":1}"#),
            both(r#"[1,{"a":1}]"#, r#"{"b":1}"#),
        ];
        let mut seen = HashSet::new();
        for params in params {
            let call = request(params.clone(), CallKind::Call);
            assert!(seen.insert(call), "{params:?}");
            assert_eq!(call, request(params.clone(), CallKind::Call));
            assert_eq!(call, request(params.clone(), CallKind::Notification));
        }
    }
}
