//! API keys: 256 bits by the system's generator, of which the configuration holds a hash.
//!
//! A key is found by its SHA-256 in a table. One round of a fast hash is enough, since nobody can try
//! 2^256 keys; a slow one would only make each call dear. And to find it takes no longer the more of
//! a key is right: what is looked up is a hash, of which a change of the key changes half of the bits,
//! so that how long a comparison takes tells nothing of the key itself. The found hash is compared in
//! constant time all the same.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::settings::{HASH_PREFIX, KeyConfig};
use crate::caller::{Denial, Identity, Scheme};
use crate::hex::write_hex;

/// What each key begins with, so that those who look for lost secrets find it.
const PREFIX: &str = "gk_";
/// How many random bytes follow.
const RANDOM: usize = 32;

/// The hash of a key.
pub type Hash = [u8; 32];

/// The keys by their hashes.
#[derive(Clone, Default)]
pub struct Keys(HashMap<Hash, Known>);

#[derive(Clone)]
struct Known {
    config: KeyConfig,
    identity: Arc<Identity>,
}

impl Keys {
    /// Those of a configuration. One that was there before by the same name stands as before. Of a name that
    /// has two, while one replaces the other, each stands for itself.
    pub fn new(configs: &[KeyConfig], before: &Keys) -> Self {
        let all =
            configs.iter().flat_map(|config| config.hashes.iter().map(move |it| (config, it)));
        let known = all.map(|(config, hash)| {
            let same = before.0.get(hash).filter(|known| known.config.name == config.name);
            let known = match same {
                Some(known) if known.config == *config => known.clone(),
                other => {
                    let mut identity = identity(config);
                    if let Some(known) = other {
                        identity.standing = known.identity.standing.clone();
                    }
                    Known { config: config.clone(), identity: Arc::new(identity) }
                }
            };
            (*hash, known)
        });
        Self(known.collect())
    }

    /// Those that are not among `others` are not accepted any more; those that are others there are
    /// known as that from now on, wherever they have been let in.
    pub fn give_way_to(&self, others: &Keys) {
        for (hash, Known { config, identity }) in &self.0 {
            match others.0.get(hash) {
                Some(other) if Arc::ptr_eq(&other.identity, identity) => {}
                Some(other) if other.config.name == config.name => {
                    identity.standing.change(&other.identity);
                }
                _ => identity.standing.withdraw(),
            }
        }
    }

    /// Whether there is none.
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose key it is.
    pub fn find(&self, key: &str) -> Result<Arc<Identity>, Denial> {
        // A key has no blanks: whoever sends some has sent more than the key.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Denial::Malformed);
        }
        let hash = hash(key);
        let (found, known) = self.0.get_key_value(&hash).ok_or(Denial::UnknownKey)?;
        let differences = found.iter().zip(&hash).fold(0, |all, (a, b)| all | (a ^ b));
        if differences == 0 { Ok(Arc::clone(&known.identity)) } else { Err(Denial::UnknownKey) }
    }
}

/// Who a key makes known.
pub fn identity(config: &KeyConfig) -> Identity {
    let user_id = config.user_id.clone().unwrap_or_else(|| format!("key:{}", config.name));
    Identity {
        user_id: Some(user_id),
        calls: config.routes.clone(),
        until: config.expires,
        ..Identity::new(Scheme::Key, &config.name)
    }
}

/// The hash of a key.
pub fn hash(key: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

/// A new key, and its hash as the configuration has it; none where the system has no randomness.
pub fn generate() -> Option<(String, String)> {
    let mut random = [0; RANDOM];
    SystemRandom::new().fill(&mut random).ok()?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let mut digits = [0; 64];
    write_hex(&mut digits, &hash(&key));
    let digits = String::from_utf8_lossy(&digits);
    let hash = format!("{HASH_PREFIX}{digits}");
    Some((key, hash))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::auth::settings::parse_hash;
    use crate::caller::Caller;

    fn config(name: &str, key: &str) -> KeyConfig {
        KeyConfig {
            name: name.to_owned(),
            hashes: vec![hash(key)],
            routes: None,
            user_id: None,
            expires: None,
            limits: Default::default(),
        }
    }

    #[test]
    fn a_key_is_found_by_all_of_it() {
        let keys = Keys::new(&[config("web", "gk_one"), config("cli", "gk_two")], &Keys::default());
        assert_eq!(keys.find("gk_two").map(|known| known.subject.clone()), Ok("cli".to_owned()));
        for (key, denial) in [
            ("gk_on", Denial::UnknownKey),
            ("gk_onee", Denial::UnknownKey),
            ("GK_ONE", Denial::UnknownKey),
            ("", Denial::Malformed),
            ("gk_one ", Denial::Malformed),
            ("gk one", Denial::Malformed),
            ("gk_one\u{e9}", Denial::Malformed),
        ] {
            assert_eq!(keys.find(key).map(|_| ()), Err(denial), "{key:?}");
        }
    }

    #[test]
    fn what_is_made_is_found_by_its_hash() {
        let (key, written) = generate().expect("randomness");
        let (other, _) = generate().expect("randomness");
        assert!(key != other && key.len() == PREFIX.len() + 43, "{key}");
        assert_eq!(parse_hash(&written), Some(hash(&key)));
    }

    #[test]
    fn a_key_that_stays_is_the_same_and_one_that_goes_is_withdrawn() {
        let [web, cli, other] = ["web", "cli", "other"].map(|name| config(name, name));
        let before = Keys::new(&[web.clone(), cli, other.clone()], &Keys::default());
        let find = |keys: &Keys, name: &str| keys.find(name).expect("a key");
        let [one, two, three] = ["web", "cli", "other"].map(|name| find(&before, name));
        let named = KeyConfig { name: "new".to_owned(), ..other };
        let after = Keys::new(&[web, named], &before);
        before.give_way_to(&after);
        assert!(!one.standing.is_withdrawn() && two.standing.is_withdrawn());
        assert!(Arc::ptr_eq(&one, &find(&after, "web")));
        assert!(three.standing.is_withdrawn(), "by another name it is another caller's");
        assert!(!find(&after, "other").standing.is_withdrawn());
    }

    #[test]
    fn a_key_is_replaced_while_the_old_one_is_good() {
        let old = config("web", "gk_old");
        let both = KeyConfig { hashes: vec![hash("gk_old"), hash("gk_new")], ..old.clone() };
        let before = Keys::new(&[old], &Keys::default());
        let mut callers = vec![Caller::NOBODY.showing(before.find("gk_old"))];
        let during = Keys::new(std::slice::from_ref(&both), &before);
        before.give_way_to(&during);
        callers.push(Caller::NOBODY.showing(during.find("gk_new")));
        for caller in &mut callers {
            caller.refresh();
            assert_eq!(caller.user_id(), Some("key:web"));
        }
        let new = KeyConfig { hashes: vec![hash("gk_new")], ..both };
        let after = Keys::new(&[new], &during);
        during.give_way_to(&after);
        for caller in &mut callers {
            caller.refresh();
        }
        let known: Vec<_> = callers.iter().map(Caller::user_id).collect();
        assert_eq!(known, [None, Some("key:web")]);
    }

    #[test]
    fn a_key_that_changes_is_known_as_what_it_is_now() {
        let web = config("web", "gk_one");
        let mut keys = Keys::new(std::slice::from_ref(&web), &Keys::default());
        let mut caller = Caller::NOBODY.showing(keys.find("gk_one"));
        let late = Some(SystemTime::now() - Duration::from_secs(1));
        for (user_id, expires, expected) in [
            (Some("7"), None, Some("7")),
            (Some("8"), None, Some("8")),
            (Some("8"), late, None),
            (None, None, Some("key:web")),
        ] {
            let user_id = user_id.map(str::to_owned);
            let next = Keys::new(&[KeyConfig { user_id, expires, ..web.clone() }], &keys);
            keys.give_way_to(&next);
            keys = next;
            caller.refresh();
            assert_eq!(caller.user_id(), expected);
        }
        keys.give_way_to(&Keys::default());
        caller.refresh();
        assert_eq!(caller.lasts(), Err(Denial::Withdrawn));
    }
}
