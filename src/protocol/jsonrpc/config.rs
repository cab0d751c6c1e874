//! `[http]`: the listener, its limits, and who may call from a browser.

mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::audit::{Advice, Exposure};
use crate::config::hosts;
use crate::config::ingress::IngressSettings;
use crate::config::secret::quoted;
use crate::config::section::Section;
use crate::networks::{Network, Networks};
use crate::web::WebPolicy;

pub use tls::{ClientCerts, TlsConfig};
pub(super) use tls::{LARGEST_CRL, LARGEST_PEM, verifier};

/// The least that a body can be held to, in bytes: below it hardly a call fits.
const LEAST_MESSAGE: usize = 256;

/// The settings of the HTTP ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The names that it is known by, beside its addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Whom to believe from where a request comes that they hand on.
    pub trusted_proxies: Networks,
    /// The largest body, in bytes.
    pub max_body: usize,
    /// The longest batch.
    pub max_batch: usize,
    /// The most connections at once; a further one waits to be accepted.
    pub max_connections: usize,
    /// How long a request's head, and then its body, may take to arrive.
    pub read_timeout: Duration,
    /// How long an answer's reader may take none of it.
    pub write_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Whether HTTP/2 is spoken beside HTTP/1.1.
    pub http2: bool,
    /// Whether answers are compressed for clients that accept it.
    pub compression: bool,
    /// Whether `Authorization` travels on to services.
    pub forward_authorization: bool,
    /// Which web pages may call.
    pub cors: Option<CorsConfig>,
    /// The limits of a WebSocket.
    pub websocket: WebSocketConfig,
    /// The certificate and key, for HTTPS.
    pub tls: Option<TlsConfig>,
}

/// `[http.websocket]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// How many calls of one connection are under way at once; further messages wait to be read.
    pub max_in_flight: usize,
    /// How long a connection may stay open without a call.
    pub idle_timeout: Duration,
    /// How long a client may be quiet before it is asked whether it is there, and then take to
    /// say so.
    pub ping: Duration,
}

/// `[http.cors]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsConfig {
    /// The origins that may call; `*` for all of them.
    pub origins: Vec<String>,
    /// Whether cookies and `Authorization` may come along.
    pub credentials: bool,
    /// The headers that pages may send beside those that Genkan itself reads.
    pub headers: Vec<http::HeaderName>,
    /// How long a browser may remember the answer to its preflight.
    pub max_age: Duration,
}

/// Reads `[http]`, for the list of protocols.
pub(super) fn read(section: &mut Section<'_>, _timeout: Duration) -> Arc<dyn IngressSettings> {
    Arc::new(HttpConfig::read(section))
}

impl IngressSettings for HttpConfig {
    fn tcp(&self) -> Vec<SocketAddr> {
        vec![self.listen]
    }

    fn largest_message(&self) -> (usize, &'static str) {
        (self.max_body, "max_body")
    }

    fn topic_methods(&self) -> &'static [&'static str] {
        &super::http::TOPIC_METHODS
    }

    fn knows_callers(&self) -> bool {
        self.clients().is_some()
    }

    fn open_to(&self) -> Option<(SocketAddr, &'static str)> {
        let is_closed = self.clients().is_some_and(|clients| clients.required);
        (!is_closed).then_some((self.listen, "listen"))
    }

    fn forwards_credentials(&self) -> bool {
        self.forward_authorization
    }

    fn advise(&self, exposure: &Exposure) -> Vec<Advice> {
        let mut advice = Vec::new();
        if let Some(address) = exposure.open_to.filter(|_| self.tls.is_none()) {
            let what = format!(
                "`listen` in [http]: {address} is reached without TLS: keys, tokens and payloads can be read \
                 on the way: add [http.tls], or listen on loopback behind a proxy that speaks TLS"
            );
            advice.push(Advice::new("listen", what));
        }
        if self.forward_authorization {
            let what = "`forward_authorization` in [http]: each service gets its callers' API keys and tokens \
                        whole, and can call with them: leave it out, services learn who calls as X-User-Id";
            advice.push(Advice::new("forward_authorization", what));
        }
        let cors =
            self.cors.as_ref().filter(|cors| cors.origins.iter().any(|origin| origin == "*"));
        if cors.is_some() {
            let what = "`origins` in [http.cors] has \"*\": any page that somebody opens may call from \
                        that browser, and so from its network: name the origins that may";
            advice.push(Advice::new("cors.origins", what));
        }
        for first in self.trusted_proxies.wide() {
            let what = format!(
                "`trusted_proxies` in [http]: the network that begins at {first} holds a good part of the \
                 internet: whoever calls from there says himself from which address, and passes limits by \
                 that: name your proxies' own networks"
            );
            advice.push(Advice::new("trusted_proxies", what));
        }
        advice
    }
}

impl HttpConfig {
    /// Reads `[http]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            listen: section.address("listen", SocketAddr::from(([127, 0, 0, 1], 8080))),
            hosts: hosts::read(section),
            trusted_proxies: read_trusted_proxies(section),
            max_body: section.size_from("max_body", 1 << 20, LEAST_MESSAGE),
            max_batch: section.count("max_batch", 1_000, 1, 100_000),
            max_connections: section.count("max_connections", 10_000, 1, 1_000_000),
            read_timeout: section.duration("read_timeout", Duration::from_secs(10)),
            write_timeout: section.duration("write_timeout", Duration::from_secs(60)),
            idle_timeout: section.duration("idle_timeout", Duration::from_secs(75)),
            http2: section.flag("http2", true),
            compression: section.flag("compression", false),
            forward_authorization: section.flag("forward_authorization", false),
            cors: CorsConfig::read(section),
            websocket: WebSocketConfig::read(section),
            tls: TlsConfig::read(section),
        }
    }

    fn clients(&self) -> Option<&ClientCerts> {
        self.tls.as_ref()?.clients.as_ref()
    }

    /// Which names and which pages the listener serves.
    pub fn web_policy(&self) -> WebPolicy {
        let origins = self.cors.as_ref().map_or(&[][..], |cors| &cors.origins);
        WebPolicy::new(self.listen, self.tls.is_some(), &self.hosts, origins)
    }
}

fn read_trusted_proxies(section: &mut Section<'_>) -> Networks {
    let key = "trusted_proxies";
    let texts = section.texts(key);
    let networks = texts.iter().filter_map(|text| {
        let complain = |mend| {
            let (title, shown) = (section.title(), quoted(text));
            section.problem(key, format!("`{key}` in {title}: {shown} is no network: {mend}"));
        };
        let network = Network::parse(text).map_err(complain).ok()?;
        if network.is_everything() {
            let message = format!(
                "`{key}` in {}: {} is everybody: whoever connects is believed to call from any \
                 address: name the proxies",
                section.title(),
                quoted(text)
            );
            section.warn(key, message);
        }
        Some(network)
    });
    Networks::new(networks)
}

impl WebSocketConfig {
    fn read(http: &mut Section<'_>) -> Self {
        let mut section = http.section("websocket");
        Self {
            max_in_flight: section.count("max_in_flight", 256, 1, 100_000),
            idle_timeout: section.duration("idle_timeout", Duration::from_secs(600)),
            ping: section.duration("ping", Duration::from_secs(30)),
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
            headers: read_headers(&mut section),
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
        for origin in cors.origins.iter().filter(|origin| origin.len() > 1 && origin.contains('*'))
        {
            let message = format!(
                "`{origin}`: an origin is named in full, or \"*\" stands for all: name each that \
                 may call"
            );
            section.problem("origins", message);
        }
        for origin in cors.origins.iter().filter(|origin| !origin.is_ascii()) {
            let message = format!(
                "no page has the origin `{origin}`: browsers write a name with other letters in Punycode, such \
                 as \"https://xn--mnchen-3ya.example\""
            );
            section.problem("origins", message);
        }
        for origin in cors.origins.iter().filter(|origin| !is_as_sent(origin)) {
            section.problem(
                "origins",
                format!(
                    "no page has the origin `{origin}`: browsers write it in lower case, without \
                     the port where it is the scheme's own (80, 443)"
                ),
            );
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

fn read_headers(section: &mut Section<'_>) -> Vec<http::HeaderName> {
    let names = section.texts("headers");
    let headers = names.iter().filter_map(|name| {
        // Browsers do not count Authorization among "*".
        let header = http::HeaderName::from_bytes(name.as_bytes()).ok();
        let header = header.filter(|header| header != "*");
        if header.is_none() {
            let shown = quoted(name);
            let message =
                format!("{shown} in `headers` is no header: name each, such as \"sentry-trace\"");
            section.problem("headers", message);
        }
        header
    });
    headers.collect()
}

/// Whether a browser could send an origin so.
fn is_as_sent(origin: &str) -> bool {
    let own_port = |(scheme, port)| origin.starts_with(scheme) && origin.ends_with(port);
    let has_own_port = [("http://", ":80"), ("https://", ":443")].into_iter().any(own_port);
    origin.contains('@') || (!has_own_port && !origin.contains(|c: char| c.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_for_test;

    #[test]
    fn whom_to_trust_is_a_list_of_networks() {
        let read = |list: &str| {
            let text = format!("[http]\nmax_batch = 7\ntrusted_proxies = {list}");
            let (http, problems) =
                read_for_test(&text, |root| HttpConfig::read(&mut root.section("http")));
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            (http.trusted_proxies, problems)
        };
        let (known, problems) = read("[\"10.0.0.0/8\", \"::1\"]");
        assert!(problems.is_empty() && known.contains([10, 1, 2, 3].into()), "{problems:?}");
        let (known, problems) = read("[\"proxy.example\", \"10.1.0.0/8\", \"::1\"]");
        let start = "genkan.toml:3: `trusted_proxies` in [http], line 3: \"proxy.example\" is no";
        assert!(problems.len() == 2 && problems[0].starts_with(start), "{problems:?}");
        assert!(problems[1].contains("write \"10.0.0.0/8\""), "{problems:?}");
        assert!(known.contains(std::net::Ipv6Addr::LOCALHOST.into()));
        let (_, problems) = read("\"0.0.0.0/0\"");
        assert!(problems.len() == 1 && problems[0].contains("is everybody"), "{problems:?}");
    }

    #[test]
    fn each_network_that_is_too_wide_is_told() {
        let text = "[http]\ntrusted_proxies = [\"10.0.0.0/8\", \"0.0.0.0/1\", \"2000::/3\", \"192.0.0.0/3\"]";
        let (http, _) = read_for_test(text, |root| HttpConfig::read(&mut root.section("http")));
        let exposure = Exposure { open_to: None, own_methods: false };
        let advice: Vec<_> = http.advise(&exposure).into_iter().map(|advice| advice.what).collect();
        for first in ["0.0.0.0", "2000::", "192.0.0.0"] {
            let words = format!("begins at {first} ");
            assert!(advice.iter().any(|what| what.contains(&words)), "{first}: {advice:?}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for (origin, fits) in [
            ("https://app.example", true),
            ("http://app.example:8080", true),
            ("http://app.example:443", true),
            ("https://App.example", false),
            ("https://app.example:443", false),
            ("http://app.example:80", false),
            ("*", true),
            ("https://*.app.example", false),
            ("https://m\u{fc}nchen.example", false),
            ("https://xn--mnchen-3ya.example", true),
            ("https://*", false),
        ] {
            let text = format!("[http.cors]\norigins = \"{origin}\"");
            let (_, problems) =
                read_for_test(&text, |root| HttpConfig::read(&mut root.section("http")));
            assert_eq!(problems.is_empty(), fits, "{origin}: {problems:?}");
        }
    }

    #[test]
    fn further_headers_are_named() {
        let text = "[http.cors]\norigins = \"*\"\nheaders = [\"Sentry-Trace\", \"*\", \"a b\"]";
        let (http, problems) =
            read_for_test(text, |root| HttpConfig::read(&mut root.section("http")));
        assert_eq!(http.cors.expect("there").headers, ["sentry-trace"]);
        assert!(problems.len() == 2 && problems[0].message.contains("\"*\""), "{problems:?}");
    }

    #[test]
    fn an_origin_has_no_credentials() {
        let text = "[http.cors]\norigins = \"https://u:hunter2@app\"";
        let (_, problems) = read_for_test(text, |root| HttpConfig::read(&mut root.section("http")));
        assert!(problems[0].message.contains("is no origin"), "{problems:?}");
    }
}
