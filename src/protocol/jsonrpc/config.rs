//! `[http]`: the listener, its limits, and who may call from a browser.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::answer::Dialect;
use crate::config::section::Section;

/// The settings of the HTTP ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The largest body, in bytes.
    pub max_body: usize,
    /// The longest batch.
    pub max_batch: usize,
    /// The most connections at once; a further one waits to be accepted.
    pub max_connections: usize,
    /// How long a request's head, and then its body, may take to arrive.
    pub read_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub http2: bool,
    /// Whether answers are compressed for clients that accept it.
    pub compression: bool,
    /// Whether `Authorization` travels on to services.
    pub forward_authorization: bool,
    /// Whether every client is answered in Gemstone's dialect.
    pub gemstone: bool,
    /// Which web pages may call.
    pub cors: Option<CorsConfig>,
    /// The certificate and key, for HTTPS.
    pub tls: Option<TlsConfig>,
}

/// `[http.cors]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsConfig {
    /// The origins that may call; `*` for all of them.
    pub origins: Vec<String>,
    /// Whether cookies and `Authorization` may come along.
    pub credentials: bool,
    /// How long a browser may remember the answer to its preflight.
    pub max_age: Duration,
}

/// `[http.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// The private key, PEM.
    pub key_file: PathBuf,
}

impl HttpConfig {
    /// Reads `[http]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        let dialects = [("strict", Dialect::Strict), ("gemstone", Dialect::Gemstone)];
        Self {
            listen: section.address("listen", SocketAddr::from(([127, 0, 0, 1], 8080))),
            max_body: section.size("max_body", 1 << 20),
            max_batch: section.count("max_batch", 50, 1, 100_000),
            max_connections: section.count("max_connections", 10_000, 1, 1_000_000),
            read_timeout: section.duration("read_timeout", Duration::from_secs(10)),
            idle_timeout: section.duration("idle_timeout", Duration::from_secs(75)),
            http2: section.flag("http2", true),
            compression: section.flag("compression", false),
            forward_authorization: section.flag("forward_authorization", false),
            gemstone: section.choice("dialect", &dialects, Dialect::Strict) == Dialect::Gemstone,
            cors: CorsConfig::read(section),
            tls: TlsConfig::read(section),
        }
    }
}

impl CorsConfig {
    fn read(http: &mut Section<'_>) -> Option<Self> {
        let configured = http.has("cors");
        let mut section = http.section("cors");
        let cors = Self {
            origins: section.texts("origins"),
            credentials: section.flag("credentials", false),
            max_age: section.duration("max_age", Duration::from_secs(600)),
        };
        if !configured {
            return None;
        }
        if cors.origins.is_empty() {
            section.problem_here(
                "[http.cors] allows nobody: add `origins = [\"https://app.example\"]`",
            );
        }
        for origin in cors.origins.iter().filter(|origin| *origin != "*") {
            let parts = origin.split_once("://");
            let bare =
                parts.is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', '@']));
            if !bare || http::HeaderValue::from_str(origin).is_err() {
                // It may be a URL with its password.
                let shown = if origin.contains('@') { "that string" } else { origin.as_str() };
                section.problem(
                    "origins",
                    format!(
                        "`{shown}` is no origin: write the scheme, the host and the port alone, \
                         such as \"https://app.example\""
                    ),
                );
            }
        }
        if cors.credentials && cors.origins.iter().any(|origin| origin == "*") {
            section.problem(
                "credentials",
                "browsers refuse `credentials = true` with the origin \"*\": name the origins",
            );
        }
        Some(cors)
    }
}

impl TlsConfig {
    fn read(http: &mut Section<'_>) -> Option<Self> {
        let configured = http.has("tls");
        let mut section = http.section("tls");
        let (cert, key) = (section.path("cert_file"), section.path("key_file"));
        match (cert, key) {
            _ if !configured => None,
            (Some(cert_file), Some(key_file)) => Some(Self { cert_file, key_file }),
            _ => {
                section.problem_here("[http.tls] needs both `cert_file` and `key_file`");
                None
            }
        }
    }
}
