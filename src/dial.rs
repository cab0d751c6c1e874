//! TCP to a host that may have several addresses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to the first of the addresses that takes us. Each has its part of `limit`: one that says
/// nothing leaves time for the others. What is written is not gathered (`TCP_NODELAY`). The error is the last
/// address's.
pub(crate) async fn connect(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    first_that_takes_us(addresses, limit, TcpStream::connect).await
}

async fn first_that_takes_us<F>(
    addresses: &[SocketAddr],
    limit: Duration,
    open: impl Fn(SocketAddr) -> F,
) -> io::Result<TcpStream>
where
    F: Future<Output = io::Result<TcpStream>>,
{
    let part = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for &address in addresses {
        let attempt = async { usable(open(address).await?) };
        match timeout(part, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection to somebody who is still there, made ready.
fn usable(stream: TcpStream) -> io::Result<TcpStream> {
    if is_its_own_peer(&stream)? {
        // Else the port would stay taken for a minute.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether nobody is at the other end: where no one listens at a port that the system gives to connections, one to it may
/// be given that very port, and reach itself (RFC 9293, section 3.5: simultaneous open).
fn is_its_own_peer(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.local_addr()? == stream.peer_addr()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

    #[tokio::test]
    async fn one_that_has_reached_itself_is_told() {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(LOOPBACK.into()).expect("a port");
        let port = socket.local_addr().expect("an address");
        let stream = socket.connect(port).await.expect("it reaches itself");
        assert!(is_its_own_peer(&stream).expect("open"));
        let listener = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        assert!(!is_its_own_peer(&stream).expect("open"));
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_or_refuses_leaves_time_for_the_next() {
        let silent = TcpSocket::new_v4().expect("a socket");
        silent.bind(LOOPBACK.into()).expect("a port");
        let silent = silent.listen(1).expect("it listens");
        let silent_at = silent.local_addr().expect("an address");
        // As many as the system keeps for a program that takes none; more get no answer.
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(200), TcpStream::connect(silent_at)).await
        {
            waiting.push(stream);
            assert!(waiting.len() < 100, "all are taken");
        }
        let refusing = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.expect("a port");
        let refusing_at = refusing.local_addr().expect("an address");
        drop(refusing);
        let good = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.expect("a port");
        let good_at = good.local_addr().expect("an address");
        let connected = connect(&[silent_at, refusing_at, good_at], Duration::from_secs(3)).await;
        assert_eq!(connected.expect("the third").peer_addr().expect("open"), good_at);
        let refused = connect(&[refusing_at], Duration::from_secs(3)).await;
        assert_eq!(refused.expect_err("nobody").kind(), io::ErrorKind::ConnectionRefused);
        let none = connect(&[silent_at], Duration::from_millis(200)).await;
        assert_eq!(none.expect_err("silent").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_address_whose_peer_has_gone_at_once_leaves_it_to_the_next() {
        let listener = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let gone = TcpStream::connect(address).await.expect("somebody listens");
        let (peer, _) = listener.accept().await.expect("a connection");
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("open");
        drop(peer);
        drop(gone.readable().await);
        assert!(gone.peer_addr().is_err(), "it was reset");
        let gone = Mutex::new(Some(gone));
        let open = |address| {
            let gone = gone.lock().expect("whole").take();
            async move {
                match gone {
                    Some(gone) => Ok(gone),
                    None => TcpStream::connect(address).await,
                }
            }
        };
        let limit = Duration::from_secs(3);
        let connected = first_that_takes_us(&[address, address], limit, open).await;
        assert_eq!(connected.expect("the second").peer_addr().expect("open"), address);
    }
}
