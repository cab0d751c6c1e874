//! https: whom a client trusts, and what it says where a server cannot be.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use hyper_rustls::ConfigBuilderExt as _;
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Trusts the certificates in a PEM file, or the system's.
pub(super) fn config(ca: Option<&Path>) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set TLS up")?;
    let Some(file) = ca else {
        let builder = builder
            .with_native_roots()
            .context("cannot read the system's certificates; --ca FILE names others")?;
        return Ok(builder.with_no_client_auth());
    };
    let mut roots = rustls::RootCertStore::empty();
    let shown = file.display();
    let certificates = CertificateDer::pem_file_iter(file)
        .with_context(|| format!("cannot read the certificates in {shown}"))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("{shown} is not valid PEM"))?;
        roots.add(certificate).with_context(|| format!("cannot use a certificate in {shown}"))?;
    }
    if roots.is_empty() {
        anyhow::bail!("{shown} holds no certificate: it must be PEM, with BEGIN CERTIFICATE lines");
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What went wrong, and its mend.
pub(super) fn trouble(error: &rustls::Error) -> (String, &'static str) {
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
