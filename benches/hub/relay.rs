//! The floor: copies whole lines from one socket to others, and knows nothing of them. It has the
//! runtime that a program makes that sets nothing.

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::role::serve;

/// The role of a relay between its first two connections, both ways.
pub(crate) fn pair() -> Result<()> {
    let mut tasks = JoinSet::new();
    serve(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tasks.spawn(async move {
            let (first_read, first_write) = accept(&listener).await?.into_split();
            let (second_read, second_write) = accept(&listener).await?.into_split();
            let mut both = JoinSet::new();
            both.spawn(copy(first_read, vec![second_write]));
            both.spawn(copy(second_read, vec![first_write]));
            both.join_all().await;
            anyhow::Ok(())
        });
        Ok(Some(port))
    })
}

/// The role of a relay from one connection to the others: what the one says that came last goes to
/// all that came before, in their order, and back to itself.
pub(crate) fn fan(listeners: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    serve(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tasks.spawn(async move {
            let (mut reads, mut writes) = (Vec::new(), Vec::new());
            for _ in 0..listeners {
                let (read, write) = accept(&listener).await?.into_split();
                reads.push(read);
                writes.push(write);
            }
            let (read, own) = accept(&listener).await?.into_split();
            writes.push(own);
            copy(read, writes).await;
            drop(reads);
            anyhow::Ok(())
        });
        Ok(Some(port))
    })
}

async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Copies what has come in, up to the last line's end, with one write for each target.
async fn copy(mut from: OwnedReadHalf, mut to: Vec<OwnedWriteHalf>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        match from.read(&mut buffer[length..]).await {
            Ok(read) if read > 0 => length += read,
            _ => return,
        }
        let Some(end) = memchr::memrchr(b'\n', &buffer[..length]) else { continue };
        for target in &mut to {
            if target.write_all(&buffer[..=end]).await.is_err() {
                return;
            }
        }
        buffer.copy_within(end + 1..length, 0);
        length -= end + 1;
    }
}
