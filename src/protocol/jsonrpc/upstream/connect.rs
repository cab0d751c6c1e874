//! How a connection is made, and why it could not be: TCP or a Unix socket, TLS over it, and which
//! HTTP is spoken then.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::config::Settings;
use super::http1::Http1;
use super::http2::Http2;
use super::place::{Place, Target};
use super::socket::{Greeting, Handle, Raw, Socket, Stream};
use super::streams::{Executor, Streams};
use crate::dial;
use crate::tasks::Tasks;
use crate::tls::trouble::{Tried, Trouble, tls_error};

/// How long certificates that were read from their files are used before they are read again.
const CERTIFICATES_KEPT: Duration = Duration::from_secs(10);
/// How often a connection of HTTP/2 is asked whether it lives, and how long it may take.
const PULSE: Duration = Duration::from_secs(5);
/// What a peer may send ahead on one stream, and on all of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What URLs begin with where TLS is spoken, and where it is not.
const SCHEMES: (&str, &str) = ("https://", "http://");

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Unreachable {
    /// For everybody: no address, no credentials.
    pub(super) reason: Cow<'static, str>,
    /// For the log.
    pub(super) detail: String,
    /// What the operator has to do, where it does not pass by itself. For everybody, too.
    pub(super) mend: Option<Cow<'static, str>>,
    /// Whether it is only that the time has passed: somebody may be there, and busy.
    pub(super) is_late: bool,
}

impl Unreachable {
    pub(super) fn passing(reason: &'static str, detail: impl ToString) -> Self {
        Self { reason: reason.into(), detail: detail.to_string(), mend: None, is_late: false }
    }

    pub(super) fn lasting(reason: &'static str, detail: impl ToString, mend: &'static str) -> Self {
        Self { mend: Some(mend.into()), ..Self::passing(reason, detail) }
    }

    fn late(detail: impl ToString) -> Self {
        Self { is_late: true, ..Self::passing("it does not answer", detail) }
    }

    /// Why, and the mend.
    pub(super) fn told(&self) -> String {
        match &self.mend {
            Some(mend) => format!("{}: {mend}", self.reason),
            None => self.reason.clone().into_owned(),
        }
    }
}

impl From<Trouble> for Unreachable {
    fn from(Trouble { reason, detail, mend }: Trouble) -> Self {
        Self { reason, detail, mend: Some(mend), is_late: false }
    }
}

/// A connection, by what is spoken over it.
pub(super) enum Opened {
    /// For one call at a time.
    Http1(Box<Http1>),
    /// For many.
    Http2(Http2),
}

/// The certificates in use, for all instances.
#[derive(Default)]
pub(super) struct Certificates(Mutex<Option<InUse>>);

/// TLS as it is in use.
struct InUse {
    read: Instant,
    /// As the files make it.
    made: Arc<ClientConfig>,
    /// The same with what is to be agreed on.
    config: Arc<ClientConfig>,
}

impl Certificates {
    /// TLS as the files have it, which are read anew now and then. Sessions are resumed until those are others.
    fn now(&self, settings: &Settings) -> Result<Arc<ClientConfig>, String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let certificates = &settings.certificates;
        if let Some(last) = &mut *last {
            let is_old = certificates.are_named() && last.read.elapsed() >= CERTIFICATES_KEPT;
            if !is_old {
                return Ok(Arc::clone(&last.config));
            }
            last.read = Instant::now();
        }
        let made = certificates.config()?;
        if let Some(last) = last.as_ref().filter(|last| Arc::ptr_eq(&last.made, &made)) {
            return Ok(Arc::clone(&last.config));
        }
        let mut config = ClientConfig::clone(&made);
        let only_http2: &[&[u8]] = &[b"h2"];
        let either: &[&[u8]] = &[b"h2", b"http/1.1"];
        let offered = if settings.http2 { only_http2 } else { either };
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        *last = Some(InUse { read: Instant::now(), made, config: Arc::clone(&config) });
        Ok(config)
    }
}

/// Connects once.
pub(super) async fn open(
    place: &Place,
    settings: &Settings,
    certificates: &Certificates,
    tasks: &Tasks,
) -> Result<Opened, Unreachable> {
    let until = Instant::now() + settings.connect_timeout;
    let reached = reach(place, settings, certificates, until).await?;
    speak(reached, place, tasks, until).await
}

/// Speaks HTTP over what was reached.
pub(super) async fn speak(
    Reached { stream, handle, http2 }: Reached,
    place: &Place,
    tasks: &Tasks,
    until: Instant,
) -> Result<Opened, Unreachable> {
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
            let greeting = timeout_at(until, handle.greeting()).await;
            match greeting.map_err(|_| Unreachable::late("it says nothing to HTTP/2"))? {
                Greeting::Http2 => {}
                Greeting::Tls => return Err(speaks_tls()),
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

/// What HTTP can be spoken over.
pub(super) struct Reached {
    pub(super) stream: Stream,
    pub(super) handle: Handle,
    /// Whether that is HTTP/2.
    pub(super) http2: bool,
}

/// Connects, and speaks TLS where that is to be.
pub(super) async fn reach(
    place: &Place,
    settings: &Settings,
    certificates: &Certificates,
    until: Instant,
) -> Result<Reached, Unreachable> {
    let tried = settings.certificates.tried(SCHEMES);
    let dialled = timeout_at(until, dial(place, settings.connect_timeout)).await;
    let raw = dialled.map_err(|_| Unreachable::late("`connect_timeout` has passed"))??;
    let (socket, handle) = Socket::new(raw, tried);
    if !place.tls {
        return Ok(Reached { stream: Stream::Plain(socket), handle, http2: settings.http2 });
    }
    let config = certificates.now(settings).map_err(|error| {
        let mend = "check `ca_file`, `cert_file` and `key_file`";
        Unreachable::lasting("the certificates cannot be used", error, mend)
    })?;
    let secured = timeout_at(until, secure(place, socket, config)).await;
    let secured =
        secured.map_err(|_| Unreachable { is_late: true, ..Trouble::of_silence(&tried).into() })?;
    let stream = secured.map_err(|error| broken(&error, &tried))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if settings.http2 && !http2 {
        return Err(no_http2("TLS has not agreed on it"));
    }
    Ok(Reached { stream: Stream::Tls(Box::new(stream)), handle, http2 })
}

/// HTTP/1.1 was spoken, and is not understood: what such a server reads first has to be HTTP/2, or it reads no more.
pub(super) fn only_http2() -> Unreachable {
    Unreachable::lasting(
        "it speaks HTTP/2 alone",
        "it has answered HTTP/1.1 with a frame of HTTP/2",
        "add `http2 = true` to the upstream's table",
    )
}

/// HTTP was spoken, and answered with TLS: nothing of it was understood.
pub(super) fn speaks_tls() -> Unreachable {
    Trouble::of_plain(SCHEMES).into()
}

/// HTTP/2 was to be spoken, and is not. Nothing of a call has left.
fn no_http2(detail: &str) -> Unreachable {
    Unreachable::lasting(
        "it does not speak HTTP/2",
        detail,
        "leave `http2` out of the upstream's table, or let the service speak it",
    )
}

/// Connects to the first of the addresses that takes us within `limit`.
pub(super) async fn dial(place: &Place, limit: Duration) -> Result<Raw, Unreachable> {
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

/// Speaks TLS over a socket.
pub(super) async fn secure(
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
        io::ErrorKind::TimedOut => return Unreachable::late(error),
        io::ErrorKind::PermissionDenied => "its socket may not be opened",
        _ => "it cannot be reached",
    };
    Unreachable::passing(reason, error)
}

fn broken(error: &io::Error, tried: &Tried) -> Unreachable {
    // Only one was offered.
    if matches!(
        tls_error(error),
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))
    ) {
        return no_http2("TLS has not agreed on it");
    }
    match Trouble::of(error, tried) {
        Some(trouble) => trouble.into(),
        None => Unreachable::passing("its connection broke while it was being made", error),
    }
}

/// Why the peer has ended a connection that was made, where it says that by an alert of TLS, which is while
/// it has read nothing that was sent.
pub(super) fn refusal(handle: &Handle) -> Option<Unreachable> {
    Trouble::of_alert(handle.alert()?, handle.tried()).map(Unreachable::from)
}
