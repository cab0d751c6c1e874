//! Hears out a client over HTTP/1 that has its answer and may still be sending. A connection that is
//! closed while something comes in is reset, and many clients lose an answer by that which they have
//! not read yet (RFC 9112, section 9.6). What comes is thrown away, within bounds.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::session::GOODBYE;

/// How long a client may take in all. The bounds of time are nginx's.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may send nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// How much it may send.
pub(super) const MOST: usize = 1 << 30;
/// How much of it is read at once.
const PIECE: usize = 16 << 10;

/// Says on a connection that no more comes, and hears its client out.
pub(super) async fn close<S>(mut stream: S, closed: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reading = async {
        // hyper has done so, unless it could not.
        drop(timeout(GOODBYE, stream.shutdown()).await);
        let (mut thrown_away, mut left) = (vec![0; PIECE], MOST);
        while left > 0
            && let Ok(Ok(read @ 1..)) = timeout(SILENCE, stream.read(&mut thrown_away)).await
        {
            left = left.saturating_sub(read);
        }
    };
    let has_to_end = async {
        closed.cancelled().await;
        sleep(GOODBYE).await;
    };
    tokio::select! {
        biased;
        read = timeout(PATIENCE, reading) => read.unwrap_or_default(),
        () = has_to_end => {}
    }
}
