//! Where the hub listens, and the two ends of a connection that comes by it.

use std::io;

use super::halves::{ReadEnd, WriteEnd};
use crate::config::socket::{Listen, SocketAccess};
use crate::listener::{self, Accept, Stream};

/// A bound listener.
pub(super) struct Socket(listener::Socket);

impl Socket {
    /// Binds a place to listen.
    pub(super) fn bind(place: &Listen, access: &SocketAccess) -> anyhow::Result<Self> {
        let bound = listener::Socket::bind(place, access);
        bound.map(Self).map_err(|error| {
            let mend = match place {
                Listen::Tcp(_) => {
                    listener::mend(&error, ": is a Juno daemon or another Genkan using it?")
                }
                Listen::Unix(_) => "",
            };
            error.context(format!("cannot listen on {place} ([hub] listen){mend}"))
        })
    }

    /// Where it listens, with the port that it was given.
    pub(super) fn place(&self) -> io::Result<Listen> {
        self.0.place()
    }
}

impl Accept for Socket {
    type Connection = (ReadEnd, WriteEnd);

    async fn accept(&self) -> io::Result<(ReadEnd, WriteEnd)> {
        self.0.accept().await.map(ends)
    }

    fn accept_now(&self) -> io::Result<(ReadEnd, WriteEnd)> {
        self.0.accept_now().map(ends)
    }
}

fn ends(stream: Stream) -> (ReadEnd, WriteEnd) {
    match stream {
        Stream::Tcp(stream) => {
            let (read, write) = stream.into_split();
            (ReadEnd::Tcp(read), WriteEnd::Tcp(write))
        }
        Stream::Unix(stream) => {
            let (read, write) = stream.into_split();
            (ReadEnd::Unix(read), WriteEnd::Unix(write))
        }
    }
}
