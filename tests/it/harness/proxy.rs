//! Stands between a gateway and a broker, and takes the bytes away: a cable that is cut, a firewall
//! that forgets its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy. It ends with its test.
pub struct Proxy {
    address: String,
    /// How often the cable has been cut: connections of an earlier time are dead.
    cuts: Arc<AtomicU32>,
    /// How often all have been hung up on.
    hang_ups: watch::Sender<u32>,
}

impl Proxy {
    /// Carries connections to `to`, `127.0.0.1:PORT`.
    pub async fn to(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let cuts = Arc::new(AtomicU32::new(0));
        let so_far = Arc::clone(&cuts);
        let (hang_ups, hung_up) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                let Ok(outer) = TcpStream::connect(&to).await else { continue };
                let (inner_in, inner_out) = inner.into_split();
                let (outer_in, outer_out) = outer.into_split();
                for (from, to) in [(inner_in, outer_out), (outer_in, inner_out)] {
                    let (carried, mut hung_up) =
                        (carry(from, to, Arc::clone(&so_far)), hung_up.clone());
                    hung_up.mark_unchanged();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = carried => {}
                            _ = hung_up.changed() => {}
                        }
                    });
                }
            }
        });
        Self { address, cuts, hang_ups }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Closes the connections that there are, on both sides.
    pub fn hang_up(&self) {
        self.hang_ups.send_modify(|times| *times += 1);
    }

    /// From now on nothing passes on the connections that there are, and neither side is told. New
    /// ones pass.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cuts: Arc<AtomicU32>) {
    let born = cuts.load(Ordering::SeqCst);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        if cuts.load(Ordering::SeqCst) != born {
            // Both halves stay open, and whatever comes is taken and lost.
            while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            return std::future::pending().await;
        }
        let Ok(count @ 1..) = read else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
