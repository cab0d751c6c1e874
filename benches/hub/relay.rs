//! The floor: copies whole lines from one socket to another, and knows nothing of them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// `pair`: the first two connections, both ways. `fan`: what the first says, to all others, and
/// to itself last.
pub fn run(port: u16, mode: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        match mode {
            "pair" => pair(&listener).await,
            _ => fan(&listener).await,
        }
    });
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn pair(listener: &TcpListener) {
    let (first_read, first_write) = accept(listener).await.into_split();
    let (second_read, second_write) = accept(listener).await.into_split();
    let there = tokio::spawn(copy(first_read, vec![second_write]));
    let back = tokio::spawn(copy(second_read, vec![first_write]));
    drop((there.await, back.await));
}

async fn fan(listener: &TcpListener) {
    let (read, own) = accept(listener).await.into_split();
    let mut writes = Vec::new();
    for _ in 0..super::LISTENERS {
        let (_read, write) = accept(listener).await.into_split();
        std::mem::forget(_read);
        writes.push(write);
    }
    writes.push(own);
    drop(tokio::spawn(copy(read, writes)).await);
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
        let Some(end) = buffer[..length].iter().rposition(|byte| *byte == b'\n') else { continue };
        for target in &mut to {
            if target.write_all(&buffer[..=end]).await.is_err() {
                return;
            }
        }
        buffer.copy_within(end + 1..length, 0);
        length -= end + 1;
    }
}
