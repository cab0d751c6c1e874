//! The bytes' way to a server: TCP, and TLS over it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::Server;
use crate::dial;

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

/// Connects to the first of the server's addresses that takes us within `limit`.
pub(super) async fn connect(server: &Server, limit: Duration) -> Result<TcpStream, Unreachable> {
    let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let addresses: Vec<_> = found.map_err(Unreachable::Name)?.collect();
    dial::connect(&addresses, limit).await.map_err(Unreachable::Address)
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
    let name = server.name().to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (reader, writer) = tokio::io::split(stream);
    Ok((Box::new(reader), Box::new(writer)))
}
