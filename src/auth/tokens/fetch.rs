//! Fetches an issuer's document: over TLS, from where the configuration says and from nowhere else. A
//! redirect is not followed: whoever could send one could send Genkan to addresses of its choice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::auth::settings::JwksConfig;
use crate::dial;
use crate::tasks::Tasks;
use crate::tls::trouble::Trouble;
use crate::units::{format_duration, format_size};

/// The largest document.
const LARGEST: usize = 1 << 20;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The document, or why there is none, for an operator.
pub(super) async fn fetch(from: &JwksConfig, tasks: &Tasks) -> Result<Bytes, String> {
    timeout(PATIENCE, exchange(from, tasks)).await.unwrap_or_else(|_| {
        Err(format!("it has not answered within {}", format_duration(PATIENCE)))
    })
}

async fn exchange(from: &JwksConfig, tasks: &Tasks) -> Result<Bytes, String> {
    let name = ServerName::try_from(from.host.clone())
        .map_err(|_| "the URL's host is no name that a certificate could have".to_owned())?;
    let tried = from.certificates.tried(("https://", ""));
    let tls = TlsConnector::from(Arc::clone(&from.certificates.config()?));
    let found = lookup_host((from.host.as_str(), from.port)).await;
    let found = found.map_err(|error| format!("its name cannot be resolved: {error}"))?;
    let addresses: Vec<_> = found.collect();
    let stream = dial::connect(&addresses, PATIENCE).await;
    let stream = stream.map_err(|error| format!("it cannot be connected to: {error}"))?;
    let stream = tls.connect(name, stream).await;
    let stream = stream.map_err(|error| match Trouble::of(&error, &tried) {
        Some(trouble) => format!("{trouble} ({})", trouble.detail),
        None => format!("its connection broke: {error}"),
    })?;
    let broken = |error: hyper::Error| format!("it speaks no HTTP, or broke off: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tasks.spawn_session(async move { drop(connection.await) });
    let host = if from.host.contains(':') { format!("[{}]", from.host) } else { from.host.clone() };
    let request = Request::get(&from.path)
        .header(HOST, format!("{host}:{}", from.port))
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, concat!("genkan/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| "the URL cannot be asked for".to_owned())?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    match answer.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            return Err(format!(
                "it answered {}: redirects are not followed: write where the document is",
                status.as_u16()
            ));
        }
        status => return Err(format!("it answered {}", status.as_u16())),
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body = body.map_err(|_| {
        format!("its document broke off, or is larger than {}", format_size(LARGEST))
    })?;
    Ok(body.to_bytes())
}
