//! What an operator says of callers, as plain data: the configuration reads it, `auth` holds callers
//! to it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::tokens::key_file::KeyFile;
use super::tokens::key_set::KeySet;
use crate::route::access::Access;
use crate::route::pattern::Pattern;
use crate::route::rate::Limits;
use crate::tls::ClientFiles;

/// What a key's hash begins with.
pub const HASH_PREFIX: &str = "sha256:";

/// By what callers are known.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// Whether there is anything.
    pub is_on: bool,
    /// Who may call methods of Genkan's own.
    pub own_methods: Access,
    /// `[[auth.keys]]`.
    pub keys: Vec<KeyConfig>,
    /// The names of those that could not be read; empty where that is what is wrong.
    pub unread: Vec<String>,
    /// `[auth.jwt]`.
    pub jwt: Option<Arc<JwtConfig>>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// Its name.
    pub name: String,
    /// The SHA-256 of it; while it is replaced, of both.
    pub hashes: Vec<[u8; 32]>,
    /// The only calls that it may make, if not all.
    pub routes: Option<Vec<Pattern>>,
    /// Who its calls come from, to services.
    pub user_id: Option<String>,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// How much may be called with it, whichever rows that takes.
    pub limits: Limits,
}

/// Reads `sha256:` and 64 hexadecimal digits.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(HASH_PREFIX)?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let value = digit(pair[0])? * 16 + digit(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(hash)
}

/// Which tokens are taken, and what is made of them.
#[derive(Debug)]
pub struct JwtConfig {
    /// The keys that sign them.
    pub keys: KeySource,
    /// The file that those stand in, where they do.
    pub file: Option<KeyFile>,
    /// Who issues them; any, where none is named.
    pub issuers: Vec<String>,
    /// For whom they are; for any, where none is named.
    pub audiences: Vec<String>,
    /// How far clocks may be apart.
    pub clock_skew: Duration,
    /// The claim that is the subject.
    pub subject: String,
    /// The claim that is the user's id.
    pub user_id: String,
    /// The claim that holds the scopes.
    pub scopes: String,
    /// The claims that are kept beside.
    pub claims: Vec<String>,
    /// Differs where any of that, or of the files that it names, does.
    pub fingerprint: u64,
}

/// Where the keys are that sign tokens.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a configuration has one")]
pub enum KeySource {
    /// In the configuration, or a file that it names.
    Fixed(Arc<KeySet>),
    /// At the issuer.
    Url(JwksConfig),
}

/// Where an issuer tells its keys.
#[derive(Debug)]
pub struct JwksConfig {
    /// The host, without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What is asked for there, with the query.
    pub path: String,
    /// How often to ask.
    pub refresh: Duration,
    /// Whom to trust.
    pub certificates: ClientFiles,
    /// For messages: the URL without what may be secret in it.
    pub shown: String,
}

impl JwksConfig {
    /// Whether the same document is asked for there, and the same authorities vouch for it.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.host.clone(), it.port, it.path.clone());
        place(self) == place(other) && self.certificates.are_the_files_of(&other.certificates)
    }
}
