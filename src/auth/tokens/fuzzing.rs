//! What is fuzzed of tokens: what a caller shows, and what an issuer publishes.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use super::key_set::KeySet;
use super::rules::Rules;
use super::{crypto, verify};
use crate::auth::settings::{JwtConfig, KeySource};

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

static CONFIG: LazyLock<(Arc<KeySet>, JwtConfig, Rules)> = LazyLock::new(|| {
    crypto::install();
    let keys = Arc::new(KeySet::of_secret(SECRET).expect("a secret"));
    let config = JwtConfig {
        keys: KeySource::Fixed(Arc::clone(&keys)),
        file: None,
        issuers: Vec::new(),
        audiences: Vec::new(),
        clock_skew: Duration::from_secs(30),
        subject: "sub".to_owned(),
        user_id: "/user/id".to_owned(),
        scopes: "scope".to_owned(),
        claims: vec!["tenant".to_owned()],
        fingerprint: 0,
    };
    let rules = Rules::of(&config);
    (keys, config, rules)
});

/// A token, signed by nobody.
pub(in crate::auth) fn token(data: &[u8]) {
    let Ok(token) = std::str::from_utf8(data) else { return };
    let (keys, config, rules) = &*CONFIG;
    if let Ok(head) = verify::Head::read(token) {
        drop(verify::identity(token, &head, keys, (config, rules)));
    }
}

/// What an issuer publishes.
pub(in crate::auth) fn key_set(data: &[u8]) {
    crypto::install();
    drop((KeySet::of_document(data), KeySet::of_file(data)));
}
