//! Certificates for one test, made with openssl: an authority, a server's, a client's.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder};

use super::process::{Folder, program, run};

/// The files.
pub struct Certs {
    folder: Folder,
}

impl Certs {
    /// Makes them. The server's is for 127.0.0.1 and localhost.
    pub fn new() -> Self {
        Self::for_names("IP:127.0.0.1,DNS:localhost")
    }

    /// The same, with a server's for other names.
    pub fn for_names(names: &str) -> Self {
        let certs = Self { folder: Folder::new() };
        let authority = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                         -subj /CN=ca -keyout ca.key -out ca.pem";
        certs.openssl(&format!("req {authority}"));
        certs.issue("server", &format!("subjectAltName={names}"));
        certs.issue("client", "extendedKeyUsage=clientAuth");
        certs
    }

    /// Makes a further one, `NAME.pem` with `NAME.key`, with that common name and an extension.
    pub fn issue(&self, name: &str, extension: &str) {
        self.issue_for(2, name, extension);
    }

    /// The same, for so many days from now on; it has ended where those are fewer than none.
    pub fn issue_for(&self, days: i32, name: &str, extension: &str) {
        self.folder.write(&format!("{name}.ext"), extension);
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
             -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} \
             -extfile {name}.ext -out {name}.pem"
        ));
    }

    /// The same, for a time that was long ago.
    pub fn issue_long_ago(&self, name: &str, extension: &str) {
        let config = "[ca]\ndefault_ca = d\n[d]\ndatabase = issued.txt\nserial = issued.number\n\
                      new_certs_dir = .\ndefault_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n";
        self.folder.write("issued.cnf", config);
        self.folder.write("issued.txt", "");
        self.folder.write("issued.number", "01\n");
        self.issue(name, extension);
        self.openssl(&format!(
            "ca -batch -notext -config issued.cnf -keyfile ca.key -cert ca.pem -in {name}.csr -extfile {name}.ext \
             -startdate 20200101000000Z -enddate 20210101000000Z -out {name}.pem"
        ));
    }

    /// Writes `crl.pem`, the list of what was revoked: these, and those before.
    pub fn revoke(&self, names: &[&str]) {
        self.revoke_until("20491231235959Z", names);
    }

    /// The same, of which the successor is due then.
    pub fn revoke_until(&self, due: &str, names: &[&str]) {
        let config = "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ncrlnumber = number\n\
                      default_md = sha256\n";
        if !self.file("index.txt").exists() {
            self.folder.write("ca.cnf", config);
            self.folder.write("index.txt", "");
            self.folder.write("number", "01\n");
        }
        let ca = "ca -config ca.cnf -keyfile ca.key -cert ca.pem";
        for name in names {
            self.openssl(&format!("{ca} -revoke {name}.pem"));
        }
        self.openssl(&format!(
            "{ca} -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate {due} -out crl.pem"
        ));
    }

    /// Writes `unnumbered.pem`, a list that has no number, as openssl makes one that is not told to number them.
    pub fn list_without_a_number(&self) {
        let config = std::fs::read_to_string(self.file("ca.cnf")).expect("a list before");
        self.folder.write("unnumbered.cnf", &config.replace("crlnumber = number\n", ""));
        self.openssl(
            "ca -config unnumbered.cnf -keyfile ca.key -cert ca.pem -gencrl -crldays 30 -out unnumbered.pem",
        );
    }

    /// One of `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`, or what was issued.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text, for a configuration.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// What a client needs that trusts the authority.
    pub fn client(&self) -> Arc<rustls::ClientConfig> {
        Arc::new(self.trusting().with_no_client_auth())
    }

    /// The same, with a certificate that `issuer` has made.
    pub fn client_as(&self, issuer: &Certs, name: &str) -> Arc<rustls::ClientConfig> {
        let file = |kind: &str| issuer.file(&format!("{name}.{kind}"));
        let certificate = CertificateDer::from_pem_file(file("pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(file("key")).expect("a key");
        let config = self.trusting().with_client_auth_cert(vec![certificate], key);
        Arc::new(config.expect("they fit"))
    }

    fn trusting(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let authority = CertificateDer::from_pem_file(self.file("ca.pem")).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().expect("versions");
        client.with_root_certificates(roots)
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new(program("openssl", &[]));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        let (status, _, err) = run(&mut command);
        assert_eq!(status, 0, "openssl {arguments}: {err}");
    }
}
