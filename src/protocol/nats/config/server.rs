//! One URL in `servers`: `nats://[USER:PASSWORD@ | TOKEN@]HOST[:PORT]`, or `tls://…`.
//!
//! What else can stand in a URL means nothing here, and says that its writer expected something:
//! each is an error with its mend. No message repeats more of the text than its host.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Auth, SecretSource};
use crate::config::secret::Secret;
use crate::config::url;
use crate::redact;

const PORT: u16 = 4222;

/// The keys of the table, for what was written into the URL.
const KEYS: [&str; 13] = [
    "tls",
    "user",
    "password",
    "token",
    "nkey",
    "credentials_file",
    "ca_file",
    "cert_file",
    "key_file",
    "connect_timeout",
    "ping_interval",
    "inbox_prefix",
    "discover",
];

/// A server's address.
#[derive(Debug)]
pub(in crate::protocol::nats) struct Server {
    /// A name or an address, without brackets.
    pub(in crate::protocol::nats) host: String,
    /// Its port.
    pub(in crate::protocol::nats) port: u16,
    /// TLS even where the server does not ask for it.
    pub(in crate::protocol::nats) tls: bool,
    /// The name that its certificate is for, where it is not the host.
    name: Option<String>,
    /// The credentials in the URL.
    pub(in crate::protocol::nats) auth: Arc<Auth>,
}

impl Server {
    /// Reads one URL; or what is wrong with it, and the mend.
    pub(in crate::protocol::nats) fn parse(text: &str) -> Result<Self, String> {
        parse(text)
    }

    /// The name that its certificate has to be for.
    pub(in crate::protocol::nats) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.host)
    }

    /// Another server of its cluster, which it names as `HOST:PORT`. As in other clients it gets the
    /// same login, TLS where this one has it, and where it is a bare address, the certificate may be
    /// for the name under which this one was reached.
    pub(in crate::protocol::nats) fn sibling(&self, address: &str, tls: bool) -> Option<Self> {
        let (host, port) = host_and_port(address).ok()?;
        let is_address = |host: &str| host.parse::<IpAddr>().is_ok();
        let name = Some(self.name()).filter(|name| is_address(&host) && !is_address(name));
        let name = name.map(str::to_owned);
        Some(Self { host, port, tls: tls || self.tls, name, auth: Arc::clone(&self.auth) })
    }

    /// Whether both are at the same host and port, as they are written.
    pub(in crate::protocol::nats) fn is_at_place_of(&self, other: &Self) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        let (host, port) = (&self.host, self.port);
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// Splits a list in one string, as other clients take it: `nats://a:4222,nats://b:4222`.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = next_url(rest) {
        parts.push(rest[..at].trim());
        rest = &rest[at + 1..];
    }
    parts.push(rest.trim());
    parts
}

/// The comma after which another URL begins.
fn next_url(text: &str) -> Option<usize> {
    let mut commas = text.match_indices(',').map(|(at, _)| at);
    commas.find(|at| {
        let next = text[at + 1..].trim_start();
        next.starts_with("nats://") || next.starts_with("tls://")
    })
}

fn parse(text: &str) -> Result<Server, String> {
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("nats") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tls") => (true, rest),
        _ => {
            return Err("must be a URL that begins with nats:// or tls://, like nats://HOST:4222"
                .to_owned());
        }
    };
    let url::Rest { login, place, path, query } = url::split(rest)?;
    if !path.is_empty() {
        return Err("has a path, and NATS has none: write nats://HOST:PORT".to_owned());
    }
    url::keys(query, &[], &[], &KEYS)?;
    let (host, port) = host_and_port(place)?;
    let auth = login.map_or(Ok(Auth::None), credentials)?;
    Ok(Server { host, port, tls, name: None, auth: Arc::new(auth) })
}

fn host_and_port(place: &str) -> Result<(String, u16), String> {
    const WRONG: &str = "is no valid URL: write nats://HOST:PORT, and special characters of a \
                         password as %XX";
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(WRONG)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| WRONG)?;
            (host, rest.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err("names no host: write nats://HOST:4222".to_owned());
    }
    if host.contains(',') {
        return Err("holds several hosts: write each as a URL of its own, in a list".to_owned());
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}%".contains(c)) {
        return Err(WRONG.to_owned());
    }
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(WRONG)?,
    };
    Ok((host.to_owned(), port))
}

/// `user:password` is a user, `token` a token, as every NATS client reads them.
fn credentials(login: &str) -> Result<Auth, String> {
    let secret = |text: &str| {
        // With its escapes too.
        redact::register(text);
        decoded(text).map(|text| SecretSource::fixed(Secret::new(text)))
    };
    Ok(match login.split_once(':') {
        Some((user, password)) => Auth::User(decoded(user)?, secret(password)?),
        None if login.is_empty() => Auth::None,
        None => Auth::Token(secret(login)?),
    })
}

fn decoded(text: &str) -> Result<String, String> {
    url::decoded(text, "its credentials")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_in_one_string() {
        assert_eq!(
            split("nats://a:1, tls://b:2,nats://c"),
            ["nats://a:1", "tls://b:2", "nats://c"]
        );
        assert_eq!(split("nats://u:p,w@h"), ["nats://u:p,w@h"]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("nats://h", "nats://h:4222"),
            ("NATS://h", "nats://h:4222"),
            ("tls://[::1]:7", "tls://[::1]:7"),
            ("nats://[::1]", "nats://[::1]:4222"),
            ("nats://h:1/", "nats://h:1"),
            ("nats://h:1?", "nats://h:1"),
        ] {
            assert_eq!(parse(text).expect(text).to_string(), shown);
        }
    }

    #[test]
    fn servers_that_others_name() {
        let one = parse("nats://u:p@nats.example:4222").expect("a server");
        let address = one.sibling("10.0.0.2:4223", true).expect("a server");
        assert_eq!(
            (address.to_string().as_str(), address.name()),
            ("tls://10.0.0.2:4223", "nats.example")
        );
        assert!(matches!(&*address.auth, Auth::User(user, _) if user == "u"));
        // Its own siblings are checked against the same name, and keep TLS.
        let next = address.sibling("[::1]:1", false).expect("a server");
        assert_eq!((next.to_string().as_str(), next.name()), ("tls://[::1]:1", "nats.example"));
        let named = address.sibling("other.example:1", false).expect("a server");
        assert_eq!(named.name(), "other.example");
        for address in ["", ":1", "h:0", "h:x", "a b:1", "u:p@h:1"] {
            assert!(one.sibling(address, false).is_none(), "{address}");
        }
    }

    #[test]
    fn what_means_nothing_is_named_with_its_mend() {
        for (text, words) in [
            ("nats://u:gehe/im@h:1", "a raw `/` in its credentials: write it as %2F"),
            ("nats://u:gehe?im@h:1", "a raw `?` in its credentials: write it as %3F"),
            ("nats://u:gehe#im@h:1", "a raw `#` in its credentials: write it as %23"),
            ("nats://u:gehe;im@h:1", "a raw `;` in its credentials: write it as %3B"),
            ("nats://u:gehe,im@h:1", "a raw `,` in its credentials: write it as %2C"),
            ("nats://u:gehe%im@h:1", "a raw `%` in its credentials: write it as %25"),
            ("nats://h:1/geheim", "has a path"),
            ("nats://h:1#geheim", "ends in `#…`"),
            (
                "nats://h:1?tsl=true",
                "`tsl`, and keys stand in the table, not in the URL: did you \
                                     mean `tls`?",
            ),
            ("nats://h:1/?pingInterval=5s", "a key `pingInterval`"),
            ("nats://h:1?=&x", "has a key ``"),
            ("nats://h1:1,h2:2", "is no valid URL"),
            ("nats://h1,h2", "holds several hosts"),
            ("nats://[::1", "is no valid URL"),
            ("nats://h:0", "is no valid URL"),
            ("nats://:1", "names no host"),
            ("http://u:geheim@h", "must be a URL that begins"),
        ] {
            let complaint = parse(text).expect_err(text);
            assert!(complaint.contains(words), "{text}: {complaint}");
            assert!(!complaint.contains("geh"), "{complaint}");
        }
    }
}
