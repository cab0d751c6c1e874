//! The settings of a JSON-RPC upstream, and every contradiction among them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, header};

use super::super::mark;
use super::place::Place;
use crate::config::audit::Advice;
use crate::config::secret::{FoundSecret, quoted, url_without_credentials};
use crate::config::section::Section;
use crate::redact;
use crate::route::pattern::Pattern;
use crate::tls::ClientFiles;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the five seconds after which Node's servers close.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// What one answer may take of the memory.
const MAX_REPLY: usize = 16 * 1024 * 1024;
const MAX_CONNECTIONS: usize = 256;

/// Headers that are Genkan's or the connection's own.
const OWN: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    mark::CALL,
    HeaderName::from_static("genkan-hops"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("keep-alive"),
];

/// Headers that say something of the caller's request or connection, or that Genkan has verified and sets.
const BETWEEN: [HeaderName; 17] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-timeout"),
    HeaderName::from_static("x-user-id"),
];

/// Everything that calls and connections need.
pub(super) struct Settings {
    /// Where the instances are, where the file says so.
    pub(super) places: Vec<Arc<Place>>,
    /// The URL of the one that there is, where `url` or `url_file` names it.
    pub(super) url: Option<FoundSecret>,
    /// Else the names under which they have announced themselves. One of both is there unless a
    /// problem was reported.
    pub(super) registry: Option<Pattern>,
    /// Headers to add to each call.
    pub(super) headers: Vec<(HeaderName, FoundSecret)>,
    /// Headers of callers that go on to it.
    pub(super) forwarded: Vec<Arc<str>>,
    /// Whom to trust, and who we are.
    pub(super) certificates: Arc<ClientFiles>,
    /// HTTP/2 without asking for it.
    pub(super) http2: bool,
    /// The largest answer that is taken in.
    pub(super) max_reply: usize,
    /// From the name's look-up to the end of TLS.
    pub(super) connect_timeout: Duration,
    /// How long a connection may have been idle that is used again.
    pub(super) keep_alive: Duration,
    /// How many connections one instance gets.
    pub(super) max_connections: usize,
    /// Whether the method is sent with its service's name.
    pub(super) qualified: bool,
}

impl Settings {
    /// For a place that is asked by itself.
    pub(super) fn of_one(certificates: Arc<ClientFiles>, largest: usize) -> Self {
        Self {
            places: Vec::new(),
            url: None,
            registry: None,
            headers: Vec::new(),
            forwarded: Vec::new(),
            certificates,
            http2: false,
            max_reply: largest,
            connect_timeout: CONNECT_TIMEOUT,
            keep_alive: KEEP_ALIVE,
            max_connections: 1,
            qualified: false,
        }
    }
}

impl Settings {
    /// The file that holds the URL, for people.
    pub(super) fn url_file(&self) -> Option<String> {
        self.url.as_ref().and_then(FoundSecret::shown_file)
    }

    /// One of the places that what is sent to can be read on the way to.
    pub(super) fn read_on_the_way(&self) -> Option<&Place> {
        self.places.iter().map(|place| &**place).find(|place| place.is_read_on_the_way())
    }

    /// What an operator should mend whom the world can reach.
    pub(super) fn advise(&self) -> Vec<Advice> {
        let mut advice = Vec::new();
        let goes_on = |name: &str| self.forwarded.iter().any(|forwarded| **forwarded == *name);
        if goes_on("x-api-key") {
            let what = "callers' `X-API-Key` goes on to the service: where it is a key of [[auth.keys]], whoever \
                        has the service can call with it: leave it out, services learn who calls as X-User-Id";
            advice.push(Advice::new("forward_headers", what));
        }
        let login =
            self.places.iter().any(|place| place.login.is_some() && place.is_read_on_the_way());
        let carried = [
            ("headers", !self.headers.is_empty(), "what [headers] adds to each call"),
            ("forward_headers", !self.forwarded.is_empty(), "callers' headers that go on to it"),
            ("url", login, "the password in the URL"),
        ];
        let Some(place) = self.read_on_the_way() else { return advice };
        for (key, _, what) in carried.into_iter().filter(|(_, is_carried, _)| *is_carried) {
            let what = format!(
                "{place} is reached without TLS: {what} can be read on the way: write https://, or reach it \
                 by a proxy on this machine that speaks TLS"
            );
            advice.push(Advice::new(key, what));
        }
        advice
    }
}

/// Reads the table. What is missing or contradictory is reported to the section.
pub(super) fn read(section: &mut Section<'_>) -> Settings {
    let (places, url) = read_places(section);
    let registry = section.text("registry").map(|text| Pattern::new(&text));
    let keys = ["ca_file", "cert_file", "key_file"];
    let named = keys.map(|key| section.has(key).then_some(key));
    let certificates = ClientFiles::read(section);
    if registry.as_ref().is_some_and(|pattern| pattern.as_str().is_empty()) {
        let title = section.title();
        section.problem("registry", format!("`registry` in {title} is empty: write a glob over the names that services announce, such as \"reports.*\""));
    }
    if !places.is_empty() && !places.iter().any(|place| place.tls) {
        let title = section.title();
        for key in named.into_iter().flatten() {
            section.problem(key, format!("`{key}` in {title} has no effect without https://: write the URL with https://, or leave `{key}` out"));
        }
    }
    Settings {
        headers: read_headers(section, &places),
        forwarded: read_forwarded(section),
        places,
        url,
        registry,
        certificates: Arc::new(certificates),
        http2: section.flag("http2", false),
        max_reply: section.size("max_reply", MAX_REPLY),
        connect_timeout: section.duration("connect_timeout", CONNECT_TIMEOUT),
        keep_alive: section.duration("keep_alive", KEEP_ALIVE),
        max_connections: section.count("max_connections", MAX_CONNECTIONS, 1, 65_536),
        qualified: section.flag("qualified", false),
    }
}

/// Reads `url` or `urls`. A URL may hold a password: no message repeats more of it than its host.
fn read_places(section: &mut Section<'_>) -> (Vec<Arc<Place>>, Option<FoundSecret>) {
    let (has_url, has_urls) = (section.has("url") || section.has("url_file"), section.has("urls"));
    let found = section.found_secret("url", "url_file");
    let one = found.as_ref().map(|url| url.secret.expose().to_owned());
    let many = section.texts("urls");
    let title = section.title();
    if has_url && has_urls {
        section.problem("urls", format!("{title} has both `url` and `urls`: keep one of them"));
    } else if section.has("registry") {
        if has_url || has_urls {
            let key = if has_url { "url" } else { "urls" };
            section.problem(
                "registry",
                format!("{title} has both `{key}` and `registry`: keep one of them"),
            );
        }
    } else if !has_url && many.is_empty() {
        let mend = "add `url = \"http://HOST:PORT/api\"`, `urls = […]`, or `registry = \"NAME.*\"`";
        section.problem_here(format!("{title} needs `url`: {mend}"));
    }
    let key = if has_url { "url" } else { "urls" };
    let mut places: Vec<Arc<Place>> = Vec::new();
    for text in one.into_iter().chain(many) {
        redact::register(&text);
        let fail = |what: &str| {
            let shown = url_without_credentials(&text);
            // What is no URL may be a password that stands in the wrong place.
            let shown = if text.contains("://") { format!(": {shown}") } else { String::new() };
            section.problem(key, format!("`{key}` in {title}{shown} {what}"));
        };
        match Place::parse(&text) {
            Ok(place) if places.iter().any(|other| other.is_same(&place)) => {
                fail("stands there twice: keep one");
            }
            Ok(place) => places.push(Arc::new(place)),
            Err(what) => fail(&what),
        }
    }
    (places, found)
}

/// Reads `forward_headers`.
fn read_forwarded(section: &mut Section<'_>) -> Vec<Arc<str>> {
    let mut forwarded: Vec<Arc<str>> = Vec::new();
    for text in section.texts("forward_headers") {
        let title = section.title();
        let fail = |what: &str| {
            let shown = quoted(&text);
            section.problem(
                "forward_headers",
                format!("`forward_headers` in {title}: {shown} {what}"),
            );
        };
        let Ok(name) = text.parse::<HeaderName>() else {
            fail("is no name that a header can have");
            continue;
        };
        if name == header::AUTHORIZATION {
            fail("goes on where `forward_authorization` of [http] says so, and nowhere else");
        } else if OWN.contains(&name) || BETWEEN.contains(&name) {
            fail("is about the caller's own request, or Genkan's to set: leave it out");
        } else if forwarded.iter().all(|other| **other != *name.as_str()) {
            forwarded.push(name.as_str().into());
        }
    }
    forwarded
}

fn read_headers(
    section: &mut Section<'_>,
    places: &[Arc<Place>],
) -> Vec<(HeaderName, FoundSecret)> {
    let mut table = section.section("headers");
    let mut headers: Vec<(HeaderName, FoundSecret)> = Vec::new();
    for (name, value) in table.secrets_by_name() {
        let title = table.title();
        let fail = |what: String| table.problem(&name, format!("`{name}` in {title} {what}"));
        // A variable's name has no dash.
        let is_variable = table.is_from_environment(&name);
        let written = if is_variable { name.replace('_', "-") } else { name.clone() };
        let Ok(header) = written.parse::<HeaderName>() else {
            fail("is no name that a header can have".to_owned());
            continue;
        };
        let has_login = places.iter().any(|place| place.login.is_some());
        if OWN.contains(&header) {
            fail("is set by Genkan itself: leave it out".to_owned());
        } else if header == header::AUTHORIZATION && has_login {
            fail("stands beside credentials in a URL: keep one of them".to_owned());
        } else if headers.iter().any(|(other, _)| *other == header) {
            fail("stands there twice, in capitals and without: keep one".to_owned());
        } else if http::HeaderValue::from_str(value.secret.expose()).is_err() {
            fail("has a value that no header can have".to_owned());
        } else {
            headers.push((header, value));
        }
    }
    headers
}
