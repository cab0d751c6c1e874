//! How every listener is bound, and how it accepts: one way for all ingresses and the pages for
//! operators.

mod accept;
mod files;
mod listening;
mod places;
mod socket;
mod unix;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tracing::debug;

pub(crate) use accept::{Accept, Acceptor};
pub(crate) use files::raise as raise_file_limit;
pub(crate) use listening::{Bind, BoundListener, Listening};
pub(crate) use places::{Place, Places};
pub(crate) use socket::{Socket, Stream};
pub(crate) use unix::UnixSocket;

/// How many connections the system keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// How long a connection may be silent until the system asks whether its peer is still there, how
/// long it then waits for each answer, and how often it asks. A peer whose machine went away
/// without a word is noticed after half a minute.
const SILENT: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// How much the system keeps of an answer before it has sent it to the peer. By its own measure it
/// keeps megabytes for a slow one, and tells of what was taken when a third of them is gone: a slow
/// reader could not be told from one that takes nothing.
const UNSENT: u32 = 128 * 1024;

/// Binds an address. Does not wait: nothing is looked up.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // What the connections of the last start have left behind does not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What to do about an address that could not be bound, as words behind it. `taken`: what they are where somebody has it.
pub(crate) fn mend(error: &anyhow::Error, taken: &'static str) -> &'static str {
    match error.downcast_ref().map(io::Error::kind) {
        Some(ErrorKind::AddrInUse) => taken,
        Some(ErrorKind::PermissionDenied) => {
            ": a port below 1024 takes CAP_NET_BIND_SERVICE (`AmbientCapabilities` of a systemd unit, \
             `cap_add` of a container): give it, or take a port above 1023"
        }
        Some(ErrorKind::AddrNotAvailable) => {
            ": no interface of this machine has that address: take one that `ip address` shows, or 0.0.0.0 or [::] for all"
        }
        _ => "",
    }
}

/// Sets what every connection needs.
fn tuned(stream: TcpStream) -> TcpStream {
    // Without it small answers wait for the other side's delayed acknowledgement.
    let no_delay = stream.set_nodelay(true);
    let keep_alive =
        TcpKeepalive::new().with_time(SILENT).with_interval(PROBE).with_retries(PROBES);
    let socket = SockRef::from(&stream);
    let set = no_delay
        .and_then(|()| socket.set_tcp_keepalive(&keep_alive))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT));
    if let Err(error) = set {
        debug!(%error, "cannot set TCP_NODELAY, keep-alive and TCP_NOTSENT_LOWAT");
    }
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without its port, as an error has come through the layers above.
    fn said(error: io::Error) -> &'static str {
        mend(&anyhow::Error::new(error).context("cannot listen"), ": taken?")
    }

    #[test]
    fn each_error_of_a_bind_has_its_own_mend() {
        assert_eq!(said(ErrorKind::AddrInUse.into()), ": taken?");
        assert!(said(ErrorKind::PermissionDenied.into()).contains("CAP_NET_BIND_SERVICE"));
        // Of the documentation's networks, which nobody has.
        let address = "192.0.2.1:0".parse().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let _entered = runtime.as_ref().expect("a runtime").enter();
        let error = bind(address).expect_err("no interface has it");
        assert!(said(error).contains("no interface of this machine"));
    }
}
