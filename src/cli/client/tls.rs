//! https: whom a client trusts, what it shows, and what it says where a server cannot be trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use hyper_rustls::ConfigBuilderExt as _;
use rustls::{AlertDescription, CertificateError};

use crate::config::file;
use crate::pem;
use crate::tls::LARGEST_PEM;

/// The files that a client names, all PEM.
pub(super) struct Files {
    /// The certificates to trust; else the system's.
    pub(super) ca: Option<PathBuf>,
    /// A certificate to show, and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// What they make.
    pub(super) fn config(&self) -> anyhow::Result<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot set TLS up")?;
        let builder = match &self.ca {
            None => builder
                .with_native_roots()
                .context("cannot read the system's certificates; --ca FILE names others")?,
            Some(file) => builder.with_root_certificates(read(file, pem::authorities)?),
        };
        let Some((cert, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let (cert_shown, key_shown) = (cert.display(), key.display());
        let (chain, held) = (read(cert, pem::certificates)?, read(key, pem::private_key)?);
        let config = builder.with_client_auth_cert(chain, held);
        config.with_context(|| format!("{cert_shown} and {key_shown} do not fit together"))
    }
}

/// What a file holds, read as a configuration's are; or what is wrong with it.
fn read<T>(file: &Path, held: impl Fn(&[u8]) -> Result<T, String>) -> anyhow::Result<T> {
    let shown = file.display();
    let content = file::read_any(file, LARGEST_PEM)
        .map_err(|error| anyhow!("{shown} cannot be read: {}", file::complaint(&error)))?;
    held(&content).map_err(|complaint| anyhow!("{shown} {complaint}"))
}

/// Whether the server has ended the handshake for what the client has shown, or has not. By TLS 1.3
/// that is heard when the request is under way already, which nobody has read.
pub(super) fn is_refusal(error: &rustls::Error) -> bool {
    let rustls::Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
    )
}

/// What went wrong, and its mend.
pub(super) fn trouble(error: &rustls::Error) -> (String, &'static str) {
    if is_refusal(error) {
        let mend = "the server wants a client certificate that it trusts: --cert FILE --key FILE";
        return (format!("TLS failed: {error}"), mend);
    }
    if matches!(error, rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) {
        return (
            "it does not speak HTTP/2".to_owned(),
            "leave --http2 out, or let the service speak it",
        );
    }
    let rustls::Error::InvalidCertificate(why) = error else {
        let mend = "does the port speak TLS? If not, write http://";
        return (format!("TLS failed: {error}"), mend);
    };
    // The name of an error of the library below, which rustls hands on as it is.
    if matches!(why, CertificateError::Other(_)) && why.to_string().contains("CaUsedAsEndEntity") {
        return (
            "the server shows the certificate of an authority as its own".to_owned(),
            "it needs one of its own: signed by that authority, or self-signed with `openssl req \
             -x509 -addext basicConstraints=critical,CA:FALSE`; --ca FILE then names it",
        );
    }
    let mend = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it there"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for other names: write one of those into the URL"
        }
        _ => "--ca FILE names the certificate authority to trust",
    };
    (format!("TLS failed: {error}"), mend)
}
