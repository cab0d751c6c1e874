//! The file that keys stand in: read with the configuration, and again while it is in force.

use std::path::{Path, PathBuf};

use super::key_set::KeySet;
use crate::config::file;
use crate::config::secret::{read_secret, shown_path};
use crate::der::SEQUENCE;

/// More than a file of keys takes, in bytes.
const LARGEST: usize = 1 << 20;

/// A file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
    is_secret: bool,
}

impl KeyFile {
    /// One of public keys: in PEM, or a set of keys in JSON.
    pub fn public(path: PathBuf) -> Self {
        Self { path, is_secret: false }
    }

    /// One that holds a secret.
    pub fn secret(path: PathBuf) -> Self {
        Self { path, is_secret: true }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys that it holds now. The complaint names the file.
    pub fn read(&self) -> Result<KeySet, String> {
        let shown = shown_path(&self.path);
        let read = if self.is_secret {
            KeySet::of_secret(read_secret(&self.path)?.expose().as_bytes())
        } else {
            let content = file::read(&self.path, LARGEST);
            let content =
                content.map_err(|error| format!("{shown}: {}", file::complaint(&error)))?;
            KeySet::of_file(&content)
        };
        read.map_err(|why| format!("{shown}: {why}"))
    }
}

/// What a file holds instead of public keys, as far as that can be seen, and how to make a public key of it.
pub(super) fn other_form(content: &[u8]) -> &'static str {
    let forms = [
        (
            "PRIVATE KEY-----",
            ", but a private key, which its issuer alone should have: `openssl pkey -in FILE -pubout`",
        ),
        (
            "-----BEGIN CERTIFICATE-----",
            ", but a certificate: `openssl x509 -in FILE -noout -pubkey`",
        ),
        (
            "-----BEGIN RSA PUBLIC KEY-----",
            ", but a key of RSA alone (PKCS #1): `openssl rsa -RSAPublicKey_in -in FILE -pubout`",
        ),
    ];
    let held =
        forms.iter().find(|(word, _)| memchr::memmem::find(content, word.as_bytes()).is_some());
    match held {
        Some((_, told)) => told,
        // How a SEQUENCE begins.
        None if content.starts_with(&[SEQUENCE]) => {
            ", but looks like DER: `openssl pkey -pubin -inform DER -in FILE`"
        }
        None => "",
    }
}
