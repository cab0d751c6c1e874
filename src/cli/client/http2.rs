//! Which HTTP a client speaks, and whether a server speaks HTTP/2: asked where a call in the one was answered in the
//! other.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::address::Address;

/// What a connection of HTTP/2 begins with: its preface, and settings that say nothing (RFC 9113, section 3.4).
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of the frame with which a server answers: settings.
const SETTINGS: u8 = 4;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/1.1.
    #[default]
    One,
    /// HTTP/2 where TLS agrees on it, as upstreams do, and else HTTP/1.1.
    Either,
    /// HTTP/2, without asking for it, as upstreams with `http2 = true` do.
    Two,
}

/// Whether HTTP/2 is spoken there without TLS. Nothing is called.
pub async fn is_spoken(to: &Address) -> bool {
    let asked = async {
        match to.socket() {
            Some(path) => answers(UnixStream::connect(path).await.ok()?).await,
            None => {
                let host = to.uri().host()?.trim_matches(['[', ']']);
                let port = to.uri().port_u16().unwrap_or(80);
                answers(TcpStream::connect((host, port)).await.ok()?).await
            }
        }
    };
    timeout(PATIENCE, asked).await.ok().flatten().is_some()
}

/// Some where the first frame is the one that servers begin with.
async fn answers(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
    stream.write_all(BEGINNING).await.ok()?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    // Its first byte is a length's that no settings have; a status line of HTTP/1.1 begins otherwise.
    (head[0] == 0 && head[3] == SETTINGS).then_some(())
}
