//! An upstream's URLs: where RabbitMQ's nodes are, and as whom to log in.
//!
//! No complaint repeats more of a URL than its scheme and a key's name: the rest may be the password. Must not: do I/O.

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::config::secret::Secret;
use crate::config::sites::{is_own, site};
use crate::config::url;

/// The largest frame, unless the URL names another. lapin keeps 32 frames of buffer for each
/// direction of each connection: RabbitMQ's own 128 KiB would make that 24 MiB for three
/// connections, which is all the memory that Genkan is to need. A message's headers have to fit
/// into one frame: 16 KiB is more than other servers take in a request's whole head.
const FRAME_MAX: u32 = 16 * 1024;
const SHAPE: &str = "amqp://USER:PASSWORD@HOST:5672/%2f";
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

/// A node of RabbitMQ. No `Debug`: the URI holds the password.
pub(in super::super) struct Node {
    pub(in super::super) uri: AMQPUri,
    /// The same to show, without credentials.
    pub(in super::super) address: String,
}

impl Node {
    /// Whether what is sent there can be read on the way: it is another machine's, and TLS is not spoken.
    pub(in super::super) fn is_read_on_the_way(&self) -> bool {
        let authority = &self.uri.authority;
        self.uri.scheme == AMQPScheme::AMQP && !is_own(&site(&authority.host, authority.port))
    }
}

/// Reads one URL, or several as other clients take them: one behind the other, with commas or
/// semicolons between.
pub(super) fn read_list(text: &str, beside: Beside) -> Result<Vec<Node>, String> {
    let mut rest = text.trim();
    let mut nodes = Vec::new();
    loop {
        let next = ["amqp://", "amqps://"]
            .into_iter()
            .flat_map(|scheme| rest.match_indices(scheme).map(|(at, _)| at).filter(|at| *at > 0));
        let next = next.filter(|at| rest[..*at].trim_end().ends_with([',', ';'])).min();
        let (url, more) = next.map_or((rest, ""), |at| rest.split_at(at));
        let url = url.trim_end();
        let url = if more.is_empty() { url } else { url.trim_end_matches([',', ';']) };
        nodes.push(read(url, beside)?);
        if more.is_empty() {
            return Ok(nodes);
        }
        rest = more;
    }
}

/// What the table says beside the URLs, and a URL must not contradict.
#[derive(Clone, Copy)]
pub(super) struct Beside {
    pub(super) heartbeat: bool,
    pub(super) cert_file: bool,
}

/// Reads one URL. The complaint goes on where its key was named.
fn read(text: &str, beside: Beside) -> Result<Node, String> {
    let (is_secure, rest) = match text.split_once("://") {
        None => return Err(format!("must be a URL such as {SHAPE}")),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("amqp") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("amqps") => (true, rest),
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
    if parts.path.contains('&') {
        return Err(
            "has a raw `&` in its virtual host: the first key stands behind a `?`, and in a \
                    name `&` is %26"
                .to_owned(),
        );
    }
    if parts.place.contains([',', ';']) {
        return Err(format!(
            "holds several hosts, and a URL names one: give each its own, `urls = [\"{SHAPE}\", …]`"
        ));
    }
    check_port(parts.place)?;
    check_query(beside, is_secure, &parts)?;
    let mut uri: AMQPUri = text.parse().map_err(|_| {
        format!(
            "cannot be read: write {SHAPE}, with / as %2f, @ as %40, # as %23, ? as %3f and % as \
             %25 inside each part"
        )
    })?;
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    let address = Secret::new(text.to_owned()).url_without_credentials();
    Ok(Node { uri: as_nameko_reads_it(uri, rest), address })
}

/// Whether what stands behind the host is a port.
fn check_port(place: &str) -> Result<(), String> {
    let behind = place.rsplit_once(']').map_or(place, |(_, behind)| behind);
    let Some((_, port)) = behind.rsplit_once(':') else { return Ok(()) };
    if port.is_empty() || port.parse().is_ok_and(|port: u16| port > 0) {
        return Ok(());
    }
    Err("has something behind its host that is no port: write a number from 1 to 65535".to_owned())
}

/// What a URL's keys say has to be known, safe, and said nowhere else.
fn check_query(beside: Beside, tls: bool, parts: &url::Rest<'_>) -> Result<(), String> {
    let tables = ["exchange", "connect_timeout", "probe_interval", "ca_file", "cert_file"];
    for (key, value) in url::keys(parts.query, &URL_KEYS, &OTHERS_KEYS, &tables)? {
        match (key, value.to_ascii_lowercase().as_str()) {
            ("auth_mechanism", "plain" | "amqplain") => {}
            ("auth_mechanism", "external") if !tls || !beside.cert_file => {
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
            ("heartbeat", _) if beside.heartbeat => {
                return Err("has a `heartbeat` beside the one in the table: keep one".to_owned());
            }
            ("frame_max", bytes) if bytes.parse().is_ok_and(|bytes: u32| bytes < LEAST_FRAME) => {
                return Err(format!("has a `frame_max` below AMQP's least, {LEAST_FRAME}"));
            }
            (_, number) if number.parse::<u32>().is_err() => {
                return Err(format!("has a `{key}` that is no whole number"));
            }
            ("heartbeat" | "channel_max", number) if number.parse::<u16>().is_err() => {
                return Err(format!("has a `{key}` above AMQP's most, 65535"));
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
