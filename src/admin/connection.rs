//! A connection to the pages: one request, with a limit on each of its parts. Who may not ask is
//! told so before anything is looked up.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router as Routes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::debug;

use super::gate::{Gate, Wrong};

/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(10);
/// How long all of it may take, the answer's way to its reader too.
const WHOLE: Duration = Duration::from_secs(60);

/// What one is answered whose head takes longer.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 45\r\n\r\n\
    the request's head did not arrive within 10s\n";

/// How long a request's head may still take when the pages end.
const GOODBYE: Duration = Duration::from_millis(200);

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Routes,
    (gate, from, wrong): (Arc<Gate>, Option<IpAddr>, Arc<Wrong>),
    closed: CancellationToken,
) {
    let asked = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let welcome = gate.check(&request, (from, &wrong));
        let mut routes = routes.clone();
        async move {
            match welcome {
                Ok(()) => routes.call(request).await,
                Err(refusal) => Ok(*refusal),
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None).keep_alive(false);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut head = pin!(sleep(HEAD));
    let mut whole = pin!(sleep(WHOLE));
    let mut too_late = pin!(async {
        closed.cancelled().await;
        sleep(GOODBYE).await;
    });
    let mut closing = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    debug!(%error, "a connection to the pages ended");
                }
                return;
            }
            () = closed.cancelled(), if !closing => {
                closing = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            // Half a head is nothing that is waited for.
            () = too_late.as_mut(), if !asked.load(Ordering::Relaxed) => return,
            () = head.as_mut(), if !asked.load(Ordering::Relaxed) => break,
            () = whole.as_mut() => return,
        }
    }
    // hyper would end it without a word.
    let mut stream = connection.into_parts().io.into_inner();
    let answered = timeout(GOODBYE, async {
        stream.write_all(TOO_SLOW).await?;
        stream.shutdown().await
    });
    if !matches!(answered.await, Ok(Ok(()))) {
        debug!("a slow client did not take the answer to its head");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::AdminConfig;
    use crate::config::socket::{Listen, SocketAccess};

    fn gate(address: std::net::SocketAddr) -> (Arc<Gate>, Option<IpAddr>, Arc<Wrong>) {
        let (listen, access) = (Listen::Tcp(address), SocketAccess::default());
        let config = AdminConfig { listen, access, hosts: Vec::new(), token: None };
        (Arc::new(Gate::new(&config)), None, Arc::new(Wrong::new()))
    }

    /// What the end of the pages waits for, with the clock of the test.
    #[tokio::test(start_paused = true)]
    async fn half_a_head_holds_no_end_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for head in [&b""[..], b"G", b"GET /healthz HTTP/1.1\r\nHost: 127"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            client.write_all(head).await.unwrap();
            let closed = CancellationToken::new();
            closed.cancel();
            let served = serve(stream, Routes::new(), gate(address), closed);
            timeout(Duration::from_secs(1), served).await.expect("it ends at once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_is_told_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127").await.unwrap();
        serve(stream, Routes::new(), gate(address), CancellationToken::new()).await;
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 408 "), "{heard}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{heard}");
    }
}
