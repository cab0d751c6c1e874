//! The certificate and key of HTTPS.

use anyhow::{Context, anyhow};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

use super::super::config::TlsConfig;

/// Reads both files. The error names the file and what is wrong with it.
pub(super) fn acceptor(config: &TlsConfig, http2: bool) -> anyhow::Result<TlsAcceptor> {
    let (cert_file, key_file) = (config.cert_file.display(), config.key_file.display());
    let chain = CertificateDer::pem_file_iter(&config.cert_file)
        .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
        .map_err(|error| anyhow!("[http.tls] cert_file {cert_file}: {error}"))?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|error| anyhow!("[http.tls] key_file {key_file}: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("[http.tls] {cert_file} and {key_file} do not fit together"))?;
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(server)))
}
