//! Whether calls can be made to an instance, as far as that shows without one: it is connected to, and listened to for
//! a moment. Whoever does not want us, or speaks something else, says so by then.
//!
//! A server of HTTP/2 speaks at once. One of HTTP/1.1 waits for a request, and half a line of one is sent to it: it
//! waits for the rest, and no service hears of it. What speaks TLS, HTTP/2 alone or nothing of HTTP answers that, or
//! hangs up.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::config::Settings;
use super::connect::{
    self, Certificates, Opened, Reached, Unreachable, dial, only_http2, reach, refusal, secure,
    speaks_tls,
};
use super::http2::Http2;
use super::place::Place;
use super::socket::{Greeting, Handle, Socket};
use crate::tasks::Tasks;
use crate::tls::trouble::tls_error;

/// How long is listened.
const MOMENT: Duration = Duration::from_millis(500);
/// Half a line of a request, longer than what a connection of HTTP/2 begins with (RFC 9113, section 3.4). It has no
/// end, so that it is no request to those either who take the end of a connection for one.
const HALF_A_LINE: &[u8] = b"POST /genkan-looks-who-is-there";
/// So much of an answer is looked at.
const LOOKED_AT: usize = 512;

/// Why calls cannot be made where that is all that is known.
pub(super) const CLOSES: &str = "it closes connections at once";

/// Connects, and listens. A connection of HTTP/2 is given, for calls.
pub(super) async fn knock(
    place: &Place,
    settings: &Settings,
    certificates: &Certificates,
    tasks: &Tasks,
) -> Result<Option<Http2>, Unreachable> {
    let until = Instant::now() + settings.connect_timeout;
    let reached = reach(place, settings, certificates, until).await?;
    if !reached.http2 {
        return listen(reached, place, settings).await.map(|()| None);
    }
    match connect::speak(reached, place, tasks, until).await? {
        Opened::Http2(connection) => match connection.listen(MOMENT).await {
            Some(why) => Err(why),
            None => Ok(Some(connection)),
        },
        Opened::Http1(_) => Ok(None),
    }
}

async fn listen(reached: Reached, place: &Place, settings: &Settings) -> Result<(), Unreachable> {
    let Reached { mut stream, handle, .. } = reached;
    let mut first = [0; LOOKED_AT];
    let asked = async {
        stream.write_all(HALF_A_LINE).await?;
        stream.flush().await?;
        stream.read(&mut first).await
    };
    let Ok(answered) = timeout(MOMENT, asked).await else { return Ok(()) };
    let said = answered.as_ref().map_or(&[][..], |count| &first[..*count]);
    if let Some(why) = refusal(&handle) {
        return Err(why);
    }
    match said {
        [] if answers_tls(place, settings, &handle).await => Err(speaks_tls()),
        [] => Err(Unreachable::passing(CLOSES, "half a line of a request was too much for it")),
        said => judge(said, &handle),
    }
}

/// What it means that a peer has answered what was no request yet.
fn judge(said: &[u8], handle: &Handle) -> Result<(), Unreachable> {
    let has = |words: &[u8]| memchr::memmem::find(said, words).is_some();
    match handle.greeted() {
        Some(Greeting::Tls) => Err(speaks_tls()),
        Some(Greeting::Http2) => Err(only_http2()),
        // So say Go's servers, in an answer of HTTP.
        _ if said.starts_with(b"HTTP/") && has(b"HTTP request to an HTTPS server") => {
            Err(speaks_tls())
        }
        _ if said.starts_with(b"HTTP/") => Ok(()),
        _ => Err(no_http()),
    }
}

/// What was answered cannot be read as HTTP.
pub(super) fn no_http() -> Unreachable {
    Unreachable::lasting(
        "what answers there speaks no HTTP",
        "it has answered with something else",
        "write the port that does into its URL",
    )
}

/// Whether a peer that has hung up without a word speaks TLS, as many that do hang up when they hear something else.
async fn answers_tls(place: &Place, settings: &Settings, handle: &Handle) -> bool {
    if place.tls || !place.is_tcp() {
        return false;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(builder) =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
    else {
        return false;
    };
    // Nobody is believed: what it shows is an answer in any case.
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let asked = async {
        let raw = dial(place, settings.connect_timeout).await.ok()?;
        let (socket, _) = Socket::new(raw, *handle.tried());
        secure(place, socket, Arc::new(config)).await.err()
    };
    let refused = timeout(settings.connect_timeout, asked).await.ok().flatten();
    let error = refused.as_ref().and_then(tls_error);
    use rustls::Error;
    matches!(
        error,
        Some(Error::InvalidCertificate(_) | Error::AlertReceived(_) | Error::PeerIncompatible(_))
    )
}
