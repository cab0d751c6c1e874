//! The certificate and key of HTTPS, which are read again when somebody replaces them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::super::config::{LARGEST_PEM, TlsConfig};
use crate::config::file;

/// Both files as they are, or why they cannot be read.
pub(super) struct Pair {
    cert: std::io::Result<Vec<u8>>,
    key: std::io::Result<Vec<u8>>,
}

impl Pair {
    /// Reads both.
    pub(super) fn read(config: &TlsConfig) -> Self {
        let read = |path: &Path| file::read(path, LARGEST_PEM);
        Self { cert: read(&config.cert_file), key: read(&config.key_file) }
    }

    /// Differs where anything about them does.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for read in [&self.cert, &self.key] {
            read.as_ref().map_err(ToString::to_string).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What accepts connections with them. The error names the file and what is wrong with it.
    pub(super) fn acceptor(&self, config: &TlsConfig, http2: bool) -> anyhow::Result<TlsAcceptor> {
        let (cert_file, key_file) = (config.cert_file.display(), config.key_file.display());
        let cert =
            self.cert.as_ref().map_err(|e| anyhow!("[http.tls] cert_file {cert_file}: {e}"))?;
        let key = self.key.as_ref().map_err(|e| anyhow!("[http.tls] key_file {key_file}: {e}"))?;
        let chain = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| anyhow!("[http.tls] cert_file {cert_file}: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| anyhow!("[http.tls] key_file {key_file}: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| {
                format!("[http.tls] {cert_file} and {key_file} do not fit together")
            })?;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(server)))
    }
}

/// Tells when the files are others than at the last look but one, and hold still.
pub(super) struct Watch {
    known: u64,
    changing: Option<u64>,
}

impl Watch {
    /// For files that have this fingerprint.
    pub(super) fn new(known: u64) -> Self {
        Self { known, changing: None }
    }

    /// Whether to take what has this fingerprint now. Once for each change: one of the two files
    /// may have been written, and the other not yet.
    pub(super) fn is_other(&mut self, now: u64) -> bool {
        if now == self.known {
            self.changing = None;
            return false;
        }
        if self.changing.replace(now) != Some(now) {
            return false;
        }
        *self = Self::new(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_once_when_they_hold_still() {
        let mut watch = Watch::new(1);
        let looks = [1, 2, 3, 3, 3, 1, 3, 1, 1, 1].map(|now| watch.is_other(now));
        let taken: Vec<usize> = (0..looks.len()).filter(|look| looks[*look]).collect();
        assert_eq!(taken, [3, 8]);
    }
}
