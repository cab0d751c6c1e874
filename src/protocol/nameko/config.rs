//! The keys of `[upstreams.NAME]` with `protocol = "nameko"`.

use std::path::Path;
use std::time::Duration;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::secret::shown_path;
use crate::config::section::Section;
use crate::config::url;

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

/// What a URL may say beside where and as whom to connect.
const URL_KEYS: [&str; 4] = ["heartbeat", "frame_max", "channel_max", "auth_mechanism"];
/// What other clients let a URL say.
const OTHERS_KEYS: [(&str, &str); 9] = [
    ("connection_timeout", "write `connect_timeout = \"…\"` in the table"),
    ("cacertfile", "write `ca_file = \"…\"` in the table"),
    ("certfile", "write `cert_file = \"…\"` in the table"),
    ("keyfile", "write `key_file = \"…\"` in the table"),
    ("verify", "the certificate of an amqps:// broker is always checked; name its `ca_file`"),
    ("fail_if_no_peer_cert", "the certificate of an amqps:// broker is always checked"),
    ("server_name_indication", "it is the host's name"),
    ("ssl", "write amqps:// for TLS"),
    ("ssl_options", "write amqps://, and `ca_file` and the like in the table"),
];
/// AMQP's own least.
const LEAST_FRAME: u32 = 4_096;

/// Parses the URL. Messages never repeat any of it but the scheme and keys' names: it holds the
/// password.
fn read_url(section: &Section<'_>, key: &str, url: &str) -> Option<AMQPUri> {
    match parse_url(section, url) {
        Ok(uri) => Some(uri),
        Err(complaint) => {
            section.problem(key, format!("`{key}` in {} {complaint}", section.title()));
            None
        }
    }
}

fn parse_url(section: &Section<'_>, text: &str) -> Result<AMQPUri, String> {
    const SHAPE: &str = "amqp://USER:PASSWORD@HOST:5672/%2f";
    let rest = match text.split_once("://") {
        None => return Err(format!("must be a URL such as {SHAPE}")),
        Some(("amqp" | "amqps", rest)) => rest,
        Some((scheme, _))
            if scheme.len() <= 10 && scheme.chars().all(|c| c.is_ascii_alphabetic()) =>
        {
            let shape = format!("write {SHAPE}");
            return Err(format!("must begin with amqp:// or amqps://, not {scheme}://: {shape}"));
        }
        Some(_) => return Err(format!("must begin with amqp:// or amqps://: write {SHAPE}")),
    };
    let parts = url::split(rest)?;
    // `amqp://h//` is the virtual host `/`, as Nameko reads it.
    if parts.path != "/" {
        url::escaped(parts.path, "its virtual host")?;
    }
    if parts.place.contains(',') {
        return Err(format!("holds several hosts, and a URL names one: write {SHAPE}"));
    }
    check_query(section, text.starts_with("amqps:"), &parts)?;
    let uri: AMQPUri = text.parse().map_err(|_| {
        format!("cannot be read: write {SHAPE}, with / as %2f, @ as %40, # as %23, ? as %3f and % as %25 inside each part")
    })?;
    Ok(as_nameko_reads_it(uri, rest))
}

/// What a URL's keys say has to be known, safe, and said nowhere else.
fn check_query(section: &Section<'_>, tls: bool, parts: &url::Rest<'_>) -> Result<(), String> {
    let tables = ["exchange", "connect_timeout", "probe_interval", "ca_file", "cert_file"];
    for (key, value) in url::keys(parts.query, &URL_KEYS, &OTHERS_KEYS, &tables)? {
        match (key, value.to_ascii_lowercase().as_str()) {
            ("auth_mechanism", "plain" | "amqplain") => {}
            ("auth_mechanism", "external") if !tls || !section.has("cert_file") => {
                return Err("has `auth_mechanism=external`, and no certificate to log in with: \
                            write amqps://, `cert_file` and `key_file`"
                    .to_owned());
            }
            ("auth_mechanism", "external") => {}
            ("auth_mechanism", "anonymous" | "rabbit-cr-demo") => {
                return Err("has an `auth_mechanism` that proves nothing: write `plain`, or \
                            `external` with a client's certificate"
                    .to_owned());
            }
            ("auth_mechanism", _) => {
                return Err(
                    "has an unknown `auth_mechanism`: write `plain` or `external`".to_owned()
                );
            }
            ("heartbeat", "0") => {
                return Err("has `heartbeat=0`, and without one a dead broker is never noticed: \
                            write seconds"
                    .to_owned());
            }
            ("heartbeat", _) if section.has("heartbeat") => {
                return Err("has a `heartbeat` beside the one in the table: keep one".to_owned());
            }
            ("frame_max", bytes) if bytes.parse().is_ok_and(|bytes: u32| bytes < LEAST_FRAME) => {
                return Err(format!("has a `frame_max` below AMQP's least, {LEAST_FRAME}"));
            }
            (_, number) if number.parse::<u32>().is_err() => {
                return Err(format!("has a `{key}` that is no whole number"));
            }
            _ => {}
        }
    }
    Ok(())
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
            ("amqp://bob:hunter2@h:5672/?heartbeat=x", "`heartbeat` that is no whole number"),
            ("amqp://bob:hun#ter2@h:5672/", "%23"),
            ("hunter2-is-my-password://h", "must begin with amqp://"),
        ];
        for (url, expected) in cases {
            let message = problem(&format!("url = \"{url}\""));
            assert!(message.starts_with("genkan.toml:2: "), "{message}");
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("ter2"), "{message}");
        }
        for (url, expected) in [
            ("amqp://h/?heartbaet=5", "an unknown key `heartbaet`: did you mean `heartbeat`?"),
            ("amqp://h/?heartbeat=5&heartbeat=6", "the key `heartbeat` twice"),
            ("amqp://h/?heartbeat=0", "write seconds"),
            ("amqp://h/?frame_max=64", "AMQP's least, 4096"),
            ("amqp://h/?verify=verify_none", "always checked"),
            ("amqp://h/?connection_timeout=5", "write `connect_timeout"),
            ("amqp://h/?auth_mechanism=anonymous", "write `plain`"),
            ("amqp://h/?auth_mechanism=external", "write amqps://, `cert_file` and `key_file`"),
            ("amqp://h/a/b", "a raw `/` in its virtual host: write it as %2F"),
            ("amqp://h/a;b", "a raw `;` in its virtual host: write it as %3B"),
            ("amqp://u:hunter,2@h/", "a raw `,` in its credentials: write it as %2C"),
            ("amqp://u:hunter/2@h/", "a raw `/` in its credentials: write it as %2F"),
            ("amqp://a:1,b:1/", "several hosts"),
        ] {
            let message = problem(&format!("url = \"{url}\""));
            assert!(message.contains(expected), "{url}: {message}");
            assert!(!message.contains("hunter"), "{message}");
        }
        let twice = problem("url = \"amqp://h/?heartbeat=5\"\nheartbeat = \"9s\"");
        assert!(twice.contains("beside the one in the table"), "{twice}");
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
