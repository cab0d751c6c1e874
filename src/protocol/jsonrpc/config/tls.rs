//! `[http.tls]`: the certificate of HTTPS, and whose certificates clients may show.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use crate::config::certificates::Role;
use crate::config::file;
use crate::config::secret::shown_path;
use crate::config::section::Section;
use crate::pem;
use crate::validity;

/// More than any chain of certificates takes, in bytes.
pub(in crate::protocol::jsonrpc) const LARGEST_PEM: usize = 1 << 20;

/// More than such lists take that are read each second.
pub(in crate::protocol::jsonrpc) const LARGEST_CRL: usize = 4 << 20;

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
    /// What they have revoked, PEM; none where nobody looks.
    pub crl_file: Option<PathBuf>,
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
                section.note_certificates("cert_file", &tls.cert_file, Role::Shown);
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
        let crl_file = section.path("client_crl_file");
        let words = [("optional", false), ("required", true)];
        let named = section.has("client_cert");
        let required = section.choice("client_cert", &words, false);
        let Some(ca_file) = ca_file else {
            if named {
                let message = "`client_cert` in [http.tls] needs `client_ca_file`: the authorities \
                               that vouch for clients' certificates";
                section.problem("client_cert", message);
            }
            if crl_file.is_some() {
                let message = "`client_crl_file` in [http.tls] needs `client_ca_file`: the authorities \
                               that have revoked what it lists";
                section.problem("client_crl_file", message);
            }
            return None;
        };
        let content = file::read(&ca_file, LARGEST_PEM);
        let content = content.map_err(|error| format!(": {}", file::complaint(&error)));
        let read = content.and_then(|content| {
            let authorities = pem::authorities(&content);
            let told = authorities.map(|known| (known, pem::authorities_out_of_time(&content)));
            told.map_err(|complaint| format!(" {complaint}"))
        });
        let message =
            |what| format!("`client_ca_file` in [http.tls]: {}{what}", shown_path(&ca_file));
        match read {
            Err(complaint) => section.problem("client_ca_file", message(complaint)),
            Ok((authorities, told)) => {
                if let Some(told) = told {
                    section.warn("client_ca_file", message(format!(" {told}")));
                }
                if let Some(crl_file) = &crl_file {
                    check_lists(section, crl_file, authorities, required);
                }
            }
        }
        section.note_certificates("client_ca_file", &ca_file, Role::Authorities);
        Some(Self { ca_file, crl_file, required })
    }
}

/// Reports a file of what was revoked that cannot be used, or is not what it should be.
fn check_lists(section: &Section<'_>, file: &Path, authorities: RootCertStore, required: bool) {
    let content = file::read(file, LARGEST_CRL);
    let content = content.map_err(|error| format!("cannot be read: {}", file::complaint(&error)));
    let lists = content.and_then(|content| pem::revocation_lists(&content));
    let told = |what: &str| format!("`client_crl_file` in [http.tls]: {} {what}", shown_path(file));
    let read = lists.and_then(|lists| {
        let dubious = validity::of_lists(&lists, &authorities, SystemTime::now());
        verifier(authorities, lists, required).map(|_| dubious)
    });
    match read {
        Ok(dubious) => {
            dubious.iter().for_each(|what| section.warn("client_crl_file", told(what)));
        }
        Err(complaint) => section.problem("client_crl_file", told(&complaint)),
    }
}

/// What looks at clients' certificates: whether these authorities vouch for them, and have not revoked them. Where
/// there are lists, each authority needs one, those between the client's and the one that is trusted too.
pub(in crate::protocol::jsonrpc) fn verifier(
    authorities: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = validity::unusable_list(&lists);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    let builder = builder.with_crls(lists);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    // Of a list that lacks something the error says that it cannot be parsed, and not what.
    builder.build().map_err(|error| unusable.unwrap_or_else(|| format!("cannot be used: {error}")))
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
            ("client_crl_file = \"/nowhere/crl.pem\"", "needs `client_ca_file`"),
            ("client_ca_file = \"/x\"\nclient_cert = \"always\"", "`client_cert`"),
        ] {
            let problems = read(keys).1;
            assert!(problems.iter().any(|problem| problem.contains(told)), "{keys}: {problems:?}");
        }
    }
}
