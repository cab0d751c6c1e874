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
mod tests;
