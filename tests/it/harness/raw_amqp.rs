//! An AMQP publisher that sends whatever properties a test says: no client library would.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::responder::Seen;

/// A connection with one open channel.
pub struct RawPublisher(TcpStream);

impl RawPublisher {
    /// Connects to where an `amqp://USER:PASSWORD@HOST:PORT/VHOST` says.
    pub async fn connect(url: &str) -> Self {
        let (_, rest) = url.split_once("://").expect("a URL");
        let (login, rest) = rest.split_once('@').expect("a login");
        let (address, vhost) = rest.split_once('/').expect("a virtual host");
        let (user, password) = login.split_once(':').expect("a password");
        let mut this = Self(TcpStream::connect(address).await.expect("the broker is there"));
        this.send(b"AMQP\x00\x00\x09\x01").await;
        this.method((10, 10)).await;
        let login = format!("\0{user}\0{password}");
        let start_ok =
            [&long(b"")[..], &short(b"PLAIN"), &long(login.as_bytes()), &short(b"en_US")];
        this.frame(1, 0, &call((10, 11), &start_ok.concat())).await;
        this.method((10, 30)).await;
        let tune_ok = [&2_047_u16.to_be_bytes()[..], &131_072_u32.to_be_bytes(), &[0, 0]];
        this.frame(1, 0, &call((10, 31), &tune_ok.concat())).await;
        let vhost = if vhost == "%2f" { "/" } else { vhost };
        let open = [&short(vhost.as_bytes())[..], &short(b""), &[0]];
        this.frame(1, 0, &call((10, 40), &open.concat())).await;
        this.method((10, 41)).await;
        this.frame(1, 1, &call((20, 10), &short(b""))).await;
        this.method((20, 11)).await;
        this
    }

    /// Answers a request with a body, and with these bytes for the properties: their flags first.
    pub async fn answer(&mut self, to: &Seen, properties: &[u8], body: &[u8]) {
        self.request(to.reply_to.as_deref().expect("one"), properties, body).await;
    }

    /// Sends a body to whoever has bound the key, with these bytes for the properties.
    pub async fn request(&mut self, key: &str, properties: &[u8], body: &[u8]) {
        let publish = [&[0, 0][..], &short(b"nameko-rpc"), &short(key.as_bytes()), &[0]];
        self.frame(1, 1, &call((60, 40), &publish.concat())).await;
        let header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), properties].concat();
        self.frame(2, 1, &header).await;
        self.frame(3, 1, body).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let size = u32::try_from(payload.len()).expect("a frame");
        let head = [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes()].concat();
        self.send(&[&head[..], payload, &[0xCE]].concat()).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the broker reads");
    }

    /// Waits for a method.
    async fn method(&mut self, (class, method): (u16, u16)) {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).await.expect("a frame");
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.0.read_exact(&mut payload).await.expect("the whole frame");
        let expected = [class.to_be_bytes(), method.to_be_bytes()].concat();
        assert_eq!(payload[..4], expected, "{}", String::from_utf8_lossy(&payload));
    }
}

fn call((class, method): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat()
}

/// A short string.
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("at most 255")][..], text].concat()
}

/// A long string, or a table.
pub fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("a length").to_be_bytes()[..], text].concat()
}
