//! A place to listen that is a TCP address or a Unix socket.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{Accept, UnixSocket};
use crate::config::socket::{Listen, SocketAccess};

/// A socket that is bound.
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

impl Socket {
    /// Binds a place.
    pub(crate) fn bind(place: &Listen, access: &SocketAccess) -> anyhow::Result<Self> {
        match place {
            Listen::Tcp(address) => Ok(Socket::Tcp(super::bind(*address)?)),
            Listen::Unix(path) => UnixSocket::bind(path, access).map(Socket::Unix),
        }
    }

    /// Where it listens, with the port that it was given.
    pub(crate) fn place(&self) -> io::Result<Listen> {
        match self {
            Socket::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Socket::Unix(socket) => Ok(Listen::Unix(socket.path().to_owned())),
        }
    }
}

/// A connection that came by one.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accept for Socket {
    type Connection = Stream;

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Socket::Tcp(listener) => Accept::accept(listener).await.map(Stream::Tcp),
            Socket::Unix(socket) => socket.accept().await.map(Stream::Unix),
        }
    }

    fn accept_now(&self) -> io::Result<Stream> {
        match self {
            Socket::Tcp(listener) => listener.accept_now().map(Stream::Tcp),
            Socket::Unix(socket) => socket.accept_now().map(Stream::Unix),
        }
    }
}

impl Stream {
    /// From where it came; none of a Unix socket.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            Stream::Unix(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, to),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, to),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
