//! What a web page may ask of a listener: pure rules over `Host`, `Origin` and `Sec-Fetch-Site`.
//!
//! A browser lets any page send a request to any address, this machine's too, as long as it is
//! simple enough; it only keeps the answer from the page. And a page whose own name has been
//! pointed at 127.0.0.1 may read the answer as well. Programs that are no browser send neither
//! `Origin` nor `Sec-Fetch-Site`, and are not concerned.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, Request, StatusCode, Version, header};

/// What browsers say of where a request comes from.
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// How much of a header is repeated to whoever sent it.
const LONGEST_ECHO: usize = 100;

/// Which names a listener is known by, and which foreign pages may use it.
#[derive(Clone, Debug)]
pub struct WebPolicy {
    /// Whether it listens on loopback alone.
    loopback: bool,
    /// Whether it speaks TLS itself.
    secure: bool,
    /// In small letters and in order: a request costs the same however many there are.
    hosts: Vec<String>,
    /// In order.
    origins: Vec<String>,
    all_origins: bool,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwelcome {
    /// It does not say for whom it is, or says it twice.
    Malformed(&'static str),
    /// It is for a name that the listener is not known by.
    Host(String),
    /// It comes from a page of a foreign origin.
    Origin(String),
    /// It comes from a page of another site, which the browser does not name.
    Site,
}

impl WebPolicy {
    /// The policy of a listener at `listen`, over TLS where `secure`; `hosts` are names of its own
    /// (with a port or for all ports), `origins` the foreign pages that may call (`*` for all).
    pub fn new(listen: SocketAddr, secure: bool, hosts: &[String], origins: &[String]) -> Self {
        let loopback = listen.ip().to_canonical().is_loopback();
        let mut hosts: Vec<_> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.sort_unstable();
        let mut origins = origins.to_vec();
        origins.sort_unstable();
        let all_origins = origins.iter().any(|origin| origin == "*");
        Self { loopback, secure, hosts, origins, all_origins }
    }

    /// Looks at a request before anything is done for it.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Unwelcome> {
        let authority = authority(request)?;
        if let Some(authority) = authority
            && (self.loopback || !self.hosts.is_empty())
            && !self.is_known_as(authority)
        {
            return Err(Unwelcome::Host(excerpt(authority.as_bytes())));
        }
        let headers = request.headers();
        let mut origins = headers.get_all(header::ORIGIN).into_iter();
        match (origins.next(), origins.next()) {
            (None, _) => self.check_site(headers),
            (Some(origin), None) if self.welcomes(origin.as_bytes(), authority) => Ok(()),
            (Some(origin), _) => Err(Unwelcome::Origin(excerpt(origin.as_bytes()))),
        }
    }

    /// Browsers leave `Origin` out of some requests that a foreign page makes them send.
    fn check_site(&self, headers: &HeaderMap) -> Result<(), Unwelcome> {
        match headers.get(SEC_FETCH_SITE) {
            None => Ok(()),
            Some(site) if matches!(site.as_bytes(), b"same-origin" | b"none") => Ok(()),
            Some(_) if self.all_origins => Ok(()),
            Some(_) => Err(Unwelcome::Site),
        }
    }

    fn welcomes(&self, origin: &[u8], authority: Option<&str>) -> bool {
        self.all_origins
            || self.origins.binary_search_by(|known| known.as_bytes().cmp(origin)).is_ok()
            || authority.is_some_and(|authority| self.is_own(origin, authority))
    }

    /// Whether an origin is the one that the request is for.
    fn is_own(&self, origin: &[u8], authority: &str) -> bool {
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        let Some((scheme, origin)) = origin.split_once("://") else { return false };
        // A proxy may end TLS in front of a plain listener. Whoever has a page under https has a
        // certificate for its name: which names are the listener's own, was looked at before.
        let default_port = match scheme {
            "https" => "443",
            "http" if !self.secure => "80",
            _ => return false,
        };
        let (name, port) = split_port(authority);
        let (origin_name, origin_port) = split_port(origin);
        name.eq_ignore_ascii_case(origin_name)
            && port.unwrap_or(default_port) == origin_port.unwrap_or(default_port)
    }

    /// Whether a name can only mean this listener. A name that somebody else can point at this
    /// machine is none, unless the operator names it.
    fn is_known_as(&self, authority: &str) -> bool {
        let (name, _) = split_port(authority);
        let bare = name.strip_suffix('.').unwrap_or(name);
        let localhost = || {
            let top = bare.rsplit('.').next().unwrap_or_default();
            top.eq_ignore_ascii_case("localhost")
        };
        let listed = |name| self.hosts.binary_search_by(|host| by_letters(host, name)).is_ok();
        is_address(name) || localhost() || listed(authority) || listed(bare)
    }
}

/// Compares a name in small letters with one in any.
fn by_letters(small: &str, name: &str) -> Ordering {
    small.bytes().cmp(name.bytes().map(|byte| byte.to_ascii_lowercase()))
}

impl Unwelcome {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Unwelcome::Malformed(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

impl fmt::Display for Unwelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwelcome::Malformed(how) => f.write_str(how),
            Unwelcome::Host(host) => write!(
                f,
                "this listener is not known as `{host}`: use its IP address or `localhost`, or add \
                 the name to `hosts`"
            ),
            Unwelcome::Origin(origin) => write!(
                f,
                "pages of the origin `{origin}` may not call: [http.cors] `origins` names those \
                 that may"
            ),
            Unwelcome::Site => f.write_str(
                "pages of other sites may not call: [http.cors] `origins` names those that may",
            ),
        }
    }
}

/// For whom a request is: HTTP/2's `:authority` or the target's own, else `Host`. Only HTTP/1.0
/// may leave it out.
fn authority<B>(request: &Request<B>) -> Result<Option<&str>, Unwelcome> {
    let malformed = |how| Err(Unwelcome::Malformed(how));
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    let mut hosts = request.headers().get_all(header::HOST).into_iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return malformed("the request has two `Host` headers");
    }
    let Some(host) = host else {
        return match (request.version(), target) {
            (Version::HTTP_2, Some(target)) if is_authority(target) => Ok(Some(target)),
            (Version::HTTP_09 | Version::HTTP_10, _) => Ok(target),
            _ => malformed("the request has no `Host` header"),
        };
    };
    match host.to_str() {
        Ok(host) if is_authority(host) => match target {
            Some(target) if !is_authority(target) => {
                malformed("the request's target has no valid host")
            }
            Some(target) if request.version() == Version::HTTP_2 && target != host => {
                malformed("the request's `Host` header and `:authority` differ")
            }
            // HTTP/1.1: the target's own goes before the header (RFC 9112, section 3.2.2).
            target => Ok(Some(target.unwrap_or(host))),
        },
        _ => malformed("the request's `Host` header is no host"),
    }
}

/// Whether it is a host with a port or none, and nothing else.
pub fn is_authority(text: &str) -> bool {
    let (name, port) = split_port(text);
    let digits = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let named = !name.is_empty() && name.bytes().all(letter);
    (named || is_address(name)) && port.is_none_or(digits)
}

fn is_address(name: &str) -> bool {
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
    }
}

/// Splits `name:port`; an IPv6 address stands in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

/// What may be repeated of a header's value.
fn excerpt(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let shown: String = text.chars().filter(|letter| !letter.is_control()).collect();
    match shown.char_indices().nth(LONGEST_ECHO) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1:8080";
    const PUBLIC: &str = "0.0.0.0:8080";

    fn policy(listen: &str, secure: bool, hosts: &[&str], origins: &[&str]) -> WebPolicy {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let listen = listen.parse().expect("an address");
        WebPolicy::new(listen, secure, &texts(hosts), &texts(origins))
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::post("/api");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    fn host(host: &str) -> Request<()> {
        request(&[("host", host)])
    }

    #[test]
    fn on_loopback_a_host_is_one_that_nobody_else_can_point_here() {
        let plain = policy(LOOPBACK, false, &["Gateway.example", "other.example:90"], &[]);
        for known in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "[::1]",
            "192.168.0.7:8080",
            "localhost:8080",
            "LOCALHOST",
            "localhost.",
            "app.localhost:8080",
            "gateway.example:8080",
            "gateway.example.",
            "other.example:90",
        ] {
            assert_eq!(plain.check(&host(known)), Ok(()), "{known}");
        }
        for foreign in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "other.example",
            "other.example:91",
            "gateway.example.evil",
        ] {
            let refused = plain.check(&host(foreign)).expect_err(foreign);
            assert_eq!(refused, Unwelcome::Host(foreign.to_owned()));
            assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        }
        assert_eq!(policy(PUBLIC, false, &[], &[]).check(&host("any.example")), Ok(()));
        let named = policy(PUBLIC, false, &["api.example"], &[]);
        assert_eq!(named.check(&host("api.example")), Ok(()));
        assert!(named.check(&host("evil.example")).is_err());
    }

    #[test]
    fn each_of_many_names_and_origins_is_known() {
        let names: Vec<_> = (0..1_000).rev().map(|n| format!("App{n}.example")).collect();
        let origins: Vec<_> = names.iter().map(|name| format!("https://{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let origins: Vec<&str> = origins.iter().map(String::as_str).collect();
        let many = policy(LOOPBACK, false, &names, &origins);
        for (name, origin) in names.iter().zip(&origins) {
            let small = format!("{}:8080", name.to_lowercase());
            assert_eq!(many.check(&request(&[("host", &small), ("origin", origin)])), Ok(()));
            let other = format!("x{name}");
            assert!(many.check(&host(&other)).is_err(), "{other}");
            let foreign = format!("{origin}:1");
            assert!(many.check(&request(&[("host", &small), ("origin", &foreign)])).is_err());
        }
    }

    #[test]
    fn a_host_is_there_once_and_is_one() {
        let public = policy(PUBLIC, false, &[], &[]);
        for broken in
            ["", " ", "a b", "http://a", "a/b", "u@a", "a:b", "a:123456", "::1", "[x]", "a,b"]
        {
            let refused = public.check(&host(broken)).expect_err(broken);
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{broken}");
        }
        assert!(public.check(&request(&[])).is_err());
        assert!(public.check(&request(&[("host", "a"), ("host", "a")])).is_err());
        let mut old = request(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(public.check(&old), Ok(()));
    }

    #[test]
    fn the_target_s_own_host_goes_before_the_header() {
        let loopback = policy(LOOPBACK, false, &[], &[]);
        let mut absolute = host("127.0.0.1");
        *absolute.uri_mut() = "http://evil.example/api".parse().expect("a target");
        assert!(loopback.check(&absolute).is_err());
        *absolute.version_mut() = Version::HTTP_2;
        assert_eq!(loopback.check(&absolute).expect_err("two").status(), StatusCode::BAD_REQUEST);
        absolute.headers_mut().clear();
        assert_eq!(loopback.check(&absolute).expect_err("foreign").status(), StatusCode::FORBIDDEN);
        *absolute.uri_mut() = "http://localhost:8080/api".parse().expect("a target");
        assert_eq!(loopback.check(&absolute), Ok(()));
    }

    #[test]
    fn an_origin_is_the_listeners_own_or_configured() {
        let check = |policy: &WebPolicy, host: &str, origin: &str| {
            policy.check(&request(&[("host", host), ("origin", origin)])).is_ok()
        };
        let plain = policy(LOOPBACK, false, &[], &["https://app.example"]);
        for (host, origin, welcome) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("localhost:8080", "http://LOCALHOST:8080", true),
            ("localhost", "http://localhost:80", true),
            ("localhost:8080", "https://app.example", true),
            ("localhost:8080", "http://localhost:3000", false),
            ("localhost:8080", "https://localhost", false),
            ("localhost:8080", "http://127.0.0.1:8080", false),
            ("localhost:8080", "http://app.example", false),
            ("localhost:8080", "https://app.example.evil", false),
            ("localhost:8080", "null", false),
            ("localhost:8080", "", false),
            ("localhost:8080", "file://", false),
        ] {
            assert_eq!(check(&plain, host, origin), welcome, "{host} {origin}");
        }
        let secure = policy(LOOPBACK, true, &[], &[]);
        assert!(check(&secure, "localhost", "https://localhost:443"));
        assert!(!check(&secure, "localhost:8443", "http://localhost:8443"));
        // TLS may end in front of a plain listener.
        let behind_proxy = policy(PUBLIC, false, &[], &[]);
        assert!(check(&behind_proxy, "api.example", "https://api.example"));
        assert!(!check(&behind_proxy, "api.example", "https://www.example"));
        let beside_proxy = policy(LOOPBACK, false, &["api.example", "www.example:8443"], &[]);
        for (host, origin, welcome) in [
            ("api.example", "https://api.example", true),
            ("api.example:443", "https://api.example", true),
            ("API.example", "https://api.example:443", true),
            ("www.example:8443", "https://www.example:8443", true),
            ("localhost", "https://localhost", true),
            // Another port, another site, and a name that somebody has pointed at the proxy.
            ("api.example", "https://api.example:8443", false),
            ("api.example", "https://www.example", false),
            ("evil.example", "https://evil.example", false),
            ("127.0.0.1:8080", "https://api.example", false),
        ] {
            assert_eq!(check(&beside_proxy, host, origin), welcome, "{host} {origin}");
        }
        let open = policy(PUBLIC, false, &[], &["*"]);
        assert!(check(&open, "api.example", "https://evil.example"));
        let two = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "null")];
        assert!(plain.check(&request(&two)).is_err());
    }

    #[test]
    fn a_page_that_the_browser_does_not_name_is_told_by_its_site() {
        let plain = policy(LOOPBACK, false, &[], &["https://app.example"]);
        let check = |policy: &WebPolicy, site: &str| {
            policy.check(&request(&[("host", "localhost"), ("sec-fetch-site", site)]))
        };
        for own in ["same-origin", "none"] {
            assert_eq!(check(&plain, own), Ok(()));
        }
        for foreign in ["cross-site", "same-site", "whatever"] {
            assert_eq!(check(&plain, foreign), Err(Unwelcome::Site));
        }
        let headers = [
            ("host", "localhost"),
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://app.example"),
        ];
        assert_eq!(plain.check(&request(&headers)), Ok(()));
        assert_eq!(check(&policy(LOOPBACK, false, &[], &["*"]), "cross-site"), Ok(()));
    }

    #[test]
    fn what_is_repeated_is_short_and_has_no_controls() {
        let long = "x".repeat(5_000);
        let plain = policy(LOOPBACK, false, &[], &[]);
        let refused = plain.check(&host(&long)).expect_err("foreign").to_string();
        assert!(refused.len() < 400, "{refused}");
        assert_eq!(excerpt(b"a\tb\xff"), "ab\u{fffd}");
    }
}
