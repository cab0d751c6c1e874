//! `[http.tls]`: the certificate of HTTPS, and whose certificates clients may show.

use std::path::{Path, PathBuf};

use rustls::sign::CertifiedKey;

use crate::config::file;
use crate::config::secret::shown_path;
use crate::config::section::Section;
use crate::pem;

/// More than any chain of certificates takes, in bytes.
pub(in crate::protocol::jsonrpc) const LARGEST_PEM: usize = 1 << 20;

/// `[http.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// The private key, PEM.
    pub key_file: PathBuf,
    /// Whose certificates clients may show; none where they are not asked for one.
    pub clients: Option<ClientCerts>,
}

/// The certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCerts {
    /// The authorities that vouch for them, PEM.
    pub ca_file: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}

impl TlsConfig {
    pub(super) fn read(http: &mut Section<'_>) -> Option<Self> {
        let configured = http.has("tls");
        let mut section = http.section("tls");
        let (cert, key) = (section.path("cert_file"), section.path("key_file"));
        let clients = ClientCerts::read(&mut section);
        match (cert, key) {
            _ if !configured => None,
            (Some(cert_file), Some(key_file)) => {
                let tls = Self { cert_file, key_file, clients };
                tls.check(&section);
                Some(tls)
            }
            _ => {
                section.problem_here("[http.tls] needs both `cert_file` and `key_file`");
                None
            }
        }
    }

    /// Reports files that no listener could start with.
    fn check(&self, section: &Section<'_>) {
        let read = |path: &Path| {
            file::read(path, LARGEST_PEM)
                .map_err(|error| format!("cannot be read: {}", file::complaint(&error)))
        };
        let chain = read(&self.cert_file).and_then(|content| pem::certificates(&content));
        let key = read(&self.key_file).and_then(|content| pem::private_key(&content));
        let (cert_file, key_file) = (shown_path(&self.cert_file), shown_path(&self.key_file));
        let complain = |name: &str, file: &str, complaint: String| {
            section.problem(name, format!("`{name}` in [http.tls]: {file} {complaint}"));
        };
        if let Some(told) = chain.as_ref().ok().and_then(|chain| pem::out_of_time(chain)) {
            section.warn("cert_file", format!("`cert_file` in [http.tls]: {cert_file} {told}"));
        }
        match (chain, key) {
            (Ok(chain), Ok(key)) => {
                let provider = rustls::crypto::ring::default_provider();
                if let Err(error) = CertifiedKey::from_der(chain, key, &provider) {
                    let message = format!(
                        "`key_file` in [http.tls]: {key_file} does not fit {cert_file}: {error}"
                    );
                    section.problem("key_file", message);
                }
            }
            (chain, key) => {
                if let Err(error) = chain {
                    complain("cert_file", &cert_file, error);
                }
                if let Err(error) = key {
                    complain("key_file", &key_file, error);
                }
            }
        }
    }
}

impl ClientCerts {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let ca_file = section.path("client_ca_file");
        let words = [("optional", false), ("required", true)];
        let named = section.has("client_cert");
        let required = section.choice("client_cert", &words, false);
        let Some(ca_file) = ca_file else {
            if named {
                let message = "`client_cert` in [http.tls] needs `client_ca_file`: the authorities \
                               that vouch for clients' certificates";
                section.problem("client_cert", message);
            }
            return None;
        };
        let content = file::read(&ca_file, LARGEST_PEM);
        let content = content.map_err(|error| format!(": {}", file::complaint(&error)));
        let read = content.and_then(|content| {
            let authorities = pem::authorities(&content);
            let told = authorities.map(|_| pem::authorities_out_of_time(&content));
            told.map_err(|complaint| format!(" {complaint}"))
        });
        let message =
            |what| format!("`client_ca_file` in [http.tls]: {}{what}", shown_path(&ca_file));
        match read {
            Err(complaint) => section.problem("client_ca_file", message(complaint)),
            Ok(Some(told)) => section.warn("client_ca_file", message(format!(" {told}"))),
            Ok(None) => {}
        }
        Some(Self { ca_file, required })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_for_test;

    #[test]
    fn tls_files_are_checked() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let read = |cert: &str, key: &str| {
            let text = format!("[http.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"");
            let (_, problems) =
                read_for_test(&text, |root| TlsConfig::read(&mut root.section("http")));
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let missing = read("/nowhere/cert.pem", "/nowhere/key.pem");
        assert_eq!(missing.len(), 2, "{missing:?}");
        let start = "genkan.toml:2: `cert_file` in [http.tls], line 2: /nowhere/cert.pem cannot be";
        assert!(missing[0].starts_with(start), "{missing:?}");
        assert!(missing[1].starts_with("genkan.toml:3: `key_file`"), "{missing:?}");
        let empty = read(manifest, manifest);
        assert!(empty[0].contains("Cargo.toml holds no certificate"), "{empty:?}");
        assert!(empty[1].contains("Cargo.toml holds no private key"), "{empty:?}");
    }

    #[test]
    fn whose_certificates_are_accepted_is_checked() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let read = |keys: &str| {
            let text = format!("[http.tls]\n{keys}");
            let read = |root: &mut Section<'_>| ClientCerts::read(&mut root.section("tls"));
            let (clients, problems) = read_for_test(&text, |root| read(&mut root.section("http")));
            (clients, problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read(""), (None, Vec::new()));
        for (keys, told) in [
            ("client_cert = \"required\"", "needs `client_ca_file`"),
            ("client_ca_file = \"/nowhere/ca.pem\"", "/nowhere/ca.pem: No such file"),
            (&format!("client_ca_file = \"{manifest}\""), "holds no certificate in PEM form"),
            ("client_ca_file = \"/x\"\nclient_cert = \"always\"", "`client_cert`"),
        ] {
            let problems = read(keys).1;
            assert!(problems.iter().any(|problem| problem.contains(told)), "{keys}: {problems:?}");
        }
    }
}
