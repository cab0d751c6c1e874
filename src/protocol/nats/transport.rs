//! The bytes' way to a server: TCP, and TLS over it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{Server, Settings};
use crate::config::secret::shown_path;

/// What comes in.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What goes out.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Why there is no connection.
pub(super) enum Unreachable {
    /// The server's name is no address's.
    Name(io::Error),
    /// None of its addresses takes us; the last one's reason.
    Address(io::Error),
}

/// Connects to the first of the server's addresses that takes us. Each has its part of `limit`: one
/// that says nothing leaves time for the others.
pub(super) async fn connect(server: &Server, limit: Duration) -> Result<TcpStream, Unreachable> {
    let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let addresses: Vec<_> = found.map_err(Unreachable::Name)?.collect();
    let part = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Calls are gathered before they are written.
                stream.set_nodelay(true).map_err(Unreachable::Address)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Unreachable::Address(last))
}

/// A connection without TLS.
pub(super) fn plain(stream: TcpStream) -> (Reader, Writer) {
    let (reader, writer) = stream.into_split();
    (Box::new(reader), Box::new(writer))
}

/// Makes a connection a TLS one.
pub(super) async fn secure(
    server: &Server,
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> io::Result<(Reader, Writer)> {
    let name = server.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (reader, writer) = tokio::io::split(stream);
    Ok((Box::new(reader), Box::new(writer)))
}

/// Reads the certificates that the settings name. The error names the file.
pub(super) fn tls(settings: &Settings) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &settings.ca_file {
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
    let Some((cert_file, key_file)) = &settings.identity else {
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

fn certificates(file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let read: Vec<_> =
        read.map_err(|error| format!("cannot read certificates in {}: {error}", shown_path(file)))?;
    if read.is_empty() {
        return Err(format!("{} holds no certificate", shown_path(file)));
    }
    Ok(read)
}
