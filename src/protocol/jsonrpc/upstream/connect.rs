//! How a connection is made, and why it could not be: TCP or a Unix socket, TLS over it, and which
//! HTTP is spoken then.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::config::Settings;
use super::http1::Http1;
use super::http2::Http2;
use super::place::{Place, Target};
use super::socket::{Greeting, Handle, Raw, Socket, Stream};
use super::streams::{Executor, Streams};
use crate::dial;
use crate::tasks::Tasks;

/// How long certificates that were read from their files are used before they are read again.
const CERTIFICATES_KEPT: Duration = Duration::from_secs(10);
/// How often a connection of HTTP/2 is asked whether it lives, and how long it may take.
const PULSE: Duration = Duration::from_secs(5);
/// How long is listened to a peer that may refuse us.
const MOMENT: Duration = Duration::from_millis(500);
/// What a peer may send ahead on one stream, and on all of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Why there is no connection, where all that is known is that none came in time.
pub(super) const SILENT: &str = "it does not answer";

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Unreachable {
    /// For everybody: no address, no credentials.
    pub(super) reason: &'static str,
    /// For the log.
    pub(super) detail: String,
    /// What the operator has to do, where it does not pass by itself.
    pub(super) mend: Option<&'static str>,
}

impl Unreachable {
    fn passing(reason: &'static str, detail: impl ToString) -> Self {
        Self { reason, detail: detail.to_string(), mend: None }
    }
}

/// A connection, by what is spoken over it.
pub(super) enum Opened {
    /// For one call at a time.
    Http1(Box<Http1>),
    /// For many.
    Http2(Http2),
}

impl Opened {
    /// Why the peer refuses us, which it may say when the connection is made; so long is listened.
    pub(super) async fn refused(&mut self) -> Option<Unreachable> {
        match self {
            Self::Http1(connection) => connection.listen(MOMENT).await,
            Self::Http2(connection) => connection.listen(MOMENT).await,
        }
    }
}

/// The certificates in use, for all instances.
#[derive(Default)]
pub(super) struct Certificates(Mutex<Option<(Instant, Arc<ClientConfig>)>>);

impl Certificates {
    /// TLS as the files have it, read anew now and then. Sessions are resumed while they last.
    fn now(&self, settings: &Settings) -> Result<Arc<ClientConfig>, String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((read, config))
                if !settings.certificates.are_named() || read.elapsed() < CERTIFICATES_KEPT =>
            {
                Ok(Arc::clone(config))
            }
            _ => {
                let mut config = ClientConfig::clone(&*settings.certificates.config()?);
                let only_http2: &[&[u8]] = &[b"h2"];
                let either: &[&[u8]] = &[b"h2", b"http/1.1"];
                let offered = if settings.http2 { only_http2 } else { either };
                config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
                let config = Arc::new(config);
                *last = Some((Instant::now(), Arc::clone(&config)));
                Ok(config)
            }
        }
    }
}

/// Connects once.
pub(super) async fn open(
    place: &Place,
    settings: &Settings,
    certificates: &Certificates,
    tasks: &Tasks,
) -> Result<Opened, Unreachable> {
    let attempt = attempt(place, settings, certificates, tasks);
    timeout(settings.connect_timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(Unreachable::passing(SILENT, "`connect_timeout` has passed")))
}

async fn attempt(
    place: &Place,
    settings: &Settings,
    certificates: &Certificates,
    tasks: &Tasks,
) -> Result<Opened, Unreachable> {
    let (socket, handle) = Socket::new(reach(place, settings.connect_timeout).await?);
    let mut http2 = settings.http2;
    let stream = if place.tls {
        let config = certificates.now(settings).map_err(|error| Unreachable {
            reason: "the certificates cannot be used",
            detail: error,
            mend: Some("check `ca_file`, `cert_file` and `key_file`"),
        })?;
        let stream = secure(place, socket, config).await.map_err(|error| broken(&error))?;
        let has_agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if http2 && !has_agreed {
            return Err(no_http2("TLS has not agreed on it"));
        }
        http2 |= has_agreed;
        Stream::Tls(Box::new(stream))
    } else {
        Stream::Plain(socket)
    };
    let failed = |error: hyper::Error| Unreachable::passing("its connection broke", error);
    if http2 {
        let streams = Streams::new();
        let mut builder = http2::Builder::new(Executor(tasks.clone(), Arc::clone(&streams)));
        builder
            .timer(TokioTimer::new())
            // As many as it says, and it says so first.
            .initial_max_send_streams(0)
            .keep_alive_interval(PULSE)
            .keep_alive_timeout(PULSE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tasks.spawn_session(Arc::clone(&streams).drive(driver));
        // TLS has asked before.
        if !place.tls {
            match handle.greeting().await {
                Greeting::Http2 => {}
                Greeting::Other => return Err(no_http2("it has answered with something else")),
                Greeting::Nothing => {
                    let closed = "it has closed the connection without a word of HTTP/2";
                    return Err(Unreachable::passing("it closes connections at once", closed));
                }
            }
        }
        return Ok(Opened::Http2(Http2::new(sender, handle, streams)));
    }
    let (sender, driver) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(failed)?;
    Ok(Opened::Http1(Box::new(Http1::new(sender, driver, handle))))
}

/// HTTP/1.1 was spoken, and is not understood: what such a server reads first has to be HTTP/2, or it reads no more.
pub(super) fn only_http2() -> Unreachable {
    Unreachable {
        reason: "it speaks HTTP/2 alone",
        detail: "it has answered HTTP/1.1 with a frame of HTTP/2".to_owned(),
        mend: Some("add `http2 = true` to the upstream's table"),
    }
}

/// HTTP/2 was to be spoken, and is not. Nothing of a call has left.
fn no_http2(detail: &str) -> Unreachable {
    Unreachable {
        reason: "it does not speak HTTP/2",
        detail: detail.to_owned(),
        mend: Some("leave `http2` out of the upstream's table, or let the service speak it"),
    }
}

/// Connects to the first of the addresses that takes us within `limit`.
async fn reach(place: &Place, limit: Duration) -> Result<Raw, Unreachable> {
    let (host, port) = match &place.target {
        Target::Unix(path) => {
            let connected = UnixStream::connect(path).await;
            return connected.map(Raw::Unix).map_err(|error| refused(&error));
        }
        Target::Tcp(host, port) => (host.as_str(), *port),
    };
    let found = tokio::net::lookup_host((host, port)).await;
    let named = |error| Unreachable::passing("its name cannot be resolved", error);
    let addresses: Vec<_> = found.map_err(named)?.collect();
    let objection = |address: &SocketAddr| place.guard.as_ref()?.objects_to(*address);
    if let Some(why) = addresses.iter().find_map(objection) {
        return Err(Unreachable::passing("its address is one that is not connected to", why));
    }
    let connected = dial::connect(&addresses, limit).await;
    connected.map(Raw::Tcp).map_err(|error| refused(&error))
}

async fn secure(
    place: &Place,
    socket: Socket,
    config: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<Socket>> {
    let Target::Tcp(host, _) = &place.target else {
        return Err(io::Error::other("TLS is not spoken over Unix sockets"));
    };
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, socket).await
}

fn refused(error: &io::Error) -> Unreachable {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => "nobody listens there",
        io::ErrorKind::TimedOut => SILENT,
        io::ErrorKind::PermissionDenied => "its socket may not be opened",
        _ => "it cannot be reached",
    };
    Unreachable::passing(reason, error)
}

fn broken(error: &io::Error) -> Unreachable {
    match tls_error(error) {
        None => {
            return Unreachable::passing("its connection broke while it was being made", error);
        }
        // Only one was offered.
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            return no_http2("TLS has not agreed on it");
        }
        Some(_) => {}
    }
    Unreachable {
        reason: "TLS with it failed",
        detail: error.to_string(),
        mend: Some(
            "check `ca_file`, `cert_file` and `key_file`, that the certificate is for the host in \
             `url`, and that the port speaks TLS",
        ),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut source = error.get_ref().map(|error| error as &(dyn Error + 'static));
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

/// Why the peer has ended a connection that was made, where it says that by an alert of TLS, which is while
/// it has read nothing that was sent: it wants a client's certificate, or another one. Who speaks TLS 1.3
/// is told after its part is done (RFC 8446, section 4.4.2.4).
pub(super) fn refusal(handle: &Handle) -> Option<Unreachable> {
    use AlertDescription as Alert;
    let alert = handle.alert()?;
    let is_about_us = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::HandshakeFailure
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
    );
    is_about_us.then(|| Unreachable {
        reason: "TLS with it failed: it wants a client certificate that it knows",
        detail: format!("its alert is {alert:?}"),
        mend: Some(
            "name `cert_file` and `key_file` of a certificate that its authority vouches for",
        ),
    })
}
