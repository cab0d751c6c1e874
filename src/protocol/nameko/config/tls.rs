//! The files that TLS needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use lapin::uri::AMQPScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Node;
use crate::config::secret::shown_path;
use crate::config::section::Section;

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
    Some(Files { ca, identity: cert.zip(key) })
}

impl Files {
    /// Reads the files.
    pub(super) fn read(&self) -> Result<Arc<ClientConfig>, Complaint> {
        let unusable = |key| move |error| (key, format!("it cannot be used for TLS: {error}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable("url"))?;
        // A CA of one's own is trusted alone; without one, the system's are.
        let builder = match &self.ca {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates("ca_file", path)?);
                if roots.is_empty() {
                    let shown = shown_path(path);
                    let complaint = format!("{shown} holds no certificate that can be used");
                    return Err(("ca_file", complaint));
                }
                builder.with_root_certificates(roots)
            }
            None => builder.with_native_roots().map_err(|_| {
                let complaint = "this system has no certificates to check an amqps:// broker's \
                                 with: name a `ca_file`";
                ("url", complaint.to_owned())
            })?,
        };
        let Some((cert, key)) = &self.identity else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = certificates("cert_file", cert)?;
        let shown = shown_path(key);
        let key = PrivateKeyDer::from_pem_file(key).map_err(|_| {
            ("key_file", format!("{shown} holds no readable private key in PEM form"))
        })?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map(Arc::new).map_err(unusable("cert_file"))
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let complaint = match read {
        Ok(certificates) if !certificates.is_empty() => return Ok(certificates),
        Ok(_) => "holds no certificate in PEM form".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err((key, format!("{} {complaint}", shown_path(path))))
}
