//! A NATS service that writes its own bytes: what no client library would send.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::nats::Nats;

/// A connection that serves one subject.
pub struct RawNats {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl RawNats {
    /// Connects, and subscribes to `subject`.
    pub async fn serve(nats: &Nats, subject: &str) -> Self {
        let stream = TcpStream::connect(nats.address()).await.expect("the server accepts");
        let (reader, writer) = stream.into_split();
        let mut raw = Self { reader: BufReader::new(reader), writer };
        let connect = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"protocol":1}"#;
        raw.write(format!("{connect}\r\nSUB {subject} 1\r\nPING\r\n").as_bytes()).await;
        while raw.line().await != "PONG" {}
        raw
    }

    /// The next request: its subject and its reply subject.
    pub async fn request(&mut self) -> (String, String) {
        loop {
            let line = self.line().await;
            let words: Vec<_> = line.split(' ').collect();
            let (subject, reply, size) = match words.as_slice() {
                ["MSG", subject, _, reply, size] => (subject, reply, size),
                ["HMSG", subject, _, reply, _, size] => (subject, reply, size),
                ["PING"] => {
                    self.write(b"PONG\r\n").await;
                    continue;
                }
                _ => continue,
            };
            let mut body = vec![0; size.parse::<usize>().expect("a size") + 2];
            self.reader.read_exact(&mut body).await.expect("the server is there");
            return ((*subject).to_owned(), (*reply).to_owned());
        }
    }

    /// Publishes that block of headers and that body, as they are.
    pub async fn publish(&mut self, subject: &str, headers: &[u8], body: &[u8]) {
        let total = headers.len() + body.len();
        let line = format!("HPUB {subject} {} {total}\r\n", headers.len());
        self.write(&[line.as_bytes(), headers, body, b"\r\n"].concat()).await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).await.expect("the server is there");
        assert!(read > 0, "the server has closed the connection");
        line.trim_end().to_owned()
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.expect("the server is there");
    }
}
