//! Stands between a gateway and a broker, and takes the bytes away: a cable that is cut, a firewall
//! that forgets its connections, a line that is slow or says nothing for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of bytes that go one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// They pass.
    #[default]
    Clear,
    /// They pass later by that.
    Slow(Duration),
    /// They are kept until the way is another, as a network does that will send them again. Sockets
    /// stay open.
    Silent,
}

/// What becomes of bytes, whichever connection they are of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// From whoever has connected to the proxy.
    pub out: Way,
    /// To them.
    pub back: Way,
    /// Whether new connections are closed at once.
    pub refuses: bool,
}

/// A proxy. It ends with its test.
pub struct Proxy {
    address: String,
    /// How often the cable has been cut: connections of an earlier time are dead.
    cuts: Arc<AtomicU32>,
    /// How often all have been hung up on.
    hang_ups: watch::Sender<u32>,
    weather: watch::Sender<Weather>,
}

impl Proxy {
    /// Carries connections to `to`, `127.0.0.1:PORT`.
    pub async fn to(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let cuts = Arc::new(AtomicU32::new(0));
        let so_far = Arc::clone(&cuts);
        let (hang_ups, hung_up) = watch::channel(0);
        let (weather, is) = watch::channel(Weather::default());
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                if is.borrow().refuses {
                    continue;
                }
                let Ok(outer) = TcpStream::connect(&to).await else { continue };
                let (inner_in, inner_out) = inner.into_split();
                let (outer_in, outer_out) = outer.into_split();
                let out: fn(&Weather) -> Way = |weather| weather.out;
                let back: fn(&Weather) -> Way = |weather| weather.back;
                for (from, to, way) in [(inner_in, outer_out, out), (outer_in, inner_out, back)] {
                    let carried = carry(from, to, Arc::clone(&so_far), is.clone(), way);
                    let mut hung_up = hung_up.clone();
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
        Self { address, cuts, hang_ups, weather }
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

    /// From now on it is so, on all connections that there are and will be.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    cuts: Arc<AtomicU32>,
    mut weather: watch::Receiver<Weather>,
    way: fn(&Weather) -> Way,
) {
    let born = cuts.load(Ordering::SeqCst);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        if cuts.load(Ordering::SeqCst) != born {
            // Both halves stay open, and whatever comes is taken and lost.
            while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            return std::future::pending().await;
        }
        let is = weather.wait_for(|weather| way(weather) != Way::Silent).await;
        // An end is passed on in its turn, like bytes.
        let is = is.map_or(Way::Clear, |weather| way(&weather));
        if let Way::Slow(delay) = is {
            tokio::time::sleep(delay).await;
        }
        let Ok(count @ 1..) = read else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
