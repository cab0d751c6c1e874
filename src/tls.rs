//! TLS towards a server: whom to trust, and who we are.
//!
//! The files are checked when the configuration is read, and read again for whoever connects, so
//! that certificates can be replaced without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::secret::shown_path;
use crate::config::section::Section;

/// The files that a client's side of TLS is made of.
#[derive(Debug, Default)]
pub struct ClientFiles {
    /// Whom to trust instead of the system's authorities.
    ca_file: Option<PathBuf>,
    /// The client's own certificate and key.
    identity: Option<(PathBuf, PathBuf)>,
    /// What was read from those files last.
    last: Mutex<Option<Arc<ClientConfig>>>,
}

impl ClientFiles {
    /// Reads the keys `ca_file`, `cert_file` and `key_file`, and reports what cannot be used.
    pub fn read(section: &mut Section<'_>) -> Self {
        let ca_file = section.path("ca_file");
        let (cert, key) = (section.path("cert_file"), section.path("key_file"));
        let certificate = ["-----BEGIN CERTIFICATE-----"];
        for (name, file, words) in [
            ("ca_file", &ca_file, &certificate[..]),
            ("cert_file", &cert, &certificate[..]),
            ("key_file", &key, &["PRIVATE KEY-----"][..]),
        ] {
            if let Some(file) = file {
                check_file(section, name, file, words);
            }
        }
        Self { ca_file, identity: identity(section, cert, key), last: Mutex::default() }
    }

    /// Reads `ca_file` alone: for those to whom nothing is proven.
    pub fn read_authority(section: &mut Section<'_>) -> Self {
        let ca_file = section.path("ca_file");
        if let Some(file) = &ca_file {
            check_file(section, "ca_file", file, &["-----BEGIN CERTIFICATE-----"]);
        }
        Self { ca_file, ..Self::default() }
    }

    /// Whether others are read from the same places.
    pub fn are_the_files_of(&self, other: &Self) -> bool {
        self.ca_file == other.ca_file && self.identity == other.identity
    }

    /// Whether any file is named.
    pub fn are_named(&self) -> bool {
        self.ca_file.is_some() || self.identity.is_some()
    }

    /// The certificates as the files hold them now. Files that cannot be used any more keep the
    /// old ones, loudly.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let read = self.load();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, &*last) {
            (Ok(config), _) => Ok(Arc::clone(last.insert(config))),
            (Err(complaint), Some(old)) => {
                tracing::error!(complaint, "certificates cannot be used: the old ones stay");
                Ok(Arc::clone(old))
            }
            (Err(complaint), None) => Err(complaint),
        }
    }

    /// Reads the files. The error names the one that is at fault.
    fn load(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.ca_file {
            None => builder
                .with_native_roots()
                .map_err(|error| format!("cannot read the system's certificates: {error}"))?,
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| format!("`ca_file` {}: {error}", shown_path(file)))?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let Some((cert_file, key_file)) = &self.identity else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| format!("cannot read a key in {}: {error}", shown_path(key_file)))?;
        let config = builder.with_client_auth_cert(certificates(cert_file)?, key);
        config.map(Arc::new).map_err(|error| {
            let (cert, key) = (shown_path(cert_file), shown_path(key_file));
            format!("{cert} and {key} do not fit together: {error}")
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let read: Vec<_> =
        read.map_err(|error| format!("cannot read certificates in {}: {error}", shown_path(file)))?;
    if read.is_empty() {
        return Err(format!("{} holds no certificate", shown_path(file)));
    }
    Ok(read)
}

fn identity(
    section: &Section<'_>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Option<(PathBuf, PathBuf)> {
    let (has, lacks) = match (cert, key) {
        (Some(cert), Some(key)) => return Some((cert, key)),
        (None, None) => return None,
        (Some(_), None) => ("cert_file", "key_file"),
        (None, Some(_)) => ("key_file", "cert_file"),
    };
    let title = section.title();
    let message = format!("{title} has `{has}` without `{lacks}`: add `{lacks} = \"…\"`");
    section.problem(has, message);
    None
}

/// Reports a file that cannot be read, or that lacks one of the words of its format.
fn check_file(section: &Section<'_>, key: &str, file: &Path, words: &[&str]) {
    let title = section.title();
    let shown = shown_path(file);
    match std::fs::read_to_string(file) {
        Err(error) => {
            section.problem(key, format!("`{key}` in {title}: cannot read {shown}: {error}"));
        }
        Ok(text) => {
            if let Some(word) = words.iter().find(|word| !text.contains(**word)) {
                section.problem(
                    key,
                    format!("`{key}` in {title}: {shown} has no block that says `{word}`"),
                );
            }
        }
    }
}
