//! The files that TLS needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use lapin::uri::AMQPScheme;
use rustls::ClientConfig;

use super::Node;
use crate::config::certificates::Role;
use crate::config::file;
use crate::config::secret::shown_path;
use crate::config::section::Section;
use crate::pem;
use crate::tls::trouble::Tried;

/// More than any chain of certificates takes, in bytes.
const LARGEST_PEM: usize = 1 << 20;

/// A CA of one's own, and a client certificate with its key.
pub(super) struct Files {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

/// What is wrong, and under which key.
type Complaint = (&'static str, String);

/// Reads the keys that name the files. `None` for nodes without TLS.
pub(super) fn read_files(section: &mut Section<'_>, nodes: &[Node]) -> Option<Files> {
    let files = [
        ("ca_file", section.path("ca_file")),
        ("cert_file", section.path("cert_file")),
        ("key_file", section.path("key_file")),
    ];
    let is_secure = |node: &Node| node.uri.scheme == AMQPScheme::AMQPS;
    let title = section.title();
    if nodes.iter().any(is_secure) && !nodes.iter().all(is_secure) {
        section.problem("urls", format!("`urls` in {title} mixes amqp:// and amqps://: write one"));
        return None;
    }
    if !nodes.iter().any(is_secure) {
        for (key, _) in files.iter().filter(|(_, path)| !nodes.is_empty() && path.is_some()) {
            section.problem(key, format!("`{key}` in {title} has no effect on amqp://: write the URL with amqps://, or leave `{key}` out"));
        }
        return None;
    }
    let [(_, ca), (_, cert), (_, key)] = files;
    if cert.is_some() != key.is_some() {
        let (has, needs) =
            if cert.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        let message =
            format!("{title} has `{has}` without `{needs}`: a client certificate needs both");
        section.problem(has, message);
        return None;
    }
    if let Some(file) = &ca {
        section.note_certificates("ca_file", file, Role::Authorities);
    }
    if let Some(file) = &cert {
        section.note_certificates("cert_file", file, Role::Shown);
    }
    Some(Files { ca, identity: cert.zip(key) })
}

impl Files {
    /// What is tried with them, for whoever tells what went wrong.
    pub(super) fn tried(&self, schemes: (&'static str, &'static str)) -> Tried {
        let (has_authorities, has_identity) = (self.ca.is_some(), self.identity.is_some());
        Tried { has_authorities, has_identity, schemes }
    }

    /// Reads the files.
    pub(super) fn read(&self) -> Result<Arc<ClientConfig>, Complaint> {
        let unusable = |key| move |error| (key, format!("it cannot be used for TLS: {error}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable("url"))?;
        // A CA of one's own is trusted alone; without one, the system's are.
        let builder = match &self.ca {
            Some(path) => builder.with_root_certificates(read("ca_file", path, pem::authorities)?),
            None => builder.with_native_roots().map_err(|_| {
                let complaint = "this system has no certificates to check an amqps:// broker's \
                                 with: name a `ca_file`";
                ("url", complaint.to_owned())
            })?,
        };
        let Some((cert, key)) = &self.identity else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = read("cert_file", cert, pem::certificates)?;
        let key = read("key_file", key, pem::private_key)?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map(Arc::new).map_err(unusable("cert_file"))
    }
}

impl Files {
    /// What is to be said of certificates that are out of their time, or soon are, and under which key.
    pub(super) fn out_of_time(&self) -> Vec<Complaint> {
        let told = |key, path: &Path, told: fn(&[u8]) -> Option<String>| {
            let told = told(&file::read(path, LARGEST_PEM).ok()?)?;
            Some((key, format!("{} {told}", shown_path(path))))
        };
        let of_chain = |content: &[u8]| pem::out_of_time(&pem::certificates(content).ok()?);
        let (ca, cert) = (self.ca.as_ref(), self.identity.as_ref().map(|(cert, _)| cert));
        let ca = ca.and_then(|path| told("ca_file", path, pem::authorities_out_of_time));
        let cert = cert.and_then(|path| told("cert_file", path, of_chain));
        ca.into_iter().chain(cert).collect()
    }
}

/// What a file holds, or what is wrong with it.
fn read<T>(
    key: &'static str,
    path: &Path,
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, Complaint> {
    let content = file::read(path, LARGEST_PEM)
        .map_err(|error| format!("cannot be read: {}", file::complaint(&error)));
    let held = content.and_then(|content| read(&content));
    held.map_err(|complaint| (key, format!("{} {complaint}", shown_path(path))))
}
