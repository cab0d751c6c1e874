//! Where an instance is: `http://`, `https://` or a Unix socket, and the path that calls go to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, Uri, header};

use super::super::guard::Guard;
use crate::config::secret::Secret;
use crate::config::sites::{is_own, site};
use crate::config::url;

/// The form of a Unix socket's URL, for messages.
const UNIX_FORM: &str = "write unix:///PATH/TO.sock:/api";

/// Where an instance is.
#[derive(Debug)]
pub(in crate::protocol::jsonrpc) struct Place {
    /// What to connect to.
    pub(in crate::protocol::jsonrpc) target: Target,
    /// Whether TLS is spoken over it.
    pub(super) tls: bool,
    /// The request's target as HTTP/1 writes it, and HTTP/2.
    pub(in crate::protocol::jsonrpc) uris: [Uri; 2],
    /// The value of `Host`.
    pub(super) host: HeaderValue,
    /// What its URL's credentials become.
    pub(in crate::protocol::jsonrpc) login: Option<(HeaderName, HeaderValue)>,
    /// What objects to addresses that it may resolve to, where a stranger named it.
    pub(super) guard: Option<Arc<Guard>>,
}

/// What to connect to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::jsonrpc) enum Target {
    /// A host's name or address without brackets, and the port.
    Tcp(String, u16),
    /// A socket's path.
    Unix(PathBuf),
}

impl Place {
    /// Reads a URL. No complaint repeats what may be a credential.
    pub(in crate::protocol::jsonrpc) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest.strip_prefix("//").unwrap_or(rest));
        }
        if let Some(rest) = text.strip_prefix("http://unix:") {
            return unix(rest);
        }
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            _ => {
                return Err("must be a URL that begins with http://, https:// or unix://".into());
            }
        };
        tcp(tls, rest)
    }

    /// Whether it is none of a socket's.
    pub(in crate::protocol::jsonrpc) fn is_tcp(&self) -> bool {
        matches!(self.target, Target::Tcp(..))
    }

    /// The same, named by a stranger: not every address that it resolves to is connected to.
    pub(in crate::protocol::jsonrpc) fn guarded_by(self, guard: &Arc<Guard>) -> Self {
        Self { guard: Some(Arc::clone(guard)), ..self }
    }

    /// Whether both lead to the same service.
    pub(in crate::protocol::jsonrpc) fn is_same(&self, other: &Self) -> bool {
        (&self.target, self.tls, &self.uris) == (&other.target, other.tls, &other.uris)
    }

    /// Where it is, for whoever compares places; `None` for a socket.
    pub(super) fn site(&self) -> Option<String> {
        match &self.target {
            Target::Tcp(host, port) => Some(site(host, *port)),
            Target::Unix(_) => None,
        }
    }

    /// Whether what is sent there can be read on the way: it is another machine's, and TLS is not spoken.
    pub(super) fn is_read_on_the_way(&self) -> bool {
        !self.tls && self.site().is_some_and(|site| !is_own(&site))
    }

    /// The path, as requests name it, without its query.
    pub(super) fn path(&self) -> &str {
        self.uris[0].path()
    }
}

impl fmt::Display for Place {
    /// Without credentials, and without a query, which may be one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Tcp(..) => {
                let scheme = if self.tls { "https" } else { "http" };
                let host = self.host.to_str().unwrap_or_default();
                write!(f, "{scheme}://{host}{}", self.path())
            }
            Target::Unix(socket) => write!(f, "unix://{}:{}", socket.display(), self.path()),
        }
    }
}

fn tcp(tls: bool, rest: &str) -> Result<Place, String> {
    let url::Rest { login, place, path, query } = url::split(rest)?;
    if place.is_empty() || place.starts_with(':') {
        return Err("names no host: write http://HOST:PORT/api".to_owned());
    }
    let authority: Authority =
        place.parse().map_err(|_| "is no valid URL: write http://HOST:PORT/api".to_owned())?;
    let default = if tls { 443 } else { 80 };
    let has_port = authority.as_str().len() > authority.host().len();
    let port = match authority.port_u16() {
        Some(port) if port > 0 => port,
        None if !has_port => default,
        _ => return Err("has no valid port: write http://HOST:PORT/api".to_owned()),
    };
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let login = login.map(basic).transpose()?;
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    finish(Target::Tcp(host, port), (tls, scheme), authority, &format!("/{path}{query}"), login)
}

fn unix(rest: &str) -> Result<Place, String> {
    let (socket, path) = match rest.split_once(":/") {
        Some((socket, path)) => (socket, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    if !socket.starts_with('/') || socket.len() < 2 {
        return Err(format!("names no socket by its whole path: {UNIX_FORM}"));
    }
    if path.contains('#') {
        return Err("ends in `#…`, which means nothing here".to_owned());
    }
    let target = Target::Unix(PathBuf::from(socket));
    finish(target, (false, Scheme::HTTP), Authority::from_static("localhost"), &path, None)
}

fn finish(
    target: Target,
    (tls, scheme): (bool, Scheme),
    authority: Authority,
    path: &str,
    login: Option<HeaderValue>,
) -> Result<Place, String> {
    let bad = "has characters in its path that must be escaped as %XX".to_owned();
    let path: PathAndQuery = path.parse().map_err(|_| bad.clone())?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad.clone())?;
    let bare = Uri::builder().path_and_query(path.clone()).build();
    let whole = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    let uris = [bare.map_err(|_| bad.clone())?, whole.map_err(|_| bad)?];
    let login = login.map(|value| (header::AUTHORIZATION, value));
    Ok(Place { target, tls, uris, host, login, guard: None })
}

/// `user:password` as HTTP's Basic scheme has it (RFC 7617).
fn basic(login: &str) -> Result<HeaderValue, String> {
    let decoded = url::decoded(login, "its credentials")?;
    if let Some((_, password)) = decoded.split_once(':') {
        // Only to make it known: it is shown nowhere.
        drop(Secret::new(password.to_owned()));
    }
    let text = if decoded.contains(':') { decoded } else { decoded + ":" };
    let encoded = Secret::new(STANDARD.encode(text));
    let value = HeaderValue::from_str(&format!("Basic {}", encoded.expose()));
    let mut value = value.map_err(|_| "holds credentials that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let tcp = |host: &str, port| Target::Tcp(host.to_owned(), port);
        for (text, target, shown, path) in [
            ("http://h/api", tcp("h", 80), "http://h/api", "/api"),
            ("https://h", tcp("h", 443), "https://h/", "/"),
            ("HTTPS://h/x", tcp("h", 443), "https://h/x", "/x"),
            (
                "http://[::1]:8000/a/b?key=geheim",
                tcp("::1", 8000),
                "http://[::1]:8000/a/b",
                "/a/b?key=geheim",
            ),
            ("http://u:p%40@h:1/", tcp("h", 1), "http://h:1/", "/"),
            (
                "unix:///run/x.sock:/api",
                Target::Unix("/run/x.sock".into()),
                "unix:///run/x.sock:/api",
                "/api",
            ),
            ("unix:/run/x.sock", Target::Unix("/run/x.sock".into()), "unix:///run/x.sock:/", "/"),
            (
                "http://unix:/run/x.sock:/api",
                Target::Unix("/run/x.sock".into()),
                "unix:///run/x.sock:/api",
                "/api",
            ),
        ] {
            let place = Place::parse(text).expect(text);
            assert_eq!((&place.target, place.to_string().as_str()), (&target, shown), "{text}");
            assert_eq!(place.uris[0].path_and_query().expect("a path").as_str(), path, "{text}");
        }
    }

    #[test]
    fn credentials_become_a_header_and_are_not_shown() {
        let place = Place::parse("http://user:pass@h/").expect("valid");
        let (name, value) = place.login.as_ref().expect("a login");
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("authorization", &b"Basic dXNlcjpwYXNz"[..])
        );
        assert!(!format!("{place:?} {place}").contains("dXNl"));
    }

    #[test]
    fn what_is_no_place_is_told_with_its_mend() {
        for (text, words) in [
            ("h:1", "begins with http://"),
            ("ftp://h", "begins with http://"),
            ("http://", "names no host"),
            ("http://:80/", "names no host"),
            ("http://h:0/", "no valid port"),
            ("http://h:99999/", "valid"),
            ("http://u:ge/heim@h/", "a raw `/` in its credentials: write it as %2F"),
            ("http://h/a b", "escaped as %XX"),
            ("http://h/#x", "ends in `#…`"),
            ("unix://run/x.sock", "unix:///PATH/TO.sock:/api"),
        ] {
            let complaint = Place::parse(text).expect_err(text);
            assert!(complaint.contains(words), "{text}: {complaint}");
            assert!(!complaint.contains("heim"), "{complaint}");
        }
    }
}
