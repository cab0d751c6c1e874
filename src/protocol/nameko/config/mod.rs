//! The keys of `[upstreams.NAME]` with `protocol = "nameko"`.
//!
//! Secrets and certificates that stand in files are read again before each attempt to connect.

mod tls;
mod url;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::uri::AMQPScheme;
use rustls::ClientConfig;

use tls::Files;
use url::Beside;
pub(super) use url::Node;

use crate::config::secret::SecretSource;
use crate::config::section::Section;
use crate::metrics::RefusedFile;
use crate::tls::trouble::Tried;

/// How often RabbitMQ and we tell each other that we live.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The largest reply, unpacked.
const MAX_REPLY: usize = 16 << 20;
/// The largest request to an exposed service, unpacked. As over HTTP.
const MAX_REQUEST: usize = 1 << 20;
/// How many calls of an exposed service are taken at once. As Nameko's own workers.
const PREFETCH: usize = 10;

/// The settings, found valid. No `Debug`: URIs hold passwords.
pub(super) struct Settings {
    /// Where it connects to, to show, without credentials.
    pub(super) address: String,
    /// Nameko's RPC exchange.
    pub(super) exchange: String,
    /// Whether tagged values stay as kombu wrote them.
    pub(super) keep_tagged: bool,
    /// How long setting a connection up may take.
    pub(super) connect_timeout: Duration,
    /// How often the queues of called services are looked at.
    pub(super) probe_interval: Duration,
    /// The largest reply, unpacked.
    pub(super) max_reply: usize,
    /// The largest request to an exposed service, unpacked.
    pub(super) max_request: usize,
    /// How many calls of an exposed service are taken at once, where its row does not say.
    pub(super) prefetch: u16,
    /// Whether calls expire in their service's queue with their deadline.
    pub(super) expiration: bool,
    /// Whether exchanges of events are made so that they go with their last queue.
    pub(super) auto_delete_events: bool,
    /// Whether credentials of calls to exposed services travel on.
    pub(super) forward_authorization: bool,
    /// Whether who they say calls is believed.
    pub(super) trust_context: bool,
    /// A file that holds the URLs.
    file: Option<SecretSource>,
    /// In whole seconds, where the URL does not say.
    heartbeat: u16,
    tls: Option<Files>,
    beside: Beside,
    last: Mutex<Last>,
}

/// What files held when they could be used last.
struct Last {
    nodes: Vec<Arc<Node>>,
    tls: Option<Arc<ClientConfig>>,
    refused: Option<RefusedFile>,
    refused_url: Option<RefusedFile>,
}

impl Settings {
    /// The file that holds the URLs, for people.
    pub(super) fn url_file(&self) -> Option<String> {
        self.file.as_ref().and_then(SecretSource::shown_file)
    }

    /// The nodes, as they stand now. What cannot be used keeps the old ones, loudly.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        let read = self.file.as_ref().map(|file| url::read_list(file.now().expose(), self.beside));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_refused = match &read {
            None => false,
            Some(Ok(nodes)) => !self.speaks_tls_with(nodes),
            Some(Err(_)) => true,
        };
        if is_refused {
            last.refused_url.get_or_insert_with(|| RefusedFile::new("url_file"));
        } else {
            last.refused_url = None;
        }
        match read {
            None => {}
            Some(Ok(nodes)) if !is_refused => last.nodes = self.ready(nodes),
            Some(Ok(_)) => tracing::error!(
                "`url_file` turns TLS on or off, which takes a reload: the old URL stays"
            ),
            Some(Err(complaint)) => tracing::error!("`url_file` {complaint}: the old URL stays"),
        }
        last.nodes.clone()
    }

    /// A node as it stands now, which may have another password.
    pub(super) fn renewed(&self, node: &Arc<Node>) -> Arc<Node> {
        let now = self.nodes().into_iter().find(|now| now.address == node.address);
        now.unwrap_or_else(|| Arc::clone(node))
    }

    /// How to speak TLS, for `amqps`, and what is tried so. Files that cannot be used keep the old ones, loudly.
    pub(super) fn tls(
        &self,
        schemes: (&'static str, &'static str),
    ) -> Option<(Arc<ClientConfig>, Tried)> {
        let files = self.tls.as_ref()?;
        let read = files.read();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(config) => (last.tls, last.refused) = (Some(config), None),
            Err((_, complaint)) => {
                last.refused.get_or_insert_with(|| RefusedFile::new("ca_file"));
                tracing::error!(
                    complaint,
                    "a certificate or key cannot be used: the old one stays"
                );
            }
        }
        last.tls.clone().map(|config| (config, files.tried(schemes)))
    }

    fn speaks_tls_with(&self, nodes: &[Node]) -> bool {
        nodes.iter().all(|node| (node.uri.scheme == AMQPScheme::AMQPS) == self.tls.is_some())
    }

    fn ready(&self, nodes: Vec<Node>) -> Vec<Arc<Node>> {
        let ready = nodes.into_iter().map(|mut node| {
            node.uri.query.heartbeat.get_or_insert(self.heartbeat);
            Arc::new(node)
        });
        ready.collect()
    }
}

/// Reads the table; problems are reported to the section.
pub(super) fn read(section: &mut Section<'_>) -> Settings {
    let key = if section.has("url_file") { "url_file" } else { "url" };
    let beside =
        Beside { heartbeat: section.has("heartbeat"), cert_file: section.has("cert_file") };
    let (file, nodes) = read_nodes(section, key, beside);
    let addresses: Vec<_> = nodes.iter().map(|node| node.address.as_str()).collect();
    let address = addresses.join(", ");
    let exchange = section.text("exchange").unwrap_or_else(|| "nameko-rpc".to_owned());
    if exchange.is_empty() || exchange.len() > 255 {
        section.problem(
            "exchange",
            "`exchange` must be 1 to 255 bytes long: Nameko's own default is \"nameko-rpc\"",
        );
    }
    let keep_tagged = section.choice("tagged", &[("plain", false), ("keep", true)], false);
    // AMQP counts whole seconds, and 0 would turn heartbeats off.
    let heartbeat = section.duration("heartbeat", HEARTBEAT);
    let seconds = u16::try_from(heartbeat.as_secs()).ok().filter(|seconds| *seconds > 0);
    let whole = seconds.filter(|_| heartbeat.subsec_nanos() == 0);
    if whole.is_none() {
        let title = section.title();
        let message = format!(
            "`heartbeat` in {title} must be whole seconds, \"1s\" at least and \"65535s\" at most: AMQP \
             counts them"
        );
        section.problem("heartbeat", message);
    }
    let heartbeat = whole.unwrap_or(1);
    let files = tls::read_files(section, &nodes);
    let last = Last { nodes: Vec::new(), tls: None, refused: None, refused_url: None };
    let settings = Settings {
        address,
        exchange,
        keep_tagged,
        connect_timeout: section.duration("connect_timeout", Duration::from_secs(5)),
        probe_interval: section.duration("probe_interval", Duration::from_secs(1)),
        max_reply: section.size("max_reply", MAX_REPLY),
        max_request: section.size("max_request", MAX_REQUEST),
        prefetch: u16::try_from(section.count("prefetch", PREFETCH, 1, 10_000)).unwrap_or(u16::MAX),
        expiration: section.flag("expiration", true),
        auto_delete_events: section.flag("auto_delete_events", false),
        forward_authorization: section.flag("forward_authorization", false),
        trust_context: section.flag("trust_context", false),
        file,
        heartbeat,
        tls: files,
        beside,
        last: Mutex::new(last),
    };
    let nodes = settings.ready(nodes);
    let read = settings.tls.as_ref().map(Files::read);
    let mut last = settings.last.lock().unwrap_or_else(PoisonError::into_inner);
    last.nodes = nodes;
    match read {
        None => {}
        Some(Ok(config)) => {
            last.tls = Some(config);
            for (key, told) in settings.tls.iter().flat_map(Files::out_of_time) {
                section.warn(key, format!("`{key}` in {}: {told}", section.title()));
            }
        }
        Some(Err((key, complaint))) => {
            section.problem(key, format!("`{key}` in {}: {complaint}", section.title()));
        }
    }
    drop(last);
    settings
}

/// Where the nodes are: `url`, `urls` or `url_file`, of which there must be one.
fn read_nodes(
    section: &mut Section<'_>,
    key: &'static str,
    beside: Beside,
) -> (Option<SecretSource>, Vec<Node>) {
    let (has_urls, has_url) = (section.has("urls"), section.has("url") || section.has("url_file"));
    let source = section.secret_source("url", "url_file");
    let urls = section.texts("urls");
    let title = section.title().to_owned();
    let complain = |key: &str, complaint: String| {
        section.problem(key, format!("`{key}` in {title} {complaint}"));
    };
    if has_urls && has_url {
        complain("urls", format!("stands beside `{key}`: keep one of them"));
        return (None, Vec::new());
    }
    if has_urls {
        if urls.is_empty() {
            complain("urls", "is empty: name at least one node".to_owned());
        }
        let nodes = urls.iter().map(|text| url::read_list(text, beside));
        let read = nodes.collect::<Result<Vec<_>, _>>().map_err(|it| complain("urls", it));
        let nodes: Vec<Node> = read.unwrap_or_default().into_iter().flatten().collect();
        let differs = |other: &Node| {
            let (one, other) = (&nodes[0].uri, &other.uri);
            one.vhost != other.vhost || one.query.heartbeat != other.query.heartbeat
        };
        if nodes.iter().skip(1).any(differs) {
            let message = format!(
                "`urls` in {title} name several virtual hosts or heartbeats, and the nodes of one \
                 RabbitMQ share both: services would be there or not, as the node says"
            );
            section.warn("urls", message);
        }
        return (None, nodes);
    }
    let Some(source) = source else {
        // Given, and not readable: that has been reported.
        if !has_url {
            section.problem_here(format!(
                "{title} needs `url`: add `url = \"amqp://USER:PASSWORD@HOST:5672/%2f\"`, `urls = \
                 […]` for several nodes, or `url_file = \"…\"` with a file that holds it"
            ));
        }
        return (None, Vec::new());
    };
    let read = url::read_list(source.now().expose(), beside).map_err(|it| complain(key, it));
    ((key == "url_file").then_some(source), read.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use lapin::uri::AMQPUri;

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

    fn uri(settings: &Settings) -> AMQPUri {
        settings.nodes()[0].uri.clone()
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
        assert_eq!(uri(&settings).authority.userinfo.password, "s/cret");
        assert_eq!(uri(&settings).vhost, "/shop");
        assert_eq!(settings.exchange, "nameko-rpc");
        assert!(!settings.keep_tagged);
        assert_eq!(uri(&settings).query.heartbeat, Some(10));
        assert_eq!(uri(&settings).query.frame_max, Some(16_384));
        assert_eq!(settings.connect_timeout, Duration::from_secs(5));
        assert_eq!(settings.probe_interval, Duration::from_secs(1));
        assert_eq!((settings.prefetch, settings.max_request), (10, 1 << 20));
        assert!(!settings.forward_authorization);
    }

    #[test]
    fn every_key() {
        let (settings, problems) = read_table(
            "url = \"amqp://h/v?frame_max=65536\"\nexchange = \"rpc\"\ntagged = \"keep\"\n\
             heartbeat = \"2s\"\nconnect_timeout = \"2s\"\nprobe_interval = \"250ms\"\n\
             prefetch = 64\nmax_request = \"8MiB\"\nforward_authorization = true",
        );
        assert_eq!((settings.prefetch, settings.max_request), (64, 8 << 20));
        assert!(settings.forward_authorization);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((settings.exchange.as_str(), settings.keep_tagged), ("rpc", true));
        assert_eq!(uri(&settings).query.heartbeat, Some(2));
        assert_eq!(uri(&settings).query.frame_max, Some(65_536));
        assert_eq!(settings.connect_timeout, Duration::from_secs(2));
        assert_eq!(settings.probe_interval, Duration::from_millis(250));
        let (from_url, _) = read_table(r#"url = "amqp://h/v?heartbeat=30""#);
        assert_eq!(uri(&from_url).query.heartbeat, Some(30));
    }

    #[test]
    fn urls_are_read_as_nameko_reads_them() {
        let cases = [
            ("amqp://h", "/", "h"),
            ("amqp://h/", "/", "h"),
            ("AMQP://h/shop", "shop", "h"),
            ("amqp://h//", "/", "h"),
            ("amqp://h/%2f", "/", "h"),
            ("amqp://h/shop", "shop", "h"),
            ("amqp://u:p@[::1]:5672/shop", "shop", "::1"),
            ("amqp://127.0.0.1:5672/", "/", "127.0.0.1"),
        ];
        for (url, vhost, host) in cases {
            let (settings, problems) = read_table(&format!("url = \"{url}\""));
            assert_eq!(problems, Vec::<String>::new(), "{url}");
            assert_eq!(uri(&settings).vhost, vhost, "{url}");
            assert_eq!(uri(&settings).authority.host, host, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_named_with_its_mend_and_without_its_password() {
        let cases = [
            ("http://bob:hunter2@h/", "not http://"),
            ("bob:hunter2@h", "must be a URL"),
            ("amqp://bob:hunter2@h:port/", "no port"),
            ("amqp://bob:hunter2@h:99999/", "from 1 to 65535"),
            ("amqp://bob:hunter2@h:5672/?heartbeat=x", "`heartbeat` that is no whole number"),
            ("amqp://bob:hun#ter2@h:5672/", "%23"),
            ("hunter2-is-my-password://h", "must begin with amqp://"),
            ("amqp://h1,h2:5672/v", "give each its own, `urls = "),
            ("amqp://bob:hunter2@h:5672/,amqp://bob:hunter2@h2/?x=y", "an unknown key"),
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
            ("amqp://h/?channel_max=70000", "`channel_max` above AMQP's most, 65535"),
            ("amqp://h/%2f&heartbeat=5", "behind a `?`"),
            ("amqp://[::1]:0/", "no port"),
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
    fn several_nodes_as_a_list_or_as_other_clients_write_them() {
        for keys in [
            r#"urls = ["amqp://u:p@a:1/v", "amqp://u:p@b:2/v"]"#,
            r#"url = "amqp://u:p@a:1/v,amqp://u:p@b:2/v""#,
            r#"url = "amqp://u:p@a:1/v; amqp://u:p@b:2/v""#,
        ] {
            let (settings, problems) = read_table(keys);
            assert_eq!(problems, Vec::<String>::new(), "{keys}");
            assert_eq!(settings.address, "amqp://a:1/v, amqp://b:2/v", "{keys}");
            let nodes = settings.nodes();
            let hosts: Vec<_> = nodes.iter().map(|it| it.uri.authority.host.as_str()).collect();
            assert_eq!(hosts, ["a", "b"], "{keys}");
            assert!(nodes.iter().all(|node| node.uri.vhost == "v"), "{keys}");
        }
        for (keys, expected) in [
            (r#"urls = []"#, "is empty"),
            ("url = \"amqp://a\"\nurls = [\"amqp://b\"]", "stands beside `url`"),
            (r#"urls = ["amqp://a", "amqps://b"]"#, "mixes amqp:// and amqps://"),
            (r#"urls = ["amqp://a", "amqp://b/?x=1"]"#, "an unknown key"),
        ] {
            assert!(problem(keys).contains(expected), "{keys}: {}", problem(keys));
        }
    }

    #[test]
    fn a_url_in_a_file_is_read_again_and_one_that_is_broken_keeps_the_old_one() {
        let folder = std::env::temp_dir().join(format!("genkan-{:x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("url");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("amqp://u:old@h/v\n");
        let (settings, problems) = read_table(&format!("url_file = {file:?}\nheartbeat = \"7s\""));
        assert_eq!(problems, Vec::<String>::new());
        let password = || uri(&settings).authority.userinfo.password;
        assert_eq!(password(), "old");
        let before = settings.nodes().remove(0);
        write("amqp://u:new@h/v");
        assert_eq!(password(), "new");
        assert_eq!(settings.renewed(&before).uri.authority.userinfo.password, "new");
        for broken in ["amqp://u:ne/w@h/v", "", "http://h", "amqps://u:new@h/v"] {
            write(broken);
            assert_eq!((password().as_str(), uri(&settings).query.heartbeat), ("new", Some(7)));
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(password(), "new");
    }

    #[test]
    fn other_mistakes() {
        let url = r#"url = "amqp://h/""#;
        let cases = [
            ("exchange = \"\"", "nameko-rpc"),
            ("tagged = \"plane\"", "did you mean `plain`?"),
            ("heartbeat = 5", "duration"),
            ("max_reply = \"x\"", "size"),
            ("heartbeat = \"1ms\"", "\"1s\" at least"),
            ("heartbeat = \"1500ms\"", "whole seconds"),
            ("heartbeat = \"20h\"", "\"65535s\" at most"),
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
