//! Tokens (JWT, RFC 7519) that an issuer has signed: HS256, RS256, ES256 and EdDSA.
//!
//! - `verify` is pure: a token, the keys, the rules → who it is, or why not. `rules` is what it has to claim,
//!   `claims` what is made of that.
//! - `key_set`: the keys, from a file (`key_file`) or an issuer's document. `issuer` fetches that one.
//! - `cache`: tokens that were verified are known again without the arithmetic.
//! - `crypto`: the arithmetic, which is ring's.
//!
//! **Why jsonwebtoken over ring.** The crate reads tokens and checks claims, and is used by most who
//! do that in Rust; its own two backends are not built. `aws-lc-rs` takes half a minute of C and a compiler
//! for it, `rust_crypto` brings a dozen crates and an RSA whose timing leaks (RUSTSEC-2023-0071). ring is
//! here already, under rustls and for every handshake, is audited as that, and needs 80 lines to be what
//! the crate calls a provider. The provider is installed before the first token is looked at: without
//! one the crate panics.

mod cache;
mod claims;
mod crypto;
mod fetch;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod issuer;
mod jwk;
pub mod key_file;
pub mod key_set;
mod rules;
mod verify;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::keys::hash;
use super::settings::{JwtConfig, KeySource};
use crate::caller::{Denial, Identity};
use crate::metrics::RefusedFile;
use crate::tasks::Tasks;
use cache::Cache;
use issuer::Issuer;
use key_set::KeySet;
use rules::Rules;
use verify::Head;

/// Tokens by one configuration.
pub struct Tokens {
    config: Arc<JwtConfig>,
    rules: Rules,
    keys: Keys,
    cache: Cache,
    /// Why the file of its keys cannot be used: said once, and not every second.
    complaint: Mutex<Option<(String, RefusedFile)>>,
}

enum Keys {
    Fixed(ArcSwap<KeySet>),
    Issuer(Issuer),
}

impl Tokens {
    /// Those of a configuration; keys that an issuer tells are fetched from now on. What is known of the same
    /// issuer's stays known.
    pub fn new(config: &Arc<JwtConfig>, tasks: &Tasks, before: Option<&Tokens>) -> Self {
        crypto::install();
        let keys = match &config.keys {
            KeySource::Fixed(keys) => Keys::Fixed(ArcSwap::new(Arc::clone(keys))),
            KeySource::Url(_) => {
                let before = before.and_then(Self::issuer);
                Keys::Issuer(Issuer::start(Arc::clone(config), tasks, before))
            }
        };
        Self {
            config: Arc::clone(config),
            rules: Rules::of(config),
            keys,
            cache: Cache::default(),
            complaint: Mutex::default(),
        }
    }

    /// Whether it is by that configuration.
    pub fn is_of(&self, config: &JwtConfig) -> bool {
        self.config.fingerprint == config.fingerprint
    }

    /// Whether the keys of a configuration are known here, or are with it.
    pub fn has_keys_of(&self, config: &JwtConfig) -> bool {
        let is_fixed = matches!(config.keys, KeySource::Fixed(_));
        is_fixed || self.issuer().is_some_and(|issuer| issuer.asks_where(config))
    }

    /// Whether keys are known.
    pub fn have_keys(&self) -> bool {
        self.known_keys().is_some()
    }

    /// Why no token can be verified, if so.
    pub fn lack(&self) -> Option<String> {
        self.issuer().and_then(Issuer::lacks)
    }

    fn issuer(&self) -> Option<&Issuer> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Issuer(issuer) => Some(issuer),
        }
    }

    fn known_keys(&self) -> Option<Arc<KeySet>> {
        match &self.keys {
            Keys::Fixed(keys) => Some(keys.load_full()),
            Keys::Issuer(issuer) => issuer.known(),
        }
    }

    /// Shows what is known of an issuer, or reads the file of its keys again. The keys that it holds now are in force; those that it does not hold
    /// any more are trusted no more. One that cannot be used keeps the old ones.
    pub fn look(&self) {
        if let Some(issuer) = self.issuer() {
            issuer.show();
        }
        let (Keys::Fixed(keys), Some(file)) = (&self.keys, &self.config.file) else { return };
        let mut said = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        match file.read() {
            Ok(mut read) => {
                *said = None;
                let known = keys.load();
                if !read.is_like(&known) {
                    read.succeed(&known);
                    let path = file.path().display();
                    info!(file = %path, keys = read.len(), "the keys of tokens were replaced");
                    if let Some(excess) = read.excess() {
                        warn!(file = %path, excess, "not all keys of tokens are tried");
                    }
                    keys.store(Arc::new(read));
                }
            }
            Err(complaint) if said.as_ref().is_none_or(|(said, _)| *said != complaint) => {
                error!(
                    complaint,
                    "the file of the keys of tokens cannot be used: the old ones stay"
                );
                *said = Some((complaint, RefusedFile::new("key_file")));
            }
            Err(_) => {}
        }
    }

    /// Gives way to another one: what it has taken is to be judged again by that.
    pub fn give_way_to(&self, next: Option<&Tokens>) {
        let keys = next.and_then(Self::known_keys);
        match &self.keys {
            Keys::Fixed(known) => known.load().give_way_to(keys.as_deref()),
            Keys::Issuer(issuer) => issuer.give_way_to(keys.as_deref()),
        }
    }

    /// Whom a token makes known. Where the issuer is to be asked for its key, it is waited for that long at most.
    pub async fn identify(&self, token: &str, patience: Duration) -> Result<Arc<Identity>, Denial> {
        let digest = hash(token);
        if let Some(judged) = self.known(&digest) {
            return judged;
        }
        let head = Head::read(token)?;
        let keys = match &self.keys {
            Keys::Fixed(keys) => keys.load_full(),
            Keys::Issuer(issuer) => issuer.keys_for(&head, patience).await?,
        };
        self.verify((token, digest), &head, &keys)
    }

    /// The same, without waiting for the issuer.
    pub fn judge(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        let digest = hash(token);
        if let Some(judged) = self.known(&digest) {
            return judged;
        }
        let head = Head::read(token)?;
        let keys = match &self.keys {
            Keys::Fixed(keys) => keys.load_full(),
            Keys::Issuer(issuer) => issuer.keys_now(&head)?,
        };
        self.verify((token, digest), &head, &keys)
    }

    /// What is known of a token that was verified before.
    fn known(&self, digest: &[u8; 32]) -> Option<Result<Arc<Identity>, Denial>> {
        let known = self.cache.get(digest)?;
        match known.ended(SystemTime::now) {
            None => Some(Ok(known)),
            // Its key is gone: another one by that name may have come.
            Some(Denial::Withdrawn) => None,
            Some(denial) => Some(Err(denial)),
        }
    }

    fn verify(
        &self,
        (token, digest): (&str, [u8; 32]),
        head: &Head,
        keys: &KeySet,
    ) -> Result<Arc<Identity>, Denial> {
        let by = (&*self.config, &self.rules);
        let identity = Arc::new(verify::identity(token, head, keys, by)?);
        self.cache.put(digest, Arc::clone(&identity));
        Ok(identity)
    }
}
