//! Certificates for one test, made with openssl: an authority, a server's, a client's.

use std::path::PathBuf;
use std::process::Command;

use super::process::{Folder, program, run};

/// The files.
pub struct Certs {
    folder: Folder,
}

impl Certs {
    /// Makes them. The server's is for 127.0.0.1 and localhost.
    pub fn new() -> Self {
        let certs = Self { folder: Folder::new() };
        let authority = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                         -subj /CN=ca -keyout ca.key -out ca.pem";
        certs.openssl(&format!("req {authority}"));
        for (name, extension) in [
            ("server", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            ("client", "extendedKeyUsage=clientAuth"),
        ] {
            certs.folder.write(&format!("{name}.ext"), extension);
            certs.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
                 -keyout {name}.key -out {name}.csr"
            ));
            certs.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile {name}.ext -out {name}.pem"
            ));
        }
        certs
    }

    /// One of `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text, for a configuration.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new(program("openssl", &[]));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        let (status, _, err) = run(&mut command);
        assert_eq!(status, 0, "openssl {arguments}: {err}");
    }
}
