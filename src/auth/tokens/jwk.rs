//! A key as a document has it (RFC 7517), and whether it can be used.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::key_set::Key;

/// A key of a document (RFC 7518, section 6). A secret is none that an issuer may tell.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    /// The key, where it is one that can be used to verify signatures.
    pub(super) fn read(self) -> Option<Key> {
        let is_for_signatures = self.r#use.as_deref().is_none_or(|word| word == "sig")
            && self.key_ops.as_ref().is_none_or(|words| words.iter().any(|word| word == "verify"));
        if !is_for_signatures {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let (key, name) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (Key::rsa(self.kid, &bytes(&self.n)?, &bytes(&self.e)?), "RS256"),
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                let point = [&[4], &x[..], &y].concat();
                (Key::p256(self.kid, &point).filter(|_| x.len() == 32), "ES256")
            }
            ("OKP", Some("Ed25519")) => (Key::ed25519(self.kid, &bytes(&self.x)?), "EdDSA"),
            _ => return None,
        };
        let is_meant = self.alg.as_deref().is_none_or(|alg| {
            // RFC 9864 has a name of its own for the one curve.
            alg == name || (name == "EdDSA" && alg == "Ed25519")
        });
        key.filter(|_| is_meant)
    }
}
