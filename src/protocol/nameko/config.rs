//! The keys of `[upstreams.NAME]` with `protocol = "nameko"`.

use std::path::Path;
use std::time::Duration;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::secret::shown_path;
use crate::config::section::Section;

/// The largest frame, unless the URL names another. lapin keeps 32 frames of buffer for each
/// direction of each connection: RabbitMQ's own 128 KiB would make that 24 MiB for three
/// connections, which is all the memory that Genkan is to need. A message's headers have to fit
/// into one frame: 16 KiB is more than other servers take in a request's whole head.
const FRAME_MAX: u32 = 16 * 1024;

/// The settings, found valid. No `Debug`: the URI holds the password.
pub(super) struct Settings {
    /// Where and as whom to connect.
    pub(super) uri: AMQPUri,
    /// The same to show, without credentials.
    pub(super) address: String,
    /// Nameko's RPC exchange.
    pub(super) exchange: String,
    /// Whether tagged values stay as kombu wrote them.
    pub(super) keep_tagged: bool,
    /// How to speak TLS, for `amqps`.
    pub(super) tls: Option<RustlsConnector>,
    /// How long setting a connection up may take.
    pub(super) connect_timeout: Duration,
    /// How often the queues of called services are looked at.
    pub(super) probe_interval: Duration,
}

/// Reads the table; problems are reported to the section.
pub(super) fn read(section: &mut Section<'_>) -> Settings {
    let from_file = section.has("url_file");
    let given = from_file || section.has("url");
    let secret = section.secret("url", "url_file");
    let address = secret.as_ref().map(|url| url.url_without_credentials()).unwrap_or_default();
    let uri = match &secret {
        Some(url) => read_url(section, if from_file { "url_file" } else { "url" }, url.expose()),
        // Given, and not readable: that has been reported.
        None if given => None,
        None => {
            let message = format!(
                "{} needs `url`: add `url = \"amqp://USER:PASSWORD@HOST:5672/%2f\"`, or \
                 `url_file = \"…\"` with a file that holds it",
                section.title()
            );
            section.problem_here(message);
            None
        }
    };
    let mut uri = uri.unwrap_or_default();
    let exchange = section.text("exchange").unwrap_or_else(|| "nameko-rpc".to_owned());
    if exchange.is_empty() || exchange.len() > 255 {
        section.problem(
            "exchange",
            "`exchange` must be 1 to 255 bytes long: Nameko's own default is \"nameko-rpc\"",
        );
    }
    let keep_tagged = section.choice("tagged", &[("plain", false), ("keep", true)], false);
    let heartbeat_given = section.has("heartbeat");
    let heartbeat = section.duration("heartbeat", Duration::from_secs(10));
    if heartbeat_given || uri.query.heartbeat.is_none() {
        // AMQP counts whole seconds, and 0 would turn heartbeats off.
        let seconds = heartbeat.as_secs_f64().ceil().clamp(1.0, f64::from(u16::MAX));
        uri.query.heartbeat = Some(seconds as u16);
    }
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    let tls = read_tls(section, secret.is_some(), &uri);
    Settings {
        uri,
        address,
        exchange,
        keep_tagged,
        tls,
        connect_timeout: section.duration("connect_timeout", Duration::from_secs(5)),
        probe_interval: section.duration("probe_interval", Duration::from_secs(1)),
    }
}

/// Parses the URL. Messages never repeat any of it but the scheme: it holds the password.
fn read_url(section: &Section<'_>, key: &str, url: &str) -> Option<AMQPUri> {
    const SHAPE: &str = "amqp://USER:PASSWORD@HOST:5672/%2f";
    let complaint = match url.split_once("://") {
        None => format!("must be a URL such as {SHAPE}"),
        Some(("amqp" | "amqps", rest)) => match url.parse::<AMQPUri>() {
            // The parser would take what follows for a fragment and connect to somewhere else.
            Ok(_) if rest.contains('#') => {
                "holds a `#`: write it as %23, and / as %2f, @ as %40, ? as %3f in each part"
                    .to_owned()
            }
            Ok(uri) => return Some(as_nameko_reads_it(uri, rest)),
            Err(_) => format!(
                "cannot be read: write {SHAPE}, with / as %2f, @ as %40, # as %23, ? as %3f and % as %25 inside each part"
            ),
        },
        Some((scheme, _))
            if scheme.len() <= 10 && scheme.chars().all(|c| c.is_ascii_alphabetic()) =>
        {
            format!("must begin with amqp:// or amqps://, not {scheme}://: write {SHAPE}")
        }
        Some(_) => format!("must begin with amqp:// or amqps://: write {SHAPE}"),
    };
    section.problem(key, format!("`{key}` in {} {complaint}", section.title()));
    None
}

/// Mends two places where lapin's parser and Nameko's differ: `amqp://host/` is the virtual host
/// `/` for Nameko and the empty one for lapin, which would also take `[::1]` for `localhost`.
fn as_nameko_reads_it(mut uri: AMQPUri, rest: &str) -> AMQPUri {
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        uri.authority.host = address.to_owned();
    }
    uri
}

fn read_tls(section: &mut Section<'_>, has_url: bool, uri: &AMQPUri) -> Option<RustlsConnector> {
    let files = [
        ("ca_file", section.path("ca_file")),
        ("cert_file", section.path("cert_file")),
        ("key_file", section.path("key_file")),
    ];
    if uri.scheme == AMQPScheme::AMQP {
        for (key, _) in files.iter().filter(|(_, path)| has_url && path.is_some()) {
            section.problem(key, format!("`{key}` in {} has no effect on amqp://: write the URL with amqps://, or leave `{key}` out", section.title()));
        }
        return None;
    }
    let [(_, ca), (_, cert), (_, key)] = &files;
    if cert.is_some() != key.is_some() {
        let (has, needs) =
            if cert.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        section.problem(
            has,
            format!(
                "{} has `{has}` without `{needs}`: a client certificate needs both",
                section.title()
            ),
        );
        return None;
    }
    // A CA of one's own is trusted alone; without one, the system's are.
    let mut config = RustlsConnectorConfig::default();
    match ca {
        Some(path) => config.add_parsable_certificates(certificates(section, "ca_file", path)?),
        None => match RustlsConnectorConfig::new_with_native_certs() {
            Ok(native) => config = native,
            Err(_) => {
                section.problem("url", "this system has no certificates to check an amqps:// broker's with: name a `ca_file`");
                return None;
            }
        },
    }
    let connector = match (cert, key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(section, "cert_file", cert)?;
            let shown = shown_path(key);
            let Ok(key) = PrivateKeyDer::from_pem_file(key) else {
                section.problem(
                    "key_file",
                    format!("`key_file`: {shown} holds no readable private key in PEM form"),
                );
                return None;
            };
            config.connector_with_single_cert(chain, key)
        }
        _ => config.connector_with_no_client_auth(),
    };
    match connector {
        Ok(connector) => Some(connector),
        Err(error) => {
            let key = if cert.is_some() { "cert_file" } else { "ca_file" };
            section.problem(
                key,
                format!("`{key}` in {} cannot be used for TLS: {error}", section.title()),
            );
            None
        }
    }
}

fn certificates(
    section: &Section<'_>,
    key: &str,
    path: &Path,
) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let complaint = match read {
        Ok(certificates) if !certificates.is_empty() => return Some(certificates),
        Ok(_) => "holds no certificate in PEM form".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    let shown = shown_path(path);
    section.problem(key, format!("`{key}` in {}: {shown} {complaint}", section.title()));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_for_test;

    /// Reads the keys of one table, and returns what was made of them and every message.
    fn read_table(keys: &str) -> (Settings, Vec<String>) {
        let text = format!("[upstreams.rabbit]\n{keys}");
        let (settings, problems) = read_for_test(&text, |root| {
            let mut upstreams = root.section("upstreams");
            let mut table = upstreams.section("rabbit");
            read(&mut table)
        });
        (settings, problems.into_iter().map(|problem| problem.to_string()).collect())
    }

    fn problem(keys: &str) -> String {
        let (_, problems) = read_table(keys);
        assert_eq!(problems.len(), 1, "{keys}: {problems:?}");
        problems.into_iter().next().unwrap_or_default()
    }

    #[test]
    fn the_defaults() {
        let (settings, problems) = read_table(r#"url = "amqp://bob:s%2fcret@rabbit:5673/%2fshop""#);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(settings.address, "amqp://rabbit:5673/%2fshop");
        assert_eq!(settings.uri.authority.userinfo.password, "s/cret");
        assert_eq!(settings.uri.vhost, "/shop");
        assert_eq!(settings.exchange, "nameko-rpc");
        assert!(!settings.keep_tagged);
        assert_eq!(settings.uri.query.heartbeat, Some(10));
        assert_eq!(settings.uri.query.frame_max, Some(16_384));
        assert_eq!(settings.connect_timeout, Duration::from_secs(5));
        assert_eq!(settings.probe_interval, Duration::from_secs(1));
    }

    #[test]
    fn every_key() {
        let (settings, problems) = read_table(
            "url = \"amqp://h/v?frame_max=65536\"\nexchange = \"rpc\"\ntagged = \"keep\"\n\
             heartbeat = \"1500ms\"\nconnect_timeout = \"2s\"\nprobe_interval = \"250ms\"",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((settings.exchange.as_str(), settings.keep_tagged), ("rpc", true));
        assert_eq!(settings.uri.query.heartbeat, Some(2));
        assert_eq!(settings.uri.query.frame_max, Some(65_536));
        assert_eq!(settings.connect_timeout, Duration::from_secs(2));
        assert_eq!(settings.probe_interval, Duration::from_millis(250));
        let (from_url, _) = read_table(r#"url = "amqp://h/v?heartbeat=30""#);
        assert_eq!(from_url.uri.query.heartbeat, Some(30));
    }

    #[test]
    fn urls_are_read_as_nameko_reads_them() {
        let cases = [
            ("amqp://h", "/", "h"),
            ("amqp://h/", "/", "h"),
            ("amqp://h//", "/", "h"),
            ("amqp://h/%2f", "/", "h"),
            ("amqp://h/shop", "shop", "h"),
            ("amqp://u:p@[::1]:5672/shop", "shop", "::1"),
            ("amqp://127.0.0.1:5672/", "/", "127.0.0.1"),
        ];
        for (url, vhost, host) in cases {
            let (settings, problems) = read_table(&format!("url = \"{url}\""));
            assert_eq!(problems, Vec::<String>::new(), "{url}");
            assert_eq!(settings.uri.vhost, vhost, "{url}");
            assert_eq!(settings.uri.authority.host, host, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_named_with_its_mend_and_without_its_password() {
        let cases = [
            ("http://bob:hunter2@h/", "not http://"),
            ("bob:hunter2@h", "must be a URL"),
            ("amqp://bob:hunter2@h:port/", "cannot be read"),
            ("amqp://bob:hunter2@h:5672/?heartbeat=x", "cannot be read"),
            ("amqp://bob:hun#ter2@h:5672/", "%23"),
            ("hunter2-is-my-password://h", "must begin with amqp://"),
        ];
        for (url, expected) in cases {
            let message = problem(&format!("url = \"{url}\""));
            assert!(message.starts_with("genkan.toml:2: "), "{message}");
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("ter2"), "{message}");
        }
        let message = problem("");
        assert!(message.contains("needs `url`"), "{message}");
    }

    #[test]
    fn other_mistakes() {
        let url = r#"url = "amqp://h/""#;
        let cases = [
            ("exchange = \"\"", "nameko-rpc"),
            ("tagged = \"plane\"", "did you mean `plain`?"),
            ("heartbeat = 5", "duration"),
            ("probe_interval = \"0s\"", "duration"),
            ("exchang = \"x\"", "did you mean `exchange`?"),
            ("ca_file = \"ca.pem\"", "amqps://"),
        ];
        for (line, expected) in cases {
            let message = problem(&format!("{url}\n{line}"));
            assert!(message.starts_with("genkan.toml:3: "), "{message}");
            assert!(message.contains(expected), "{line}: {message}");
        }
    }

    #[test]
    fn tls_files_are_checked() {
        let secure = r#"url = "amqps://h/""#;
        let missing = problem(&format!("{secure}\nca_file = \"/nowhere/ca.pem\""));
        assert!(missing.contains("/nowhere/ca.pem cannot be read"), "{missing}");
        let half = problem(&format!("{secure}\ncert_file = \"/nowhere/cert.pem\""));
        assert!(half.contains("without `key_file`"), "{half}");
        let not_pem =
            problem(&format!("{secure}\nca_file = \"{}/Cargo.toml\"", env!("CARGO_MANIFEST_DIR")));
        assert!(not_pem.contains("holds no certificate"), "{not_pem}");
    }
}
