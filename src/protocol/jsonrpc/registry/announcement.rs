//! What an announcement says, and what is wrong with it before anybody is asked (WIRE, section 4.4).

use std::net::Ipv6Addr;
use std::sync::Arc;

use serde::Deserialize;

use super::super::guard::Guard;
use super::super::upstream::place::{Place, Target};
use super::book::{Form, Key};
use crate::call::Params;
use crate::config::secret::url_without_credentials;
use crate::fault::{Fault, FaultKind};
use crate::printable::printable_line;
use crate::route::pattern::Pattern;

/// The longest name, and the longest glob that is looked up, in bytes.
pub(super) const LONGEST_NAME: usize = 128;
/// The longest URL, in bytes.
const LONGEST_URL: usize = 1024;
/// How much of what was announced is repeated.
const LONGEST_ECHO: usize = 100;

/// `ping`, in each generation's form, by name and by position.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ping {
    Url { name: String, url: String },
    Place { name: String, host: String, port: Port },
    UrlByPosition(String, String),
    PlaceByPosition(String, String, Port),
}

/// A port, which a program that knows floating point alone writes as `21400.0`.
#[derive(Deserialize)]
#[serde(from = "f64")]
struct Port(Option<u16>);

impl From<f64> for Port {
    fn from(number: f64) -> Self {
        let fits = number.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&number);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it fits")]
        Self(fits.then_some(number as u16))
    }
}

/// Reads the params of a `ping`.
pub(super) fn read(params: &Params) -> Result<(Key, Form), Fault> {
    let ping = match params {
        Params::Array(json) | Params::Object(json) => serde_json::from_str(json.as_str()).ok(),
        Params::None | Params::Both { .. } => None,
    };
    let Some(ping) = ping else {
        return Err(invalid("`ping` takes {name, url} or {name, host, port}".to_owned()));
    };
    let (name, host, port) = match ping {
        Ping::Url { name, url } | Ping::UrlByPosition(name, url) => {
            return Ok((Key { name, url }, Form::Url));
        }
        Ping::Place { name, host, port } | Ping::PlaceByPosition(name, host, port) => {
            (name, host, port)
        }
    };
    let Port(Some(port)) = port else {
        return Err(invalid("`port` in `ping` is a whole number up to 65535".to_owned()));
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#@\\".contains(c)) {
        return Err(invalid(format!("`{}` is no host's name or address", excerpt(&host))));
    }
    let is_bare_v6 = host.parse::<Ipv6Addr>().is_ok();
    if host.contains(':') && !is_bare_v6 && !host.starts_with('[') {
        let message = "`{}` holds a port: it is told beside the host, as `port`";
        return Err(invalid(message.replace("{}", &excerpt(&host))));
    }
    let in_url = if is_bare_v6 { format!("[{host}]") } else { host.clone() };
    // What Gemstone up to 0.3 makes of the two.
    let url = format!("http://{in_url}:{port}/api");
    Ok((Key { name, url }, Form::HostAndPort(host, port)))
}

/// Whether a service may be announced: its name, by one of `allow`, and its URL.
pub(super) fn judge(key: &Key, allow: &[Pattern], guard: &Arc<Guard>) -> Result<(), Fault> {
    let shown = || excerpt(&key.name);
    if key.name.is_empty() || key.name.len() > LONGEST_NAME {
        return Err(invalid(format!("a service's name has 1 to {LONGEST_NAME} bytes")));
    }
    if key.name.contains(|c: char| c.is_control() || c.is_whitespace() || "*?".contains(c)) {
        return Err(invalid(format!(
            "`{}` is no service's name: it has a blank, a control character, `*` or `?`",
            shown()
        )));
    }
    if allow.is_empty() {
        return Err(denied(
            "no service may announce itself here: the names that may stand in `allow` under \
             [registry]"
                .to_owned(),
        ));
    }
    if !allow.iter().any(|pattern| pattern.matches(&key.name)) {
        return Err(denied(format!(
            "`{}` may not be announced: no pattern in `allow` under [registry] matches it",
            shown()
        )));
    }
    if key.url.is_empty() {
        return Err(invalid(format!(
            "the URL of `{}` is empty: write http://HOST:PORT/api",
            shown()
        )));
    }
    place(&key.url, guard).map(drop).map_err(|why| {
        let url = excerpt(&url_without_credentials(&key.url));
        invalid(format!("the URL of `{}`, {url}, {why}", shown()))
    })
}

/// Where a URL leads that somebody announced; or why nobody is taken there.
pub(super) fn place(url: &str, guard: &Arc<Guard>) -> Result<Place, String> {
    if url.len() > LONGEST_URL {
        return Err(format!("is longer than {LONGEST_URL} bytes"));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_http = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if !is_http || rest.starts_with("unix:") {
        return Err("must begin with http:// or https:// and name a host".to_owned());
    }
    let authority = url.split(['/', '?', '#']).nth(2).unwrap_or_default();
    // Before it is parsed: what is a password there is a secret of this process from then on.
    if authority.contains('@') {
        return Err("holds credentials, which everybody would be told: leave them out".to_owned());
    }
    let place = Place::parse(url)?;
    let objection = match &place.target {
        Target::Tcp(host, port) => guard.objects_to_host(host, *port),
        Target::Unix(_) => Some("it names a socket of this machine"),
    };
    match objection {
        Some(why) => Err(format!("is refused: {why}")),
        None => Ok(place.guarded_by(guard)),
    }
}

pub(super) fn invalid(why: String) -> Fault {
    Fault::not_sent(FaultKind::InvalidParams, why)
}

fn denied(why: String) -> Fault {
    Fault::not_sent(FaultKind::AccessDenied, why)
}

/// What a stranger sent, fit for a message.
pub(super) fn excerpt(text: &str) -> String {
    let start = text.char_indices().nth(LONGEST_ECHO).map_or(text, |(end, _)| &text[..end]);
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{}{more}", printable_line(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Payload;

    fn object(json: &'static str) -> Params {
        Params::Object(Payload::from_validated(json.into()))
    }

    fn array(json: &'static str) -> Params {
        Params::Array(Payload::from_validated(json.into()))
    }

    #[test]
    fn all_generations_of_ping() {
        let by_port = || Form::HostAndPort("127.0.0.1".to_owned(), 18100);
        for (params, url, form) in [
            (object(r#"{"name":"a.b","url":"http://h:1/api"}"#), "http://h:1/api", Form::Url),
            (array(r#"["a.b","http://h:1/api"]"#), "http://h:1/api", Form::Url),
            (
                object(r#"{"name":"a.b","host":"127.0.0.1","port":18100}"#),
                "http://127.0.0.1:18100/api",
                by_port(),
            ),
            (array(r#"["a.b","127.0.0.1",18100]"#), "http://127.0.0.1:18100/api", by_port()),
            (array(r#"["a.b","127.0.0.1",18100.0]"#), "http://127.0.0.1:18100/api", by_port()),
            (
                object(r#"{"name":"a.b","host":"127.0.0.1","port":1.81e4}"#),
                "http://127.0.0.1:18100/api",
                by_port(),
            ),
            (
                object(r#"{"name":"a.b","host":"::1","port":1}"#),
                "http://[::1]:1/api",
                Form::HostAndPort("::1".to_owned(), 1),
            ),
        ] {
            let (key, read) = read(&params).expect("a ping");
            assert_eq!((key.name.as_str(), key.url.as_str(), read), ("a.b", url, form));
        }
        for params in [
            Params::None,
            object(r#"{"name":"a"}"#),
            object(r#"{"name":7,"url":"http://h/"}"#),
            object(r#"{"name":"a","host":"h","port":65536}"#),
            object(r#"{"name":"a","host":"h","port":80.5}"#),
            object(r#"{"name":"a","host":"h","port":-1}"#),
            object(r#"{"name":"a","host":"127.0.0.1:21400","port":80}"#),
            array(r#"["a"]"#),
            array(r#"["a","b",1,2]"#),
        ] {
            let fault = read(&params).expect_err("no ping");
            assert_eq!(fault.kind(), FaultKind::InvalidParams);
        }
    }

    #[test]
    fn what_may_be_announced() {
        let (guard, allow) = (Arc::<Guard>::default(), [Pattern::new("reports.*")]);
        let judged = |name: &str, url: &str| {
            let key = Key { name: name.to_owned(), url: url.to_owned() };
            judge(&key, &allow, &guard).map_err(|fault| (fault.kind(), fault.message().to_owned()))
        };
        let good = "http://10.0.0.1:8000/api";
        assert_eq!(judged("reports.daily", good), Ok(()));
        assert_eq!(judged("reports.daily", "https://reports.internal/api?v=1"), Ok(()));
        assert_eq!(judged("reports.daily", "HTTP://REPORTS.internal:8000/api"), Ok(()));
        let long = format!("reports.{}", "x".repeat(LONGEST_NAME));
        let far = format!("{good}/{}", "x".repeat(LONGEST_URL));
        let (params, denied) = (FaultKind::InvalidParams, FaultKind::AccessDenied);
        for (name, url, kind, words) in [
            ("orders", good, denied, "`allow` under [registry]"),
            ("", good, params, "1 to 128 bytes"),
            (long.as_str(), good, params, "1 to 128 bytes"),
            ("reports.*", good, params, "no service's name"),
            ("reports.\u{1b}[2J", good, params, "no service's name"),
            ("reports.a", "ftp://h/", params, "must begin with http://"),
            ("reports.a", "unix:///run/x.sock", params, "must begin with http://"),
            ("reports.a", "http://unix:/run/x.sock", params, "must begin with http://"),
            ("reports.a", "file:///etc/passwd", params, "must begin with http://"),
            ("reports.a", "", params, "the URL of `reports.a` is empty: write http://"),
            ("reports.a", "http://", params, "names no host"),
            ("reports.a", "http://h/#x", params, "ends in"),
            ("reports.a", far.as_str(), params, "longer than"),
            ("reports.a", "http://u:geheim@h/", params, "holds credentials"),
            ("reports.a", "http://169.254.169.254/latest/", params, "metadata"),
            ("reports.a", "http://[::ffff:169.254.169.254]/", params, "metadata"),
            ("reports.a", "http://0.0.0.0:8000/api", params, "no address of one host"),
        ] {
            let (found, message) = judged(name, url).expect_err(url);
            assert_eq!(found, kind, "{name} {url}: {message}");
            assert!(message.contains(words), "{name} {url}: {message}");
            assert!(!message.contains("geheim") && !message.contains('\u{1b}'), "{message}");
        }
        let key = Key { name: "a".to_owned(), url: good.to_owned() };
        assert!(judge(&key, &[], &guard).expect_err("off").message().contains("no service may"));
    }
}
