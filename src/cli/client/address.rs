//! Where a call goes: a URL as it is typed, with what it leaves out filled in, and its
//! credentials taken out so that they are sent and never shown.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::cli::CommandError;
use crate::config::secret::Secret;

/// Where JSON-RPC is spoken when a URL does not say (CONTRACT, section 4; WIRE 4.1).
const API: &str = "/api";

/// An HTTP URL that a request can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    shown: String,
    authorization: Option<HeaderValue>,
    /// The socket that leads there, where it is none of TCP.
    socket: Option<PathBuf>,
}

impl Address {
    /// A gateway's URL, with or without its final `/api`.
    pub fn gateway(text: &str) -> Result<Self, CommandError> {
        let complete = |path: &str| match path.trim_end_matches('/') {
            path if path.ends_with(API) => path.to_owned(),
            path => format!("{path}{API}"),
        };
        Self::parse(text, complete)
    }

    /// The URL of a service: as it is, or `/api` where it has no path at all. A final `/` alone is a
    /// path. A Unix socket is `unix:///PATH/TO.sock:/api`, as in the configuration.
    pub fn service(text: &str) -> Result<Self, CommandError> {
        let complete = |path: &str| if path.is_empty() { API } else { path }.to_owned();
        let scheme = text.split_once("://").map_or("http", |(scheme, _)| scheme);
        match socket(text) {
            Some(rest) => Self::at_socket(text, rest, complete),
            None if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
                Self::parse(text, complete)
            }
            None => {
                let shown = Secret::new(text.to_owned()).url_without_credentials();
                let shown = crate::printable::printable(&shown);
                Err(CommandError::Usage(format!(
                    "`{shown}` leads to no service: it must start with http://, https:// or unix://"
                )))
            }
        }
    }

    /// A registry's URL: likewise, but no registry is at `/`.
    pub fn registry(text: &str) -> Result<Self, CommandError> {
        let bare = text.strip_suffix('/').filter(|bare| {
            let (_, rest) = bare.split_once("://").unwrap_or(("", bare));
            socket(text).is_none() && !rest.contains(['/', '?', '#'])
        });
        Self::service(bare.unwrap_or(text))
    }

    /// `rest` is what follows `unix://`.
    fn at_socket(
        text: &str,
        rest: &str,
        complete: impl FnOnce(&str) -> String,
    ) -> Result<Self, CommandError> {
        let (socket, path) = match rest.find(":/") {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, ""),
        };
        let shown = crate::printable::printable(text);
        if socket.len() < 2 || !socket.starts_with('/') {
            return Err(CommandError::Usage(format!(
                "`{shown}` names no socket by its whole path: write unix:///PATH/TO.sock:/api"
            )));
        }
        let at = Self::parse(&format!("http://localhost{path}"), complete)?;
        Ok(Self { shown, socket: Some(PathBuf::from(socket)), ..at })
    }

    /// The stream of events of a gateway, whose URL may end in `/api`.
    pub fn events(text: &str, query: &str) -> Result<Self, CommandError> {
        Self::parse(text, |path| {
            let path = path.trim_end_matches('/');
            format!("{}/events?{query}", path.strip_suffix(API).unwrap_or(path))
        })
    }

    /// A page of a gateway's admin listener.
    pub fn admin(text: &str, page: &str) -> Result<Self, CommandError> {
        if let Some(path) = text.strip_prefix("unix://") {
            let shown = crate::printable::printable(text);
            let at = Self::parse("http://localhost", |_| page.to_owned())?;
            return Ok(Self { shown, socket: Some(PathBuf::from(path)), ..at });
        }
        Self::parse(text, |path| format!("{}{page}", path.trim_end_matches('/')))
    }

    /// Where requests go, without credentials.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The URL for people: without credentials and query.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The credentials that the URL held, as the header that carries them.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The Unix socket that leads there.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Whether both are at the same host and port, or socket.
    pub fn is_at_place_of(&self, other: &Self) -> bool {
        self.socket == other.socket
            && self.uri.scheme() == other.uri.scheme()
            && self.uri.authority() == other.uri.authority()
    }

    /// The same with a token, unless it has credentials of its own.
    #[must_use]
    pub fn with_bearer(mut self, token: &Secret) -> Self {
        if self.authorization.is_none() {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok();
            self.authorization = value.map(|mut value| {
                value.set_sensitive(true);
                value
            });
        }
        self
    }

    fn parse(text: &str, complete: impl FnOnce(&str) -> String) -> Result<Self, CommandError> {
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let secret = Secret::new(text);
        let shown = crate::printable::printable(&secret.url_without_credentials());
        let wrong = |why: &str| CommandError::Usage(format!("`{shown}` is no HTTP URL: {why}"));

        let (scheme, rest) = secret.expose().split_once("://").unwrap_or_default();
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return Err(wrong("it must start with http:// or https://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path_and_query) =
            rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) =
            path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()));
        let (user_info, host) = match authority.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, authority),
        };
        let authority: Authority = host
            .parse()
            .ok()
            .filter(|authority: &Authority| !authority.host().is_empty() && port_fits(authority))
            .ok_or_else(|| wrong("the host or the port is wrong"))?;
        let path = complete(path);
        let path_and_query: PathAndQuery =
            format!("{path}{query}").parse().map_err(|_| wrong("the path is wrong"))?;
        let shown = format!("{scheme}://{authority}{}", path_and_query.path());
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(path_and_query)
            .build()
            .map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { uri, shown, authorization: user_info.and_then(basic), socket: None })
    }
}

/// What follows `unix://`, or `http://unix:`, of a URL that names a socket.
fn socket(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("unix:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    rest.or_else(|| text.strip_prefix("http://unix:"))
}

fn port_fits(authority: &Authority) -> bool {
    let after_host = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    after_host.is_empty() || authority.port_u16().is_some_and(|port| port > 0)
}

/// RFC 7617: `user:password`, which a URL writes with percent signs.
fn basic(user_info: &str) -> Option<HeaderValue> {
    let decode = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let plain = [decode(user), b":".to_vec(), decode(password)].concat();
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways() {
        let cases = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/api"),
            ("http://127.0.0.1:8080/api", "http://127.0.0.1:8080/api"),
            ("http://127.0.0.1:8080/api/", "http://127.0.0.1:8080/api"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080/api"),
            ("localhost", "http://localhost/api"),
            ("HTTPS://example.org/rpc", "https://example.org/rpc/api"),
            ("http://[::1]:8080", "http://[::1]:8080/api"),
            ("http://h?x=1", "http://h/api?x=1"),
        ];
        for (text, uri) in cases {
            assert_eq!(Address::gateway(text).expect(text).uri().to_string(), uri);
        }
    }

    #[test]
    fn services() {
        let cases = [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/api"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/"),
            ("http://127.0.0.1:8000/rpc?v=1#top", "http://127.0.0.1:8000/rpc?v=1"),
        ];
        for (text, uri) in cases {
            assert_eq!(Address::service(text).expect(text).uri().to_string(), uri);
        }
    }

    #[test]
    fn registries() {
        for (text, uri) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/api"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/api"),
            ("127.0.0.1:8000/", "http://127.0.0.1:8000/api"),
            ("http://h/x/", "http://h/x/"),
        ] {
            assert_eq!(Address::registry(text).expect(text).uri().to_string(), uri);
        }
    }

    #[test]
    fn what_is_no_way_to_a_service_is_told_with_those_that_are() {
        for text in ["ws://h:1/api", "wss://h/api", "ftp://h/"] {
            let error = Address::service(text).expect_err(text).to_string();
            let words = "it must start with http://, https:// or unix://";
            assert!(error.contains(words), "{error}");
            let error = Address::gateway(text).expect_err(text).to_string();
            assert!(error.contains("it must start with http:// or https://"), "{error}");
        }
    }

    #[test]
    fn sockets() {
        for (text, socket, path) in [
            ("unix:///run/x.sock:/api", "/run/x.sock", "/api"),
            ("unix:///run/x.sock", "/run/x.sock", "/api"),
            ("unix:/run/x.sock:/", "/run/x.sock", "/"),
            ("http://unix:/run/x.sock:/rpc?v=1", "/run/x.sock", "/rpc?v=1"),
        ] {
            let address = Address::service(text).expect(text);
            assert_eq!(address.socket(), Some(Path::new(socket)), "{text}");
            let asked = address.uri().path_and_query().map(|path| path.as_str());
            assert_eq!((asked, address.shown()), (Some(path), text));
        }
        let error = Address::service("unix://run/x.sock").expect_err("no whole path").to_string();
        assert!(error.contains("unix:///PATH/TO.sock:/api"), "{error}");
    }

    #[test]
    fn credentials_are_sent_and_not_shown() {
        let address = Address::service("http://bob:s%40crét@h:1/x?token=t").expect("valid");
        assert_eq!(address.shown(), "http://h:1/x");
        assert_eq!(address.uri().to_string(), "http://h:1/x?token=t");
        let header = address.authorization().and_then(|value| value.to_str().ok());
        assert_eq!(header, Some(format!("Basic {}", BASE64.encode("bob:s@crét")).as_str()));
        assert!(!format!("{address:?}").contains("Qm9i"));
    }

    #[test]
    fn wrong_urls_are_named_without_their_credentials() {
        for text in [
            "ftp://u:secret@h",
            "http://",
            "http://u:secret@h:99999/",
            "http://a b/",
            "http://h:0",
            "http://u:secret@:80",
        ] {
            let error = Address::gateway(text).expect_err(text).to_string();
            assert!(!error.contains("secret") && error.contains("is no HTTP URL"), "{error}");
        }
    }
}
