//! What the network gives: a socket, with TLS or without, in the form that lapin reads from and
//! writes to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::trouble::{Tried, Trouble, is_alert, tls_error};

/// What URLs begin with where TLS is spoken, and where it is not.
pub(super) const SCHEMES: (&str, &str) = ("amqps://", "amqp://");

/// A connection to a broker. What goes wrong with TLS is an error that holds a [`Trouble`].
pub(super) enum Raw {
    /// And whether nothing has come over it yet.
    Plain(TcpStream, bool),
    /// In a box: what TLS keeps beside the socket is large.
    Secure(Box<TlsStream<TcpStream>>, Tried),
}

impl Raw {
    /// A connection without TLS.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self::Plain(socket, true)
    }

    /// Makes the socket's connection a TLS one with `host`.
    pub(super) async fn secure(
        socket: TcpStream,
        host: &str,
        (config, tried): (Arc<ClientConfig>, Tried),
    ) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match TlsConnector::from(config).connect(name, socket).await {
            Ok(stream) => Ok(Self::Secure(Box::new(stream), tried)),
            Err(error) => Err(match Trouble::of(&error, &tried) {
                Some(trouble) => holding(trouble),
                None => error,
            }),
        }
    }
}

fn holding(trouble: Trouble) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, trouble)
}

impl AsyncRead for Raw {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        match self.get_mut() {
            Self::Plain(stream, is_first) => {
                ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
                if std::mem::take(is_first) && is_alert(buf.filled()) {
                    return Poll::Ready(Err(holding(Trouble::of_plain(SCHEMES))));
                }
            }
            Self::Secure(stream, tried) => {
                let read = ready!(Pin::new(stream).poll_read(cx, &mut buf));
                read.map_err(|error| match tls_error(&error) {
                    Some(why) => holding(Trouble::of_tls(why, tried)),
                    None => error,
                })?;
            }
        }
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_write(cx, buf),
            Self::Secure(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Secure(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
